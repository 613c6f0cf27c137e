"""``cadenza calibrate takeover``: when a leader arm is being pulled at, and when it is not."""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeRemainingColumn
from rich.table import Column, Table

from cadenza.arguments import parse, split_robot_overrides
from cadenza.connection import confirm, connected
from cadenza.picture import save
from cadenza.residual_picture import draw_residuals
from calibration.quiet import Mirroring, Recording
from calibration.residuals import Channel, channels, lag, takeover
from calibration.sensitivity import smallest_push
from drivers.teleop import LeaderArm
from drivers.virtual import SimClient
from spec.calibration import load_calibration, save_calibration
from spec.errors import SpecError
from spec.robot import Robot, Takeover, Teleop, TeleopDevice
from spec.robotfile import load_robot

_SHORTEST_S, _LONGEST_S = 20.0, 3600.0
_MOST_PUSH = 0.4
"""[N·m] What a hand pushes with, and no more: drivers/virtual/live/hand.py."""
_PRIORITY = 60
"""SCHED_FIFO priority asked for, as the residuals of a late sample are none of the arm's; below control and servos."""


@dataclass(frozen=True, slots=True)
class Args:
    """Measure how far a leader arm strays from what it mirrors while nobody touches it: what is clear of it is a pull.

    The leader moves by itself, all over the place: give it room, and keep your hands off.

    cadenza calibrate takeover --config robots/koch.yaml

    Thresholds go into the leader's calibration file. The virtual arm also says how small a push they notice:

    cadenza calibrate takeover --config robots/virtual.yaml --seconds 120 --json
    """

    config: Path = Path("robots/virtual.yaml")
    """Robot file. Any field of it can be overridden: --robot.leader.port /dev/ttyUSB1"""
    seconds: float = 120.0
    """For how long to measure, from 20 to 3600."""
    seed: int = 0
    """Of the motion."""
    plot: Path | None = None
    """Where the picture goes; beside the calibration file if not said."""
    json: bool = False
    """Print the result as JSON."""


def main(argv: Sequence[str]) -> int:
    rest, overrides = split_robot_overrides(argv)
    args = parse(Args, rest, "calibrate takeover")
    if not _SHORTEST_S <= args.seconds <= _LONGEST_S:
        reason = f"must be from {_SHORTEST_S:.0f} (shorter says nothing) to {_LONGEST_S:.0f}"
        raise SpecError("--seconds", args.seconds, reason)
    if args.seed < 0:
        raise SpecError("--seed", args.seed, "at least 0")
    robot = _with_leader(load_robot(args.config, overrides), args.config)
    console = Console(stderr=True)
    if robot.virtual is None:
        confirm(console, "The leader arm is about to move by itself, all over the place. Clear the table around it.")
    with connected(robot) as (live, client):
        recording, found, thresholds, pushes = _measured(live, client, args, console)
    assert robot.leader is not None  # noqa: S101  _with_leader has seen to it
    calibration = load_calibration(robot.leader).model_copy(update={"takeover": thresholds})
    save_calibration(calibration, robot.leader.calibration)
    picture = args.plot or robot.leader.calibration.with_suffix(".takeover.png")
    save(draw_residuals(recording, found, thresholds), picture)
    facts = _facts(found, thresholds, pushes) | {"file": str(robot.leader.calibration), "picture": str(picture)}
    if args.json:
        print(json.dumps(facts, indent=2))
    else:
        _show(found, thresholds, pushes, robot.leader.calibration, picture)
    return 0


def _with_leader(robot: Robot, config: Path) -> Robot:
    """The robot with teleoperation by leader and no gestures. Raises SpecError where there is no leader arm."""
    if robot.leader is None:
        raise SpecError(f"{config}: leader", None, "taking over by force needs a leader arm")
    if robot.teleop is not None and robot.teleop.device is not TeleopDevice.LEADER:
        raise SpecError(f"{config}: teleop.device", robot.teleop.device.value, "force is felt on a leader arm only")
    load_calibration(robot.leader)  # before anything moves
    settings = (robot.teleop or Teleop()).model_copy(update={"gestures": False})
    return robot.model_copy(update={"teleop": settings})


def _measured(
    robot: Robot, client: SimClient | None, args: Args, console: Console
) -> tuple[Recording, tuple[Channel, ...], Takeover, dict[str, float | None]]:
    columns = (TextColumn("{task.description}"), BarColumn(), TaskProgressColumn(), TimeRemainingColumn())
    _become_prompt()
    with LeaderArm(robot) as leader, Progress(*columns, console=console, transient=True) as progress:
        mirroring = Mirroring(robot, leader, args.seed)
        task = progress.add_task("mirroring, hands off", total=1.0)
        recording = mirroring.run(args.seconds, lambda share: progress.update(task, completed=share))
        mirroring.rest()
        delay = lag(recording)
        found = channels(recording, delay)
        thresholds = takeover(recording, found, delay)
        pushes: dict[str, float | None] = {}
        if client is not None:
            task = progress.add_task("pushing at it", total=len(leader.joints))
            for joint in leader.joints:
                pushes[joint] = smallest_push(
                    mirroring, joint, thresholds, _MOST_PUSH, lambda name, force, s: client.push({name: force}, s)
                )
                progress.advance(task)
    return recording, found, thresholds, pushes


def _become_prompt() -> None:
    try:
        os.sched_setscheduler(0, os.SCHED_FIFO, os.sched_param(_PRIORITY))
    except OSError:
        return  # without the privilege a sample comes late now and then, and the thresholds a little wider


def _facts(found: tuple[Channel, ...], thresholds: Takeover, pushes: dict[str, float | None]) -> dict[str, Any]:
    joints = {
        c.joint: {
            other.kind: {
                "highest": round(other.highest, 5),
                "threshold": other.threshold,
                "false_trips_per_hour": other.false_trips_per_hour,
            }
            for other in found
            if other.joint == c.joint
        }
        | ({"smallest_push": pushes[c.joint]} if pushes else {})
        for c in found
    }
    return {
        "joints": joints,
        "lag_s": thresholds.lag_s,
        "measured_s": thresholds.measured_s,
        "samples": len(found[0].residual),
        "false_trips_per_hour": thresholds.false_trips_per_hour,
        "false_trips_seen": 0,
        "false_trips_per_hour_by_counting": _at_most_per_hour(thresholds.measured_s),
    }


def _at_most_per_hour(seconds: float) -> float:
    """What having seen none in so long excludes, with 95 % confidence (the rule of three)."""
    return round(3.0 * 3600.0 / seconds, 1)


def _show(
    found: tuple[Channel, ...],
    thresholds: Takeover,
    pushes: dict[str, float | None],
    file: Path,
    picture: Path,
) -> None:
    table = Table(
        Column("joint", no_wrap=True),
        *("off [rad]", "threshold", "current [A]", "threshold"),
        *(("felt from [N·m]",) if pushes else ()),
        title=f"pulling at the leader → {file}",
    )
    by_kind = {(c.joint, c.kind): c for c in found}
    for joint in dict.fromkeys(c.joint for c in found):
        position, current = by_kind[joint, "position"], by_kind[joint, "current"]
        figures = (position.highest, position.threshold, current.highest, current.threshold)
        push = pushes.get(joint)
        felt = (f"{push:.3f}" if push is not None else f"> {_MOST_PUSH}",) if pushes else ()
        table.add_row(joint, *(f"{figure:.3f}" for figure in figures), *felt)
    console = Console()
    console.print(table)
    seconds = thresholds.measured_s
    console.print(
        f"lag {thresholds.lag_s * 1e3:.0f} ms; false trips: {thresholds.false_trips_per_hour:.2g} an hour expected, "
        f"none seen in {seconds:.0f} s (which alone shows: below {_at_most_per_hour(seconds):.0f} an hour)",
        highlight=False,
    )
    console.print(f"picture: {picture}", highlight=False)

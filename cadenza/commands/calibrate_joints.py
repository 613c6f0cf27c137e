"""``cadenza calibrate joints``: where each encoder stands at joint angle zero, and how far each joint goes."""

from __future__ import annotations

import json
import math
import select
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from rich.console import Console
from rich.live import Live
from rich.table import Table

from cadenza.arguments import parse, split_robot_overrides
from cadenza.connection import confirm, connected
from calibration.automatic import FOLLOWER, LEADER, measure_automatically, stops
from calibration.bench import Bench
from calibration.guided import measure_by_hand
from calibration.measurement import Measured, angles, calibration_of, shortfalls
from calibration.verification import verify
from spec.calibration import Calibration, load_calibration, save_calibration
from spec.errors import CadenzaError, DeviceError, SpecError
from spec.files import write_atomically
from spec.robot import Arm, Robot, Takeover
from spec.robotfile import load_robot

_LOOK_S = 0.03


@dataclass(frozen=True, slots=True)
class Args:
    """Measure where each encoder stands at joint angle zero, and how far each joint goes. Saved per arm, read back.

    By hand, torque is off: put the arm in its zero pose, then move every joint from stop to stop.

    cadenza calibrate joints --config robots/koch.yaml --arm follower

    The virtual arm does it by itself:

    cadenza calibrate joints --config robots/virtual.yaml --arm leader --auto
    """

    config: Path = Path("robots/virtual.yaml")
    """Robot file. Any field of it can be overridden: --robot.follower.port /dev/ttyUSB1"""
    arm: Literal["follower", "leader"] = "follower"
    """Which arm."""
    auto: bool = False
    """Without a person: drive every joint gently against its stops. Virtual arm only."""
    json: bool = False
    """Print the result as JSON."""


def main(argv: Sequence[str]) -> int:
    """Returns 0, or 1 where a joint did not reach its permitted range."""
    rest, overrides = split_robot_overrides(argv)
    args = parse(Args, rest, "calibrate joints")
    robot = load_robot(args.config, overrides)
    if args.auto and robot.virtual is None:
        raise SpecError(
            f"{args.config}: --auto", args.auto, "drives joints against their stops: virtual arm only; leave it out"
        )
    console = Console(stderr=True)
    with connected(robot) as (live, _):
        arm = _section(live, args.arm, args.config)
        measured = _automatically(live, arm, console) if args.auto else _by_hand(arm, console)
        calibration = calibration_of(arm, measured).model_copy(update={"takeover": _takeover(arm)})
        _keep(calibration, arm, hold=args.auto)
    return _report(arm, calibration, console, as_json=args.json)


def _takeover(arm: Arm) -> Takeover | None:
    """Thresholds measured before: they are differences of angles, and do not care where zero is."""
    try:
        return load_calibration(arm).takeover
    except CadenzaError:
        return None


def _keep(calibration: Calibration, arm: Arm, *, hold: bool) -> None:
    """Save, and read back through the driver. One that fails there must not be what the next run goes by."""
    former = arm.calibration.read_bytes() if arm.calibration.exists() else None
    save_calibration(calibration, arm.calibration)
    try:
        verify(arm, calibration, hold=hold)
    except BaseException:
        if former is None:
            arm.calibration.unlink()
        else:
            write_atomically(arm.calibration, former)
        raise


def _section(robot: Robot, name: str, config: Path) -> Arm:
    arm = robot.follower if name == "follower" else robot.leader
    if arm is None:
        raise SpecError(f"{config}: {name}", None, "no such arm in the robot file", ["follower"])
    return arm


def _automatically(robot: Robot, arm: Arm, console: Console) -> dict[str, Measured]:
    route = LEADER if arm is robot.leader else FOLLOWER
    with Bench(arm, relax=False, force=route.force) as bench, console.status("finding stops") as status:
        return measure_automatically(
            bench, route, stops(robot, arm), lambda joint: status.update(f"finding stops: {joint}")
        )


def _by_hand(arm: Arm, console: Console) -> dict[str, Measured]:
    if not Path(arm.port).exists():  # before a person is asked to hold an arm that is not there
        raise DeviceError(f"{arm.port}: no such port; is the arm {arm.serial} plugged in? (ls -l /dev/serial/by-id)")
    confirm(console, f"Arm {arm.serial}: torque goes off now. Support the arm.")
    with Bench(arm, relax=True) as bench, Live(console=console, auto_refresh=False) as live:

        def watch(joints: Mapping[str, tuple[int, int, int]]) -> bool:
            live.update(_sweep_table(joints), refresh=True)
            time.sleep(_LOOK_S)
            return not _entered()

        return measure_by_hand(bench, lambda text: confirm(live.console, text), watch)


def _entered() -> bool:
    """Whether a line waits on standard input; takes it."""
    waits = bool(select.select((sys.stdin,), (), (), 0)[0])
    if waits:
        sys.stdin.readline()
    return waits


def _sweep_table(joints: Mapping[str, tuple[int, int, int]]) -> Table:
    table = Table("joint", "lowest", "now", "highest", title="Move every joint from stop to stop, then press Enter")
    for name, ticks in joints.items():
        table.add_row(name, *map(str, ticks))
    return table


def _report(arm: Arm, calibration: Calibration, console: Console, *, as_json: bool) -> int:
    short = shortfalls(arm, calibration)
    swept = angles(arm, calibration)
    if as_json:
        document = calibration.model_dump(mode="json")
        document |= {"file": str(arm.calibration), "sha256": calibration.digest(), "shortfalls": short}
        print(json.dumps(document, indent=2))
    else:
        table = Table(
            "joint", "zero [tick]", "lowest [deg]", "highest [deg]", title=f"{arm.serial} → {arm.calibration}"
        )
        for name, joint in calibration.joints.items():
            low, high = (f"{math.degrees(angle):.1f}" for angle in swept[name])
            table.add_row(name, str(joint.zero_ticks), low, high)
        Console().print(table)
    for line in short:
        console.print(f"[yellow]{line}")
    return 1 if short else 0

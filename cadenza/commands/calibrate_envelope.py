"""``cadenza calibrate envelope``: limits of motion from demonstrations, with a declared rate of false trips."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rich import box
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn, track
from rich.table import Column, Table

from cadenza.arguments import parse
from cadenza.envelope_fit import Found, found_limits, limits_of, still_joints
from cadenza.envelope_picture import draw_limits
from cadenza.episode_files import episodes_to_learn_from
from cadenza.motions import JERK_STEPS, Piece, Replayed, pieces, replayed
from cadenza.picture import save
from episodes.reader import read_episode
from spec.errors import SpecError
from spec.files import sha256_of, write_atomically
from spec.robot import Robot
from spec.robotfile import load_robot
from spec.robotpatch import patch_robot

_COLUMNS = (TextColumn("{task.description}"), BarColumn(), TimeRemainingColumn())


@dataclass(frozen=True, slots=True)
class Args:
    """Fit the joints' velocity, acceleration, jerk and current limits to what was asked in recorded episodes.

    Limits that trip on clean motion tell nobody anything, limits that never trip protect nobody. These are crossed by
    motions like the recorded ones as often as you say. A joint that stood still keeps the limits it has. Without
    --write nothing is changed:

    cadenza calibrate envelope --episodes runs/demos --config robots/koch.yaml

    cadenza calibrate envelope --episodes runs/demos runs/more --config robots/koch.yaml --write

    Exit status 1: replayed through the envelope, the episodes trip the fitted limits more often than declared. Such
    limits are not written.
    """

    episodes: tuple[Path, ...]
    """Episodes, or folders of them. Discarded and unfinished ones are left out."""
    config: Path = Path("robots/virtual.yaml")
    """Robot file."""
    false_trips_per_hour: float = 1.0
    """Declared rate, all joints together."""
    write: bool = False
    """Put the fitted limits into the robot file, if the replay agrees; what they came from is written beside it
    (.envelope.json)."""
    plot: Path | None = None
    """Where the picture goes; beside the robot file if not said."""
    json: bool = False
    """Print the result as JSON."""


def main(argv: Sequence[str]) -> int:
    args = parse(Args, argv, "calibrate envelope")
    if not 0.0 < args.false_trips_per_hour <= 1000.0:
        raise SpecError("--false-trips-per-hour", args.false_trips_per_hour, "above 0, at most 1000")
    robot = load_robot(args.config)
    console = Console(stderr=True)
    files, aside = episodes_to_learn_from(args.episodes, quiet=args.json, option="--episodes")
    motions = _motions(robot, files, console)
    rate = robot.control.rate_hz
    with Progress(*_COLUMNS, console=console, transient=True) as progress:
        task = progress.add_task("asking the envelope", total=JERK_STEPS + 2)
        found, hours = found_limits(robot, motions, args.false_trips_per_hour, lambda: progress.advance(task))
        results = []
        for limits in (robot.limits(), limits_of(robot, found)):
            results.append(replayed(motions, limits, rate))
            progress.advance(task)
    before, after = results
    picture = args.plot or args.config.with_suffix(".envelope.png")
    title = f"{robot.name}: {hours:.2f} h of motion, limits for false trips at {args.false_trips_per_hour:g} an hour"
    save(draw_limits(title, found, hours), picture)
    facts = _facts(found, hours, before, after, args)
    facts |= {"still": still_joints(robot, found), "picture": str(picture), "left_out": len(aside)}
    if facts["written"]:
        _write(args.config, found, facts, files)
    if args.json:
        print(json.dumps(facts, indent=2))
    else:
        _show(found, facts, args)
    return 0 if facts["agrees"] else 1


def _write(config: Path, found: Sequence[Found], facts: Mapping[str, Any], files: Sequence[Path]) -> None:
    """The limits that the robot file has now get the fitted value; a current limit that it leaves out stays out."""
    patch_robot(config, {f"follower.joints.{f.joint}.{f.quantity}": f.limit for f in found if f.now is not None})
    source = {**facts, "episodes": {str(file): sha256_of(file) for file in files}}
    write_atomically(config.with_suffix(".envelope.json"), json.dumps(source, indent=2).encode())


def _motions(robot: Robot, files: Sequence[Path], console: Console) -> list[Piece]:
    rate, names = robot.control.rate_hz, robot.follower.names
    return [
        piece
        for number, file in enumerate(track(files, "reading", console=console, transient=True))
        for piece in pieces(number, read_episode(file, ()), names, rate)
    ]


def _facts(found: Sequence[Found], hours: float, before: Replayed, after: Replayed, args: Args) -> dict[str, Any]:
    joints: dict[str, dict[str, Any]] = {}
    for f in found:
        joints.setdefault(f.joint, {})[f.quantity] = {
            "now": f.now,
            "fitted": f.limit,
            "highest_seen": round(f.fit.highest, 4),
            "margin": round(f.limit / f.fit.highest, 3),
            "widest_allowed": round(f.widest, 3),
            "held": f.held,
            "trips_per_hour_now": _rounded(f.trips_per_hour_now),
            "trips_per_hour": _rounded(f.trips_per_hour),
        }
    agrees = _likely(after.trips, args.false_trips_per_hour * hours)
    return {
        "robot": str(args.config),
        "written": args.write and agrees,
        "hours": round(hours, 4),
        "declared_trips_per_hour": args.false_trips_per_hour,
        "joints": joints,
        "replay_now": _share(before, hours),
        "replay_fitted": _share(after, hours),
        "agrees": agrees,
    }


def _share(result: Replayed, hours: float) -> dict[str, Any]:
    return {
        "limited_share": round(result.limited / max(result.ticks, 1), 6),
        "trips": result.trips,
        "trips_per_hour": round(result.trips / hours, 2),
    }


def _likely(trips: int, expected: float) -> bool:
    """Whether so many or more are no surprise (Poisson, 5 %) where so many are expected.

    In logarithms: 200 trips to the power of 200 are no float.
    """
    log = math.log(expected)
    below = math.fsum(math.exp(n * log - expected - math.lgamma(n + 1)) for n in range(trips))
    return 1.0 - below >= 0.05


def _rounded(value: float | None) -> float | None:
    return None if value is None else float(f"{value:.2g}")


def _show(found: Sequence[Found], facts: dict[str, Any], args: Args) -> None:
    # Figures are whole in 80 columns; a joint's long name is what goes into a second line.
    table = Table(
        Column("joint", overflow="fold"),
        Column("quantity", no_wrap=True),
        *(Column(name, justify="right", no_wrap=True) for name in ("now", "seen", "fitted", "margin", "/h now", "/h")),
        box=box.SIMPLE_HEAD,
        show_edge=False,
        pad_edge=False,
        title=f"{facts['hours']:.2f} h of motion, false trips declared: {args.false_trips_per_hour:g} an hour",
    )
    for f in found:
        now = "-" if f.now is None else _figure(f.now)
        rate_now = "-" if f.trips_per_hour_now is None else _rate(f.trips_per_hour_now)
        fitted = _figure(f.limit) + ("*" if f.held else "")
        margin, rate = f"{f.limit / f.fit.highest:.2f}", _rate(f.trips_per_hour)
        table.add_row(f.joint, f.quantity, now, _figure(f.fit.highest), fitted, margin, rate_now, rate)
    console = Console()
    console.print(table)
    if facts["still"]:
        console.print(
            f"stood still, and left as they are: {', '.join(facts['still'])}; record motions of them to have limits "
            "fitted",
            highlight=False,
        )
    if any(f.held and f.quantity != "jerk" for f in found):
        console.print("* servo or structure allow no more", highlight=False)
    if any(f.held and f.quantity == "jerk" for f in found):
        console.print(
            "* jerk: full acceleration one way, the other, and back within a period; more would limit nothing. These "
            "motions bend from one tick to the next",
            highlight=False,
        )
    now, fitted = facts["replay_now"], facts["replay_fitted"]
    console.print(
        f"replayed through the envelope: {now['limited_share']:.2%} of ticks limited now ({now['trips']} trips), "
        f"{fitted['limited_share']:.3%} with the fitted limits ({fitted['trips']} trips, "
        f"{fitted['trips_per_hour']:g} an hour)" + ("" if facts["agrees"] else ": more often than declared"),
        highlight=False,
    )
    console.print(f"picture: {facts['picture']}", highlight=False)
    if not args.write:
        console.print(f"{args.config} is as it was; --write puts the fitted limits there", highlight=False)
    elif not facts["written"]:
        console.print(
            f"{args.config} is as it was: limits that trip more often than declared are not written; record more, or "
            "declare more --false-trips-per-hour",
            highlight=False,
        )


def _figure(value: float) -> str:
    return f"{value:.0f}" if value >= 100 else f"{value:.3g}"


def _rate(value: float) -> str:
    """Trips an hour: some hundreds are only known to be many."""
    return f"{value:.0f}" if value >= 100 else f"{value:.2f}"

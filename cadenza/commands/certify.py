"""``cadenza certify``: prove the timing of the control loop on this very machine."""

from __future__ import annotations

import json
import sys
import tempfile
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table

from cadenza.arguments import parse, split_robot_overrides
from cadenza.bench_ending import bound_table, refuse_used
from cadenza.certifying.findings import Condition, bounds, conditions
from cadenza.certifying.measuring import HIGHEST_PRIORITY, Setting, expected_minutes, granted_privileges, measure, plan
from cadenza.certifying.picture import draw_certificate
from cadenza.certifying.programs import CYCLICTEST, STRESS_NG, find_program
from cadenza.certifying.sway import sway
from cadenza.connection import confirm, connected
from cadenza.picture import save
from cadenza.takeover_report import Bound
from controller.certificate import (
    LONGEST_MINUTES,
    MADE,
    Certificate,
    Machine,
    check_folder,
    timing_facts,
    write_certificate,
)
from controller.dictation import check_room
from controller.realtime import control_cpu
from controller.sources import ChunkSource, playback_source, policy_source
from controller.workers.playback import write_motion
from export.bundle import Bundle, read_bundle
from spec.calibration import load_calibration
from spec.errors import SpecError
from spec.files import write_atomically
from spec.manifest import check_fit
from spec.robot import Robot
from spec.robotfile import load_robot

_FEWEST = 1000
"""Wake-ups of each kind that one in a thousand can be told from."""


@dataclass(frozen=True, slots=True)
class Args:
    """Prove the timing of the control loop on this machine, and keep a certificate of it.

    The whole daemon runs for --minutes, half of them under stress (processor, memory, disk, interpreters): a third of
    each block the arm holds, then it follows the policy of --bundle, or without one sways gently about its start pose.
    Beside it runs cyclictest, on the same core in step with it; starting anew for every block takes a quarter
    longer. The bar, under stress: wake-up lateness p99.9 at most 1.2 times cyclictest's, and no larger a share of ticks
    missed than of cyclictest's wake-ups are later than a period; and it has to have been measured, and driven, for as
    long as was meant. Exit status 1 where it is missed.

    The certificate is kept on this machine. The newest counts, whatever the one before it said; runs say how long it
    took and what drove. With control.realtime enforce no run starts without one that fits machine and robot file; every
    other run is compared with it while it goes. Nothing else should run meanwhile.

    cadenza certify --minutes 5 --bundle runs/bundle --robot.control.rate_hz 200

    cadenza certify --minutes 10 --config robots/koch.yaml --still

    cadenza certify --minutes 1 --json
    """

    minutes: float = 5.0
    """For so long the loop runs altogether [min]."""
    config: Path = Path("robots/virtual.yaml")
    """Robot file."""
    bundle: Path | None = None
    """Folder made by cadenza export, to be followed; inference is then part of the load."""
    still: bool = False
    """Only hold, wherever the arm is. A real arm is moved only when somebody at a terminal says so."""
    out: Path | None = None
    """Folder of report, picture and logs; by default a new one under runs/."""
    json: bool = False
    """Print the report as JSON and nothing else on standard output."""


def main(argv: Sequence[str]) -> int:
    """Run the command."""
    rest, overrides = split_robot_overrides(argv)
    args = parse(Args, rest, "certify")
    robot = load_robot(args.config, overrides)
    _check(args, robot)
    out = args.out or Path("runs") / f"certify-{datetime.now(UTC):%Y%m%d-%H%M%S}"
    refuse_used(out)
    for program in (CYCLICTEST, STRESS_NG):
        find_program(program)
    bundle = None if args.bundle is None else read_bundle(args.bundle)
    if bundle is not None:
        check_fit(bundle.manifest, robot, load_calibration(robot.follower).digest())
    granted = granted_privileges(robot)
    check_folder(robot)
    out.mkdir(parents=True, exist_ok=True)
    check_room(out)
    console = Console(stderr=args.json)
    found = _perform(robot, bundle, args, out, console)
    kept = bounds(found[1], still=args.still)
    certificate = _certificate(robot, found, kept, granted, args)
    report = _finish(certificate, found, kept, out)
    if args.json:
        print(json.dumps(report, indent=2))
    _print(found, kept, report, console)
    return 0 if all(bound.held for bound in kept) else 1


def _check(args: Args, robot: Robot) -> None:
    rate_hz = robot.control.rate_hz
    least = _FEWEST * 2 / rate_hz / 60.0
    if not least <= args.minutes <= LONGEST_MINUTES:
        raise SpecError(
            "--minutes",
            args.minutes,
            f"from {least:.2g} (one wake-up in a thousand must show) to {LONGEST_MINUTES:.0f}",
        )
    if robot.control.priority > HIGHEST_PRIORITY:
        why = f"at most {HIGHEST_PRIORITY}: cyclictest, beside the loop, has the next higher one"
        raise SpecError("control.priority", robot.control.priority, why)
    if args.still and args.bundle is not None:
        raise SpecError("--still", True, "an arm that only holds follows no --bundle")
    if robot.virtual is None and not args.still and not sys.stdin.isatty():
        raise SpecError("--still", False, "without it a real arm moves, and only when somebody at a terminal says so")


def _perform(
    robot: Robot, bundle: Bundle | None, args: Args, out: Path, console: Console
) -> tuple[Condition, Condition]:
    """Measure; returns what was found plain and under stress."""
    with ExitStack() as stack:
        robot, client = stack.enter_context(connected(robot))
        source, moves = _source(robot, bundle, args, Path(stack.enter_context(tempfile.TemporaryDirectory())))
        if client is None and not args.still:
            confirm(
                console, f"The arm is going to move: {moves}. Clear its surroundings and stay within reach of power."
            )
        if client is not None and robot.virtual is not None:
            client.reset(robot.virtual.seed)
        count, seconds = plan(args.minutes)
        console.print(
            f"certifying {robot.name} at {robot.control.rate_hz:g} Hz: {moves}; {2 * count} blocks of {seconds:.0f} s, "
            f"about {expected_minutes(args.minutes):.0f} min",
            highlight=False,
        )
        columns = (TextColumn("{task.description}"), BarColumn(), TimeElapsedColumn())
        progress = stack.enter_context(Progress(*columns, console=console, transient=True))
        task = progress.add_task("starting", total=2 * count, completed=-1)
        said = stack.enter_context((out / "said.log").open("a", encoding="utf-8", buffering=1))
        setting = Setting(robot, source, bundle, out, lambda line: print(line, file=said))  # stress makes them talk
        measured = measure(setting, args.minutes, lambda what: progress.update(task, description=what, advance=1))
    return conditions(measured, robot.control.rate_hz)


def _source(robot: Robot, bundle: Bundle | None, args: Args, scratch: Path) -> tuple[ChunkSource | None, str]:
    """What the arm follows, and how to say so."""
    if args.still:
        return None, "it only holds"
    if bundle is not None:
        return policy_source(bundle), "to its start pose, then it follows the policy"
    swaying = sway(robot.limits(), plan(args.minutes)[1] + 60.0)
    motion = write_motion(swaying.motion, scratch / "motion.npz")
    return playback_source(motion), f"to its start pose, then it sways by {swaying.widest_rad:.2g} rad"


def _certificate(
    robot: Robot, found: tuple[Condition, Condition], kept: Sequence[Bound], granted: tuple[str, ...], args: Args
) -> Certificate:
    core = control_cpu(robot.control.cpu)
    plain, stressed = found
    return Certificate(
        made=datetime.now(UTC).strftime(MADE),
        robot=robot.name,
        facts=timing_facts(robot),
        rate_hz=robot.control.rate_hz,
        machine=Machine.here(core),
        core=core,
        priority=robot.control.priority,
        privileges=granted,
        minutes=args.minutes,
        drove="nothing" if args.still else "motion" if args.bundle is None else "policy",
        plain=plain.certified(),
        stress=stressed.certified(),
        broken=tuple(f"{bound.name} {bound.shown}" for bound in kept if not bound.held),
    )


def _finish(certificate: Certificate, found: Sequence[Condition], kept: Sequence[Bound], out: Path) -> dict[str, Any]:
    """Keep the certificate, and write report and picture."""
    held = not certificate.broken
    title = (
        f"{certificate.robot} at {certificate.rate_hz:g} Hz: {'certified' if held else 'the bar was missed'}\n"
        f"{certificate.machine.cpu}, kernel {certificate.machine.kernel.split()[0]}, {certificate.made}"
    )
    picture = out / "certificate.png"
    save(draw_certificate(title, found), picture)
    report = {
        "held": held,
        "bounds": {bound.name: {"held": bound.held, "shown": bound.shown, "wanted": bound.wanted} for bound in kept},
        **{one.name: one.figures() for one in found},
        "certificate": certificate.model_dump(mode="json"),
        "kept_as": str(write_certificate(certificate)),
        "picture": str(picture),
    }
    write_atomically(out / "report.json", (json.dumps(report, indent=2) + "\n").encode())
    return report


def _print(found: Sequence[Condition], kept: Sequence[Bound], report: dict[str, Any], console: Console) -> None:
    names = ("min", "mean", "p50", "p99", "p99_9", "p99_99", "max")
    table = Table("[µs]", *(name.replace("_", ".") for name in names), box=None)
    for one in found:
        figures = report[one.name]
        rows = {"wake-up": figures["lateness_us"], "cyclictest": figures["cyclictest_us"], **figures["phases_us"]}
        for name, spread in rows.items():
            table.add_row(f"{one.name}: {name}", *(f"{spread[column]:,.0f}" for column in names))
    console.print(table)
    for one in found:
        console.print(
            f"{one.name}: {one.ticks:,} ticks, {one.missed_share:.3%} missed, {one.overrun} late because of their "
            f"predecessor, bus success {one.bus_success:.2%}",
            highlight=False,
        )
    console.print(bound_table(kept))
    console.print(f"certificate {report['kept_as']}", highlight=False, soft_wrap=True)
    console.print(f"picture {report['picture']}", highlight=False, soft_wrap=True)

"""``cadenza bench takeover``: is an arm taken over at once, smoothly and within its limits, and given back so?"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from cadenza.arguments import parse, split_robot_overrides
from cadenza.bench_ending import bound_table, refuse_used, write_report
from cadenza.bench_picture import draw_bench
from cadenza.picture import save
from cadenza.takeover_bench import TakeoverBench, with_pedal
from cadenza.takeover_report import Bound, Findings, bounds, figures, find
from cadenza.takeovers import log_of
from controller.sources import policy_source
from controller.supervisor import Supervisor
from drivers.virtual import VirtualRobot
from episodes.reader import read_episode
from export.bundle import Bundle
from export.exporter import export_checkpoint
from spec.calibration import load_calibration, with_takeover
from spec.errors import CadenzaError, SpecError
from spec.manifest import check_fit
from spec.robot import Robot, TeleopDevice
from spec.robotfile import load_robot


@dataclass(frozen=True, slots=True)
class Args:
    """Let a policy drive the virtual arm, take it over at random moments, give it back, and judge what is on record.

    A scripted hand pulls at the leader arm, an order is given, a pedal is pressed, in turn. Each bound is judged by the
    recorded episodes: reaction, limits of every command, the largest command step of a switch against the policy's
    own, false trips, and which chunks the policy goes on with. About three seconds a takeover, in real time.

    Writes report.json, takeover.png, the bundle and the episodes into --out. Exit status 1 when a bound is broken.

    cadenza bench takeover --out runs/bench-takeover

    cadenza bench takeover --takeovers 12 --seed 3 --json
    """

    out: Path = Path("runs/bench-takeover")
    """Folder of the run; it must be new or empty."""
    takeovers: int = 200
    """How many."""
    seed: int = 0
    """Of the moments, the hand, and the scenes."""
    checkpoint: Path = Path("assets/policy/push")
    """Policy to export and run."""
    config: Path = Path("robots/virtual.yaml")
    """Robot file; it must have a virtual arm with a leader whose thresholds are measured."""
    json: bool = False
    """Print the report as JSON and nothing else on standard output."""


def main(argv: Sequence[str]) -> int:
    """Run the command."""
    rest, overrides = split_robot_overrides(argv)
    args = parse(Args, rest, "bench takeover")
    if args.takeovers < 1:
        raise SpecError("--takeovers", args.takeovers, "at least 1")
    if args.seed < 0:
        raise SpecError("--seed", args.seed, "at least 0")
    robot = _fit_for_it(load_robot(args.config, overrides), args.config)
    refuse_used(args.out)
    console = Console(stderr=args.json)
    console.print(f"exporting {args.checkpoint}", highlight=False)
    bundle = export_checkpoint(args.checkpoint, args.out / "bundle", None, 1.0)
    files, facts = _perform(robot, bundle, args, console)
    found = find([log_of(read_episode(file, cameras=())) for file in files])
    kept = bounds(found, args.takeovers)
    picture = args.out / "takeover.png"
    save(draw_bench(found, kept), picture)
    report = {**figures(found), **facts, "seed": args.seed, "rate_hz": robot.control.rate_hz}
    write_report(args.out, report, kept, picture, show=args.json)
    _print(kept, found, report, console)
    console.print(f"report {args.out / 'report.json'}, picture {picture}", highlight=False, soft_wrap=True)
    return 0 if all(bound.held for bound in kept) else 1


def _fit_for_it(robot: Robot, config: Path) -> Robot:
    """The robot with the thresholds of its leader. Raises SpecError where the bench has nothing to pull at."""
    if robot.virtual is None:
        raise SpecError(f"{config}: virtual", None, "the bench runs on the virtual arm only")
    if robot.virtual.attach is not None:
        raise SpecError(f"{config}: virtual.attach", str(robot.virtual.attach), "the bench starts its own virtual arm")
    if robot.leader is None or robot.teleop is None or robot.teleop.device is not TeleopDevice.LEADER:
        raise SpecError(f"{config}: teleop.device", None, "the bench needs a leader arm to pull at", ["leader"])
    robot = with_takeover(robot)
    if robot.teleop is None or not robot.teleop.force:
        raise SpecError(f"{config}: teleop.force", False, "measure thresholds first: cadenza calibrate takeover")
    return robot


def _perform(robot: Robot, bundle: Bundle, args: Args, console: Console) -> tuple[list[Path], dict[str, Any]]:
    """Take over and give back; returns the recordings, and what the run counted."""
    check_fit(bundle.manifest, robot, load_calibration(robot.follower).digest())
    pedal = args.out / "pedal"
    robot = with_pedal(robot, pedal)
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with (
        Progress(*columns, console=console, transient=True) as progress,
        VirtualRobot(robot, args.seed) as virtual,
        Supervisor(
            virtual.robot,
            policy_source(bundle),
            args.out,
            lambda line: console.print(line, markup=False, highlight=False, soft_wrap=True),
            bundle=bundle,
            teleop=True,
        ) as run,
    ):
        task = progress.add_task("takeovers", total=args.takeovers)
        bench = TakeoverBench(run, virtual.client, pedal, args.seed)
        try:
            bench.perform(args.takeovers, lambda finished: progress.update(task, completed=finished))
        except CadenzaError as error:
            if not any(file.exists() for file in bench.episodes):
                raise
            console.print(str(error), markup=False, highlight=False, soft_wrap=True)
        finally:
            bench.close()
    pedal.unlink()
    files = [file for file in bench.episodes if file.exists()]
    if not files:
        raise CadenzaError(f"{args.out}: no episode was recorded; see {args.out / 'logs'}")
    return files, {"unnoticed_pulls": bench.unnoticed, "run": run.report()}


def _print(kept: Sequence[Bound], found: Findings, report: dict[str, Any], console: Console) -> None:
    table = bound_table(kept)
    for means, counts in report["reaction_ticks"].items():
        shown = ", ".join(f"{count} in {ticks} ticks" for ticks, count in sorted(counts.items()))
        table.add_row(f"reaction to {means}", shown or "none")
    for name, label in (("followed_again", "policy followed again"), ("drives_alone", "policy drives alone")):
        spread = report["release_to_policy_s"][name]
        if spread:
            table.add_row(label, "p50 {p50:.2f}, p99 {p99:.2f}, max {max:.2f} s after release".format(**spread))
    jerk = report["command_jerk"]
    table.add_row("largest jerk", f"switch {jerk['switch']:.0%}, policy {jerk['policy']:.0%} of the limit")
    table.add_row("refused", f"{report['refused']}, the leader being elsewhere")
    table.add_row("pulls not felt", str(report["unnoticed_pulls"]))
    console.print(table)
    console.print(
        f"{report['ticks']:,} ticks in {len(found.logs)} episodes, {report['missed_ticks']} missed", highlight=False
    )

"""``cadenza bench soak``: does a long run under everything at once end as it began?"""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from contextlib import ExitStack, closing, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

from cadenza.arguments import check_range, parse, split_robot_overrides
from cadenza.bench_ending import bound_table, refuse_used, write_report
from cadenza.commanded import perform
from cadenza.picture import save
from cadenza.soaking.findings import HOUSEKEEPER, Findings, find
from cadenza.soaking.housekeeper import Housekeeper
from cadenza.soaking.journal import Journal
from cadenza.soaking.offers import Offers
from cadenza.soaking.picture import draw_soak
from cadenza.soaking.soak import Soak, Soaked
from cadenza.soaking.verdict import bounds, figures
from cadenza.soaking.witness import BLOCKS, Witness
from cadenza.takeover_bench import TakeoverBench, with_pedal
from cadenza.takeovers import Means
from controller.sources import policy_source
from controller.wiring.topics import FRAME_BYTES, frames_topic, topics
from drivers.virtual import VirtualRobot
from episodes.layout import wire_type
from export.bundle import Bundle, read_bundle
from spec.calibration import load_calibration, with_takeover
from spec.errors import CadenzaError, SpecError
from spec.manifest import check_fit
from spec.robot import Robot, TeleopDevice
from spec.robotfile import load_robot

_LEAST_MINUTES, _MOST_MINUTES = 0.5, 7 * 24 * 60
_MOST_KEPT = 100_000
"""More recordings than a week has."""
_SHIPPED = Path("assets/policy/push")


@dataclass(frozen=True, slots=True)
class Args:
    """Let the whole daemon drive the virtual arm for an hour, and judge whether it ends as it began.

    The shipped policy drives, episode after episode is recorded, a scripted hand takes the arm over and gives it back,
    and new weights are swapped in, all at random moments. Judged: memory growth of every process, descriptors,
    threads and shared memory, anything dropped or lost, faults and restarts, every recording, and whether the lateness
    of the last sixth is like that of the first.

    Everything seen goes to soak.jsonl in --out at once, so that also a soak that was killed can be judged. Of the
    recordings only the newest stay. Writes report.json and soak.png. Exit status 1 when a bound is broken.

    cadenza bench soak --minutes 60 --out runs/soak

    cadenza bench soak --minutes 3 --seed 7 --json

    cadenza bench soak --judge runs/soak
    """

    minutes: float = 60.0
    """How long."""
    rate_hz: float = 200.0
    """Control rate."""
    out: Path = Path("runs/bench-soak")
    """Folder of the run; it must be new or empty."""
    judge: Path | None = None
    """Folder of an earlier soak, ended or killed: judge it again and run nothing."""
    seed: int = 0
    """Of the moments, the hand, and the scenes."""
    keep: int = 5
    """So many of the newest recordings stay."""
    bundle: Path | None = None
    """What drives, made by cadenza export; by default the shipped policy is exported."""
    config: Path = Path("robots/virtual.yaml")
    """Robot file; it must have a virtual arm with a leader."""
    json: bool = False
    """Print the report as JSON and nothing else on standard output."""


def main(argv: Sequence[str]) -> int:
    """Run the command."""
    rest, overrides = split_robot_overrides(argv)
    args = parse(Args, rest, "bench soak")
    console = Console(stderr=args.json)
    if args.judge is not None:
        return _judge(args.judge, console, json=args.json)
    check_range("--minutes", args.minutes, _LEAST_MINUTES, _MOST_MINUTES)
    check_range("--keep", args.keep, 1, _MOST_KEPT)
    if args.seed < 0:
        raise SpecError("--seed", args.seed, "at least 0")
    robot = _fit_for_it(load_robot(args.config, {"control.rate_hz": f"{args.rate_hz:g}", **overrides}), args.config)
    refuse_used(args.out)
    args.out.mkdir(parents=True, exist_ok=True)
    bundle = read_bundle(args.bundle or _exported(args.out / "bundle", console))
    check_fit(bundle.manifest, robot, load_calibration(robot.follower).digest())
    console.print(
        f"{args.minutes:g} min write about {_gb_per_hour(robot) * args.minutes / 60:.1f} GB of recordings "
        f"({_gb_per_hour(robot):.1f} GB an hour); the newest {args.keep} stay",
        highlight=False,
    )
    interrupted = _perform(robot, bundle, args, console)
    status = _judge(args.out, console, json=args.json)
    return 130 if interrupted else status


def _judge(folder: Path, console: Console, *, json: bool) -> int:
    found = find(folder)
    kept = bounds(found)
    picture = folder / "soak.png"
    save(draw_soak(found, kept), picture)
    report = figures(found)
    write_report(folder, report, kept, picture, show=json)
    _print(report, found, console)
    console.print(bound_table(kept))
    console.print(f"report {folder / 'report.json'}, picture {picture}", highlight=False, soft_wrap=True)
    return 0 if all(bound.held for bound in kept) else 1


def _exported(folder: Path, console: Console) -> Path:
    """The shipped policy as a bundle, made by a process of its own: what trains would swell this one's memory."""
    console.print(f"exporting {_SHIPPED}", highlight=False)
    perform("export", str(_SHIPPED), "--out", str(folder))
    return folder


def _fit_for_it(robot: Robot, config: Path) -> Robot:
    """The robot with the thresholds of its leader, if they are measured. Raises SpecError where there is no leader."""
    if robot.virtual is None or robot.virtual.attach is not None:
        raise SpecError(f"{config}: virtual", None, "the soak starts a virtual arm of its own")
    if robot.leader is None or robot.teleop is None or robot.teleop.device is not TeleopDevice.LEADER:
        raise SpecError(f"{config}: teleop.device", None, "the soak needs a leader arm to take over with", ["leader"])
    return with_takeover(robot)


def _gb_per_hour(robot: Robot) -> float:
    """Recordings need about so much: ticks have one size, pictures about what is made ready for them."""
    table = topics(robot)
    ticks = robot.control.rate_hz * wire_type(len(robot.follower.joints))[0].itemsize
    pictures = sum(
        camera.fps * (table[frames_topic(name)].first_bytes - FRAME_BYTES) for name, camera in robot.cameras.items()
    )
    return float(ticks + pictures) * 3600 / 1e9


def _perform(robot: Robot, bundle: Bundle, args: Args, console: Console) -> bool:
    """Soak; what is seen is in the journal then. Returns whether somebody ended it."""
    pedal, seconds = args.out / "pedal", args.minutes * 60
    robot = with_pedal(robot, pedal)
    with ExitStack() as stack:
        show = _showing(stack.enter_context(_bar(console)), seconds)
        stack.callback(pedal.unlink)
        virtual = stack.enter_context(VirtualRobot(robot, args.seed))
        run = stack.enter_context(_daemon(virtual.robot, bundle, args, console))
        housekeeper = Housekeeper(args.out / "robot.resolved.json", args.keep)
        journal = stack.enter_context(closing(Journal(args.out)))
        journal.note("begin", **_facts(args, robot, seconds))
        beside = {"supervisor": os.getpid(), "virtual arm": virtual.pid, HOUSEKEEPER: housekeeper.pid}
        witness = Witness(run, run.namespace, beside, journal, seconds / BLOCKS)
        offers = Offers(bundle, args.out / "shelf", journal, args.seed)
        bench = stack.enter_context(closing(TakeoverBench(run, virtual.client, pedal, args.seed)))
        soak = Soak(run, bench, _means(robot), housekeeper, journal, args.seed)

        def look() -> None:
            witness.look()
            offers.look()
            soak.hear()
            late = witness.recent.percentile(99.9)
            told = f"{soak.takeovers} takeovers, weights {offers.weights}, lateness p99.9 {late:.0f} µs"
            show(told, journal.now_s())

        run.beside = look
        interrupted = _ended_early(soak, seconds, console)
        run.beside = lambda: None
        lasted_s = journal.now_s()
        witness.close()
        show("ending", lasted_s)
        run.close()
        with suppress(CadenzaError):  # of a housekeeper that is gone; that was said
            soak.hand_over()  # the recording that was interrupted, or ended by a fault, is closed now
        for facts in housekeeper.end():
            journal.note("episode", **facts)
        journal.note(
            "end", lasted_s=lasted_s, recorded=len(bench.episodes), interrupted=interrupted, report=run.report()
        )
    return interrupted


def _bar(console: Console) -> Progress:
    columns = (TextColumn("{task.description}"), BarColumn(), TimeElapsedColumn(), TimeRemainingColumn())
    return Progress(*columns, console=console, transient=True)


def _showing(progress: Progress, seconds: float) -> Callable[[str, float], None]:
    """Takes what is to be read on the bar, and how much of the time has passed [s]."""
    task = progress.add_task("starting", total=seconds)
    return lambda told, now_s: progress.update(task, completed=min(now_s, seconds), description=told)


def _daemon(robot: Robot, bundle: Bundle, args: Args, console: Console) -> Soaked:
    return Soaked(
        robot,
        policy_source(bundle),
        args.out,
        lambda line: console.print(line, markup=False, highlight=False, soft_wrap=True),
        bundle=bundle,
        follow=_made(args.out / "shelf"),
        teleop=True,
    )


def _means(robot: Robot) -> list[Means]:
    """By which this robot's arm can be taken over."""
    force = robot.teleop is not None and robot.teleop.force
    return [one for one in Means if force or one is not Means.FORCE]


def _ended_early(soak: Soak, seconds: float, console: Console) -> bool:
    """Soak for so long [s], or until that does not work any more; returns whether somebody ended it before."""
    try:
        soak.perform(seconds)
    except KeyboardInterrupt:
        return True
    except CadenzaError as error:
        console.print(str(error), markup=False, highlight=False, soft_wrap=True)
    return False


def _facts(args: Args, robot: Robot, seconds: float) -> dict[str, Any]:
    return {
        "wanted_s": seconds,
        "blocks": BLOCKS,
        "seed": args.seed,
        "rate_hz": robot.control.rate_hz,
        "cameras": {name: f"{one.width}x{one.height} at {one.fps:g}" for name, one in robot.cameras.items()},
        "cores": len(os.sched_getaffinity(0)),
    }


def _made(folder: Path) -> Path:
    folder.mkdir(parents=True)
    return folder


def _print(report: dict[str, Any], found: Findings, console: Console) -> None:
    console.print(
        f"{report['ticks']:,} ticks in {found.seconds / 60:.1f} min, {report['missed_ticks']} missed; "
        f"{report['takeovers']} takeovers, {report['swaps']} swaps, {report['episodes']} episodes, "
        f"{report['gb_per_hour']:.1f} GB an hour",
        highlight=False,
    )
    for name, when in (("first", "first"), ("last", "last")):
        late = report["lateness_us"][name]
        console.print(
            f"{when} {found.window * found.begin['wanted_s'] / found.begin['blocks'] / 60:.1f} min: lateness µs: "
            f"p50 {late['p50']:.0f}, p99 {late['p99']:.0f}, p99.9 {late['p99_9']:.0f}, max {late['max']:.0f}; "
            f"{late['missed']:.0f} missed",
            highlight=False,
        )
    busy = report["cores_busy"]
    console.print(
        f"cores busy: {busy['ours']:.2f} by the run and its virtual arm, {busy['others']:.2f} by others",
        highlight=False,
    )
    for line in [*report["wrong"], *report["troubles"]]:
        console.print(line, markup=False, highlight=False, soft_wrap=True)

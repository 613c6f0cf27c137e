"""``cadenza run``: drive an arm with an exported policy."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import tyro
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table

from cadenza.arguments import check_length, parse, split_robot_overrides
from cadenza.collecting.view import times
from cadenza.judge import VirtualJudge
from cadenza.report import summarise
from controller.exploration import Exploration, exploration
from controller.session import EpisodeResult, Judge, NoJudge, Session
from controller.sources import policy_source
from controller.supervisor import Supervisor
from drivers.virtual import VirtualRobot
from episodes.outcome import Outcome, Termination
from episodes.reader import Episode, read_episode
from export.bundle import Bundle, read_bundle
from export.shelf import open_newest, read_newest
from spec.calibration import load_calibration, with_takeover
from spec.errors import SpecError
from spec.files import write_atomically
from spec.manifest import check_fit
from spec.robot import ChunkMode, Realtime, Robot, TeleopDevice
from spec.robotfile import load_robot

_ENDS_THE_RUN = {
    Termination.OPERATOR,
    Termination.ERROR,
    Termination.FAULT,
    Termination.CONTROL_DIED,
    Termination.DISK_FULL,
}
"""After these, going on is for a person to decide."""

_BUS_COUNTS = {"lost answers": "silent", "corrupt answers": "corrupt", "joint values missing after retries": "stale"}
"""What a person is told of :class:`drivers.dynamixel.sync.BusStatistics`: most losses are healed by a retry."""


@dataclass(frozen=True, slots=True)
class Args:
    """Drive an arm with an exported policy, episode after episode, with every tick on record.

    Where the robot file has a virtual arm, it is started (or attached to), sets the scene and judges success. Any
    field of the robot file can be overridden: --robot.control.rate_hz 100

    cadenza run --config robots/virtual.yaml --bundle runs/bundle --episodes 10
    cadenza run --config robots/koch.yaml --bundle runs/bundle --mode latest --realtime enforce
    cadenza run --bundle runs/bundle --follow runs/online/shelf --episodes 100 --explore 0.3
    """

    bundle: Path | None = None
    """Folder made by cadenza export; with --follow by default the newest on the shelf."""
    config: Path = Path("robots/virtual.yaml")
    """Robot file."""
    episodes: int = 1
    episode_seconds: float = 20.0
    """Time limit of one episode, counted from the moment the policy drives [s]."""
    mode: tyro.conf.EnumChoicesFromValues[ChunkMode | None] = None
    """How chunks become targets; the robot file's choice by default."""
    realtime: tyro.conf.EnumChoicesFromValues[Realtime | None] = None
    """Demand real-time privileges, take what can be had, or ask for none; the robot file's choice by default."""
    out: Path | None = None
    """Folder of the run; by default a new one under runs/."""
    seed: int | None = None
    """Of the virtual scene; the robot file's by default. Episode k uses seed + k."""
    teleop: bool = False
    """Let a person take the arm over, with the robot file's teleop device."""
    follow: Path | None = None
    """Shelf of a learner: whatever bundle is newest there takes over while the arm moves, after a trial in shadow.
    From another terminal: cadenza weights RUN_FOLDER status."""
    explore: float = 0.0
    """Share of the policy's own spread to explore with, 0 to 1; 0 is its mean. Seed and share go on record, so that
    every chunk can be worked out again."""
    json: bool = False
    """Print the report as JSON and nothing else on standard output."""


@dataclass(frozen=True, slots=True)
class RunResult:
    """What a run brought."""

    episodes: tuple[EpisodeResult, ...]
    recorded: tuple[Episode, ...]
    """Closed recordings, without pictures."""
    report: dict[str, Any]
    interrupted: bool

    @property
    def sound(self) -> bool:
        """Whether every episode was driven by the policy to its own end and was recorded whole."""
        return all(
            result.path is not None
            and result.outcome is not Outcome.ABORTED
            and result.termination in {Termination.DONE, Termination.TIME_LIMIT}
            for result in self.episodes
        )


def main(argv: Sequence[str]) -> int:
    """Run the command."""
    rest, overrides = split_robot_overrides(argv)
    args = parse(Args, rest, "run")
    check_length(args.episodes, args.episode_seconds)
    robot = chosen_robot(args.config, overrides, args.mode, args.realtime, args.seed)
    explore = exploration(args.explore)
    bundle = chosen_bundle(args.bundle, args.follow)
    if args.teleop and robot.teleop is None:
        raise SpecError(f"{args.config}: teleop", None, "there is no device to take the arm over with")
    if args.teleop:
        robot = with_takeover(robot)
        warn_of_force(robot, _sayer(Console(stderr=True)))
    out = args.out or Path("runs") / f"run-{datetime.now(UTC):%Y%m%d-%H%M%S}"
    console = Console(stderr=args.json)
    result = run_episodes(
        robot,
        bundle,
        out,
        args.episodes,
        args.episode_seconds,
        console,
        teleop=args.teleop,
        follow=args.follow,
        explore=explore,
    )
    if args.json:
        print(json.dumps(result.report, indent=2))
    else:
        print_result(result, console)
    if result.interrupted:
        return 130
    return 0 if result.sound else 1


def chosen_robot(
    config: Path, overrides: Mapping[str, str], mode: ChunkMode | None, realtime: Realtime | None, seed: int | None
) -> Robot:
    """The robot file with what the command line says about it.

    Raises:
        SpecError: as :func:`load_robot`; or a seed for a real arm, which would make a virtual one of it.
    """
    chosen = {"control.mode": mode, "control.realtime": realtime}
    given = {**overrides, **{field: str(value) for field, value in chosen.items() if value is not None}}
    robot = load_robot(config, given)
    if seed is None:
        return robot
    if robot.virtual is None:
        raise SpecError("--seed", seed, f"scenes are the virtual arm's; {config} is a real one")
    return load_robot(config, {**given, "virtual.seed": str(seed)})


def chosen_bundle(folder: Path | None, shelf: Path | None) -> Bundle:
    """The bundle to begin with: the one that is named, or what the shelf offers.

    Raises:
        SpecError: neither is there.
    """
    if shelf is not None and not shelf.is_dir():
        raise SpecError("--follow", str(shelf), "no such folder; it is where a learner puts its bundles")
    if folder is not None:
        return read_bundle(folder)
    if shelf is None:
        raise SpecError("--bundle", None, "say what drives; make a bundle: cadenza export")
    newest = read_newest(shelf)
    if newest is None:
        raise SpecError("--follow", str(shelf), "nothing there yet; say with --bundle what drives until there is")
    return open_newest(shelf, newest)


def run_episodes(
    robot: Robot,
    bundle: Bundle,
    out: Path,
    episodes: int,
    episode_seconds: float,
    console: Console,
    *,
    teleop: bool = False,
    follow: Path | None = None,
    explore: Exploration | None = None,
) -> RunResult:
    """Start everything, run episodes, end everything, report.

    Writes ``report.json`` into ``out``.

    Args:
        robot: checked robot file; a virtual arm in it is started.
        bundle: verified.
        out: folder of the run.
        episodes: how many.
        episode_seconds: time limit of each [s].
        console: for progress and for what a person should know.
        teleop: a person may take the arm over; thresholds of the leader are known.
        follow: shelf whose newest bundle is to drive.
        explore: how the policy explores; None: not at all.

    Raises:
        CadenzaError: something is missing or does not fit; nothing has moved then.
    """
    if out.exists() and not out.is_dir():
        raise SpecError("--out", str(out), "is a file, not a folder")
    check_fit(bundle.manifest, robot, load_calibration(robot.follower).digest())
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    with ExitStack() as stack:
        progress = stack.enter_context(Progress(*columns, console=console, transient=True))
        task = progress.add_task("starting", total=episodes)
        judge: Judge = NoJudge()
        if robot.virtual is not None:
            seed = robot.virtual.seed
            virtual = stack.enter_context(VirtualRobot(robot, seed))
            robot, judge = virtual.robot, VirtualJudge(virtual.client, seed)
        source = policy_source(bundle, explore)
        supervisor = stack.enter_context(
            Supervisor(robot, source, out, _sayer(console), bundle=bundle, follow=follow, teleop=teleop)
        )
        session = Session(supervisor, judge, episode_seconds)
        results: list[EpisodeResult] = []
        for number in range(episodes):
            progress.update(task, description=f"episode {number}")
            results.append(session.episode(number))
            progress.advance(task)
            if results[-1].termination in _ENDS_THE_RUN:
                break
        supervisor.close()
    recorded = tuple(read_episode(result.path, cameras=()) for result in results if result.path is not None)
    report = _report(robot, bundle, results, recorded) | {"run": supervisor.report()}
    write_atomically(out / "report.json", (json.dumps(report, indent=2) + "\n").encode())
    return RunResult(tuple(results), recorded, report, supervisor.interrupted)


def _report(
    robot: Robot, bundle: Bundle, results: Sequence[EpisodeResult], recorded: Sequence[Episode]
) -> dict[str, Any]:
    """What the episodes brought. JSON-able."""
    return {
        **(summarise(recorded) if recorded else {}),
        "success_rate": sum(result.outcome is Outcome.SUCCESS for result in results) / len(results),
        "episodes": len(results),
        "results": [_result(result) for result in results],
        "mode": robot.control.mode.value,
        "rate_hz": robot.control.rate_hz,
        "policy_hz": 1.0 / bundle.manifest.action.step_s,
        "weights": bundle.manifest.weights,
        "parity": bundle.manifest.parity.model_dump(),
    }


def warn_of_force(robot: Robot, say: Callable[[str], None]) -> None:
    """Say so where pulling at the leader will not take the arm over, although nobody switched that off."""
    teleop = robot.teleop
    if teleop is not None and teleop.device is TeleopDevice.LEADER and not teleop.force:
        say("force takeover is off; for thresholds: cadenza calibrate takeover")


def print_result(result: RunResult, console: Console) -> None:
    """A short table for people."""
    table = Table("episode", "outcome", "ended by", "seconds", "recording", box=None)
    for number, episode in enumerate(result.episodes):
        where = "none" if episode.path is None else episode.path.name
        cells = (str(number), episode.outcome.value, episode.termination.value, f"{episode.seconds:.1f}", where)
        table.add_row(*cells)
    console.print(table)
    report, run = result.report, result.report["run"]
    lateness, inference = report.get("lateness_us", {}), report.get("inference_ms", {})
    console.print(
        f"success {report['success_rate']:.0%} of {report['episodes']}, "
        f"{report.get('ticks', 0)} ticks at {report['rate_hz']:g} Hz, {report.get('missed_ticks', 0)} missed",
        highlight=False,
    )
    if lateness and inference:
        console.print(
            f"lateness µs: p50 {lateness['p50']:.0f}, p99 {lateness['p99']:.0f}, p99.9 {lateness['p99_9']:.0f}, "
            f"max {lateness['max']:.0f}; inference ms: p50 {inference['p50']:.1f}, p99 {inference['p99']:.1f}",
            highlight=False,
        )
    bus = run["processes"].get("control", {}).get("bus", {})
    dropped = sum(sum(episode.dropped.values()) for episode in result.episodes)
    troubles = {
        "bus errors": run["bus_errors"],
        **{name: bus[count] for name, count in _BUS_COUNTS.items() if count in bus},
        "restarts": sum(run["restarts"].values()),
        "dropped records": dropped,
        "not granted": "; ".join(run["realtime_missing"]) or 0,
    }
    console.print(", ".join(f"{name}: {value}" for name, value in troubles.items()), highlight=False)
    if changes := weights_told(run):
        console.print(changes, highlight=False)
    if folders := {str(episode.path.parent) for episode in result.episodes if episode.path is not None}:
        console.print(f"recordings in {', '.join(folders)}", highlight=False)


def weights_told(run: Mapping[str, Any]) -> str:
    """Which weights drove, in one line; empty where they were the same all along."""
    weights = run.get("weights", {})
    drove, refused = weights.get("drove", []), weights.get("refused", [])
    if len(drove) < 2 and not refused:
        return ""
    line = f"weights: {' -> '.join(str(one['weights']) for one in drove)}"
    return f"{line}, {times(len(refused))} refused" if refused else line


def _sayer(console: Console) -> Callable[[str], None]:
    return lambda line: console.print(line, markup=False, highlight=False)


def _result(result: EpisodeResult) -> dict[str, Any]:
    return {
        "path": None if result.path is None else str(result.path),
        "outcome": result.outcome.value,
        "termination": result.termination.value,
        "seconds": result.seconds,
        "dropped": dict(result.dropped),
    }

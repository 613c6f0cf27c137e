"""``cadenza run``: drive an arm with an exported policy."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import tyro
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table

from cadenza.arguments import check_length, parse, split_robot_overrides
from cadenza.collecting.view import times
from cadenza.report import summarise
from cadenza.running import ENDS_THE_RUN, RECOVERABLE, Wanted, started
from cadenza.service.lines import Lines
from cadenza.service.serving import serve
from controller.exploration import exploration
from controller.journal import Journal, journalled
from controller.notify import Notify
from controller.recovery import GOES_ON, RESTS
from controller.session import EpisodeResult
from episodes.outcome import Outcome, Termination
from episodes.reader import Episode, read_episode
from export.bundle import Bundle, read_bundle
from export.shelf import open_newest, read_newest
from spec.calibration import with_takeover
from spec.errors import CadenzaError, SpecError
from spec.files import write_atomically
from spec.robot import ChunkMode, Realtime, Robot, TeleopDevice
from spec.robotfile import load_robot

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
    cadenza run --config robots/koch.yaml --bundle runs/bundle --service
    """

    bundle: Path | None = None
    """Folder made by cadenza export; with --follow by default the newest on the shelf."""
    config: Path = Path("robots/virtual.yaml")
    """Robot file."""
    episodes: int | None = None
    """How many; 1 by default, with --service as many as there are until it is told to end."""
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
    service: bool = False
    """Nobody sits in front: tell the service manager (sd_notify, journal), end after the episode when it says so
    (SIGTERM), and after a fault hold until somebody says cadenza recover RUN_FOLDER; then it goes on by itself. See
    cadenza service."""
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
    wanted = wanted_run(args, overrides)
    if args.service:
        return _serve(args, wanted)
    if wanted.teleop:
        warn_of_force(wanted.robot, _sayer(Console(stderr=True)))
    console = Console(stderr=args.json)
    result = run_episodes(wanted, args.episodes or 1, console, attended=sys.stdin.isatty() and not args.json)
    if args.json:
        print(json.dumps(result.report, indent=2))
    else:
        print_result(result, console)
    if result.interrupted:
        return 130
    return 0 if result.sound else 1


def wanted_run(args: Args, overrides: Mapping[str, str]) -> Wanted:
    """What the command line asks for.

    Raises:
        SpecError: something in it cannot be.
    """
    check_length(1 if args.episodes is None else args.episodes, args.episode_seconds)
    robot = chosen_robot(args.config, overrides, args.mode, args.realtime, args.seed)
    explore = exploration(args.explore)
    bundle = chosen_bundle(args.bundle, args.follow)
    if args.teleop and robot.teleop is None:
        raise SpecError(f"{args.config}: teleop", None, "there is no device to take the arm over with")
    if args.service and args.json:
        raise SpecError(
            "--json", True, "a service has no end to report at; its report.json is in the folder of the run"
        )
    out = args.out or Path("runs") / f"run-{datetime.now(UTC):%Y%m%d-%H%M%S}"
    robot = with_takeover(robot) if args.teleop else robot
    return Wanted(robot, bundle, out, args.episode_seconds, args.teleop, args.follow, explore)


def _serve(args: Args, wanted: Wanted) -> int:
    wanted = replace(wanted, out=wanted.out.resolve())  # whoever reads its lines is in another folder
    journal = Journal() if journalled(os.environ) else None
    lines = Lines(journal, {"CADENZA_ROBOT": wanted.robot.name, "CADENZA_RUN": str(wanted.out)})
    if wanted.teleop:
        warn_of_force(wanted.robot, lines.say)
    return 0 if serve(wanted, args.episodes, Notify.of(os.environ), lines) else 130


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


def run_episodes(wanted: Wanted, episodes: int, console: Console, *, attended: bool = False) -> RunResult:
    """Start everything, run so many episodes, end everything, report.

    Writes ``report.json`` into the folder of the run.

    Args:
        wanted: checked again.
        episodes: how many.
        console: for progress and for what a person should know.
        attended: somebody is there who may recover the arm after a fault; else that ends the run.

    Raises:
        CadenzaError: something is missing or does not fit; nothing has moved then.
    """
    wanted.check()
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    with ExitStack() as stack:
        progress = stack.enter_context(Progress(*columns, console=console, transient=True))
        task = progress.add_task("starting", total=episodes)
        say = _sayer(console)
        supervisor, session = stack.enter_context(started(wanted, say))
        results: list[EpisodeResult] = []
        for number in range(episodes):
            progress.update(task, description=f"episode {number}")
            waits = attended and number + 1 < episodes
            supervisor.word.sequel = GOES_ON if waits else RESTS
            results.append(session.episode(number))
            progress.advance(task)
            ended = results[-1].termination
            if waits and ended in RECOVERABLE:
                progress.update(task, description="holding")
                say(
                    f"holding; once the cause is gone, elsewhere: cadenza recover {wanted.out}; then the arm moves "
                    "slowly to its start pose. Ctrl-C ends the run"
                )
                if session.wait_for_recovery():
                    continue
            if ended in ENDS_THE_RUN:
                break
        supervisor.close()
    recorded = tuple(read_back(results, say))
    report = _report(supervisor.robot, wanted.bundle, results, recorded) | {"run": supervisor.report()}
    write_atomically(wanted.out / "report.json", (json.dumps(report, indent=2) + "\n").encode())
    return RunResult(tuple(results), recorded, report, supervisor.interrupted)


def read_back(results: Sequence[EpisodeResult], say: Callable[[str], None]) -> Iterator[Episode]:
    """What was recorded, as far as it is still there: somebody may have tidied up meanwhile."""
    for result in results:
        if result.path is not None:
            try:
                yield read_episode(result.path, cameras=())
            except CadenzaError as error:
                say(f"{error}; the report does without it")


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
        soft_wrap=True,
    )
    if lateness and inference:
        console.print(
            f"lateness µs: p50 {lateness['p50']:.0f}, p99 {lateness['p99']:.0f}, p99.9 {lateness['p99_9']:.0f}, "
            f"max {lateness['max']:.0f}; inference ms: p50 {inference['p50']:.1f}, p99 {inference['p99']:.1f}",
            highlight=False,
            soft_wrap=True,
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
    console.print(", ".join(f"{name}: {value}" for name, value in troubles.items()), highlight=False, soft_wrap=True)
    console.print(f"timing: {run['timing']}", markup=False, highlight=False, soft_wrap=True)
    if changes := weights_told(run):
        console.print(changes, highlight=False, soft_wrap=True)
    if folders := {str(episode.path.parent) for episode in result.episodes if episode.path is not None}:
        console.print(f"recordings in {', '.join(folders)}", highlight=False, soft_wrap=True)


def weights_told(run: Mapping[str, Any]) -> str:
    """Which weights drove, in one line; empty where they were the same all along."""
    weights = run.get("weights", {})
    drove, refused = weights.get("drove", []), weights.get("refused", [])
    if len(drove) < 2 and not refused:
        return ""
    line = f"weights: {' -> '.join(str(one['weights']) for one in drove)}"
    return f"{line}, {times(len(refused))} refused" if refused else line


def _sayer(console: Console) -> Callable[[str], None]:
    return lambda line: console.print(line, markup=False, highlight=False, soft_wrap=True)


def _result(result: EpisodeResult) -> dict[str, Any]:
    return {
        "path": None if result.path is None else str(result.path),
        "outcome": result.outcome.value,
        "termination": result.termination.value,
        "seconds": result.seconds,
        "dropped": dict(result.dropped),
    }

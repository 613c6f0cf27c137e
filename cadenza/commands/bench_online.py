"""``cadenza bench online``: a robot at work, corrected by hand, and a learner beside it: what it brings, and costs."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table

from cadenza.arguments import parse, split_robot_overrides
from cadenza.bench_ending import bound_table, refuse_used, write_report
from cadenza.demonstrations import DemonstrationRecorder, Settings
from cadenza.online_bench import LEARNING, QUIET, OnlineBench, Turns
from cadenza.online_picture import draw_online
from cadenza.online_report import LEGS, Found, bounds, figures, find, write
from cadenza.picture import save
from cadenza.takeover_report import Bound
from episodes.reader import read_episode
from export.exporter import export_checkpoint
from learning.checkpoint import read_config
from learning.online.learner import BUNDLES
from spec.errors import CadenzaError, SpecError
from spec.files import write_atomically
from spec.robot import Robot
from spec.robotfile import load_robot

TASK = "push the cube into the goal zone"
_ACTOR_LR = 3e-5
"""A few dozen updates is all there is time for; they must not lead a policy astray that can do the task."""


@dataclass(frozen=True, slots=True)
class Args:
    """Let a policy drive the virtual arm while a scripted hand corrects it and a learner beside it learns from that.

    Two commands run, as on a robot: cadenza collect --follow and cadenza learn online. In turns the learner gets the
    episodes at once, or has to wait. From the records come: how soon after an intervention weights that learned from
    it drive the arm, and what takes that time; which weights drove which episode; and how punctual the control loop
    was with the learner at work and weights coming in, against without. Four minutes or so, in real time.

    Writes report.json, online.png, the session, and the learner's folder into --out. Exit status 1 when something is
    not as it must be.

    cadenza bench online --out runs/bench-online

    cadenza bench online --episodes 12 --batch 32 --json
    """

    out: Path = Path("runs/bench-online")
    """Folder of the run; it must be new or empty."""
    episodes: int = 24
    """How many, in all."""
    quiet: int = Turns().quiet
    """Episodes in a row that the learner has to wait for; likewise:"""
    learning: int = Turns().learning
    """Episodes in a row that it gets at once."""
    episode_seconds: float = 12.0
    """Time limit of an episode [s]."""
    demonstrations: int = 12
    """Scripted demonstrations that the learner has besides."""
    batch: int = 32
    """Of the learner. Small, as it has what the robot leaves of one core."""
    utd: float = 0.25
    """Updates for each step of the robot; few, for the same reason."""
    export_every: int = 10
    """Updates after which new weights are offered, if not all are made before."""
    seed: int = 0
    """Of scenes, demonstrations and learning."""
    checkpoint: Path = Path("assets/policy/push")
    """Policy to begin with."""
    config: Path = Path("robots/virtual.yaml")
    """Robot file; it must have a virtual arm with a leader."""
    json: bool = False
    """Print the report as JSON and nothing else on standard output."""


def main(argv: Sequence[str]) -> int:
    """Run the command."""
    rest, overrides = split_robot_overrides(argv)
    args = parse(Args, rest, "bench online")
    _check(args)
    robot = load_robot(args.config, overrides)
    if robot.virtual is None or robot.leader is None or robot.teleop is None:
        raise SpecError(
            f"{args.config}: virtual, leader, teleop", None, "the bench runs on a virtual arm with a leader"
        )
    console = Console(stderr=args.json)
    console = console if console.is_terminal else Console(stderr=args.json, width=160)
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    with Progress(*columns, console=console, transient=True) as progress:
        _prepare(args, robot, progress)
        given = [word for field, value in overrides.items() for word in (f"--robot.{field}", value)]
        turns = Turns(args.quiet, args.learning)
        bench = OnlineBench(args.out, [*_session(args), *given], _learner(args), turns)
        task = progress.add_task("starting both", total=args.episodes)
        try:
            seen = bench.run(lambda done, words: progress.update(task, completed=done, description=words))
        finally:
            write_atomically(args.out / "witness.json", write(bench.seen).encode())
    files = [path for path in sorted((args.out / "session" / "episodes").glob("*.mcap")) if path.name in seen.closed]
    if not files:
        raise CadenzaError(f"{args.out}: no episode was recorded; see {args.out / 'logs'}")
    found = find(seen, [read_episode(path, cameras=()) for path in files])
    kept = bounds(found, seen)
    picture = args.out / "online.png"
    save(draw_online(found, kept), picture)
    report = {**figures(found, seen), "seed": args.seed, "batch": args.batch, "utd": args.utd}
    write_report(args.out, report, kept, picture, show=args.json)
    _print(kept, found, report, console)
    console.print(f"report {args.out / 'report.json'}, picture {picture}", highlight=False, soft_wrap=True)
    return 0 if all(bound.held for bound in kept) else 1


def _check(args: Args) -> None:
    for name in ("episodes", "quiet", "learning", "batch", "export_every"):
        if getattr(args, name) < 1:
            raise SpecError(f"--{name.replace('_', '-')}", getattr(args, name), "at least 1")
    for name in ("seed", "demonstrations"):
        if getattr(args, name) < 0:
            raise SpecError(f"--{name}", getattr(args, name), "zero or more")
    for name in ("utd", "episode_seconds"):
        if not 0.0 < getattr(args, name) <= 1000.0:
            raise SpecError(f"--{name.replace('_', '-')}", getattr(args, name), "above 0, at most 1000")
    refuse_used(args.out)


def _prepare(args: Args, robot: Robot, progress: Progress) -> None:
    """The bundle to begin with, and demonstrations."""
    task = progress.add_task("preparing", total=args.demonstrations + 1)
    config = read_config(args.checkpoint).actor
    recorder = DemonstrationRecorder(robot, tuple(config.cameras), Settings(step_s=config.act_step_s))
    try:
        for number in range(args.demonstrations):
            recorder.record(args.out / "demonstrations" / f"demo-{number:04d}.mcap", args.seed, number)
            progress.advance(task)
    finally:
        recorder.close()
    data = args.out / "demonstrations" if args.demonstrations else None
    export_checkpoint(args.checkpoint, args.out / "bundle", data, 1.0)
    progress.remove_task(task)


def _session(args: Args) -> list[str]:
    words: dict[str, Any] = {
        "bundle": args.out / "bundle",
        "follow": args.out / "learner" / BUNDLES,
        "out": args.out / "session",
        "config": args.config,
        "episodes": args.episodes,
        "episode-seconds": args.episode_seconds,
        "reset-seconds": 0.5,
        "seed": args.seed,
        "task": TASK,
        "hand": "scripted",
    }
    return ["collect", *_words(words), "--quiet", "--json"]


def _learner(args: Args) -> list[str]:
    words: dict[str, Any] = {
        "checkpoint": args.checkpoint,
        "out": args.out / "learner",
        "watch": args.out / "handed",
        "beside": args.config,
        "batch": args.batch,
        "utd": args.utd,
        "export-every": args.export_every,
        "actor-lr": _ACTOR_LR,
        "seed": args.seed,
    }
    if args.demonstrations:
        words["data"] = args.out / "demonstrations"
    return ["learn", "online", *_words(words), "--json"]


def _words(options: dict[str, Any]) -> list[str]:
    return [word for name, value in options.items() for word in (f"--{name}", str(value))]


def _print(kept: Sequence[Bound], found: Found, report: dict[str, Any], console: Console) -> None:
    drove = Table("episode", "learner", "outcome", "by hand s", "weights", "missed", box=None)
    for one in found.episodes:
        versions = " → ".join(str(version) for version in one.versions)
        cells = (one.name, "at work" if one.phase == LEARNING else "waits", one.outcome, f"{one.hand_s:.1f}", versions)
        drove.add_row(*cells, str(one.missed))
    console.print(drove)
    table = bound_table(kept)
    for name in (QUIET, LEARNING, "around swaps"):
        late = report["lateness_us"][name]
        if late["ticks"]:
            told = "p50 {p50:.0f}, p99 {p99:.0f}, p99.9 {p99_9:.0f}, max {p100:.0f} µs, {missed} of {ticks} missed"
            table.add_row(f"lateness, {_NAMES[name]}", told.format(**late))
    if found.reactions:
        legs = ", ".join(f"{leg} {report['legs_s'][leg]['p50']:.1f}" for leg in LEGS)
        spread = "{p50:.1f} s in the middle, {p100:.1f} s at most".format(**report["reaction_s"])
        table.add_row("intervention to new weights driving", f"{spread} ({len(found.reactions)})")
        table.add_row("of that, in the middle [s]", legs)
    console.print(table)


_NAMES = {QUIET: "learner waiting", LEARNING: "learner at work", "around swaps": "around swaps"}

"""``cadenza bench learning``: does a policy get better while a person steps in, and by which method the most?"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import torch
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table

from cadenza.arguments import parse
from cadenza.finetuning.arm import LockstepArm
from cadenza.finetuning.curves import draw_curves
from cadenza.finetuning.series import Run, Verdict, load_run, save_run, verdicts
from cadenza.finetuning.trial import Bench, Plan, Point, fine_tune, settings_of
from cadenza.picture import save
from learning.sac.settings import Objective, Settings
from spec.errors import SpecError
from spec.files import write_atomically
from spec.robotfile import load_robot

_METHODS = (Objective.CHUNK, Objective.SEED, Objective.SINGLE, Objective.BC)


@dataclass(frozen=True, slots=True)
class Args:
    """Fine-tune policies on the virtual arm, in simulated time, and compare methods at equal robot steps.

    A scripted person, slow and hesitant, shows the push task a few times; a small policy is cloned from that and fails
    more often than not. Then it drives, the person steps in before it fails, and it learns from both. Evaluations are
    without help. Observations are numbers (joints, tool, cube), not pictures; the reward comes from the simulator.

    The bars: at most 0.60 success after the warm-up, at least 0.95 for chunk at the end, chunk ahead of every other
    method, and fewer takeovers than at first. Exit status 1 when one is missed.

    Writes one file per run, results.json and learning.png into --out. Give the same command again to go on where it
    was interrupted, run by run.

    cadenza bench learning --out runs/learning

    cadenza bench learning --methods chunk bc --seeds 1 --steps 1000 --json
    """

    out: Path = Path("runs/learning")
    """Folder of the results."""
    methods: tuple[Objective, ...] = _METHODS
    """Which to compare."""
    seeds: int = 3
    """Runs of each."""
    first_seed: int = 0
    """The first of the seeds."""
    steps: int = Plan().robot_steps
    """Robot steps of 0.1 s in each run, the person's included."""
    episodes: int = Plan().episodes
    """Of each evaluation at the end."""
    config: Path = Path("robots/virtual.yaml")
    """Robot file with a virtual arm."""
    json: bool = False
    """Print the results as JSON and nothing else on standard output."""


def main(argv: Sequence[str]) -> int:
    """Run the command."""
    args = parse(Args, argv, "bench learning")
    _check(args)
    console = Console(stderr=args.json)
    plan = Plan(robot_steps=args.steps, episodes=args.episodes, episodes_between=min(args.episodes, 40))
    robot = load_robot(args.config)
    if robot.virtual is None:
        raise SpecError(f"{args.config}: virtual", None, "the bench runs on the virtual arm only")
    torch.set_num_threads(1)
    arm = LockstepArm(robot, plan.step_s)
    try:
        runs = _perform(arm, plan, args, console)
    finally:
        arm.close()
    picture = args.out / "learning.png"
    save(draw_curves(runs, plan), picture)
    found = verdicts(runs)
    report = _report(runs, found, plan, picture)
    write_atomically(args.out / "results.json", (json.dumps(report, indent=2) + "\n").encode())
    if args.json:
        print(json.dumps(report, indent=2))
    _print(runs, found, picture, console)
    return 0 if all(verdict.held for verdict in found) else 1


def _check(args: Args) -> None:
    for name, value in (("--seeds", args.seeds), ("--steps", args.steps), ("--episodes", args.episodes)):
        if value < 1:
            raise SpecError(name, value, "at least 1")
    if args.first_seed < 0:
        raise SpecError("--first-seed", args.first_seed, "at least 0")
    if not args.methods:
        raise SpecError("--methods", "", "say which to compare", list(Objective))
    if args.out.exists() and not args.out.is_dir():
        raise SpecError("--out", str(args.out), "is not a folder")


def _perform(arm: LockstepArm, plan: Plan, args: Args, console: Console) -> list[Run]:
    """All runs, those that were done before included, seed by seed so that an early look compares like with like."""
    runs: list[Run] = []
    columns = (TextColumn("{task.description}"), BarColumn(), TextColumn("{task.fields[at]}"), TimeRemainingColumn())
    with Progress(*columns, console=console, transient=True) as progress:
        task = progress.add_task("learning", total=args.seeds * len(args.methods) * plan.robot_steps, at="")

        def show(at: str, steps: int = 0) -> None:
            progress.update(task, at=at, completed=len(runs) * plan.robot_steps + steps)

        for seed in range(args.first_seed, args.first_seed + args.seeds):
            bench: Bench | None = None
            for objective in args.methods:
                settings = settings_of(objective, seed, plan)
                run = load_run(args.out, plan, settings)
                if run is None:
                    show(f"seed {seed}: demonstrations and warm-up")
                    bench = bench or Bench(arm, plan, seed)
                    run = Run(objective, seed, _points(bench, settings, show))
                    save_run(args.out, run, plan, settings)
                runs.append(run)
                console.print(_line(run), highlight=False)
    return runs


def _points(bench: Bench, settings: Settings, show: Callable[[str, int], None]) -> tuple[Point, ...]:
    found: list[Point] = []

    def at(steps: int) -> None:
        last = f", success {found[-1].success:.2f}" if found else ""
        show(f"{settings.objective}, seed {settings.seed}{last}", steps)

    for point in fine_tune(bench, settings, at):
        found.append(point)
        at(point.robot_steps)
    return tuple(found)


def _line(run: Run) -> str:
    """``chunk, seed 0: success 0.31 → 0.97, 4.1 → 2.6 s; a person stepped in in 0.52 → 0.05 of the episodes``"""
    first, early, last = run.points[0], run.points[1], run.points[-1]
    return (
        f"{run.objective}, seed {run.seed}: success {first.success:.2f} → {last.success:.2f}, "
        f"{first.time_s:.1f} → {last.time_s:.1f} s; a person stepped in in {early.interventions:.2f} → "
        f"{last.interventions:.2f} of the episodes"
    )


def _report(runs: Sequence[Run], found: Sequence[Verdict], plan: Plan, picture: Path) -> dict[str, object]:
    return {
        "plan": asdict(plan),
        "bars": [asdict(verdict) for verdict in found],
        "runs": [
            {"method": run.objective, "seed": run.seed, "points": [_finite(asdict(point)) for point in run.points]}
            for run in runs
        ],
        "picture": str(picture),
    }


def _finite(point: dict[str, object]) -> dict[str, object]:
    return {k: None if isinstance(v, float) and math.isnan(v) else v for k, v in point.items()}


def _print(runs: Sequence[Run], found: Sequence[Verdict], picture: Path, console: Console) -> None:
    table = Table("", "shown", "wanted", "", box=None)
    for verdict in found:
        table.add_row(verdict.name, verdict.shown, verdict.wanted, "ok" if verdict.held else "[bold red]missed[/]")
    console.print(table)
    console.print(f"{len(runs)} runs; picture {picture}", highlight=False, soft_wrap=True)

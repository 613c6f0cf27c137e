"""``cadenza learn eval``: try policies in the virtual arm, in simulated time, and compare them."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from contextlib import closing
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
import tyro
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table

from cadenza.arguments import parse, split_robot_overrides
from cadenza.evaluation import Delays, Evaluation, Pilot, Trial
from cadenza.picture import save
from cadenza.rates import draw_rates, wilson
from controller.workers.policy import Policy
from export.bundle import read_bundle
from export.shelf import NEWEST_FILE, open_newest, read_newest
from learning.checkpoint import load_checkpoint
from learning.network.actor import SequenceActor
from spec.arrays import Bool, Bytes, Float, Float32
from spec.errors import CadenzaError, MisfitError, SpecError
from spec.manifest import MANIFEST_FILE, Action, Observation, check_fit
from spec.robot import Robot
from spec.robotfile import load_robot


@dataclass(frozen=True, slots=True)
class Args:
    """Try policies in the virtual arm, in simulated time, with the delays of the real loop.

    Each is a checkpoint, a bundle, or a shelf of bundles, of which the newest is taken. All are tried in the same
    scenes, so that two of them can be told apart by fewer trials. With the rate comes its 95 % interval (Wilson).
    Ctrl-C ends it early with what is known by then.

    cadenza learn eval runs/push --episodes 50

    cadenza learn eval runs/push runs/online/bundles --episodes 100 --plot runs/rates.png
    """

    policies: tyro.conf.Positional[tuple[Path, ...]]
    """Checkpoints, bundles or shelves."""
    config: Path = Path("robots/virtual.yaml")
    """Robot file with a virtual arm."""
    episodes: int = 50
    """Scenes."""
    seed: int = 10_000
    """Of the first scene; the demonstrations use others."""
    inference_s: float = Delays().inference_s
    """Emulated time from observation to chunk [s]."""
    camera_s: float = Delays().camera_s
    """Emulated age of a picture when it arrives [s]."""
    plot: Path | None = None
    """Draw rates, intervals and scenes into this PNG."""
    threads: int = 1
    json: bool = False
    """Print one JSON object."""


class ActorPilot:
    """A checkpoint's actor behind the two calls of a bundle."""

    def __init__(self, actor: SequenceActor) -> None:
        self._actor = actor.eval()

    @torch.no_grad()
    def encode(self, state: Float32, images: Mapping[str, Bytes]) -> Float32:
        pictures = {name: torch.from_numpy(image[None]) for name, image in images.items()}
        feature: Float32 = self._actor.encode(torch.from_numpy(state[None]), pictures)[0].numpy()
        return feature

    @torch.no_grad()
    def decode(self, features: Float32, mask: Bool) -> Float:
        actor = self._actor
        memory = actor.remember(torch.from_numpy(features[None]), torch.from_numpy(mask[None]))
        actions = actor.normalization.to_action_units(actor.decode(memory).actions)[0]
        return np.asarray(actions.numpy(), dtype=np.float64)


@dataclass(slots=True, eq=False)
class Tried:
    """One policy and what came of it."""

    name: str
    pilot: Pilot
    observation: Observation
    action: Action
    weights: int
    """Weight version."""
    trials: list[Trial] = field(default_factory=list)

    @property
    def won(self) -> Bool:
        return np.array([trial.success for trial in self.trials], dtype=np.bool_)


def main(argv: Sequence[str]) -> int:
    """Run the command."""
    rest, overrides = split_robot_overrides(argv)
    args = parse(Args, rest, "learn eval")
    _check(args)
    torch.set_num_threads(args.threads)
    robot = load_robot(args.config, overrides)
    tried = [opened(path, robot) for path in args.policies]
    interrupted = False
    try:
        _try(tried, robot, args)
    except KeyboardInterrupt:
        interrupted = True
        tried = [one for one in tried if one.trials]
        if not tried:
            raise
    if args.plot is not None:
        try:
            save(draw_rates([one.name for one in tried], [one.won for one in tried], args.seed), args.plot)
        except (OSError, ValueError) as error:
            raise CadenzaError(f"--plot {args.plot}: cannot be written: {error}") from None
    if args.json:
        print(json.dumps({"policies": [summary(one, tried[0]) for one in tried], "interrupted": interrupted}))
    else:
        _print(tried)
    return 130 if interrupted else 0


def opened(path: Path, robot: Robot) -> Tried:
    """A policy from a checkpoint, a bundle or a shelf.

    Raises:
        SpecError: none of these.
        MisfitError: made for another robot.
    """
    if (path / NEWEST_FILE).exists() or (path / MANIFEST_FILE).exists():
        newest = read_newest(path)
        bundle = read_bundle(path) if newest is None else open_newest(path, newest)
        check_fit(bundle.manifest, robot)
        policy = Policy(bundle)
        policy.warm_up(1)
        manifest = bundle.manifest
        return Tried(str(bundle.folder), policy, manifest.observation, manifest.action, manifest.weights)
    actor, stored = load_checkpoint(path)
    config = actor.config
    if config.joints != robot.follower.names:
        raise MisfitError(f"{path}: joints {list(config.joints)}, robot has {list(robot.follower.names)}")
    for name in config.cameras.keys() - robot.cameras.keys():
        raise MisfitError(f"{path}: camera {name!r} is not on robot {robot.name}")
    if config.vectors:
        raise MisfitError(f"{path}: wants {', '.join(config.vectors)}, which robot {robot.name} cannot measure")
    return Tried(str(path), ActorPilot(actor), config.observation(), config.action(), stored.weights)


def summary(one: Tried, first: Tried) -> dict[str, Any]:
    """Figures of one policy, JSON-able; compared with the first scene by scene."""
    trials, won = one.trials, one.won
    times = [trial.time_s for trial in trials if trial.success]
    both = min(len(won), len(first.won))
    return {
        "policy": one.name,
        "weights": one.weights,
        "success_rate": float(won.mean()),
        "interval": list(wilson(int(won.sum()), len(won))),
        "episodes": len(trials),
        "gained": int((won[:both] & ~first.won[:both]).sum()),
        "lost": int((~won[:both] & first.won[:both]).sum()),
        "median_time_s": float(np.median(times)) if times else None,
        "limited": float(np.mean([trial.limited for trial in trials])),
        "trials": [asdict(trial) for trial in trials],
    }


def _check(args: Args) -> None:
    if not args.policies:
        raise SpecError("policies", "", "name at least one checkpoint, bundle or shelf")
    for name in ("episodes", "threads"):
        if getattr(args, name) < 1:
            raise SpecError(f"--{name}", getattr(args, name), "at least 1")
    if args.seed < 0:
        raise SpecError("--seed", args.seed, "zero or more")
    for name in ("inference_s", "camera_s"):
        if not 0.0 <= getattr(args, name) <= 10.0:
            raise SpecError(f"--{name.replace('_', '-')}", getattr(args, name), "from 0 to 10 s")


def _try(tried: list[Tried], robot: Robot, args: Args) -> None:
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    delays = Delays(args.inference_s, args.camera_s)
    with Progress(*columns, console=Console(stderr=True), transient=True, disable=args.json) as progress:
        for one in tried:
            task = progress.add_task(f"trying {one.name}", total=args.episodes)
            with closing(Evaluation(robot, one.pilot, one.observation, one.action, delays)) as evaluation:
                for number in range(args.episodes):
                    one.trials.append(evaluation.trial(args.seed + number))
                    said = f"trying {one.name}, {one.won.sum()} succeeded"
                    progress.update(task, advance=1, description=said)


def _print(tried: list[Tried]) -> None:
    table = Table("policy", "weights", "success", "95 %", "median s", "limited", box=None)
    if len(tried) > 1:
        table.add_column("against the first")
    for one in tried:
        found = summary(one, tried[0])
        low, high = found["interval"]
        seconds = "-" if found["median_time_s"] is None else f"{found['median_time_s']:.2f}"
        cells = [one.name, str(one.weights), f"{found['success_rate']:.2f} of {found['episodes']}"]
        cells += [f"{low:.2f} to {high:.2f}", seconds, f"{found['limited']:.1%}"]
        if one is not tried[0]:
            cells.append(f"{found['gained']} scenes gained, {found['lost']} lost")
        table.add_row(*cells)
    console = Console()
    console = console if console.is_terminal else Console(width=200)
    console.print(table, highlight=False)
    for one in tried:
        if failed := [f"{trial.seed} ({trial.distance * 100:.1f} cm off)" for trial in one.trials if not trial.success]:
            console.print(f"{one.name} failed in scenes {', '.join(failed)}", highlight=False, soft_wrap=True)

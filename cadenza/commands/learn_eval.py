"""``cadenza learn eval``: try a checkpoint in the virtual arm, in simulated time."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from contextlib import closing
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import torch
import tyro
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from cadenza.arguments import parse, split_robot_overrides
from cadenza.evaluation import Delays, Evaluation, Trial
from learning.checkpoint import load_checkpoint
from learning.network.actor import SequenceActor
from spec.arrays import Bool, Bytes, Float, Float32
from spec.errors import MisfitError, SpecError
from spec.robotfile import load_robot


@dataclass(frozen=True, slots=True)
class Args:
    """Try a checkpoint in the virtual arm, in simulated time, with the delays of the real loop.

    cadenza learn eval runs/push --episodes 50
    """

    checkpoint: tyro.conf.Positional[Path]
    config: Path = Path("robots/virtual.yaml")
    """Robot file with a virtual arm."""
    episodes: int = 50
    seed: int = 10_000
    """Of the first episode; the demonstrations use others."""
    inference_s: float = Delays().inference_s
    """Emulated time from observation to chunk [s]."""
    camera_s: float = Delays().camera_s
    """Emulated age of a picture when it arrives [s]."""
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


def main(argv: Sequence[str]) -> int:
    rest, overrides = split_robot_overrides(argv)
    args = parse(Args, rest, "learn eval")
    for name in ("episodes", "threads"):
        if getattr(args, name) < 1:
            raise SpecError(f"--{name}", getattr(args, name), "at least 1")
    if args.seed < 0:
        raise SpecError("--seed", args.seed, "zero or more")
    for name in ("inference_s", "camera_s"):
        if not 0.0 <= getattr(args, name) <= 10.0:
            raise SpecError(f"--{name.replace('_', '-')}", getattr(args, name), "from 0 to 10 s")
    torch.set_num_threads(args.threads)
    robot = load_robot(args.config, overrides)
    actor, _ = load_checkpoint(args.checkpoint)
    config = actor.config
    if config.joints != robot.follower.names:
        raise MisfitError(f"{args.checkpoint}: joints {list(config.joints)}, robot has {list(robot.follower.names)}")
    for name in config.cameras.keys() - robot.cameras.keys():
        raise MisfitError(f"{args.checkpoint}: camera {name!r} is not on robot {robot.name}")
    delays = Delays(args.inference_s, args.camera_s)
    trials: list[Trial] = []
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with (
        closing(Evaluation(robot, ActorPilot(actor), config.observation(), config.action(), delays)) as evaluation,
        Progress(*columns, disable=args.json) as progress,
    ):
        task = progress.add_task("trying", total=args.episodes)
        for number in range(args.episodes):
            trials.append(evaluation.trial(args.seed + number))
            done = sum(trial.success for trial in trials)
            progress.update(task, advance=1, description=f"trying, {done} succeeded")
    rate = float(np.mean([trial.success for trial in trials]))
    times = [trial.time_s for trial in trials if trial.success]
    summary = {
        "success_rate": rate,
        "episodes": len(trials),
        "median_time_s": float(np.median(times)) if times else None,
        "limited": float(np.mean([trial.limited for trial in trials])),
    }
    if args.json:
        print(json.dumps({**summary, "trials": [asdict(trial) for trial in trials]}))
        return 0
    failed = ", ".join(f"{trial.seed} ({trial.distance * 100:.1f} cm off)" for trial in trials if not trial.success)
    print(f"success {rate:.2f} over {len(trials)} episodes, median {summary['median_time_s']} s")
    print(f"ticks changed by the safety envelope: {summary['limited']:.1%}")
    if failed:
        print(f"failed: seeds {failed}")
    return 0

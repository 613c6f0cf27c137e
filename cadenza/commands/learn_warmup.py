"""``cadenza learn warmup``: clone demonstrations."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import torch
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from cadenza.arguments import parse
from cadenza.episode_files import episodes_to_learn_from
from episodes.reader import read_episode
from learning.cloning.loss import CloningLoss
from learning.cloning.plots import plot_warmup
from learning.cloning.warmup import Warmup, WarmupSettings, read_metrics
from learning.cloning.windows import Demonstrations, Labels
from learning.network.actor import SequenceActor
from learning.network.config import Activation, ActorConfig, Backbone, Convolution, DecoderKind, Pooling
from spec.action import ActionSpace
from spec.errors import SpecError
from spec.manifest import ImageInput, StateFeature
from spec.robotfile import validated

_CNN = (
    Convolution(channels=12, kernel=5),
    Convolution(channels=24, kernel=3),
    Convolution(channels=32, kernel=3, stride=1),
)


@dataclass(frozen=True, slots=True)
class ActorArgs:
    """Sizes of the actor; names as in learning.network.config. The defaults train in minutes on one core."""

    cameras: tuple[str, ...] = ("top",)
    """Cameras the policy sees."""
    image: tuple[int, int] = (64, 64)
    """Height and width at which it sees them."""
    state: tuple[StateFeature, ...] = (StateFeature.POSITION,)
    obs_history_length: int = 2
    obs_step_s: float = 0.1
    action_space: ActionSpace = ActionSpace.JOINT_POSITION
    act_chunk_size: int = 8
    act_step_s: float = 0.1
    decoder: DecoderKind = DecoderKind.AUTOREGRESSIVE
    act_dim_model: int = 128
    act_n_heads: int = 4
    act_dim_feedforward: int = 256
    act_n_encoder_layers: int = 2
    act_n_decoder_layers: int = 2
    act_dropout: float = 0.0
    act_activation: Activation = Activation.RELU
    act_pre_norm: bool = True
    latent_dim: int = 128
    backbone: Backbone = Backbone.CNN
    pooling: Pooling = Pooling.KEYPOINTS


@dataclass(frozen=True, slots=True)
class Args:
    """Clone demonstrations: every step of every chunk is supervised. Run again to resume.

    A scripted expert writes down what it plans at each step (--labels plan); a person does not, so demonstrations by
    hand, from cadenza collect, are cloned from what was sent to the servos (--labels sent). Damaged episodes are
    named and left out, discarded ones left out.

    cadenza learn warmup --data runs/demos --out runs/push

    cadenza learn warmup --data runs/collect --labels sent --actor.cameras top front --out runs/cubes

    Writes a checkpoint (config.json, model.safetensors), metrics.jsonl and loss.png into --out.
    """

    data: tuple[Path, ...]
    """Folders of episodes; those below them count too."""
    out: Path
    """Folder of the checkpoint."""
    labels: Labels = Labels.PLAN
    """Right actions: the plan written down by an expert, or what was really sent."""
    threads: int = 1
    """CPU threads."""
    loss: CloningLoss = WarmupSettings().loss
    steps: int = WarmupSettings().steps
    batch: int = WarmupSettings().batch
    learning_rate: float = WarmupSettings().learning_rate
    delay_s: float = WarmupSettings().delay_s
    """Pictures in training are up to this much older than the joints [s]."""
    seed: int = 0
    actor: ActorArgs = ActorArgs()


def main(argv: Sequence[str]) -> int:
    args = parse(Args, argv, "learn warmup")
    for name in ("steps", "batch", "threads"):
        if getattr(args, name) < 1:
            raise SpecError(f"--{name}", getattr(args, name), "at least 1")
    if not 0.0 < args.learning_rate < 1.0:
        raise SpecError("--learning-rate", args.learning_rate, "above 0 and below 1")
    if not 0.0 < args.actor.act_step_s < math.inf:
        raise SpecError("--actor.act-step-s", args.actor.act_step_s, "above 0")
    if not 0.0 <= args.delay_s <= args.actor.act_step_s:
        raise SpecError("--delay-s", args.delay_s, f"from 0 to one action step ({args.actor.act_step_s:g} s)")
    if args.seed < 0:
        raise SpecError("--seed", args.seed, "zero or more")
    torch.set_num_threads(args.threads)
    paths, _ = episodes_to_learn_from(args.data, quiet=False)
    config = _actor_config(args.actor, read_episode(paths[0], ()).joints)
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns) as progress:
        reading = progress.add_task("reading episodes", total=len(paths))
        data = Demonstrations(paths, config, args.labels, lambda: progress.advance(reading))
        torch.manual_seed(args.seed)
        actor = SequenceActor(config)
        actor.normalization.fit(*data.states_and_actions())
        settings = WarmupSettings(
            steps=args.steps,
            batch=args.batch,
            learning_rate=args.learning_rate,
            loss=args.loss,
            delay_s=args.delay_s,
            seed=args.seed,
        )
        warmup = Warmup(actor, data, settings, args.out)
        resumed = warmup.resume()
        training = progress.add_task("training", total=settings.steps, completed=warmup.step)

        def show(metrics: dict[str, float]) -> None:
            progress.update(training, advance=1, description=f"training, loss {metrics['loss']:.5f}")

        warmup.run(show)
    metrics = read_metrics(args.out)
    plot_warmup(metrics, args.out / "loss.png")
    parameters = sum(p.numel() for p in actor.parameters())
    held = next((entry["held_out_error"] for entry in reversed(metrics) if "held_out_error" in entry), float("nan"))
    print(
        f"{len(data)} samples of {len(paths)} episodes, {parameters} parameters, "
        f"{'resumed, ' if resumed else ''}{warmup.step} steps, held-out error {held:.4f} rad: {args.out}"
    )
    return 0


def _actor_config(args: ActorArgs, joints: tuple[str, ...]) -> ActorConfig:
    fields = asdict(args)
    height, width = fields.pop("image")
    image = validated(ImageInput, {"height": height, "width": width}, "--actor.image")
    images = dict.fromkeys(fields.pop("cameras"), image)
    return validated(ActorConfig, {**fields, "joints": joints, "cameras": images, "cnn": _CNN}, "--actor")

"""``cadenza learn reward``: train a classifier of success from episodes that somebody judged."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from cadenza.arguments import parse
from cadenza.episode_files import episodes_to_learn_from
from learning.reward.classifier import ClassifierConfig, refuse_to_replace, save_classifier
from learning.reward.plots import plot_classifier
from learning.reward.sights import read_sights
from learning.reward.training import RewardSettings, Trained, train
from spec.errors import CadenzaError, SpecError
from spec.robotfile import validated

PICTURE_FILE = "held-out.png"


@dataclass(frozen=True, slots=True)
class Args:
    """Train a small classifier that sees from pictures whether the task is done, so that nobody needs to say so.

    It learns from episodes that somebody judged: the last sights of successes show success, earlier ones and those
    of failures do not. Record some of both with cadenza collect, or judge what is there with cadenza episodes label.
    A quarter of the episodes is kept out of training; the threshold is chosen on these, and what is reported is how
    they were told, so expect a little less of new ones.

    Writes config.json, model.safetensors and held-out.png into --out. Look at the picture: it shows what was taken
    for success, and what nearly was. Then: cadenza learn online --reward classifier --classifier OUT

    cadenza learn reward --data runs/collect --out runs/reward

    cadenza learn reward --data runs/collect runs/failures --cameras top front --image 96 96 --out runs/reward
    """

    data: tuple[Path, ...]
    """Folders of episodes; those below them count too, but for discarded ones."""
    out: Path
    """Folder of the classifier."""
    cameras: tuple[str, ...] = ("top",)
    """Cameras it looks through."""
    image: tuple[int, int] = (64, 64)
    """Height and width at which it looks; not above those of the policy it is to reward."""
    in_a_row: int = RewardSettings().in_a_row
    """Sights, a policy step apart, that must show success before a reward is given."""
    steps: int = RewardSettings().steps
    held_out: float = RewardSettings().held_out
    """Share of the episodes kept out of training."""
    seed: int = 0
    threads: int = 1
    """CPU threads."""
    json: bool = False
    """Print one JSON object."""


def main(argv: Sequence[str]) -> int:
    """Run the command."""
    args = parse(Args, argv, "learn reward")
    config = _checked(args)
    torch.set_num_threads(args.threads)
    files, damaged = episodes_to_learn_from(args.data, args.json)
    settings = RewardSettings(steps=args.steps, held_out=args.held_out, in_a_row=args.in_a_row, seed=args.seed)
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=Console(stderr=True), transient=True, disable=args.json) as progress:
        reading = progress.add_task("reading episodes", total=len(files))
        sights = read_sights(files, config.cameras, lambda: progress.advance(reading))
        training = progress.add_task("training", total=settings.steps)

        def show(loss: float) -> None:
            progress.update(training, advance=1, description=f"training, loss {loss:.4f}")

        trained = train(sights, config, settings, show)
    try:
        save_classifier(args.out, trained.classifier)
        plot_classifier(trained, args.out / PICTURE_FILE)
    except OSError as error:
        raise CadenzaError(f"{args.out}: cannot write there: {error.strerror}") from None
    summary = {
        "episodes": len(sights.succeeded),
        "sights": len(sights),
        "damaged": damaged,
        "threshold": trained.classifier.config.threshold,
        "in_a_row": args.in_a_row,
        "held_out": trained.confusion.as_dict(),
        "classifier": trained.classifier.digest,
        "picture": str(args.out / PICTURE_FILE),
    }
    print(json.dumps(summary, indent=2) if args.json else _told(trained, len(sights.succeeded), args.out))
    return 0


def _checked(args: Args) -> ClassifierConfig:
    for name in ("steps", "threads", "in_a_row"):
        if getattr(args, name) < 1:
            raise SpecError(f"--{name.replace('_', '-')}", getattr(args, name), "at least 1")
    if not 0.0 < args.held_out < 1.0:
        raise SpecError("--held-out", args.held_out, "above 0 and below 1")
    if args.seed < 0:
        raise SpecError("--seed", args.seed, "zero or more")
    if args.out.exists() and not args.out.is_dir():
        raise SpecError("--out", str(args.out), "is a file, not a folder")
    refuse_to_replace(args.out)
    height, width = args.image
    cameras = {name: {"height": height, "width": width} for name in args.cameras}
    return validated(ClassifierConfig, {"cameras": cameras}, "--cameras, --image")


def _told(trained: Trained, episodes: int, out: Path) -> str:
    found, config = trained.confusion, trained.classifier.config
    told = (
        f"sights told right: {found.accuracy:.1%}; success taken for none {found.false_negative} of "
        f"{found.true_positive + found.false_negative}, none for success {found.false_positive} of "
        f"{found.true_negative + found.false_positive}"
    )
    ended = (
        f"{config.in_a_row} in a row above {config.threshold:.3f}: success found in {found.successes_found} of "
        f"{found.successes} successes, too early in {found.early}; in {found.failures_rewarded} of "
        f"{found.failures} failures"
    )
    held = f"{episodes} episodes, {found.successes + found.failures} of them held out"
    return "\n".join([held, told, ended, f"{out}; look at {out / PICTURE_FILE}"])

"""Training the classifier of success."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch.nn import functional

from learning.reward.classifier import ClassifierConfig, SuccessClassifier
from learning.reward.judging import Confusion, choose_threshold, confusion
from learning.reward.sights import Label, Sights
from spec.arrays import Bool, Bytes, Float, Int
from spec.errors import CadenzaError


@dataclass(frozen=True, slots=True)
class RewardSettings:
    """How to train."""

    steps: int = 600
    batch: int = 64
    """Sights an update sees, half of them of success."""
    learning_rate: float = 1e-3
    weight_decay: float = 1e-2
    held_out: float = 0.25
    """Share of the successes and of the failures kept out of training, whole episodes, at least one of each."""
    in_a_row: int = 2
    """Sights that must show success, one after the other, before a reward is given."""
    shift: int = 2
    """Pictures in training are moved by up to so many pixels: a camera gets knocked."""
    light: float = 0.2
    """They are up to this much brighter or darker, and of this much more or less contrast."""
    tint: float = 0.05
    """So are their colours, each on its own."""
    noise: float = 3.0
    """Standard deviation of noise on them, of 255."""
    seed: int = 0


@dataclass(frozen=True, slots=True, eq=False)
class Trained:
    """What came of it."""

    classifier: SuccessClassifier
    held: Sights
    """The sights kept out of training; their label says what they show, also where nobody could say."""
    scores: Float
    """Of them, shape (sights,)."""
    confusion: Confusion


def train(
    sights: Sights,
    config: ClassifierConfig,
    settings: RewardSettings,
    progress: Callable[[float], None] = lambda _: None,
) -> Trained:
    """Train on most episodes, choose the threshold on the others. The same input gives the same classifier.

    Args:
        sights: of at least two successes and two failures.
        config: of a fresh classifier.
        settings: how.
        progress: gets the loss of each step.

    Raises:
        CadenzaError: too few episodes, or nothing was learned.
    """
    held = _held_out(sights, settings)
    classifier = SuccessClassifier(_with_row(config, settings))
    _reset(classifier, settings.seed)
    _fit(classifier, sights, ~held[sights.episode], settings, progress)
    kept = _only(sights, held[sights.episode])
    scores = classifier.scores(kept.images)
    threshold = choose_threshold(scores, kept.label)
    found = confusion(kept, scores, threshold, settings.in_a_row)
    update = {"threshold": threshold, "held_out": {**found.as_dict(), "sights": float(len(kept))}}
    classifier.config = classifier.config.model_copy(update=update)
    return Trained(classifier, kept, scores, found)


def _with_row(config: ClassifierConfig, settings: RewardSettings) -> ClassifierConfig:
    return config.model_copy(update={"in_a_row": settings.in_a_row})


def _held_out(sights: Sights, settings: RewardSettings) -> Bool:
    """Which episodes are kept out of training, shape (episodes,)."""
    rng = np.random.default_rng((settings.seed, 1))
    held = np.zeros(len(sights.succeeded), dtype=np.bool_)
    for succeeded, name in ((True, "successes"), (False, "failures")):
        numbers = np.flatnonzero(sights.succeeded == succeeded)
        if len(numbers) < 2:
            raise CadenzaError(f"only {len(numbers)} of the {name}: two are needed, one to train on and one to test on")
        count = min(len(numbers) - 1, max(1, round(settings.held_out * len(numbers))))
        held[rng.permutation(numbers)[:count]] = True
    return held


def _reset(classifier: SuccessClassifier, seed: int) -> None:
    """Fresh weights that depend on the seed alone."""
    torch.manual_seed(seed)
    for module in classifier.modules():
        if isinstance(module, torch.nn.Conv2d | torch.nn.Linear):
            module.reset_parameters()


def _fit(
    classifier: SuccessClassifier,
    sights: Sights,
    chosen: Bool,
    settings: RewardSettings,
    progress: Callable[[float], None],
) -> None:
    good = np.flatnonzero(chosen & (sights.label == Label.SUCCESS))
    bad = np.flatnonzero(chosen & (sights.label == Label.NOT_YET))
    if not len(good) or not len(bad):
        raise CadenzaError("no sight of success, or none of its absence, to train on; the episodes are too short")
    optimizer = torch.optim.AdamW(
        classifier.parameters(), lr=settings.learning_rate, weight_decay=settings.weight_decay
    )
    target = torch.from_numpy((np.arange(settings.batch) < settings.batch // 2).astype(np.float32))
    classifier.train()
    for step in range(settings.steps):
        rng = np.random.default_rng((settings.seed, 2, step))
        half = settings.batch // 2
        rows = np.concatenate([rng.choice(good, half), rng.choice(bad, settings.batch - half)])
        images = {name: torch.from_numpy(varied(rng, sights.images[name][rows], settings)) for name in sights.images}
        for group in optimizer.param_groups:
            group["lr"] = settings.learning_rate * 0.5 * (1.0 + math.cos(math.pi * step / settings.steps))
        loss = functional.binary_cross_entropy_with_logits(classifier(images), target)
        optimizer.zero_grad(set_to_none=True)
        loss.backward()  # type: ignore[no-untyped-call]
        optimizer.step()
        if not math.isfinite(value := loss.item()):
            raise CadenzaError(f"the classifier of success: step {step}: the loss is not finite")
        progress(value)
    classifier.eval()


def varied(rng: np.random.Generator, images: Bytes, settings: RewardSettings) -> Float:
    """Pictures as another camera, another lamp and another hour would give them.

    Args:
        rng: source of all that is random.
        images: shape (batch, height, width, 3).
        settings: how far they may vary.

    Returns:
        Shape (batch, height, width, 3), float32, 0 to 255.
    """
    batch, height, width, _ = images.shape
    down, right = rng.integers(-settings.shift, settings.shift + 1, (2, batch, 1))
    rows = np.clip(np.arange(height) + down, 0, height - 1)
    columns = np.clip(np.arange(width) + right, 0, width - 1)
    moved = images[np.arange(batch)[:, None, None], rows[:, :, None], columns[:, None, :]].astype(np.float32)
    one = (batch, 1, 1, 1)
    contrast = 1.0 + settings.light * rng.uniform(-1.0, 1.0, one)
    bright = 1.0 + settings.light * rng.uniform(-1.0, 1.0, one)
    tint = 1.0 + settings.tint * rng.uniform(-1.0, 1.0, (batch, 1, 1, 3))
    middle = moved.mean(axis=(1, 2, 3), keepdims=True)
    lit = ((moved - middle) * contrast + middle) * bright * tint
    noisy = lit + settings.noise * rng.standard_normal(moved.shape, dtype=np.float32)
    return np.asarray(np.clip(noisy, 0.0, 255.0), dtype=np.float32)


def _only(sights: Sights, chosen: Bool) -> Sights:
    index: Int = np.flatnonzero(chosen)
    images: Mapping[str, Bytes] = {name: pictures[index] for name, pictures in sights.images.items()}
    return replace(
        sights,
        images=images,
        label=sights.label[index],
        episode=sights.episode[index],
        before_end_s=sights.before_end_s[index],
    )

"""The picture of a training run."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path

import matplotlib as mpl

mpl.use("Agg")

import matplotlib.pyplot as plt
from matplotlib.axes import Axes


def plot_warmup(metrics: Sequence[dict[str, float]], path: Path) -> None:
    """Loss of every step, smoothed, and the error on held-out episodes; written as PNG."""
    figure, (left, right) = plt.subplots(1, 2, figsize=(10, 3.6), layout="constrained")
    steps = [entry["step"] for entry in metrics]
    losses = [entry["loss"] if entry.get("loss") is not None else math.nan for entry in metrics]
    left.semilogy(steps, losses, color="0.8", linewidth=0.7, label="batch")
    left.semilogy(steps, _smooth(losses), color="tab:blue", linewidth=1.8, label="smoothed")
    left.set(xlabel="step", ylabel="cloning loss", title="training")
    held = [entry for entry in metrics if "held_out_error" in entry]
    for key, label in (("held_out_error", "whole chunk"), ("held_out_first_error", "first action")):
        values = [math.degrees(entry[key]) for entry in held]
        right.plot([entry["step"] for entry in held], values, marker="o", markersize=3, label=label)
    right.set(xlabel="step", ylabel="mean |error| [°]", title="held-out episodes, decoded step by step")
    right.set_ylim(bottom=0.0)
    for axes in (left, right):
        _tidy(axes)
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=120)
    plt.close(figure)


def _tidy(axes: Axes) -> None:
    axes.grid(alpha=0.3)
    axes.spines[["top", "right"]].set_visible(False)
    axes.legend(frameon=False)


def _smooth(values: Sequence[float], decay: float = 0.98) -> list[float]:
    """Exponential moving average, without the pull of its start; gaps keep the last value."""
    mean, weight, smooth = 0.0, 0.0, []
    for value in values:
        if math.isfinite(value):
            mean, weight = decay * mean + (1.0 - decay) * value, decay * weight + (1.0 - decay)
        smooth.append(mean / weight if weight else math.nan)
    return smooth

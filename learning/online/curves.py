"""The picture of an online run: how the robot does above, how learning goes below."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path

import matplotlib as mpl

mpl.use("Agg")

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.axes import Axes
from matplotlib.ticker import MaxNLocator

from episodes.outcome import Outcome
from learning.online.journal import JOURNAL_FILE, Facts, read_journal
from learning.online.metrics import read_metrics
from learning.replay.cut import Source

CURVES_FILE = "curves.png"
_POINTS = 600
"""Of a curve; more would not be seen."""
_EPISODES = 20
"""Over which success, return and intervention are averaged."""
_LOSSES = {"critic_loss": "critics", "bc_loss": "cloning"}
_VALUES = {"q": "of what was done", "policy_q": "of what the actor would do", "target": "target"}


def plot_curves(folder: Path, path: Path) -> None:
    """Draw the run in ``folder``; written as PNG. Raises OSError as the file system says."""
    entries = [entry for entry in read_journal(folder / JOURNAL_FILE) if entry.source is Source.ONLINE]
    episodes = [entry.facts for entry in entries if entry.facts is not None]
    metrics = _thinned(list(read_metrics(folder)))
    figure, axes = plt.subplots(2, 3, figsize=(12, 6.2), layout="constrained")
    judged = {Outcome.SUCCESS: 1.0, Outcome.FAIL: 0.0}
    _per_episode(axes[0, 0], episodes, [facts.reward for facts in episodes], "return")
    success = [judged.get(Outcome(facts.outcome), math.nan) for facts in episodes]
    _per_episode(axes[0, 1], episodes, success, "success", share=True)
    _per_episode(axes[0, 2], episodes, [facts.intervention for facts in episodes], "driven by a person", share=True)
    _per_update(axes[1, 0], metrics, _LOSSES, "losses")
    axes[1, 0].set_yscale("log")
    _beside(axes[1, 0], metrics, "actor_loss", "actor loss")
    _per_update(axes[1, 1], metrics, _VALUES, "value Q")
    _per_update(axes[1, 2], metrics, {"entropy": "entropy"}, "entropy of the scored steps")
    _beside(axes[1, 2], metrics, "alpha", "temperature α", log=True)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        figure.savefig(path, dpi=110)
    finally:
        plt.close(figure)


def _per_episode(
    axes: Axes, episodes: Sequence[Facts], values: Sequence[float], title: str, share: bool = False
) -> None:
    number = np.arange(1, len(episodes) + 1)
    axes.plot(number, values, "o", color="0.75", markersize=4, markeredgewidth=0, label="episode")
    axes.plot(number, _rolling(values), color="tab:blue", linewidth=1.8, label=f"mean of {_EPISODES}")
    for first in _changes(episodes):
        axes.axvline(first + 0.5, color="tab:orange", linewidth=0.7, alpha=0.5, zorder=0)
    axes.set(title=title, xlabel="episode; orange: new weights drive" if episodes else "no episode yet")
    if share:
        axes.set_ylim(-0.04, 1.04)
    _tidy(axes, legend=bool(episodes))


def _per_update(axes: Axes, metrics: Sequence[dict[str, float]], names: dict[str, str], title: str) -> None:
    shown = False
    for name, label in names.items():
        points = [(line["update"], line[name]) for line in metrics if line.get(name) is not None]
        if points:
            axes.plot(*zip(*points, strict=True), linewidth=1.2, label=label)
            shown = True
    axes.set(title=title, xlabel="update")
    _tidy(axes, legend=shown and len(names) > 1)


def _beside(axes: Axes, metrics: Sequence[dict[str, float]], name: str, label: str, log: bool = False) -> None:
    """One more curve, on an axis of its own."""
    points = [(line["update"], line[name]) for line in metrics if line.get(name) is not None]
    if not points:
        return
    other = axes.twinx()
    other.plot(*zip(*points, strict=True), color="tab:red", linewidth=1.0)
    if log:
        other.set_yscale("log")
    other.set_ylabel(label, color="tab:red")
    other.tick_params(axis="y", which="both", colors="tab:red")
    other.spines[["top"]].set_visible(False)


def _changes(episodes: Sequence[Facts]) -> list[int]:
    """Episodes before which newer weights began to drive."""
    newest = [max(facts.weights, default=0) for facts in episodes]
    return [index for index in range(1, len(newest)) if newest[index] > max(newest[:index])]


def _rolling(values: Sequence[float]) -> list[float]:
    means = []
    for end in range(1, len(values) + 1):
        known = [value for value in values[max(0, end - _EPISODES) : end] if math.isfinite(value)]
        means.append(sum(known) / len(known) if known else math.nan)
    return means


def _thinned(lines: list[dict[str, float]]) -> list[dict[str, float]]:
    """Means of as many lines in a row as leaves :data:`_POINTS` of them."""
    width = math.ceil(len(lines) / _POINTS) or 1
    thin = []
    for start in range(0, len(lines), width):
        part = lines[start : start + width]
        names = {name for line in part for name in line}
        thin.append({name: float(np.mean([line[name] for line in part if name in line])) for name in names})
    return thin


def _tidy(axes: Axes, legend: bool) -> None:
    axes.grid(alpha=0.3)
    axes.spines[["top", "right"]].set_visible(False)
    axes.xaxis.set_major_locator(MaxNLocator(6, integer=True))
    if legend:
        axes.legend(frameon=False, fontsize="small")

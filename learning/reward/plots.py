"""The picture of a classifier of success: held-out sights by their score, to be looked at by eye."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import matplotlib as mpl

mpl.use("Agg")

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import SubFigure

from learning.reward.sights import Label
from learning.reward.training import Trained
from spec.arrays import Bool, Bytes, Int

_COLUMNS = 12
_COLOURS = {Label.SUCCESS: "#0f7b6c", Label.NOT_YET: "#d9730d", Label.UNKNOWN: "#8a94a0"}
_NAMES = {Label.SUCCESS: "success", Label.NOT_YET: "not yet", Label.UNKNOWN: "nobody can say"}


def plot_classifier(trained: Trained, path: Path) -> None:
    """Scores of the held-out sights above, the sights themselves below; written as PNG."""
    found = trained.confusion
    rows = _rows(trained)
    height = 3.0 + 1.35 * len(rows)
    with mpl.rc_context({"font.size": 9}):
        figure = plt.figure(figsize=(13, height), layout="constrained")
        figure.suptitle(
            f"Success seen in {found.successes_found} of {found.successes} held-out successes, in "
            f"{found.failures_rewarded} of {found.failures} failures, too early in {found.early}; "
            f"{found.accuracy:.1%} of the sights told right",
            fontweight="bold",
        )
        above, below = figure.subfigures(2, 1, height_ratios=[2.6, height - 2.6])
        scores, course = above.subplots(1, 2)
        _histogram(scores, trained)
        _courses(course, trained)
        for strip, (title, index) in zip(below.subfigures(len(rows), 1, squeeze=False)[:, 0], rows, strict=True):
            _strip(strip, title, _side_by_side(trained.held.images, index), trained, index)
        path.parent.mkdir(parents=True, exist_ok=True)
        figure.savefig(path, dpi=110)
        plt.close(figure)


def _rows(trained: Trained) -> list[tuple[str, Int]]:
    """Which sights to show: the hardest of both kinds, and all of them from low to high."""
    label, scores = trained.held.label, trained.scores
    order = np.argsort(scores, kind="stable")
    good, bad = order[label[order] == Label.SUCCESS], order[label[order] == Label.NOT_YET]
    spread = order[np.unique(np.linspace(0, len(order) - 1, 2 * _COLUMNS).astype(np.int64))]
    rows = [
        ("successes, least certain first", good[:_COLUMNS]),
        ("not yet, most like success first", bad[::-1][:_COLUMNS]),
        ("all held-out sights by score", spread[:_COLUMNS]),
        ("", spread[_COLUMNS:]),
    ]
    return [(title, index) for title, index in rows if len(index)]


def _histogram(axes: Axes, trained: Trained) -> None:
    edges = np.linspace(0.0, 1.0, 41)
    for label in (Label.NOT_YET, Label.SUCCESS):
        own = trained.scores[trained.held.label == label]
        axes.hist(own, bins=list(edges), color=_COLOURS[label], alpha=0.75, label=f"{_NAMES[label]} ({len(own)})")
    _threshold(axes, trained, vertical=True)
    axes.set(yscale="log", xlabel="score", ylabel="held-out sights", xlim=(0, 1))
    _tidy(axes, "Scores")
    axes.legend(frameon=False, loc="upper center")


def _courses(axes: Axes, trained: Trained) -> None:
    """Score over time, an episode a line."""
    held = trained.held
    shown: Bool = held.before_end_s <= 6.0
    for succeeded, label in ((False, Label.NOT_YET), (True, Label.SUCCESS)):
        name: str | None = "successes" if succeeded else "failures"
        for number in np.unique(held.episode[shown]):
            if bool(held.succeeded[number]) is succeeded:
                own = shown & (held.episode == number)
                axes.plot(
                    -held.before_end_s[own], trained.scores[own], color=_COLOURS[label], lw=0.8, alpha=0.6, label=name
                )
                name = None
    _threshold(axes, trained, vertical=False)
    axes.set(xlabel="time to the end of the episode [s]", ylabel="score", ylim=(-0.03, 1.03))
    _tidy(axes, "As episodes end")
    axes.legend(frameon=False, loc="center left")


def _threshold(axes: Axes, trained: Trained, *, vertical: bool) -> None:
    value = trained.classifier.config.threshold
    draw = axes.axvline if vertical else axes.axhline
    draw(value, color="#1d2733", linestyle="--", linewidth=1, label=f"threshold {value:.3f}")


def _strip(figure: SubFigure, title: str, pictures: Sequence[Bytes], trained: Trained, index: Int) -> None:
    panels = figure.subplots(1, _COLUMNS, squeeze=False)[0]
    figure.suptitle(title, x=0.01, ha="left", fontsize=9)
    for axes in panels[len(pictures) :]:
        axes.set_axis_off()
    for axes, picture, row in zip(panels, pictures, index, strict=False):
        label = Label(int(trained.held.label[row]))
        axes.imshow(picture)
        axes.set(xticks=[], yticks=[])
        axes.set_title(f"{trained.scores[row]:.3f}", fontsize=8, color=_COLOURS[label], pad=2)
        for spine in axes.spines.values():
            spine.set(color=_COLOURS[label], linewidth=2.5)


def _side_by_side(images: Mapping[str, Bytes], index: Int) -> list[Bytes]:
    """What all cameras saw, next to each other; lower pictures stand on black."""
    height = max(pictures.shape[1] for pictures in images.values())
    padded = [
        np.pad(pictures[index], ((0, 0), (height - pictures.shape[1], 0), (0, 0), (0, 0)))
        for pictures in images.values()
    ]
    return list(np.concatenate(padded, axis=2))


def _tidy(axes: Axes, title: str) -> None:
    axes.set_title(title, loc="left")
    axes.grid(alpha=0.2)
    axes.spines[["top", "right"]].set_visible(False)

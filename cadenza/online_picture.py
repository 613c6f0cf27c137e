"""The picture of a bench of learning at work: who did what when, how soon it came back, and how punctual it all was."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Patch

from cadenza.online_bench import LEARNING, QUIET
from cadenza.online_report import LEGS, Found
from cadenza.picture import FAINT, HUES, INK, clean, house_style
from cadenza.takeover_report import Bound

_HAND = "#ad1a72"
_AT_WORK = "#eef4f2"
_OFFERED = "#b8860b"
_LEG_HUES = ("#8a94a0", "#0b6e99", "#6940a5", "#b8860b", "#d9730d", "#0f7b6c")


def draw_online(found: Found, kept: Sequence[Bound]) -> Figure:
    """The course of it above; below how long new weights took, and how late ticks were."""
    broken = [bound.name for bound in kept if not bound.held]
    verdict = "all as it must be" if not broken else f"broken: {', '.join(broken)}"
    with house_style():
        figure = Figure(figsize=(13, 8.6), layout="constrained")
        figure.suptitle(
            f"{len(found.episodes)} episodes, {len(found.swaps)} new weight versions while the arm worked: {verdict}",
            fontsize=13,
            fontweight="bold",
        )
        above, below = figure.subfigures(2, 1, squeeze=False, height_ratios=[1.15, 1.0])[:, 0]
        _course(above.subplots(), found)
        left, right = below.subplots(1, 2, width_ratios=[1.25, 1.0])
        _reactions(left, found)
        _lateness(right, found)
    return figure


def _course(axes: Axes, found: Found) -> None:
    """Three lanes over time: the arm, the learner, the weights that drive."""
    end = max([one.ends_s for one in found.episodes], default=1.0)
    versions = sorted({version for one in found.episodes for version in one.versions})
    hue = {version: HUES[index % len(HUES)] for index, version in enumerate(versions)}
    for (begin, phase), (until, _) in zip(found.phases, [*found.phases[1:], (end, "")], strict=True):
        if phase == LEARNING:
            axes.axvspan(begin, until, color=_AT_WORK, linewidth=0, zorder=0)
    for one in found.episodes:
        for version, begin, until in one.weights:
            axes.barh(2, until - begin, left=begin, height=0.5, color=hue[version], linewidth=0)
        for begin, until in one.by_hand:
            axes.barh(2, until - begin, left=begin, height=0.8, color=_HAND, linewidth=0)
        mark = "✓" if one.outcome == "success" else "✗"
        axes.text(
            0.5 * (one.begins_s + one.ends_s), 2.5, mark, ha="center", fontsize=8, color=INK, family="DejaVu Sans"
        )
    for what, height, colour, label in (
        ("episode", 0.3, HUES[0], "episode taken in"),
        ("offered", 0.55, _OFFERED, "weights offered"),
    ):
        times = [at for at, did in found.learner if did == what]
        axes.vlines(times, 1 - height / 2, 1 + height / 2, color=colour, linewidth=1.6, label=label)
    ends = [*(at for _, at in found.swaps[1:]), end]
    for (version, at), until in zip(found.swaps, ends, strict=False):
        axes.vlines([at], 0.25, 2.4, color=FAINT, linewidth=0.8, linestyle=":")
        axes.barh(0, until - at, left=at, height=0.5, color=hue.get(version, FAINT), alpha=0.35, linewidth=0)
        axes.text(at, 0, f" {version}", va="center", fontsize=8, fontweight="bold", color=INK)
    axes.set(yticks=[2, 1, 0], yticklabels=["arm", "learner", "new weights"], ylim=(-0.5, 3.0))
    axes.set(xlabel="time [s]", xlim=(min(0.0, *(one.begins_s for one in found.episodes)), end))
    clean(axes)
    axes.grid(visible=False)
    axes.set_title("The course of it: the arm's colour is the weight version that drives", loc="left")
    lines, _ = axes.get_legend_handles_labels()
    bands = [Patch(color=_HAND, label="by hand"), Patch(color=_AT_WORK, label="learner gets episodes at once")]
    axes.legend(handles=[*bands, *lines], frameon=False, fontsize=8, ncols=4, loc="lower right", bbox_to_anchor=(1, 1))


def _reactions(axes: Axes, found: Found) -> None:
    """An intervention a row, its parts one after the other."""
    axes.set_title("From the end of an intervention's episode to new weights driving the arm", loc="left")
    clean(axes)
    if not found.reactions:
        axes.text(0.5, 0.5, "none seen", ha="center", transform=axes.transAxes, color=FAINT)
        return
    rows = np.arange(len(found.reactions))[::-1]
    left = np.zeros(len(rows))
    for leg, colour in zip(LEGS, _LEG_HUES, strict=True):
        seconds = np.array([one.legs[leg] for one in found.reactions])
        label = f"{leg}: {np.median(seconds):.1f} s"
        axes.barh(rows, seconds, left=left, color=colour, height=0.7, label=label)
        left += seconds
    for row, one in zip(rows, found.reactions, strict=True):
        axes.text(one.total_s, row, f" {one.total_s:.1f} s", va="center", fontsize=8)
    names = [f"{one.episode.removeprefix('episode-').lstrip('0') or '0'} → {one.weights}" for one in found.reactions]
    axes.set(yticks=rows, yticklabels=names, xlabel="time [s]", ylabel="episode → weights")
    axes.set_xlim(0, float(left.max()) * 1.12)
    axes.legend(
        frameon=False,
        fontsize=8,
        title="part, in the middle",
        title_fontsize=8,
        loc="center left",
        bbox_to_anchor=(1.0, 0.5),
    )


def _lateness(axes: Axes, found: Found) -> None:
    """Share of ticks that were later than so much."""
    for name, label, colour in (
        (QUIET, "learner waiting", FAINT),
        (LEARNING, "learner at work, weights coming in", HUES[0]),
        ("around swaps", "within a second of a swap", HUES[1]),
    ):
        values = np.sort(np.maximum(found.lateness_us[name], 1.0))
        if not len(values):
            continue
        rarer = 1.0 - np.arange(len(values)) / len(values)
        told = f"{label}: {found.missed[name]} of {len(values):,} missed"
        axes.step(values, rarer, where="post", color=colour, linewidth=1.6, label=told)
    axes.set(xscale="log", yscale="log", xlabel="wake-up lateness [µs]", ylabel="share of ticks later than that")
    axes.legend(frameon=False, fontsize=8, loc="lower left")
    axes.set_title("Punctuality of the control loop", loc="left")
    clean(axes)

"""Success rates, and how far they can be trusted."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from cadenza.picture import FAINT, HUES, INK, clean, house_style
from spec.arrays import Bool

_Z95 = 1.959964


def wilson(successes: int, trials: int, z: float = _Z95) -> tuple[float, float]:
    """Interval of the success rate (Wilson 1927), 95 % by default; (0, 1) where nothing was tried.

    Unlike the rate plus or minus its standard error it is never empty: 50 of 50 leaves 0.93 to 1.
    """
    if not trials:
        return 0.0, 1.0
    rate, spread = successes / trials, z * z / trials
    middle = (rate + spread / 2) / (1 + spread)
    half = z * math.sqrt(rate * (1 - rate) / trials + spread / (4 * trials)) / (1 + spread)
    # At 0 and at 1 the formula gives just that, but for rounding.
    return (0.0 if successes == 0 else middle - half), (1.0 if successes == trials else middle + half)


def draw_rates(names: Sequence[str], succeeded: Sequence[Bool], first_seed: int) -> Figure:
    """Rates with their intervals on the left, scene by scene on the right.

    Args:
        names: of the policies.
        succeeded: for each, whether it did in scene ``first_seed + k``, shape (scenes,).
        first_seed: of the scenes.
    """
    rows = np.arange(len(names))[::-1]
    with house_style():
        figure = Figure(figsize=(12, 1.5 + 0.55 * len(names)), layout="constrained")
        left, right = figure.subplots(1, 2, width_ratios=[1.0, 1.6], sharey=True)
        for row, won in zip(rows, succeeded, strict=True):
            low, high = wilson(int(won.sum()), len(won))
            rate = float(won.mean())
            hue = HUES[int(len(names) - 1 - row) % len(HUES)]
            left.plot([low, high], [row, row], color=hue, linewidth=6, alpha=0.35, solid_capstyle="butt")
            left.plot([rate], [row], "o", color=hue, markersize=7, clip_on=False)
            left.text(
                min(max(0.5 * (low + high), 0.17), 0.83),
                row + 0.26,
                f"{rate:.2f}  ({low:.2f} to {high:.2f})",
                ha="center",
                fontsize=8,
            )
            _scenes(right, row, won, first_seed)
        left.set(xlim=(0, 1), xlabel="success rate, 95 % interval", yticks=rows, yticklabels=list(names))
        left.set_ylim(-0.6, len(names) - 0.35)
        left.set_title("Success", loc="left")
        right.set(xlabel="scene")
        right.set_title("Scene by scene: filled where it succeeded", loc="left")
        clean(left)
        clean(right)
        right.grid(visible=False)
        right.tick_params(left=False)
        right.spines["left"].set_visible(False)
    return figure


def _scenes(axes: Axes, row: float, won: Bool, first_seed: int) -> None:
    seeds = first_seed + np.arange(len(won))
    axes.bar(seeds[won], 0.5, width=0.8, bottom=row - 0.25, color=HUES[2])
    axes.bar(seeds[~won], 0.5, width=0.8, bottom=row - 0.25, facecolor="none", edgecolor=FAINT, linewidth=0.8)
    axes.axhline(row - 0.42, color=INK, linewidth=0.3, alpha=0.3)

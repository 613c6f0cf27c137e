"""The picture of fitted limits: how often an hour each quantity of each joint rises above what, and both limits."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from cadenza.envelope_fit import Found
from cadenza.picture import FAINT, HUES, INK, clean, house_style


def draw_limits(title: str, found: Sequence[Found], hours: float) -> Figure:
    """A row for each joint, a column for each quantity."""
    joints = list(dict.fromkeys(f.joint for f in found))
    quantities = list(dict.fromkeys(f.quantity for f in found))
    with house_style():
        figure = Figure(figsize=(3.4 * len(quantities), 1.75 * len(joints) + 0.9), layout="constrained")
        figure.suptitle(title, fontsize=13, fontweight="bold")
        panels = figure.subplots(len(joints), len(quantities), squeeze=False)
        for axes in panels.ravel():
            axes.set_visible(False)
        for f in found:
            row, column = joints.index(f.joint), quantities.index(f.quantity)
            axes = panels[row, column]
            axes.set_visible(True)
            _panel(axes, f, hours, HUES[row % len(HUES)])
            axes.set_title(f"{f.joint.replace('_', ' ')}: {f.quantity} [{f.unit}]", loc="left", fontsize=8)
            if column == 0:
                axes.set_ylabel("times an hour")
        handles, labels = panels[0, 0].get_legend_handles_labels()
        figure.legend(handles, labels, loc="outside lower center", ncols=len(labels), frameon=False, fontsize=8)
    return figure


def _panel(axes: Axes, found: Found, hours: float, hue: str) -> None:
    if found.measured is not None:
        _exceedance(axes, found.measured.value, hours, FAINT, "measured")
    _exceedance(axes, found.peaks.value, hours, hue, "asked" if found.measured is not None else "measured")
    right = 1.08 * max(found.limit, found.now or 0.0, found.fit.highest)
    tail = np.linspace(float(np.quantile(found.peaks.value, 0.8)), right, 100)
    expected = np.maximum([found.fit.expected(x) for x in tail], 1e-9)
    axes.plot(tail, expected, color=INK, linewidth=0.9, linestyle=":", label="continued")
    axes.axhline(found.aim, color=FAINT, linewidth=0.7, linestyle="--", label="declared")
    if found.now is not None:
        axes.axvline(found.now, color=HUES[1], linewidth=1.2, label="limit now")
    axes.axvline(found.limit, color=INK, linewidth=1.2, label="fitted")
    axes.set(yscale="log", xlim=(0.0, right), ylim=(0.3 * found.aim, 9000))
    clean(axes)


def _exceedance(axes: Axes, values: np.ndarray, hours: float, color: str, label: str) -> None:
    ordered = np.sort(values)[::-1]
    axes.step(ordered, np.arange(1, len(ordered) + 1) / hours, color=color, linewidth=1.2, where="post", label=label)

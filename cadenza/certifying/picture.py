"""The picture of a certificate: lateness of the loop against cyclictest's, how often and when, plain and stressed."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from cadenza.certifying.findings import Condition, spread
from cadenza.picture import HUES, INK, clean, house_style
from spec.arrays import Float

_LOOP_HUE, _REFERENCE_HUE = HUES[0], HUES[1]
_BINS_PER_DECADE = 12
_SECOND_S = 1.0
_TITLES = {"plain": "Plain", "stress": "Under stress"}


def draw_certificate(title: str, found: Sequence[Condition]) -> Figure:
    """A row for each condition: how late how often on the left, when on the right; the same axes in all rows."""
    largest = max(max(one.lateness_us.max(initial=1.0), one.reference_us.max(initial=1.0)) for one in found)
    top = 1.5 * max(float(largest), found[0].period_us)
    with house_style():
        figure = Figure(figsize=(13, 0.8 + 3.3 * len(found)), layout="constrained")
        figure.suptitle(title, fontsize=13, fontweight="bold")
        panels = figure.subplots(len(found), 2, width_ratios=[1.0, 1.35], squeeze=False, sharex="col")
        for (left, right), one in zip(panels, found, strict=True):
            _how_often(left, one, top)
            _when(right, one, top)
        panels[-1][0].set_xlabel("wake-up lateness [µs]")
        panels[-1][1].set_xlabel("time [min]")
    return figure


def _how_often(axes: Axes, one: Condition, top: float) -> None:
    edges = np.geomspace(1.0, top, round(_BINS_PER_DECADE * np.log10(top)) + 1)
    for name, values, hue in (
        ("loop", one.lateness_us, _LOOP_HUE),
        ("cyclictest", one.reference_us, _REFERENCE_HUE),
    ):
        shares = np.histogram(np.clip(values, 1.0, top), edges)[0] / max(1, len(values))
        found = spread(values)
        axes.stairs(shares, edges, fill=True, color=hue, alpha=0.25)
        axes.stairs(shares, edges, color=hue, linewidth=1.2, label=_legend(name, found))
        axes.axvline(max(1.0, found["p99_9"]), color=hue, linestyle=":", linewidth=1.4)
    axes.axvline(one.period_us, color=INK, linewidth=1)
    axes.annotate(" period", (one.period_us, 0.98), xycoords=("data", "axes fraction"), va="top", fontsize=8)
    axes.set(xscale="log", yscale="log", xlim=(1.0, top), ylabel="share of wake-ups")
    axes.set_ylim(0.5 / max(1, one.ticks, len(one.reference_us)), 30.0)
    axes.set_yticks([10.0**power for power in range(-6, 1) if 10.0**power > axes.get_ylim()[0]])
    axes.set_title(f"{_TITLES.get(one.name, one.name)}: {one.ticks:,} ticks; dotted: p99.9", loc="left")
    axes.legend(frameon=False, fontsize=8, loc="upper left")
    clean(axes)


def _legend(name: str, found: dict[str, float]) -> str:
    return f"{name}: p50 {found['p50']:,.0f}, p99.9 {found['p99_9']:,.0f}, max {found['max']:,.0f} µs"


def _when(axes: Axes, one: Condition, top: float) -> None:
    """The latest wake-up and the median of every second; a band for cyclictest beside it, which keeps no times."""
    for number, block in enumerate(one.loop):
        at, latest, middle = _by_second(block.at_s, block.lateness_us)
        name = "" if number else "loop: latest of each second, and median"
        axes.plot(at / 60.0, latest, ".", color=_LOOP_HUE, markersize=4, label=name)
        axes.plot(at / 60.0, middle, color=_LOOP_HUE, linewidth=1.2)
    for number, reference in enumerate(one.reference):
        found = spread(reference.lateness_us)
        name = "" if number else "cyclictest: from median to latest of a block, p99.9"
        span = (reference.from_s / 60.0, reference.to_s / 60.0)
        axes.fill_between(
            span,
            max(1.0, found["p50"]),
            max(1.0, found["max"]),
            color=_REFERENCE_HUE,
            alpha=0.2,
            linewidth=0,
            label=name,
        )
        axes.plot(span, [max(1.0, found["p99_9"])] * 2, color=_REFERENCE_HUE, linewidth=1.4, linestyle=":")
    axes.axhline(one.period_us, color=INK, linewidth=1)
    axes.set(yscale="log", ylim=(1.0, top), ylabel="wake-up lateness [µs]")
    axes.set_title(
        f"missed ticks {one.missed_share:.3%} (cyclictest {one.reference_missed_share:.3%}), "
        f"bus success {one.bus_success:.2%}",
        loc="left",
    )
    axes.legend(frameon=False, fontsize=8, loc="lower left", ncols=2)
    clean(axes)


def _by_second(at_s: Float, values: Float) -> tuple[Float, Float, Float]:
    """Middle, largest and median of each second."""
    seconds = np.floor(at_s / _SECOND_S).astype(np.int64)
    starts = np.flatnonzero(np.diff(seconds, prepend=-1))
    parts = [part for part in np.split(values, starts[1:]) if len(part)]
    latest = np.array([max(1.0, float(part.max())) for part in parts])
    middle = np.array([max(1.0, float(np.median(part))) for part in parts])
    return np.asarray((seconds[starts] + 0.5) * _SECOND_S), latest, middle

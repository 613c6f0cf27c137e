"""The picture of a soak: memory, lateness and who else was at work, over time; the beginning against the end."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from cadenza.picture import FAINT, HUES, INK, clean, house_style
from cadenza.soaking.findings import HOUSEKEEPER, Findings
from cadenza.takeover_report import Bound

_PERCENTILES = {"p50": 50.0, "p99": 99.0, "p99.9": 99.9}


def draw_soak(found: Findings, kept: Sequence[Bound]) -> Figure:
    """Memory and lateness over the whole time; distributions of the first and the last sixth."""
    broken = [bound.name for bound in kept if not bound.held]
    verdict = "all bounds held" if not broken else f"broken: {', '.join(broken)}"
    with house_style():
        figure = Figure(figsize=(13, 9.5), layout="constrained")
        title = f"{found.seconds / 60:.0f} min at {found.begin['rate_hz']:g} Hz: {verdict}"
        figure.suptitle(title, fontsize=13, fontweight="bold", wrap=True)
        above, middle, below = figure.subfigures(3, 1, squeeze=False, height_ratios=[1.15, 1.25, 1.0])[:, 0]
        _memory(above.subplots(1, 1), found)
        _over_time(middle.subplots(1, 1), found)
        distribution, cores = below.subplots(1, 2)
        _distributions(distribution, found)
        _cores(cores, found)
    return figure


def _memory(axes: Axes, found: Findings) -> None:
    minutes = found.sampled_s / 60
    names = [name for name in found.memory_mb if name != HOUSEKEEPER]
    styles = ("-", "--")
    for index, name in enumerate(sorted(names, key=lambda name: -float(np.nanmax(found.memory_mb[name])))):
        growth = f" {found.growth[name].share:+.1%}" if name in found.growth else ""
        axes.plot(
            minutes,
            found.memory_mb[name],
            color=HUES[index % len(HUES)],
            linestyle=styles[index // len(HUES) % len(styles)],
            linewidth=1.4,
            label=f"{name}{growth}",
        )
    for second, _ in found.swaps:
        axes.axvline(second / 60, color=FAINT, linewidth=0.6, alpha=0.5, zorder=0)
    axes.set(ylabel="resident memory [MB]", yscale="log", xlim=(0, _end(found)))
    if names:
        axes.legend(frameon=False, fontsize=8, loc="center left", bbox_to_anchor=(1.0, 0.5))
    axes.set_title("Memory; a grey line at each swap", loc="left")
    clean(axes)


def _over_time(axes: Axes, found: Findings) -> None:
    ends = [block.s / 60 for block in found.blocks]
    for (name, share), hue in zip(_PERCENTILES.items(), (HUES[0], HUES[1], HUES[3]), strict=True):
        axes.plot(ends, [b.late.percentile(share) for b in found.blocks], ".-", color=hue, linewidth=1.2, label=name)
    axes.plot(ends, [block.max_us for block in found.blocks], ".", color=FAINT, label="max")
    axes.set(yscale="log", ylabel="lateness [µs]", xlim=(0, _end(found)), xlabel="minutes")
    low, high = axes.get_ylim()
    axes.set_ylim(low / 2.5, high)
    for second, _ in found.takeovers:
        axes.axvline(second / 60, 0.0, 0.035, color=HUES[3], linewidth=0.5)
    for second, _ in found.swaps:
        axes.axvline(second / 60, 0.045, 0.08, color=INK, linewidth=1.0)
    missed = [(end, block.missed) for end, block in zip(ends, found.blocks, strict=True) if block.missed]
    for end, count in missed[:200]:
        axes.annotate(str(count), (end, 0.985), xycoords=("data", "axes fraction"), ha="center", va="top", fontsize=6)
    axes.legend(frameon=False, fontsize=8, loc="center left", bbox_to_anchor=(1.0, 0.5))
    axes.set_title(
        f"How late ticks woke; below {len(found.takeovers)} takeovers (violet) and {len(found.swaps)} swaps (black), "
        "above missed ticks",
        loc="left",
    )
    clean(axes)


def _distributions(axes: Axes, found: Findings) -> None:
    for name, hue, late in (("first", HUES[0], found.at_first()), ("last", HUES[1], found.at_last())):
        edges, later = late.shares()
        shown = later > 0
        axes.step(edges[shown], later[shown], where="post", color=hue, linewidth=1.5, label=f"{name} sixth")
    axes.set(xscale="log", yscale="log", xlabel="lateness [µs]", ylabel="share of later ticks")
    axes.legend(frameon=False, fontsize=8)
    axes.set_title("The end against the beginning", loc="left")
    clean(axes)


def _cores(axes: Axes, found: Findings) -> None:
    ends = [block.s / 60 for block in found.blocks]
    axes.stackplot(
        ends,
        [block.ours for block in found.blocks],
        [block.others for block in found.blocks],
        colors=(HUES[2], FAINT),
        labels=("run and virtual arm", "others"),
        alpha=0.8,
    )
    axes.set(xlabel="minutes", ylabel="cores busy", xlim=(0, _end(found)), ylim=(0, found.begin["cores"] * 1.25))
    axes.legend(frameon=False, fontsize=8, loc="upper right", ncols=2)
    axes.set_title("Who was at work", loc="left")
    clean(axes)


def _end(found: Findings) -> float:
    return max(found.seconds / 60, 1e-3)

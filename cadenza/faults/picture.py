"""The picture of a campaign: how soon the arm stood, against what the ladder allows, and some cases to look at."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from cadenza.faults.campaign import Result
from cadenza.faults.evidence import Evidence
from cadenza.faults.summary import tallies
from cadenza.picture import FAINT, HUES, INK, clean, house_style
from episodes.records import Mode

_SHADE, _STANDS = "#f6d9d5", "#f3f0e4"


def draw_campaign(results: Sequence[Result], examples: Sequence[Evidence]) -> Figure:
    """Worst hold latency of each kind above, a joint of each example below."""
    broken = sum(bool(result.broken) for result in results)
    verdict = "no verdict broken" if not broken else f"{broken} cases broke a verdict"
    kinds = sum(tally.bound is not None for tally in tallies(results).values())
    rows = -(-len(examples) // 3)
    heights = [0.6 + 0.2 * max(kinds, 4), *([2.1 * rows] if examples else [])]
    with house_style():
        figure = Figure(figsize=(13, 1.0 + sum(heights)), layout="constrained")
        figure.suptitle(f"{len(results):,} cases of faults: {verdict}", fontsize=13, fontweight="bold")
        parts = figure.subfigures(len(heights), 1, squeeze=False, height_ratios=heights)[:, 0]
        _latencies(parts[0].subplots(), results)
        if examples:
            panels = parts[1].subplots(rows, 3, squeeze=False).ravel()
            for axes, evidence in zip(panels, examples, strict=False):
                _example(axes, evidence)
            for axes in panels[len(examples) :]:
                axes.set_axis_off()
            panels[0].legend(frameon=False, fontsize=7, loc="best")
    return figure


def _latencies(axes: Axes, results: Sequence[Result]) -> None:
    bounded = {kind: tally for kind, tally in tallies(results).items() if tally.bound is not None}
    order = sorted(bounded, key=lambda kind: -(bounded[kind].bound or 0))
    rows = np.arange(len(order))[::-1]
    for row, kind in zip(rows, order, strict=True):
        tally = bounded[kind]
        worst, bound = tally.worst or 0, tally.bound or 0
        seen = [one.ticks for result in results for one in result.latencies if one.kind == kind]
        axes.barh(row, worst, color=HUES[0] if worst <= bound else HUES[3], height=0.6, alpha=0.75)
        axes.plot(seen, np.full(len(seen), row), "|", color=INK, markersize=5, alpha=0.5)
        axes.plot([bound, bound], [row - 0.42, row + 0.42], color=HUES[1], linewidth=2)
        axes.text(bound, row, f"  {worst} of {bound}", va="center", fontsize=8)
    axes.plot([], [], color=HUES[1], linewidth=2, label="bound of the ladder, with the way to a stand")
    axes.plot([], [], "|", color=INK, label="one case each")
    axes.set(yticks=rows, yticklabels=[kind.replace("_", " ") for kind in order], xlabel="fault to stand [ticks]")
    axes.set_xlim(left=0)
    axes.margins(x=0.12)
    axes.legend(frameon=False, fontsize=8, loc="lower right", bbox_to_anchor=(1.0, 1.0), ncols=2)
    axes.set_title("How soon the arm stood, at worst; faults with a bound only", loc="left")
    clean(axes)


def _example(axes: Axes, evidence: Evidence) -> None:
    """The joint that moved most: where it was commanded to be and where it truly was; the faults shaded."""
    time, commanded, truth = evidence.time_s, evidence.commanded, evidence.truth.joints
    joint = int(np.argmax(np.ptp(truth, axis=0)))
    for trouble in evidence.case.troubles:
        lasts_s = max(trouble.for_s, float(trouble.values.get("ms", 0.0)) * 1e-3, 0.03)
        axes.axvspan(trouble.at_s, trouble.at_s + lasts_s, color=_SHADE, linewidth=0)
    stands = np.isin(evidence.mode, (Mode.HOLD, Mode.FAULT))
    axes.fill_between(
        time,
        0.0,
        0.05,
        where=stands.tolist(),
        transform=axes.get_xaxis_transform(),
        color=FAINT,
        linewidth=0,
        label="held",
    )
    axes.plot(time, truth[:, joint], color=HUES[1], linewidth=1.6, label="true joint")
    axes.plot(time, commanded[:, joint], color=INK, linewidth=1.0, linestyle=(0, (4, 1.2)), label="commanded")
    if evidence.word_s is not None:
        axes.axvline(evidence.word_s, color=HUES[2], linewidth=1.2, label="operator's word")
    name = evidence.robot.follower.names[joint].replace("_", " ")
    axes.set_title(f"{evidence.case.name.replace('_', ' ')}: {name}", loc="left", fontsize=8)
    axes.set(xlabel="[s]", ylabel="[rad]")
    clean(axes)

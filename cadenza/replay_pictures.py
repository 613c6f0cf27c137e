"""Pictures of a replay: what policies would have done, and how near an arm came to what was recorded."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure, SubFigure

from cadenza.picture import FAINT, HUES, INK, FilmStrip, clean, draw_film, house_style
from cadenza.replay_deviation import Deviation
from spec.arrays import Float

_SMALLEST = 1e-2
"""Below this many encoder ticks a difference is drawn as none."""


@dataclass(frozen=True, slots=True, eq=False)
class Line:
    """One curve of every joint."""

    label: str
    time: Float
    """[s], shape (n,)."""
    values: Float
    """[rad], shape (n, joints)."""
    hue: str
    marker: str | None = "."


@dataclass(frozen=True, slots=True, eq=False)
class Apart:
    """A difference over time, and by joint."""

    label: str
    time: Float
    """[s], shape (steps,)."""
    largest: Float
    """Over joints and actions [encoder ticks], shape (steps,)."""
    by_joint: Float
    """95th percentile and maximum [encoder ticks], shape (joints, 2)."""
    hue: str
    style: str


def draw_against(
    title: str,
    names: Sequence[str],
    sent: Line,
    wanted: Sequence[Line],
    apart: Sequence[Apart],
    human: Sequence[tuple[float, float]],
    strip: FilmStrip,
) -> Figure:
    """Joints, differences and camera of one episode on one page.

    Args:
        title: headline.
        names: of the joints.
        sent: what was executed.
        wanted: what each policy would have done next.
        apart: differences, in the order of the table.
        human: when a person drove [s].
        strip: frames of the episode.
    """
    with house_style():
        figure = Figure(figsize=(13, 10.5), layout="constrained")
        figure.suptitle(title, fontsize=13, fontweight="bold")
        joints, differences, camera = figure.subfigures(3, 1, squeeze=False, height_ratios=[1.55, 1.0, 0.75])[:, 0]
        _joints(joints, names, sent, wanted, human)
        over_time, by_joint = differences.subplots(1, 2, width_ratios=[1.7, 1.0])
        _over_time(over_time, apart, human)
        _by_joint(by_joint, names, apart)
        draw_film(camera, strip)
    return figure


def draw_deviation(title: str, names: Sequence[str], deviation: Deviation, strips: Sequence[FilmStrip]) -> Figure:
    """Both motions of every joint, how far apart they were, and both films on one page.

    Args:
        title: headline.
        names: of the joints.
        deviation: of a replay.
        strips: of the recording and of its replay.
    """
    with house_style():
        figure = Figure(figsize=(13, 11.5), layout="constrained")
        figure.suptitle(title, fontsize=13, fontweight="bold")
        joints, apart, *films = figure.subfigures(4, 1, squeeze=False, height_ratios=[1.55, 0.9, 0.6, 0.6])[:, 0]
        time = deviation.seconds
        logged = Line("recorded", time, deviation.logged, FAINT)
        _joints(joints, names, logged, [Line("replayed", time, deviation.measured, HUES[0], None)], ())
        tool, by_joint = apart.subplots(1, 2, width_ratios=[1.7, 1.0])
        _tool(tool, deviation)
        _deviation_by_joint(by_joint, names, deviation)
        for panel, strip, of in zip(films, strips, ("recorded", "replayed"), strict=True):
            draw_film(panel, FilmStrip(f"{of}: {strip.camera}", strip.times, strip.images))
    return figure


def _joints(
    figure: SubFigure, names: Sequence[str], sent: Line, wanted: Sequence[Line], human: Sequence[tuple[float, float]]
) -> None:
    columns = 3
    panels = figure.subplots(-(-len(names) // columns), columns, sharex=True, squeeze=False).ravel()
    for index, (axes, name) in enumerate(zip(panels, names, strict=False)):
        _shade(axes, human)
        axes.plot(sent.time, sent.values[:, index], color=sent.hue, linewidth=2.4, label=sent.label)
        for line in wanted:
            axes.plot(
                line.time,
                line.values[:, index],
                color=line.hue,
                linewidth=1.1,
                marker=line.marker,
                ms=3,
                label=line.label,
            )
        axes.set_title(name.replace("_", " "), loc="left", fontsize=9)
        clean(axes)
    figure.legend(
        *panels[0].get_legend_handles_labels(), loc="outside upper center", ncols=4, frameon=False, fontsize=8
    )
    for axes in panels[::columns]:
        axes.set_ylabel("[rad]")
    for axes in panels[: len(names)][-columns:]:
        axes.set_xlabel("time [s]")
    for axes in panels[len(names) :]:
        axes.set_axis_off()


def _over_time(axes: Axes, apart: Sequence[Apart], human: Sequence[tuple[float, float]]) -> None:
    _shade(axes, human, "a person drives")
    for one in apart:
        height = np.maximum(one.largest, _SMALLEST)
        axes.plot(one.time, height, color=one.hue, linestyle=one.style, linewidth=1.1, label=one.label)
    axes.axhline(1.0, color=INK, linestyle=":", linewidth=1, label="1 encoder tick")
    axes.set(yscale="log", xlabel="time [s]", ylabel="encoder ticks", ylim=(_SMALLEST * 0.8, None))
    axes.set_title(f"Largest difference at each policy step (none: {_SMALLEST:g})", loc="left")
    axes.legend(frameon=False, fontsize=8, loc="upper left", bbox_to_anchor=(0.0, -0.16), ncols=3)
    clean(axes)


def _by_joint(axes: Axes, names: Sequence[str], apart: Sequence[Apart]) -> None:
    rows = np.arange(len(names))[::-1].astype(float)
    thick = 0.8 / max(1, len(apart))
    for number, one in enumerate(apart):
        place = rows + 0.4 - thick * (number + 0.5)
        p95, largest = np.maximum(np.nan_to_num(one.by_joint), _SMALLEST).T
        axes.barh(place, largest, height=thick, color=one.hue, alpha=0.3)
        axes.barh(place, p95, height=thick, color=one.hue, hatch=None if one.style == "-" else "//")
    axes.axvline(1.0, color=INK, linestyle=":", linewidth=1)
    axes.set(yticks=rows, yticklabels=[n.replace("_", " ") for n in names], xscale="log", xlabel="encoder ticks")
    axes.set_xlim(_SMALLEST, None)
    axes.set_title("By joint: p95 (dark) and maximum (light)", loc="left")
    clean(axes)


def _shade(axes: Axes, spans: Sequence[tuple[float, float]], label: str | None = None) -> None:
    for number, (begin, end) in enumerate(spans):
        axes.axvspan(begin, end, color=HUES[1], alpha=0.10, linewidth=0, label=label if number == 0 else None)


def _tool(axes: Axes, deviation: Deviation) -> None:
    if np.isfinite(deviation.tool_mm).any():
        unit, values = "mm", deviation.tool_mm
        title = "How far the tool was from where it was then"
    else:
        unit, title = "rad", "How far the joint was that was furthest from where it was then (the arm has no model)"
        pairs = ((deviation.measured, deviation.logged), (deviation.sent, deviation.logged_sent))
        values = np.stack([np.abs(a - b).max(axis=1) for a, b in pairs], axis=1)
    for column, (label, hue) in enumerate((("measured", HUES[0]), ("sent", HUES[1]))):
        axes.plot(deviation.seconds, values[:, column], color=hue, linewidth=1.1, label=label)
    axes.set(xlabel="time of the recording [s]", ylabel=f"[{unit}]", ylim=(0, None))
    axes.set_title(title, loc="left")
    axes.legend(frameon=False, fontsize=8)
    clean(axes)


def _deviation_by_joint(axes: Axes, names: Sequence[str], deviation: Deviation) -> None:
    rows = np.arange(len(names))[::-1].astype(float)
    for offset, a, b, label, hue in (
        (0.2, deviation.measured, deviation.logged, "measured", HUES[0]),
        (-0.2, deviation.sent, deviation.logged_sent, "sent", HUES[1]),
    ):
        apart = np.abs(a - b) * 1e3
        axes.barh(rows + offset, apart.max(axis=0), height=0.38, color=hue, alpha=0.3)
        axes.barh(rows + offset, np.sqrt((apart**2).mean(axis=0)), height=0.38, color=hue, label=label)
    axes.set(yticks=rows, yticklabels=[name.replace("_", " ") for name in names], xlabel="[mrad]")
    axes.set_title("By joint: rms (dark) and maximum (light)", loc="left")
    axes.legend(frameon=False, fontsize=8)
    clean(axes)

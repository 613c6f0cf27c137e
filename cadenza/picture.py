"""The picture of a run: how punctual the loop was, what the joints did, what the camera saw."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure, SubFigure

from spec.arrays import Bytes, Float

INK, FAINT = "#1d2733", "#8a94a0"
HUES = ("#0b6e99", "#d9730d", "#0f7b6c", "#ad1a72", "#6940a5", "#b8860b")


@dataclass(frozen=True, slots=True, eq=False)
class JointTrace:
    """One episode's joints over time."""

    names: tuple[str, ...]
    time: Float
    """[s] since the episode began, shape (ticks,)."""
    asked: Float
    """[rad], shape (ticks, joints)."""
    measured: Float
    """[rad], shape (ticks, joints)."""


@dataclass(frozen=True, slots=True, eq=False)
class FilmStrip:
    """Frames of one camera, RGB (height, width, 3), with their times [s]; None where it took none then."""

    camera: str
    times: tuple[float, ...]
    images: Sequence[Bytes | None]


def draw_run(
    title: str,
    lateness_us: Float,
    phases_us: Mapping[str, Float],
    period_us: float,
    trace: JointTrace,
    strip: FilmStrip,
    hands: Callable[[SubFigure], None] | None = None,
) -> Figure:
    """Timing, joints and camera of a run on one page.

    Args:
        title: headline.
        lateness_us: wake-up lateness of every tick [µs].
        phases_us: time each phase of every tick took [µs], by phase name.
        period_us: control period [µs].
        trace: joints of one episode.
        strip: frames of the same episode.
        hands: draws how the arm changed hands in another episode; None where it never did.
    """
    heights = [1.0, 1.55, 0.8] if hands is None else [1.0, 1.55, 0.8, 1.1]
    with house_style():
        figure = Figure(figsize=(13, 2.84 * sum(heights)), layout="constrained")
        figure.suptitle(title, fontsize=13, fontweight="bold")
        timing, joints, camera, *last = figure.subfigures(len(heights), 1, squeeze=False, height_ratios=heights)[:, 0]
        left, right = timing.subplots(1, 2)
        _lateness(left, lateness_us)
        _phases(right, phases_us, period_us)
        _joints(joints, trace)
        draw_film(camera, strip)
        if hands is not None:
            hands(last[0])
    return figure


def house_style() -> AbstractContextManager[None]:
    """Fonts and colours of every picture."""
    return mpl.rc_context({"font.size": 9, "axes.edgecolor": FAINT, "text.color": INK, "axes.labelcolor": INK})


def save(figure: Figure, path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=110)


def _lateness(axes: Axes, lateness_us: Float) -> None:
    lateness = np.maximum(lateness_us, 1.0)
    edges = np.geomspace(1.0, max(2.0, lateness.max()) * 1.2, 70)
    axes.hist(lateness, bins=list(edges), color=HUES[0], alpha=0.85)
    axes.set(xscale="log", yscale="log", xlabel="wake-up lateness [µs]", ylabel="ticks")
    for share, style in ((50, "-"), (99, "--"), (99.9, ":")):
        value = float(np.percentile(lateness, share))
        axes.axvline(value, color=INK, linestyle=style, linewidth=1, label=f"p{share:g}  {value:,.0f} µs")
    axes.axvline(lateness.max(), color=HUES[1], linewidth=1, label=f"max  {lateness.max():,.0f} µs")
    axes.legend(frameon=False, fontsize=8)
    axes.set_title(f"Punctuality of {lateness.size:,} ticks", loc="left")
    clean(axes)


def _phases(axes: Axes, phases_us: Mapping[str, Float], period_us: float) -> None:
    names = list(phases_us)
    rows = np.arange(len(names))[::-1]
    p50, p99 = (np.array([np.percentile(phases_us[name], share) for name in names]) for share in (50, 99))
    axes.barh(rows, p99, color=HUES[0], alpha=0.3, label="p99")
    axes.barh(rows, p50, color=HUES[0], label="median")
    for row, middle, high in zip(rows, p50, p99, strict=True):
        roomy = high < 0.75 * period_us
        place, side = (high + 0.01 * period_us, "left") if roomy else (high - 0.01 * period_us, "right")
        axes.text(place, row, f"{middle:,.0f} / {high:,.0f} µs", va="center", ha=side, fontsize=8)
    axes.axvline(period_us, color=HUES[1], linewidth=1, label=f"period  {period_us:,.0f} µs")
    axes.set(yticks=rows, yticklabels=names, xlabel="time [µs]", xlim=(0, period_us * 1.05))
    axes.legend(frameon=False, fontsize=8, loc="lower right", bbox_to_anchor=(0.94, 0.0))
    axes.set_title("Where the time of a tick goes", loc="left")
    clean(axes)


def _joints(figure: SubFigure, trace: JointTrace) -> None:
    columns = 3
    panels = figure.subplots(-(-len(trace.names) // columns), columns, sharex=True, squeeze=False).ravel()
    for index, (axes, name) in enumerate(zip(panels, trace.names, strict=False)):
        axes.plot(trace.time, trace.asked[:, index], color=FAINT, linewidth=2.2, label="asked by the policy")
        axes.plot(trace.time, trace.measured[:, index], color=HUES[index % len(HUES)], linewidth=1.1, label="measured")
        axes.set_title(name.replace("_", " "), loc="left", fontsize=9)
        clean(axes)
    panels[0].legend(frameon=False, fontsize=8)
    for axes in panels[::columns]:
        axes.set_ylabel("[rad]")
    for axes in panels[-columns:]:
        axes.set_xlabel("time [s]")
    for axes in panels[len(trace.names) :]:
        axes.set_axis_off()


def draw_film(figure: SubFigure, strip: FilmStrip) -> None:
    """A camera's frames in a row."""
    panels = figure.subplots(1, max(1, len(strip.images)), squeeze=False).ravel()
    for axes in panels:
        axes.set_axis_off()
    for axes, image, time in zip(panels, strip.images, strip.times, strict=False):
        if image is not None:
            axes.imshow(image)
        axes.set_title(f"{strip.camera}  {time:.1f} s{': none' * (image is None)}", loc="left", fontsize=8)


def clean(axes: Axes) -> None:
    """No frame on top and right, a faint grid."""
    axes.spines[["top", "right"]].set_visible(False)
    axes.grid(visible=True, alpha=0.15)

"""The picture of a leader that nobody touched: its residuals, and the thresholds clear of them."""

from __future__ import annotations

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from cadenza.picture import FAINT, HUES, INK, clean, house_style
from calibration.quiet import Recording
from calibration.residuals import Channel
from spec.robot import Takeover

_UNITS = {"position": "off by [rad]", "current": "current [A]"}


def draw_residuals(recording: Recording, found: tuple[Channel, ...], thresholds: Takeover) -> Figure:
    """A column for each joint: position above, current below."""
    joints = recording.joints
    with house_style():
        figure = Figure(figsize=(2.5 * len(joints), 5.4), layout="constrained")
        figure.suptitle(
            f"Leader mirroring for {recording.seconds:.0f} s with nobody at it: "
            f"thresholds for {thresholds.false_trips_per_hour:.2g} false trips an hour",
            fontsize=13,
            fontweight="bold",
        )
        panels = figure.subplots(2, len(joints), sharex=True, squeeze=False)
        time = recording.read_s - recording.read_s[0]
        for c in found:
            column = joints.index(c.joint)
            row = list(_UNITS).index(c.kind)
            _panel(panels[row, column], time, c, HUES[column % len(HUES)])
            if row == 0:
                panels[row, column].set_title(c.joint.replace("_", " "), loc="left", fontsize=9)
            else:
                panels[row, column].set_xlabel("time [s]")
        for row, unit in enumerate(_UNITS.values()):
            panels[row, 0].set_ylabel(unit)
    return figure


def _panel(axes: Axes, time: np.ndarray, channel: Channel, hue: str) -> None:
    axes.plot(time, channel.residual, color=hue, linewidth=0.5)
    axes.axhline(channel.threshold, color=INK, linewidth=1.2)
    axes.text(
        1.0,
        channel.threshold,
        f"{channel.threshold:.3g}",
        ha="right",
        va="bottom",
        fontsize=8,
        transform=axes.get_yaxis_transform(),
    )
    axes.axhline(channel.highest, color=FAINT, linewidth=0.8, linestyle=":")
    axes.text(
        1.0,
        channel.highest,
        f"{channel.highest:.3g}",
        ha="right",
        va="bottom",
        fontsize=8,
        color=FAINT,
        transform=axes.get_yaxis_transform(),
    )
    axes.set_ylim(0, 1.15 * channel.threshold)
    clean(axes)

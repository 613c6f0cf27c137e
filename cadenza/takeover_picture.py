"""The picture of an arm changing hands: what the policy and the person wanted, what was sent, and who had how much."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import SubFigure
from matplotlib.patches import Patch

from cadenza.picture import FAINT, HUES, INK, clean
from episodes.reader import Episode
from episodes.records import Driver, Mode
from spec.arrays import Float, Int

_POLICY_HUE, _HUMAN_HUE = HUES[0], HUES[3]
_BANDS = {
    Mode.POLICY: ("policy drives", "#dcebf3"),
    Mode.HUMAN: ("person drives", "#f6dfec"),
    Mode.BLEND: ("changing hands", "#e9e4f5"),
    Mode.HOLD: ("holding", "#f3f0e4"),
}


@dataclass(frozen=True, slots=True, eq=False)
class TakeoverTrace:
    """One joint of one episode, shape (ticks,)."""

    joint: str
    time: Float
    """[s] since the first tick."""
    policy: Float
    """What the policy wanted [rad]; NaN where it had nothing to say."""
    human: Float
    """Where the leader arm was [rad]."""
    asked: Float
    """What was asked of the envelope [rad]."""
    sent: Float
    """[rad]"""
    alpha: Float
    """Weight of the person."""
    mode: Int
    """:class:`episodes.records.Mode`."""


def takeover_trace(episode: Episode) -> TakeoverTrace | None:
    """The joint that policy and person disagreed about most; None where nobody took the arm."""
    ticks, joints = episode.ticks, len(episode.joints)
    human = ticks["driver"] == Driver.HUMAN
    if not human.any():
        return None
    apart = np.abs(ticks["human"][human, :joints] - ticks["policy"][human, :joints])
    heard = np.isfinite(apart).any(axis=0)
    widest = np.where(heard, np.nanmax(np.where(np.isfinite(apart), apart, 0.0), axis=0), -1.0)
    joint = int(np.argmax(widest))
    return TakeoverTrace(
        joint=episode.joints[joint],
        time=(ticks["now_ns"] - ticks["now_ns"][0]) * 1e-9,
        policy=ticks["policy"][:, joint],
        human=ticks["human"][:, joint],
        asked=ticks["asked"][:, joint],
        sent=ticks["sent"][:, joint],
        alpha=ticks["alpha"],
        mode=ticks["mode"].astype(np.int64),
    )


def draw_takeover(
    figure: SubFigure, trace: TakeoverTrace, title: str = "A person steps in and gives the arm back"
) -> None:
    """The joint above, the person's weight below, and behind both who drove."""
    above, below = figure.subplots(2, 1, sharex=True, height_ratios=[3.2, 1.0])
    bands = _bands(above, trace)
    _bands(below, trace)
    above.plot(trace.time, trace.human, color=_HUMAN_HUE, linewidth=1.4, label="person (leader arm)")
    above.plot(trace.time, trace.policy, color=_POLICY_HUE, linewidth=1.4, label="policy")
    above.plot(trace.time, trace.asked, color=FAINT, linewidth=2.6, alpha=0.6, label="asked")
    above.plot(trace.time, trace.sent, color=INK, linewidth=1.1, linestyle=(0, (4, 1.2)), label="sent")
    above.set_ylabel("[rad]")
    above.set_title(f"{title}: {trace.joint.replace('_', ' ')}", loc="left")
    lines = above.get_legend_handles_labels()[0]
    above.legend(handles=[*lines, *bands], frameon=False, fontsize=8, loc="upper left", bbox_to_anchor=(1.0, 1.0))
    below.fill_between(trace.time, trace.alpha, color=_HUMAN_HUE, alpha=0.35, linewidth=0)
    below.plot(trace.time, trace.alpha, color=_HUMAN_HUE, linewidth=1.1)
    below.set(ylabel="α", xlabel="time [s]", ylim=(-0.05, 1.1), yticks=[0, 1], xlim=(trace.time[0], trace.time[-1]))
    for axes in (above, below):
        clean(axes)


def _bands(axes: Axes, trace: TakeoverTrace) -> list[Patch]:
    """Colours the background by mode; returns what the legend needs."""
    edges = np.flatnonzero(np.diff(trace.mode)) + 1
    shown: dict[Mode, Patch] = {}
    for start, end in zip([0, *edges], [*edges, len(trace.mode)], strict=True):
        mode = Mode(int(trace.mode[start]))
        if mode in _BANDS:
            name, colour = _BANDS[mode]
            last = min(end, len(trace.time) - 1)
            axes.axvspan(trace.time[start], trace.time[last], color=colour, linewidth=0, zorder=0)
            shown.setdefault(mode, Patch(color=colour, label=name))
    return [shown[mode] for mode in _BANDS if mode in shown]

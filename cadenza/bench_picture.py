"""The picture of a bench of takeovers: a typical one, how soon they came, and how their steps compare."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from cadenza.picture import FAINT, HUES, INK, clean, house_style
from cadenza.takeover_picture import TakeoverTrace, draw_takeover
from cadenza.takeover_report import REACTION_TICKS, Bound, Findings, answered
from cadenza.takeovers import Asked, Log, Means
from episodes.records import Driver, Flag
from spec.arrays import Float

_BEFORE_S, _AFTER_S = 0.6, 0.8
"""Shown around a takeover and its release [s]."""
_POLICY_HUE, _SWITCH_HUE = HUES[0], HUES[3]


def draw_bench(found: Findings, kept: Sequence[Bound]) -> Figure:
    """One takeover from beginning to end above, statistics below."""
    broken = [bound.name for bound in kept if not bound.held]
    verdict = "all bounds held" if not broken else f"broken: {', '.join(broken)}"
    with house_style():
        figure = Figure(figsize=(13, 8.5), layout="constrained")
        figure.suptitle(f"{len(found.asked)} takeovers of a running policy: {verdict}", fontsize=13, fontweight="bold")
        above, below = figure.subfigures(2, 1, squeeze=False, height_ratios=[1.25, 1.0])[:, 0]
        one = typical(found)
        if one is not None:
            log = found.logs[one.log]
            draw_takeover(above, around(log, one.tick), f"One of them, by {one.means}")
        reaction, size, back = below.subplots(1, 3)
        _reactions(reaction, found)
        _steps(size, found)
        _returns(back, found)
    return figure


def typical(found: Findings) -> Asked | None:
    """A takeover by force if there is one, in whose time the person moved about as far as usual.

    Best one before which the arm could follow the policy: at the wall of the workspace box it stands.
    """
    answers = [one for one in answered(found) if one.reaction is not None]
    answers = [one for one in answers if not _at_the_wall(found.logs[one.log], one.tick)] or answers
    pulls = [one for one in answers if one.means is Means.FORCE] or answers
    if not pulls:
        return None
    sizes = [float(np.nanmax(np.ptp(_human(found.logs[one.log], one.tick), axis=0), initial=0.0)) for one in pulls]
    return pulls[int(np.argsort(sizes)[len(sizes) // 2])]


def _at_the_wall(log: Log, tick: int) -> bool:
    """Whether the box stopped the arm in the second before ``tick``."""
    second = round(log.robot.control.rate_hz)
    return bool(log.flagged(Flag.WORKSPACE)[max(0, tick - second) : tick].any())


def _human(log: Log, tick: int) -> Float:
    """Where the person had the leader, from ``tick`` until they gave it back, shape (ticks, joints)."""
    return np.asarray(log.ticks["human"][tick : _release(log, tick), : log.joints])


def _release(log: Log, tick: int) -> int:
    after = np.flatnonzero(log.flagged(Flag.RELEASED)[tick:])
    return tick + int(after[0]) if len(after) else len(log.ticks)


def around(log: Log, tick: int) -> TakeoverTrace:
    """The takeover at ``tick`` and its release, in the joint that was moved most."""
    rate = log.robot.control.rate_hz
    last = _release(log, tick)
    followed = np.flatnonzero(log.ticks["driver"][last:] == Driver.POLICY)
    end = min(len(log.ticks), last + int(followed[0] if len(followed) else 0) + round(_AFTER_S * rate))
    start = max(0, tick - round(_BEFORE_S * rate))
    joint = int(np.argmax(np.ptp(_human(log, tick), axis=0)))
    ticks = log.ticks[start:end]
    return TakeoverTrace(
        joint=log.robot.follower.names[joint],
        time=(ticks["now_ns"] - log.ticks["now_ns"][tick]) * 1e-9,
        policy=ticks["policy"][:, joint],
        human=ticks["human"][:, joint],
        asked=ticks["asked"][:, joint],
        sent=ticks["sent"][:, joint],
        alpha=ticks["alpha"],
        mode=ticks["mode"].astype(np.int64),
    )


def _reactions(axes: Axes, found: Findings) -> None:
    """How many ticks until a person drove, by means."""
    answers = answered(found)
    seen = [one.reaction for one in answers if one.reaction is not None]
    slots = np.arange(0, max([REACTION_TICKS, *seen]) + 1)
    bottom = np.zeros(len(slots))
    for means, hue in zip(Means, HUES, strict=False):
        counts = Counter(one.reaction for one in answers if one.means is means)
        heights = np.array([counts.get(int(slot), 0) for slot in slots], dtype=np.float64)
        axes.bar(slots, heights, bottom=bottom, width=0.6, color=hue, label=f"{means} ({sum(counts.values())})")
        bottom += heights
    axes.axvline(REACTION_TICKS + 0.5, color=INK, linewidth=1, linestyle="--", label="bound")
    axes.set(
        xticks=slots, xlabel="ticks from the input to the person", ylabel="takeovers", xlim=(-0.6, slots[-1] + 0.8)
    )
    axes.legend(frameon=False, fontsize=8, loc="upper left", bbox_to_anchor=(0.4, 1.0))
    axes.set_title("Reaction", loc="left")
    clean(axes)


def _steps(axes: Axes, found: Findings) -> None:
    """Share of command steps that are larger than so much."""
    for name, hue, shares in (
        ("policy drives", _POLICY_HUE, found.steps.policy),
        ("changing hands", _SWITCH_HUE, found.steps.switch),
    ):
        if not shares.size:
            continue
        sizes = np.sort(shares.max(axis=1))
        rarer = 1.0 - np.arange(len(sizes)) / len(sizes)
        axes.step(100 * sizes, rarer, where="pre", color=hue, linewidth=1.6, label=f"{name}: {sizes[-1]:.1%} at most")
    axes.axvline(100, color=FAINT, linewidth=1, linestyle=":")
    axes.set(yscale="log", xlabel="command step [% of what the velocity limit allows]", ylabel="share of larger steps")
    axes.set_xlim(left=0)
    axes.legend(frameon=False, fontsize=8, loc="lower left")
    axes.set_title("Largest joint of each command step", loc="left")
    clean(axes)


def _returns(axes: Axes, found: Findings) -> None:
    """From the release until the policy was followed, and until it drove alone."""
    for name, hue, seconds in (
        ("followed again", HUES[2], [one.to_blend_s for one in found.returned]),
        ("drives alone", HUES[1], [one.to_policy_s for one in found.returned]),
    ):
        known = [1e3 * s for s in seconds if s is not None]
        if known:
            axes.hist(known, bins=24, color=hue, alpha=0.75, label=f"{name}: median {np.median(known):.0f} ms")
    axes.set(xlabel="after the release [ms]", ylabel="releases")
    axes.set_xlim(left=0)
    axes.margins(y=0.25)
    axes.legend(frameon=False, fontsize=8)
    axes.set_title("Back to the policy", loc="left")
    clean(axes)

"""What a bench of takeovers comes to: figures over all its episodes, and the bounds they must keep."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from cadenza.takeovers import (
    Asked,
    Log,
    Means,
    Returned,
    Steps,
    Violations,
    asked_for,
    given_back,
    steps,
    violations,
)
from episodes.records import Driver, Flag
from spec.arrays import Float

REACTION_TICKS = 1
_SAME = 1e-6
"""Two largest steps this near are the same: both ran into the velocity limit."""


@dataclass(frozen=True, slots=True)
class Bound:
    """One thing takeovers must keep."""

    name: str
    shown: str
    wanted: str
    held: bool


@dataclass(frozen=True, slots=True, eq=False)
class Findings:
    """Everything found in the episodes of a bench."""

    logs: tuple[Log, ...]
    asked: tuple[Asked, ...]
    returned: tuple[Returned, ...]
    violations: tuple[Violations, ...]
    steps: Steps
    false_trips: int
    """Takeovers by force with nobody at the leader arm."""
    policy_s: float
    """For so long the policy drove with a leader arm that was left alone [s]."""


def find(logs: Sequence[Log]) -> Findings:
    """Go through the logs."""
    asked = [one for number, log in enumerate(logs) for one in asked_for(log, number)]
    returned = [one for number, log in enumerate(logs) for one in given_back(log, number)]
    parts = [steps(log) for log in logs]
    together = Steps(
        *(
            np.concatenate([getattr(part, name) for part in parts])
            for name in ("switch", "policy", "switch_jerk", "policy_jerk")
        )
    )
    return Findings(
        tuple(logs),
        tuple(asked),
        tuple(returned),
        tuple(violations(log) for log in logs),
        together,
        sum(_false_trips(log) for log in logs),
        sum(_alone_s(log) for log in logs),
    )


def _false_trips(log: Log) -> int:
    tripped = np.flatnonzero(log.flagged(Flag.TAKEN_OVER) & log.flagged(Flag.FORCE))
    return sum(not log.hand_at(int(log.ticks["now_ns"][tick])) for tick in tripped.tolist())


def _alone_s(log: Log) -> float:
    drives = log.ticks["driver"] == Driver.POLICY
    times = log.ticks["now_ns"]
    alone = [not log.hand_at(int(now)) for now in times[drives].tolist()]
    return sum(alone) / log.robot.control.rate_hz


def bounds(found: Findings, takeovers: int) -> tuple[Bound, ...]:
    """Hold the findings against what takeovers must keep.

    Args:
        takeovers: how many there were to be.
    """
    taken = sum(int(log.flagged(Flag.TAKEN_OVER).sum()) for log in found.logs)
    back = sum(one.to_policy_s is not None for one in found.returned)
    late = [one for one in answered(found) if one.reaction is None or one.reaction > REACTION_TICKS]
    slowest = max((one.reaction for one in answered(found) if one.reaction is not None), default=0)
    outside = sum(one.ticks for one in found.violations)
    where = next((one.first for one in found.violations if one.first), "")
    switch, policy = largest(found.steps.switch), largest(found.steps.policy)
    stale = sum(one.stale_chunks for one in found.returned)
    return (
        Bound("takeovers", f"{taken}", f"at least {takeovers}", taken >= takeovers),
        Bound("given back", f"{back}", f"at least {takeovers}", back >= takeovers),
        Bound(
            "reaction",
            _late(late[0], found.logs) if late else f"{slowest} ticks at most",
            f"at most {REACTION_TICKS} tick",
            not late,
        ),
        Bound("limits exceeded", f"{outside} ticks" + (f" ({where})" if where else ""), "0 ticks", outside == 0),
        Bound(
            "largest step at a switch",
            f"{switch:.1%} of the speed limit",
            f"at most the policy's, {policy:.1%}",
            switch <= policy + _SAME,
        ),
        Bound("false trips", f"{found.false_trips} in {found.policy_s:.0f} s", "0", found.false_trips == 0),
        Bound("old chunks used", f"{stale}", "0", stale == 0),
    )


def answered(found: Findings) -> list[Asked]:
    """Inputs that were to be heeded: the refused ones were seen too, and said so."""
    return [one for one in found.asked if not one.refused]


def largest(shares: Float) -> float:
    """Over all steps and joints; 0 where there are none."""
    return float(shares.max()) if shares.size else 0.0


def _late(one: Asked, logs: Sequence[Log]) -> str:
    log = logs[one.log]
    ticks = "never" if one.reaction is None else f"{one.reaction} ticks"
    return f"{ticks} by {one.means} ({log.name}, tick {log.ticks['tick'][one.tick]})"


def figures(found: Findings) -> dict[str, Any]:
    """All of it, JSON-able."""
    reactions = {
        means.value: dict(Counter(one.reaction for one in answered(found) if one.means is means)) for means in Means
    }
    names = found.logs[0].robot.follower.names if found.logs else ()
    return {
        "episodes": [log.name for log in found.logs],
        "ticks": sum(len(log.ticks) for log in found.logs),
        "takeovers": sum(int(log.flagged(Flag.TAKEN_OVER).sum()) for log in found.logs),
        "asked_for": dict(Counter(one.means.value for one in found.asked)),
        "refused": sum(one.refused for one in found.asked),
        "reaction_ticks": {
            means: {"never" if ticks is None else str(ticks): count for ticks, count in counts.items()}
            for means, counts in reactions.items()
        },
        "release_to_policy_s": {
            "followed_again": _spread([one.to_blend_s for one in found.returned]),
            "drives_alone": _spread([one.to_policy_s for one in found.returned]),
        },
        "limits": {
            "ticks_outside": sum(one.ticks for one in found.violations),
            "largest_share": {
                name: max((one.worst[name] for one in found.violations), default=0.0)
                for name in ("velocity", "acceleration", "jerk")
            },
            "farthest_outside_rad": max((one.worst["position"] for one in found.violations), default=0.0),
            "first": next((one.first for one in found.violations if one.first), ""),
        },
        "command_step": _compared(found.steps.switch, found.steps.policy, names),
        "command_jerk": _compared(found.steps.switch_jerk, found.steps.policy_jerk, names),
        "false_trips": {"seen": found.false_trips, "alone_s": found.policy_s},
        "old_chunks": sum(one.stale_chunks for one in found.returned),
        "missed_ticks": sum(int(log.ticks["skipped"].sum()) for log in found.logs),
    }


def _compared(switch: Float, policy: Float, names: Sequence[str]) -> Mapping[str, Any]:
    """Largest and typical, in shares of the limit."""
    per_joint = {
        name: {"switch": largest(switch[:, k]), "policy": largest(policy[:, k])} for k, name in enumerate(names)
    }
    return {"switch": largest(switch), "policy": largest(policy), "p99": _p99(switch, policy), "by_joint": per_joint}


def _p99(switch: Float, policy: Float) -> dict[str, float]:
    """Of the largest joint of each step."""
    return {
        name: float(np.percentile(shares.max(axis=1), 99)) if len(shares) else 0.0
        for name, shares in (("switch", switch), ("policy", policy))
    }


def _spread(seconds: Sequence[float | None]) -> dict[str, float]:
    known = np.array([s for s in seconds if s is not None])
    if not len(known):
        return {}
    return {"p50": float(np.median(known)), "p99": float(np.percentile(known, 99)), "max": float(known.max())}

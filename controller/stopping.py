"""Stopping within the limits of one joint: how far it takes, and which targets leave room for it."""

from __future__ import annotations

import math
from typing import NamedTuple

from spec.braking import stopping_time

_STEERABLE = 0.98
"""Share of the velocity limit a target may move with, so that a command that is behind can still catch up."""


class Reach(NamedTuple):
    """Which targets of one joint can be passed through without leaving its position limits before or after."""

    low: float
    high: float
    """Between these two any permitted velocity can still be stopped: nothing needs to be worked out there [rad]."""
    allowed: float
    """Fastest target [rad/s]."""
    fastest: float
    """Fastest command [rad/s]."""
    lower: float
    upper: float
    """The limits themselves [rad]."""
    acceleration: float
    jerk: float

    @classmethod
    def of(cls, share: float, lower: float, upper: float, velocity: float, acceleration: float, jerk: float) -> Reach:
        """With this share of the velocity limit."""
        room, fastest = stopping_distance(velocity, acceleration, jerk), share * velocity
        return cls(lower + room, upper - room, _STEERABLE * fastest, fastest, lower, upper, acceleration, jerk)

    def nearest(self, position: float, velocity: float) -> tuple[float, float]:
        """The nearest such target to one that may be anywhere."""
        inside = min(max(position, self.lower), self.upper)
        margin = min(inside - self.lower, self.upper - inside)
        allowed = min(self.allowed, stoppable_velocity(margin, self.acceleration, self.jerk))
        return inside, min(max(velocity, -allowed), allowed)


def stopping_distance(velocity: float, acceleration: float, jerk: float) -> float:
    """Way from ``velocity`` > 0 at constant speed to a stand, jerk-limited: mean speed times the time it takes."""
    return 0.5 * velocity * stopping_time(velocity, acceleration, jerk)


def stoppable_velocity(distance: float, acceleration: float, jerk: float) -> float:
    """Inverse of :func:`stopping_distance`."""
    if distance <= acceleration * acceleration * acceleration / (jerk * jerk):
        return math.cbrt(distance * distance * jerk)
    half = 0.5 * acceleration * acceleration / jerk
    return math.sqrt(half * half + 2.0 * acceleration * distance) - half


def braking_reach(velocity: float, acceleration: float, most: float, jerk: float) -> float:
    """How far a joint goes, at most, when it brakes from here.

    Speed at most |v| + a²/2j, braked from there; and before, that speed for as long as a takes to go.

    Args:
        most, jerk: limits of acceleration and jerk.
    """
    fastest = abs(velocity) + 0.5 * acceleration * acceleration / jerk
    return fastest * (abs(acceleration) / jerk + 0.5 * (fastest / most + most / jerk))

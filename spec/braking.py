"""How long a joint takes to stop within its own limits."""

from __future__ import annotations

import math

LONGEST_STOP_S = 2.5
"""A robot file may ask for no longer stop than this from full speed: braking is the answer to every fault, and an arm
that brakes for longer is not stopped by it. The shipped robots take 0.11 to 0.22 s."""


def stopping_time(velocity: float, acceleration: float, jerk: float) -> float:
    """From ``velocity`` > 0 at constant speed to a stand, jerk-limited [s]."""
    if velocity * jerk <= acceleration * acceleration:  # the full deceleration is not reached
        return 2.0 * math.sqrt(velocity / jerk)
    return velocity / acceleration + acceleration / jerk

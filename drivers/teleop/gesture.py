"""Closing the gripper of a leader arm twice within a second means: change who drives. Pure, over angle and time."""

from __future__ import annotations

import math
from dataclasses import dataclass

WITHIN_NS = 1_000_000_000
"""From the first closing to the second. Gripping and letting go again by hand takes longer."""
BRIEF_NS = 400_000_000
"""It must be on its way open again so soon after the first closing: something that is gripped is held longer."""
CLOSED, OPEN = 0.8, 0.4
"""Shares of the way at which the gripper counts as closed, and as opened again."""
SQUEEZED_RAD = 0.25
"""So far past its goal, a gripper under torque is being squeezed shut."""


@dataclass(slots=True)
class DoubleClose:
    """Recognises two closings, each from open, of which the second comes within a second of the first.

    Begins not knowing whether the gripper was open before: a gripper that is first seen closed has not been closed.
    """

    _was_open: bool = False
    _closed_ns: int | None = None
    """When the last closing came that may become the first of two."""

    def see(self, closure: float, now_ns: int) -> bool:
        """Whether the gesture is complete with this.

        Args:
            closure: 0 open to 1 closed; anything beyond is allowed, NaN says nothing.
            now_ns: never falls from one call to the next.
        """
        if closure <= OPEN:
            self._was_open = True
        if self._closed_ns is not None and not self._was_open and now_ns - self._closed_ns > BRIEF_NS:
            self._closed_ns = None
        if not (closure >= CLOSED and self._was_open):
            return False
        self._was_open = False
        first, self._closed_ns = self._closed_ns, now_ns
        if first is None or now_ns - first > WITHIN_NS:
            return False
        self._closed_ns = None  # a third closing begins anew
        return True

    def forget(self) -> None:
        """Begin anew."""
        self._was_open, self._closed_ns = False, None


def closure(position: float, goal: float | None, ends: tuple[float, float]) -> float:
    """How far a gripper is closed, 0 to 1. One that mirrors a goal under torque counts by how far it is squeezed past
    that: else the follower's own gripping would be a gesture.

    Args:
        position: joint angle [rad].
        goal: what it was told to mirror [rad]; None where it is free to move.
        ends: of its travel [rad]. It is shut at the end that is nearer to zero.
    """
    low, high = ends
    shut, wide = (high, low) if abs(high) < abs(low) else (low, high)
    if goal is None:
        return (position - wide) / (shut - wide)
    return (position - goal) / math.copysign(SQUEEZED_RAD, shut - wide)

"""Closing the gripper of a leader arm twice within a second means: change who drives. Pure, over angle and time."""

from __future__ import annotations

import math
from collections import deque
from dataclasses import dataclass

WITHIN_NS = 1_000_000_000
"""From the first closing to the second. Gripping and letting go again by hand takes longer."""
BRIEF_NS = 400_000_000
"""It must be on its way open again so soon after the first closing: something that is gripped is held longer."""
CLOSED, OPEN = 0.8, 0.4
"""Shares of the way at which the gripper counts as closed, and as opened again."""
SQUEEZED_RAD = 0.25
"""So far past its goals, a gripper under torque is being squeezed shut."""
ARRIVED_NS = 500_000_000
"""A gripper under torque is where it was told to be, or held back by something, so long after it was told."""


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


class GripperGesture:
    """The double closing of one gripper, whether it is free to move or mirrors under torque.

    Args:
        ends: of its travel [rad]. It is shut at the end that is nearer to zero.
    """

    def __init__(self, ends: tuple[float, float]) -> None:
        self._ends, self._twice, self._squeeze = ends, DoubleClose(), Squeeze(ends)

    def see(self, position: float, goal: float | None, now_ns: int) -> bool:
        """Whether the gesture is complete with this.

        Args:
            position: joint angle [rad].
            goal: what it was told to mirror [rad], NaN for nothing yet; None where it is free to move.
            now_ns: never falls from one call to the next.
        """
        if goal is None:
            return self._twice.see(closure(position, self._ends), now_ns)
        return self._twice.see(self._squeeze.closure(position, goal, now_ns), now_ns)

    def forget(self) -> None:
        """Begin anew."""
        self._twice.forget()
        self._squeeze.forget()


class Squeeze:
    """How far a gripper that mirrors under torque is squeezed shut by hand.

    It counts from the most shut of its latest goals: the follower's own gripping is no gesture, nor is a gripper that
    is still on its way open.

    Args:
        ends: of its travel [rad]. It is shut at the end that is nearer to zero.
    """

    def __init__(self, ends: tuple[float, float]) -> None:
        wide, shut = _wide_and_shut(ends)
        self._towards_shut = math.copysign(1.0, shut - wide)
        self._told = deque[tuple[int, float]]()

    def closure(self, position: float, goal: float, now_ns: int) -> float:
        """0 not squeezed at all to 1 squeezed shut; NaN while it was told nothing.

        Args:
            position: joint angle [rad].
            goal: what it was told to mirror [rad]; NaN for nothing.
            now_ns: never falls from one call to the next.
        """
        told = self._told
        if math.isfinite(goal):
            told.append((now_ns, goal * self._towards_shut))
        while told and now_ns - told[0][0] > ARRIVED_NS:
            told.popleft()
        if not told:
            return math.nan
        return (position * self._towards_shut - max(goal for _, goal in told)) / SQUEEZED_RAD

    def forget(self) -> None:
        """Begin anew."""
        self._told.clear()


def closure(position: float, ends: tuple[float, float]) -> float:
    """How far a gripper that is free to move is closed, 0 open to 1 shut.

    Args:
        position: joint angle [rad].
        ends: of its travel [rad]. It is shut at the end that is nearer to zero.
    """
    wide, shut = _wide_and_shut(ends)
    return (position - wide) / (shut - wide)


def _wide_and_shut(ends: tuple[float, float]) -> tuple[float, float]:
    """A gripper's ends of travel [rad], the open one first. It is shut at the end that is nearer to zero."""
    low, high = ends
    return (low, high) if abs(high) < abs(low) else (high, low)

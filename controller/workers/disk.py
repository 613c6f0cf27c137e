"""Running out of disk space in an orderly way: warn, then give up pictures, then close the file while there is room."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass
from enum import IntEnum
from pathlib import Path

LOOK_NS = 1_000_000_000
_BACK = 1.1
"""Space must rise a tenth above a bound before it counts as regained: one that hovers would toggle every second."""


class Space(IntEnum):
    """How much room there is for recording."""

    AMPLE = 0
    LOW = 1
    """Time to tell somebody."""
    SHED = 2
    """Pictures are given up: control data alone goes on for a hundred times as long."""
    FULL = 3
    """Time to close the file."""


@dataclass(frozen=True, slots=True)
class DiskBounds:
    """Free bytes below which something is done."""

    low: int = 2_000_000_000
    """Five minutes with two cameras of 640x480 at 30 pictures a second take about as much."""
    begin: int = 500_000_000
    """No recording begins below this: ten minutes with two cameras of 320x240 take about as much."""
    shed: int = 300_000_000
    full: int = 100_000_000
    """Room for whatever closing a file needs, and for the logs of the run."""


def judge(free: int, before: Space, bounds: DiskBounds) -> Space:
    """What ``free`` bytes mean, having meant ``before`` so far."""
    found = Space.AMPLE
    for space, bound in ((Space.LOW, bounds.low), (Space.SHED, bounds.shed), (Space.FULL, bounds.full)):
        if free < (bound * _BACK if space <= before else bound):
            found = space
    return found


def free_bytes(folder: Path) -> int:
    """What this user may still write in ``folder``.

    Raises:
        OSError: no such folder.
    """
    status = os.statvfs(folder)
    return status.f_bavail * status.f_frsize


class DiskGuard:
    """Looks at the free space once a second.

    Args:
        bounds: when to do what.
        free: of a folder; the file system's answer by default.
    """

    def __init__(self, bounds: DiskBounds = DiskBounds(), free: Callable[[Path], int] = free_bytes) -> None:
        self.bounds = bounds
        self.space = Space.AMPLE
        self.free = 0
        self._measure = free
        self._looked_ns: int | None = None

    def begin(self) -> None:
        """A recording begins: whatever is found at the next look counts as a change."""
        self.space, self._looked_ns = Space.AMPLE, None

    def has_room(self, folder: Path, size: int) -> bool:
        """Whether ``size`` bytes more would leave room to close a file."""
        try:
            return self._measure(folder) - size >= self.bounds.full
        except OSError:
            return True

    def look(self, folder: Path, now_ns: int) -> bool:
        """Look if it is time to; returns whether that changed :attr:`space`. A folder that cannot be asked is ample."""
        if self._looked_ns is not None and now_ns - self._looked_ns < LOOK_NS:
            return False
        self._looked_ns = now_ns
        try:
            self.free = self._measure(folder)
        except OSError:
            return False  # the write that follows says what is wrong
        before, self.space = self.space, judge(self.free, self.space, self.bounds)
        return self.space is not before

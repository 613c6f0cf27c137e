"""Lateness counted in bins: an hour of ticks in a few kilobytes, and percentiles of it to within 3 %."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Self

import numpy as np

from spec.arrays import Float, Int

_LEAST_US, _DECADES, _PER_DECADE = 1.0, 6, 80
_EDGES_US = np.geomspace(_LEAST_US, _LEAST_US * 10.0**_DECADES, _DECADES * _PER_DECADE + 1)
"""From 1 µs to 1 s; one more bin below and one above."""


class Histogram:
    """How many ticks were how late."""

    def __init__(self) -> None:
        self.counts: Int = np.zeros(len(_EDGES_US) + 1, dtype=np.int64)

    @property
    def ticks(self) -> int:
        return int(self.counts.sum())

    def add(self, late_us: Float) -> None:
        """Count some more [µs], shape (ticks,)."""
        self.counts += np.bincount(np.searchsorted(_EDGES_US, late_us, side="right"), minlength=len(self.counts))

    def percentile(self, share: float) -> float:
        """Lateness that so many percent of the ticks do not exceed [µs]; 0 where there are none."""
        if not self.ticks:
            return 0.0
        reached = int(np.searchsorted(np.cumsum(self.counts), share / 100 * self.ticks))
        return float(_EDGES_US[min(reached, len(_EDGES_US) - 1)])

    def shares(self) -> tuple[Float, Float]:
        """Edges [µs] and, for each, the share of ticks that were later."""
        reached = np.cumsum(self.counts)[:-1] / max(1, self.ticks)
        return _EDGES_US, 1.0 - reached

    def as_dict(self) -> dict[str, int]:
        """Bins that hold something; JSON-able."""
        return {str(index): int(self.counts[index]) for index in np.flatnonzero(self.counts)}

    @classmethod
    def from_dict(cls, bins: Mapping[str, int]) -> Self:
        """What :meth:`as_dict` gave."""
        found = cls()
        for index, count in bins.items():
            found.counts[int(index)] = count
        return found


def together(parts: Iterable[Histogram]) -> Histogram:
    """All ticks of several."""
    found = Histogram()
    for part in parts:
        found.counts += part.counts
    return found

"""The live observation history: what was seen at the last policy steps, with the feature of each frame kept."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass

import numpy as np

from episodes.windows import history
from spec.arrays import Bool, Float32, Int


@dataclass(frozen=True, slots=True, eq=False)
class Seen:
    """One policy step's observation."""

    observed_ns: int
    """Instant of the joint reading, CLOCK_MONOTONIC [ns]."""
    segment: int
    """Histories stay within one segment; see :mod:`episodes.windows`."""
    feature: Float32
    """Shape (D,)."""


class History:
    """The newest steps, enough to fill every slot.

    Args:
        length: slots H.
        step_ns: time between slots [ns].
        feature_dim: D.
    """

    def __init__(self, length: int, step_ns: int, feature_dim: int) -> None:
        self._length, self._step_ns = length, step_ns
        self._seen: deque[Seen] = deque()
        self._features: Float32 = np.zeros((length, feature_dim), dtype=np.float32)

    def __len__(self) -> int:
        return len(self._seen)

    def add(self, seen: Seen) -> None:
        """Append the newest step; ``observed_ns`` must rise. Those too old for any slot are let go."""
        self._seen.append(seen)
        while self._seen[0].observed_ns < seen.observed_ns - self._length * self._step_ns:
            self._seen.popleft()

    def forget_newest(self) -> None:
        """Take back the last step: it led to no usable chunk, so a log does not tell that it was seen."""
        self._seen.pop()

    def window(self) -> tuple[Float32, Bool]:
        """Features (H, D), oldest first, zero where masked, and the mask (H,). There must be at least one step."""
        observed: Int = np.array([seen.observed_ns for seen in self._seen], dtype=np.int64)
        segment: Int = np.array([seen.segment for seen in self._seen], dtype=np.int64)
        newest: Int = np.array([len(observed) - 1], dtype=np.int64)
        index, mask = history(observed, newest, self._length, self._step_ns, segment)
        for slot, (position, real) in enumerate(zip(index[0], mask[0], strict=True)):
            self._features[slot] = self._seen[position].feature if real else 0.0
        return self._features, mask[0]

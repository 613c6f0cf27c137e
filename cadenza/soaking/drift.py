"""Has something got worse? Two samples of stretches of time, compared so that a busy moment decides nothing.

Ticks are no independent draws: the scheduler's bad moments come in bursts, so that a test over single ticks (Kolmogorov
and Smirnov's, say) finds any two minutes different. So each stretch gives one figure, and the two samples are compared
by ranks (Mann and Whitney 1947): one stretch with a burst is one rank, a drift moves them all. Beyond chance alone is
not enough either, as a difference of a microsecond can be that: the median must have moved by a share and a size that
somebody could feel.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

CHANCE = 0.01
"""Ranks that come about more often than so without any drift tell nothing."""


@dataclass(frozen=True, slots=True)
class Slack:
    """How far the median of a figure may move: by this share of itself and so much more."""

    share: float
    more: float


@dataclass(frozen=True, slots=True)
class Drift:
    """One figure at the beginning and at the end."""

    first: float
    """Median over the stretches of the first window."""
    last: float
    chance: float
    """Of ranks as high as those of the last window, if nothing had changed."""
    held: bool


def compared(first: Sequence[float], last: Sequence[float], slack: Slack) -> Drift:
    """Whether the figures of the last stretches are like those of the first, or lower."""
    before, after = float(np.median(first)), float(np.median(last))
    chance = chance_of_higher(first, last)
    moved = after > before * (1.0 + slack.share) + slack.more
    return Drift(before, after, chance, not (moved and chance < CHANCE))


def chance_of_higher(first: Sequence[float], last: Sequence[float]) -> float:
    """One-sided p of Mann and Whitney's test, by the normal approximation with ties and continuity corrected; fair from
    eight figures on each side."""
    a, b = np.asarray(first, dtype=np.float64), np.asarray(last, dtype=np.float64)
    wins = float((b[:, None] > a).sum() + 0.5 * (b[:, None] == a).sum())
    n, m = len(a), len(b)
    _, ties = np.unique(np.concatenate([a, b]), return_counts=True)
    total = n + m
    variance = n * m / 12 * (total + 1 - float((ties**3 - ties).sum()) / (total * max(1, total - 1)))
    if variance <= 0.0:  # all the same
        return 1.0
    return 0.5 * math.erfc((wins - n * m / 2 - 0.5) / math.sqrt(2.0 * variance))

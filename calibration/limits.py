"""Limits of motion that demonstrations hardly ever cross, with a declared rate of crossing them. Pure.

How rare high peaks are is continued from the highest fifth of them, the peaks of separate half seconds, by a
generalised Pareto distribution (peaks over threshold: Coles 2001, chapter 4) fitted by probability-weighted moments
(Hosking and Wallis 1987), which stay sound with a few dozen peaks where maximum likelihood does not. The limit is the
upper end of a bootstrap interval over whole episodes, as peaks within one are alike. What happens once in a hundred
times the hours there are is not continued to: no one can know.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from spec.arrays import Float, Int
from spec.errors import CadenzaError

BLOCK_S = 0.5
FURTHEST = 100.0
"""How much rarer than once in all the data an event may be and still be spoken of."""
_BEYOND = 1.5
"""No limit is further above the highest value seen: a tail so heavy is a few odd episodes, not a law."""
_PEAKS = 0.2
_FEWEST_EPISODES, _FEWEST_BLOCKS = 10, 100
_RESAMPLES = 200
_CONFIDENCE = 0.95
_SHAPES = (-0.5, 0.25)
"""What a servo and a hand can do is bounded."""


@dataclass(frozen=True, slots=True, eq=False)
class Peaks:
    """Highest values of one quantity of one joint in separate half seconds, and the episode each is from."""

    value: Float
    episode: Int


@dataclass(frozen=True, slots=True)
class Fit:
    """A limit and how sure it is, in the quantity's own unit."""

    highest: float
    """Seen."""
    rare: float
    """Crossed at the declared rate, by the best fit."""
    limit: float
    """Upper end of the interval of that (95 % sure to be crossed no more often), not below anything seen."""
    trips_per_hour: float
    """Expected at the limit, by the best fit."""
    _tail: tuple[float, float, float, float]

    def expected(self, limit: float) -> float:
        """Trips an hour at another limit; above a fifth of all blocks they are only known to be many."""
        return _expected(self._tail, limit)


def peaks(values: Sequence[Float], rate_hz: float) -> Peaks:
    """Of magnitudes along several episodes, each of shape (samples,)."""
    block = max(1, round(BLOCK_S * rate_hz))
    found, episode = [], []
    for number, value in enumerate(values):
        for start in range(0, len(value), block):
            found.append(float(value[start : start + block].max()))
            episode.append(number)
    return Peaks(np.array(found), np.array(episode))


def check_support(hours: float, episodes: int, blocks: int, aim: float, channels: int) -> None:
    """Refuse a rate the data cannot speak of.

    Args:
        aim: declared trips an hour, all channels together.

    Raises:
        CadenzaError: with the rate that they support, and how much more it would take.
    """
    if episodes < _FEWEST_EPISODES or blocks < _FEWEST_BLOCKS:
        raise CadenzaError(
            f"{episodes} episodes with {hours * 60:.1f} minutes of motion are too few to fit limits to: record at "
            f"least {_FEWEST_EPISODES}, and {_FEWEST_BLOCKS * BLOCK_S / 60:.1f} minutes"
        )
    if channels / aim > FURTHEST * hours:
        least, wanted = channels / (FURTHEST * hours), channels / (FURTHEST * aim)
        raise CadenzaError(
            f"{hours:.2f} hours of motion do not say what happens {aim:g} times an hour in one of {channels} "
            f"quantities: record {wanted:.2f} hours, or ask for --false-trips-per-hour {least:.1f} or more"
        )


def fit(found: Peaks, hours: float, aim: float, seed: int = 0) -> Fit:
    """The limit that is crossed ``aim`` times an hour.

    Args:
        hours: that the peaks are from.
        aim: of this one quantity of this one joint.
    """
    tail = _tail(found.value, hours)
    rng = np.random.default_rng(seed)
    numbers = np.unique(found.episode)
    by_episode = {number: found.value[found.episode == number] for number in numbers.tolist()}
    rare = []
    for _ in range(_RESAMPLES):
        drawn = np.concatenate([by_episode[number] for number in rng.choice(numbers, len(numbers)).tolist()])
        rare.append(_rare(_tail(drawn, hours * len(drawn) / len(found.value)), aim))
    best = _rare(tail, aim)
    highest = float(found.value.max())
    limit = min(max(best, highest, float(np.quantile(rare, _CONFIDENCE))), _BEYOND * highest)
    return Fit(highest, best, limit, _expected(tail, limit), tail)


def _tail(values: Float, hours: float) -> tuple[float, float, float, float]:
    """Level, scale, shape of what exceeds it, and how often an hour something does."""
    ordered = np.sort(values)
    above = min(max(10, round(_PEAKS * len(ordered))), len(ordered) - 1)  # ten short episodes may be ten blocks
    level = float(ordered[-above - 1])
    excess = ordered[-above:] - level
    mean = max(float(excess.mean()), 1e-9)
    weights = (np.arange(above)[::-1]) / (above - 1)  # of the share that lies above each
    weighted = float((weights * excess).mean())
    shape = float(np.clip(2.0 - mean / max(mean - 2.0 * weighted, 1e-12), *_SHAPES))
    return level, mean * (1.0 - shape), shape, above / hours


def _rare(tail: tuple[float, float, float, float], aim: float) -> float:
    level, scale, shape, rate = tail
    times = max(1.0, rate / aim)
    return level + scale * (float(np.log(times)) if abs(shape) < 1e-6 else (times**shape - 1.0) / shape)


def _expected(tail: tuple[float, float, float, float], limit: float) -> float:
    level, scale, shape, rate = tail
    beyond = max(0.0, limit - level) / scale
    if abs(shape) < 1e-6:
        return rate * float(np.exp(-beyond))
    return float(rate * max(0.0, 1.0 + shape * beyond) ** (-1.0 / shape))

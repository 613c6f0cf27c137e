"""Cases drawn from a seed: the same seed and number, the same case."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np

from cadenza.faults.cases import Case, Setting, Trouble, random_of
from cadenza.faults.kinds import KINDS, LIVE_KINDS, Kind

DRIVES_S = 1.3
"""By then the arm is at its start pose and the policy drives, where nothing goes wrong before [s]."""
_LATEST_S = 3.6
_PERSON = 0.12
"""Share of cases without any need of a person in which one takes the arm all the same."""
_MANY = (0.55, 0.27, 0.18)
"""Shares of one, two and three faults at a time."""
_MANY_LIVE = (0.7, 0.3)
LIVE_EVERY = 10
_SAGGED = (0.38, 0.62)
"""Shares of the usual supply: below 0.7 (3.5 V of 5) an XL330 says so and lets go, below 0.54 (6.0 V of 11.1) an XL430
says so and holds."""


def draw_case(seed: int, number: int, *, live: bool = True) -> Case:
    """Case ``number`` of the campaign ``seed``; one in ten ``live`` where that is wanted."""
    rng = random_of(seed, number)
    if live and number % LIVE_EVERY == LIVE_EVERY - 1:
        return _live(rng, number)
    chosen = _chosen(rng, KINDS, _MANY)
    person = None
    if any(KINDS[name].person for name in chosen) or rng.random() < _PERSON:
        begins = float(rng.uniform(DRIVES_S + 0.3, DRIVES_S + 0.9))
        person = (_rounded(begins), _rounded(begins + rng.uniform(1.0, 2.0)))
    troubles = tuple(_supplied(_trouble(name, rng, person), seed, number) for name in chosen)
    return Case(number, int(rng.integers(1 << 31)), Setting.LOCKSTEP, troubles, person)


def _live(rng: np.random.Generator, number: int) -> Case:
    """One or two faults of a daemon, within the first second of an episode."""
    troubles = []
    for name in _chosen(rng, LIVE_KINDS, _MANY_LIVE):
        kind = LIVE_KINDS[name]
        at, lasts = _rounded(rng.uniform(0.2, 1.0)), _rounded(rng.uniform(*kind.lasts))
        troubles.append(Trouble(name, at, lasts, {**kind.draw(rng), "which": int(rng.integers(16))}))
    return Case(number, int(rng.integers(1 << 31)), Setting.LIVE, tuple(troubles))


def _chosen(rng: np.random.Generator, kinds: Mapping[str, Kind], shares: Sequence[float]) -> list[str]:
    count = 1 + int(rng.choice(len(shares), p=shares))
    names, weights = list(kinds), np.array([kind.weight for kind in kinds.values()])
    return [names[k] for k in rng.choice(len(names), size=count, replace=False, p=weights / weights.sum())]


def _trouble(name: str, rng: np.random.Generator, person: tuple[float, float] | None) -> Trouble:
    kind = KINDS[name]
    return Trouble(name, _instant(kind, rng, person), _rounded(rng.uniform(*kind.lasts)), dict(kind.draw(rng)))


def _supplied(trouble: Trouble, seed: int, number: int) -> Trouble:
    """With the supply that is left, where it sags: enough for an XL430 or not. By random numbers of its own, so that
    the rest of the case is what it was without."""
    if trouble.kind != "under_voltage":
        return trouble
    share = random_of(seed, number, 1).uniform(*_SAGGED)
    return replace(trouble, values={**trouble.values, "supply": _rounded(share)})


def _instant(kind: Kind, rng: np.random.Generator, person: tuple[float, float] | None) -> float:
    """Mostly while somebody drives; one in five on the way there, from before the servos hold the arm."""
    if kind.person and person is not None:
        return _rounded(rng.uniform(person[0] + 0.2, person[1] - 0.2))
    early = rng.random() < 0.2
    return _rounded(rng.uniform(0.02, DRIVES_S) if early else rng.uniform(DRIVES_S, _LATEST_S))


def _rounded(value: float) -> float:
    return round(float(value), 3)

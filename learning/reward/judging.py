"""How well scores tell success, and which threshold tells it best."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from learning.reward.rewarding import runs_above
from learning.reward.sights import Label, Sights
from spec.arrays import Float, Int
from spec.errors import CadenzaError

MOST_FALSE = 0.005
"""Largest share of sights without success that may be taken for one. A reward for nothing is what a policy learns to
seek; a success seen a step late costs a step."""


@dataclass(frozen=True, slots=True)
class Confusion:
    """Sights and episodes, by what they were and what was said of them."""

    true_positive: int
    false_positive: int
    true_negative: int
    false_negative: int
    successes: int
    """Episodes that succeeded."""
    successes_found: int
    """Of these, rewarded, and not too early."""
    failures: int
    """Episodes that failed."""
    failures_rewarded: int
    early: int
    """Successes rewarded while there was none to see yet."""

    @property
    def accuracy(self) -> float:
        """Share of labelled sights told right."""
        right = self.true_positive + self.true_negative
        return right / max(1, right + self.false_positive + self.false_negative)

    def as_dict(self) -> dict[str, float]:
        """JSON-able."""
        return {name: getattr(self, name) for name in self.__slots__} | {"accuracy": self.accuracy}


def choose_threshold(scores: Float, label: Int, most_false: float = MOST_FALSE) -> float:
    """The threshold that finds most successes with at most ``most_false`` of the other sights above it.

    Of several it is the one with the widest gap around it, in log-odds; it lies in the middle of the gap.

    Raises:
        CadenzaError: no threshold tells anything.
    """
    odds = np.log(np.clip(scores, 1e-9, 1 - 1e-9) / (1 - np.clip(scores, 1e-9, 1 - 1e-9)))
    edges = np.unique(odds)
    middle, gap = 0.5 * (edges[1:] + edges[:-1]), np.diff(edges)
    good, bad = np.sort(odds[label == Label.SUCCESS]), np.sort(odds[label == Label.NOT_YET])
    found = 1.0 - np.searchsorted(good, middle, side="right") / max(1, len(good))
    wrong = 1.0 - np.searchsorted(bad, middle, side="right") / max(1, len(bad))
    found = np.where(wrong <= most_false, found, 0.0)
    if not len(found) or found.max() <= 0.0:
        raise CadenzaError(
            "the classifier cannot tell success from the rest on the episodes held out; label more episodes of both "
            "kinds, or let it see through another camera"
        )
    best = np.flatnonzero(found == found.max())
    return float(1.0 / (1.0 + np.exp(-middle[best[np.argmax(gap[best])]])))


def confusion(sights: Sights, scores: Float, threshold: float, in_a_row: int) -> Confusion:
    """Compare with what is known, sight by sight and episode by episode."""
    above = scores > threshold
    good, bad = sights.label == Label.SUCCESS, sights.label == Label.NOT_YET
    certain = runs_above(scores, threshold, sights.episode) >= in_a_row
    numbers = np.unique(sights.episode)
    found = early = rewarded = 0
    for number in numbers:
        own = sights.episode == number
        if not certain[own].any():
            continue
        first = int(np.argmax(certain[own]))
        if not sights.succeeded[number]:
            rewarded += 1
        elif sights.label[own][first] == Label.NOT_YET:
            early += 1
        else:
            found += 1
    return Confusion(
        true_positive=int((above & good).sum()),
        false_positive=int((above & bad).sum()),
        true_negative=int((~above & bad).sum()),
        false_negative=int((~above & good).sum()),
        successes=int(sights.succeeded[numbers].sum()),
        successes_found=found,
        failures=int((~sights.succeeded[numbers]).sum()),
        failures_rewarded=rewarded,
        early=early,
    )

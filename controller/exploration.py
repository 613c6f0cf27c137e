"""The noise a policy explores with: worked out from what is on record, so that a logged chunk can be made again."""

from __future__ import annotations

import secrets
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Self

import numpy as np

from spec.arrays import Float32
from spec.errors import SpecError

SCALE, SEED = "explore_scale", "explore_seed"


@dataclass(frozen=True, slots=True)
class Exploration:
    """How a run explores. A chunk's noise depends on this and on the chunk's number, on nothing that came before."""

    scale: float
    """Share of the policy's own spread, above 0 and at most 1."""
    seed: int

    def noise(self, sequence: int, length: int, joints: int) -> Float32:
        """For the decoder, shape (length, joints); a longer chunk begins with the noise of a shorter one. The same
        for as long as NumPy's generator draws the same, which rarely changes.

        Args:
            sequence: number of the chunk.
        """
        drawn = np.random.default_rng((self.seed, sequence)).standard_normal((length, joints))
        return (self.scale * drawn).astype(np.float32)

    @property
    def labels(self) -> dict[str, str]:
        """For the record."""
        return {SCALE: repr(self.scale), SEED: str(self.seed)}

    @classmethod
    def of_labels(cls, labels: Mapping[str, str], where: str) -> Self | None:
        """As the labels of an episode tell it; None where nothing was explored. Raises SpecError."""
        if SCALE not in labels:
            return None
        try:
            found = cls(float(labels[SCALE]), int(labels[SEED]))
        except (KeyError, ValueError):
            found = None
        if found is None or not 0.0 < found.scale <= 1.0 or found.seed < 0:
            told = {name: labels.get(name) for name in (SCALE, SEED)}
            raise SpecError(f"{where}: labels", told, "do not tell how it explored")
        return found


def exploration(scale: float) -> Exploration | None:
    """Of a run about to begin, with a seed of its own; None for scale 0, where every chunk is the mean one.

    Raises:
        SpecError: a scale outside [0, 1].
    """
    if not 0.0 <= scale <= 1.0:
        raise SpecError("--explore", scale, "from 0 (the mean chunk) to 1 (all of the policy's own spread)")
    return Exploration(scale, secrets.randbits(32)) if scale else None

"""An action chunk as the tick sees it: absolute joint targets, each with the instant it is due."""

from __future__ import annotations

from dataclasses import dataclass

from spec.arrays import Float


@dataclass(frozen=True, slots=True, eq=False)
class Chunk:
    """Decoded policy output. Times, not queue indices: whoever is late simply starts further in.

    Action k moves the arm during step k and is reached at its end: it is due at
    ``observed_ns + (k + 1) * step_ns``.
    """

    sequence: int
    """Counts chunks of one run."""
    observed_ns: int
    """Instant of the newest observation the chunk was inferred from, CLOCK_MONOTONIC [ns]."""
    step_ns: int
    """Time between actions [ns]."""
    targets: Float
    """Absolute joint targets [rad], shape (chunk, joints), read-only."""
    weights: int = 0
    """Weight version of the bundle."""

    @property
    def length(self) -> int:
        return int(self.targets.shape[0])

    @property
    def ends_ns(self) -> int:
        """Instant at which the last action is due [ns]."""
        return self.observed_ns + self.length * self.step_ns

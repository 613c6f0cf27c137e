"""What certifying found: figures of every kind of block, and the bar they are held against."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from cadenza.certifying.blocks import IN_RECORD, IN_REPORT, LoopBlock, ReferenceBlock
from cadenza.certifying.daemon import HOLDING
from cadenza.certifying.measuring import Measured
from cadenza.takeover_report import Bound
from controller.certificate import SLACK, Lateness
from spec.arrays import Float

PLAIN, STRESS = "plain", "stress"
_MEASURED = 0.95
"""Share of what the blocks should have brought that there has to be; 0.999 and more is usual."""
_DRIVEN = 0.9
"""Share of the time in which something was to be followed that has to have been; 0.96 is usual of blocks of 5 s, since
the way to the first chunk counts."""
_SHARES = {"p50": 50.0, "p99": 99.0, "p99_9": 99.9, "p99_99": 99.99}


@dataclass(frozen=True, slots=True, eq=False)
class Condition:
    """All blocks of one load."""

    name: str
    loop: tuple[LoopBlock, ...]
    reference: tuple[ReferenceBlock, ...]
    period_us: float
    """Of the loop [µs]."""

    @property
    def lateness_us(self) -> Float:
        """Of the loop's wake-ups [µs]."""
        return _joined([block.lateness_us for block in self.loop])

    @property
    def reference_us(self) -> Float:
        """Of cyclictest's wake-ups [µs]."""
        return _joined([block.lateness_us for block in self.reference])

    @property
    def ticks(self) -> int:
        return sum(block.ticks for block in self.loop)

    @property
    def overrun(self) -> int:
        """Ticks that began late because the one before them was not over."""
        return self.ticks - sum(len(block.lateness_us) for block in self.loop)

    @property
    def measured_share(self) -> tuple[float, float]:
        """Of the periods its blocks had, those that are accounted for: the loop's, and cyclictest's."""
        periods = sum(block.to_s - block.from_s for block in self.reference) * 1e6 / self.period_us
        loop = self.ticks + sum(block.missed for block in self.loop)
        return loop / max(1.0, periods), len(self.reference_us) / max(1.0, periods)

    @property
    def driven_share(self) -> float:
        """Of the ticks, those in which something was followed."""
        return sum(block.driven for block in self.loop) / max(1, self.ticks)

    @property
    def missed_share(self) -> float:
        """Of the loop's periods, those without a tick."""
        missed = sum(block.missed for block in self.loop)
        return missed / max(1, missed + self.ticks)

    @property
    def reference_missed_share(self) -> float:
        """The same of cyclictest: a wake-up that is later than a period has missed one, later than two has missed two,
        as a tick would have."""
        late = self.reference_us
        missed = float(np.floor(late / self.period_us).sum())
        return missed / max(1.0, missed + len(late))

    @property
    def bus_success(self) -> float:
        """Share of the ticks in which every joint was heard and every goal was sent."""
        return 1.0 - sum(block.lost for block in self.loop) / max(1, self.ticks)

    def certified(self) -> Lateness:
        """What a certificate keeps of it."""
        found = spread(self.lateness_us)
        return Lateness(p99=found["p99"], p99_9=found["p99_9"], max=found["max"], missed_share=self.missed_share)

    def figures(self) -> dict[str, Any]:
        """JSON-able."""
        loop, reference = spread(self.lateness_us), spread(self.reference_us)
        return {
            "lateness_us": loop,
            "cyclictest_us": reference,
            "ratio": {name: loop[name] / max(1.0, reference[name]) for name in _SHARES},
            "phases_us": {
                phase: spread(_joined([block.phases_us[phase] for block in self.loop]))
                for phase in (*IN_RECORD, *IN_REPORT)
            },
            "overrun_ticks": self.overrun,
            "missed_ticks": sum(block.missed for block in self.loop),
            "missed_share": self.missed_share,
            "cyclictest_missed_share": self.reference_missed_share,
            "bus_success": self.bus_success,
            "driven_share": self.driven_share,
            "engaged_again": sum(block.reengaged for block in self.loop),
            "blocks_p99_9_us": {
                "loop": [_p99_9(block.lateness_us) for block in self.loop],
                "cyclictest": [_p99_9(block.lateness_us) for block in self.reference],
            },
        }


def conditions(measured: Measured, rate_hz: float) -> tuple[Condition, Condition]:
    """Plain, and under stress."""
    plain, stressed = (
        Condition(
            name,
            tuple(block for block in measured.loop if block.stressed is stressed),
            tuple(block for block in measured.reference if block.stressed is stressed),
            1e6 / rate_hz,
        )
        for name, stressed in ((PLAIN, False), (STRESS, True))
    )
    return plain, stressed


def bounds(stressed: Condition, *, still: bool = False) -> list[Bound]:
    """The bar, under stress.

    Args:
        stressed: what was found under it.
        still: nothing was to be followed.
    """
    measured, measured_there = stressed.measured_share
    loop, reference = _p99_9(stressed.lateness_us), _p99_9(stressed.reference_us)
    missed, missed_there = stressed.missed_share, stressed.reference_missed_share
    return [
        Bound(
            "wake-up lateness p99.9",
            f"{loop:.0f} µs, {loop / max(1.0, reference):.2f} x cyclictest's {reference:.0f} µs",
            f"at most {SLACK:g} x cyclictest's",
            loop <= SLACK * reference,
        ),
        Bound(
            "missed ticks",
            f"{missed:.3%}; of cyclictest's wake-ups {missed_there:.3%} were later than a period",
            "no larger a share",
            missed <= missed_there,
        ),
        Bound(
            "measured",
            f"{measured:.1%} of the periods; of cyclictest's {measured_there:.1%}",
            f"at least {_MEASURED:.0%}",
            min(measured, measured_there) >= _MEASURED,
        ),
        *([] if still else [_drove(stressed.driven_share)]),
    ]


def _drove(share: float) -> Bound:
    least = _DRIVEN * (1.0 - HOLDING)
    return Bound("driven", f"{share:.1%} of the ticks", f"at least {least:.0%}; the rest it holds", share >= least)


def spread(values: Float) -> dict[str, float]:
    """Count, smallest, mean, percentiles and largest; all zero where there is nothing to measure."""
    if not len(values):
        return dict.fromkeys(("count", "min", "mean", *_SHARES, "max"), 0.0)
    return {
        "count": len(values),
        "min": float(values.min()),
        "mean": float(values.mean()),
        **{name: float(np.percentile(values, share)) for name, share in _SHARES.items()},
        "max": float(values.max()),
    }


def _joined(parts: Sequence[Float]) -> Float:
    return np.concatenate(parts) if parts else np.zeros(0)


def _p99_9(values: Float) -> float:
    return spread(values)["p99_9"]

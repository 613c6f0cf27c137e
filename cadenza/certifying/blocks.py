"""What one block of certifying brought: some seconds of the loop, and of cyclictest beside it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from episodes.records import Driver, Flag
from spec.arrays import Float

_LOST = int(Flag.STALE_JOINT | Flag.READ_FAILED | Flag.WRITE_FAILED)
IN_RECORD, IN_REPORT = ("read", "decide", "write"), ("publish", "tick")
"""Phases each tick tells of, and those its process counts until its end."""


@dataclass(frozen=True, slots=True, eq=False)
class LoopBlock:
    """Ticks of the daemon."""

    stressed: bool
    ticks: int
    at_s: Float
    """When each wake-up was, since certifying began [s], shape (wake-ups,)."""
    lateness_us: Float
    """How long after its deadline [µs], shape (wake-ups,). A tick whose deadline had passed before its predecessor was
    over did not wake: it is late, or missed, but not woken late. cyclictest passes over such instants as well."""
    phases_us: Mapping[str, Float]
    """Time each phase took [µs], shape (ticks,); those of :data:`IN_REPORT` over the whole life of the process, in no
    order."""
    missed: int
    """Periods that passed without a tick."""
    lost: int
    """Ticks in which the bus did not bring every joint, or did not take the goals."""
    driven: int
    """Ticks in which something was followed."""
    reengaged: int
    """How often the servos had to be made to hold again."""


@dataclass(frozen=True, slots=True, eq=False)
class ReferenceBlock:
    """Wake-ups of cyclictest."""

    stressed: bool
    from_s: float
    """Since certifying began [s]."""
    to_s: float
    lateness_us: Float
    """[µs], shape (wake-ups,), rising."""


def loop_block(ticks: npt.NDArray[Any], spent_us: Mapping[str, Float], began_ns: int, *, stressed: bool) -> LoopBlock:
    """From the records of consecutive ticks.

    Args:
        ticks: fields of :class:`episodes.records.TickRecord`.
        spent_us: by phase of :data:`IN_REPORT`.
        began_ns: when certifying began [ns].
        stressed: whether there was more load than the daemon's own.
    """
    flags = ticks["flags"]
    late = flags & int(Flag.LATE) != 0
    slept = np.ones(len(ticks), dtype=np.bool_)
    slept[1:] = ticks["written_ns"][:-1] < ticks["deadline_ns"][1:]
    return LoopBlock(
        stressed,
        len(ticks),
        (ticks["woke_ns"][slept] - began_ns) * 1e-9,
        _micros((ticks["woke_ns"] - ticks["deadline_ns"])[slept]),
        {
            "read": _micros(ticks["read_ns"] - ticks["woke_ns"]),
            "decide": _micros(ticks["decided_ns"] - ticks["read_ns"]),
            "write": _micros(ticks["written_ns"] - ticks["decided_ns"]),
            **spent_us,
        },
        int(ticks["skipped"][late].sum()),  # without those that engaging the servos took
        int(np.count_nonzero(flags & _LOST)),
        int(np.count_nonzero(ticks["driver"] != Driver.NONE)),
        int(np.count_nonzero(flags & int(Flag.ENGAGED))),
    )


def _micros(nanoseconds: npt.NDArray[Any]) -> Float:
    return np.asarray(nanoseconds, dtype=np.float64) * 1e-3

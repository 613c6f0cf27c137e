"""The record of a tick, filled anew each time: what was read, decided and written, and when."""

from __future__ import annotations

import functools
import struct
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from controller.clock import Wake
from controller.decide import Command, Inputs
from drivers.arm import Applied, BusFault, Reading
from episodes.records import Flag, TickRecord
from spec.arrays import Float
from spec.robot import MAX_JOINTS

_LATE, _WRITE_FAILED = int(Flag.LATE), int(Flag.WRITE_FAILED)
_EXCHANGE = int(BusFault.TIMEOUT | BusFault.CORRUPT | BusFault.DISCONNECTED | BusFault.SKIPPED)
_NOWHERE = float("nan")
"""Logged where nothing was asked, limited or sent."""


@dataclass(slots=True)
class Ticking:
    """When the parts of one tick happened [ns]."""

    deadline_ns: int
    """What was slept for: woke_ns − deadline_ns is the whole lateness, skipped periods and all."""
    woke_ns: int
    wake: Wake
    away: int = 0
    """Periods that engaging the servos took before it: missed on purpose, so not late, but missed."""
    read_ns: int = 0
    decided_ns: int = 0
    written_ns: int = 0


class Filling:
    """Writes one tick after the other into the same record.

    Field by field this would be sixty attribute and slice assignments a tick; packing runs of neighbouring fields at
    their offsets is a dozen calls.
    """

    def __init__(self, record: TickRecord, joints: int) -> None:
        self._record, self._joints = record, joints
        self._times = _packer(record, "tick", "now_ns", "Q6q")
        self._skipped = _packer(record, "joints", "skipped", "2I")
        each = f"{joints}d{8 * (MAX_JOINTS - joints)}x"
        self._outcome = _packer(record, "mode", "policy", f"IIqIIIII4xqIId{each}")
        self._human = _packer(record, "teleop", "human_goal", "qq" + 4 * each)
        self._motion = _packer(record, "asked", "limited_acceleration", 4 * each)

        def view(name: str) -> Float:
            return np.ctypeslib.as_array(getattr(record, name))[:joints]

        self._position, self._velocity, self._effort = view("position"), view("velocity"), view("effort")
        self._raw = np.ctypeslib.as_array(record.raw)[: 3 * joints].reshape(joints, 3)
        self._fresh, self._ticks, self._sent = view("fresh"), view("sent_ticks"), view("sent")
        self._nowhere = (_NOWHERE,) * joints
        self._buttons = 0
        self._human(-1, 0, *4 * self._nowhere)

    def fill(
        self,
        tick: Ticking,
        reading: Reading,
        inputs: Inputs,
        command: Command,
        applied: Applied | None,
        bus_errors: int,
        seen: int = 0,
    ) -> None:
        """One whole tick; ``seen`` are flags of what the loop saw beside it."""
        wake = tick.wake
        self._times(
            wake.tick,
            tick.deadline_ns,
            tick.woke_ns,
            tick.read_ns,
            tick.decided_ns,
            tick.written_ns,
            wake.instant_ns,
        )
        self._skipped(self._joints, wake.skipped + tick.away)
        self._position[:], self._velocity[:], self._effort[:] = reading.position, reading.velocity, reading.effort
        self._raw[:], self._fresh[:] = reading.raw, reading.fresh
        human = inputs.human
        if human is not None:  # what it says stands in the record until the next
            self._buttons = human.buttons
            self._human(human.sequence, human.read_ns, *human.position, *human.velocity, *human.effort, *human.goal)
        commanded, nowhere = command.commanded, self._nowhere
        if commanded is None:
            self._motion(*nowhere, *nowhere, *nowhere, *nowhere)
        else:
            asked = command.asked or nowhere
            self._motion(*asked, *commanded.position, *commanded.velocity, *commanded.acceleration)
        flags = command.flags | seen | (_LATE if wake.skipped else 0)
        write_fault = 0
        if applied is None:
            self._sent[:], self._ticks[:] = _NOWHERE, 0
        else:
            self._sent[:], self._ticks[:] = applied.position, applied.ticks
            write_fault = int(applied.fault)
            flags |= _WRITE_FAILED if failed(applied.fault) else 0
        self._outcome(
            command.mode,
            flags,
            command.chunk,
            command.weights,
            int(reading.fault),
            write_fault,
            bus_errors,
            0 if inputs.order is None else inputs.order,
            -1 if inputs.chunk is None else inputs.chunk.sequence,
            command.driver,
            self._buttons,
            command.alpha,
            *(command.policy or nowhere),
        )


def failed(fault: BusFault) -> bool:
    """Whether the exchange failed; a servo's alert is an answer."""
    return bool(int(fault) & _EXCHANGE)


def _packer(record: TickRecord, first: str, last: str, layout: str) -> Callable[..., None]:
    """A function that writes the fields from ``first`` to ``last``, of this struct ``layout``, into the record."""
    begin: int = getattr(TickRecord, first).offset
    fields = struct.Struct(f"={layout}")
    end: int = getattr(TickRecord, last).offset + getattr(TickRecord, last).size
    if end - begin != fields.size:
        raise TypeError(f"TickRecord: {first} to {last} are {end - begin} bytes, not {fields.size} ({layout})")
    return functools.partial(fields.pack_into, record, begin)

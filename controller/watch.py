"""What the supervisor sees of a run as it goes by: ticks, chunks, events, counted as they come."""

from __future__ import annotations

from collections import Counter, deque
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from controller.authority import Fault
from controller.wiring.ipc import Node
from controller.wiring.topics import CHUNKS, EVENTS, TICKS
from episodes.layout import records_of
from episodes.records import ChunkRecord, Driver, Flag, Mode, TickRecord
from episodes.schema.cadenza_pb2 import Event
from spec.arrays import Float

RECENT_NS = 5_000_000_000
"""For so long lateness is remembered, to be shown [ns]."""
_STOPPED_NS = 1_000_000_000
"""A loop whose newest tick is older than this does not tick [ns]."""
DRIVEN = {Mode.POLICY, Mode.BLEND, Mode.HUMAN}
"""Somebody drives."""
MOVED = {*DRIVEN, Mode.EASE_IN}
"""The arm is meant to move."""
_LATCHED = "-> FAULT ("
"""Of the control loop's line about a fault; the cause follows, as far as it is known."""
_NOT_RECOVERED = "not recovered: "
_NAMES = tuple(f"{fault.name}: " for fault in Fault)


@dataclass(slots=True)
class Tally:
    """Counts of one run."""

    ticks: int = 0
    skipped: int = 0
    late_periods: int = 0
    """Of those skipped, the ones nobody wanted: engaging the servos takes some, too."""
    bus_errors: int = 0
    human_ticks: int = 0
    """In which a person drove."""
    chunks: int = 0
    flags: Counter[str] = field(default_factory=Counter)
    """Ticks that carried each flag."""
    events: Counter[str] = field(default_factory=Counter)
    """By ``source: kind``."""
    faults: list[str] = field(default_factory=list)
    """What the control loop said about faults."""

    def as_dict(self) -> dict[str, Any]:
        """JSON-able."""
        return {
            "ticks": self.ticks,
            "missed_ticks": self.skipped,
            "bus_errors": self.bus_errors,
            "human_ticks": self.human_ticks,
            "chunks": self.chunks,
            "flags": dict(self.flags),
            "events": dict(self.events),
            "faults": self.faults,
        }


class Watch:
    """Reads along, without being able to hold anybody up.

    Args:
        node: of the supervisor.
        joints: of the follower.
    """

    def __init__(self, node: Node, joints: int) -> None:
        self._ticks = node.subscriber(TICKS, TickRecord)
        self._chunks = node.subscriber(CHUNKS, ChunkRecord)
        self._events = node.bytes_subscriber(EVENTS)
        self._joints = joints
        self.tally = Tally()
        self.tick: TickRecord | None = None
        """The newest."""
        self.newest: dict[str, str] = {}
        """Text of the newest event of each ``source: kind``."""
        self.next_chunk = 0
        """First chunk number nobody has used."""
        self.since_ns = 0
        """Instant of the first tick of the present mode [ns]."""
        self._driver_since_ns = 0
        self.cause = ""
        """Of the newest fault: its name, and where it is, in the words of the control loop."""
        self.not_recovered: list[str] = []
        """Why attempts to recover the arm failed, in the words of the control loop."""
        self._recent: deque[tuple[int, Float]] = deque()

    def look(self) -> list[Event]:
        """Take in what has come; returns the events."""
        ticks = self._ticks.drain()
        if ticks:
            self._count(ticks)
        for chunk in self._chunks.drain():
            self.tally.chunks += 1
            self.next_chunk = max(self.next_chunk, chunk.sequence + 1)
        events: list[Event] = []
        while (content := self._events.receive()) is not None:
            event = Event.FromString(content)
            self.tally.events[f"{event.source}: {event.kind}"] += 1
            self.newest[f"{event.source}: {event.kind}"] = event.text
            if event.kind == "control":
                self._note_fault(event.text)
            events.append(event)
        return events

    def _note_fault(self, text: str) -> None:
        if "FAULT" in text:
            self.tally.faults.append(text)
        if _LATCHED in text:
            self.cause = text.partition(_LATCHED)[2].removesuffix(")")
        elif text.startswith(_NAMES):  # what the servos say about it comes a little later
            self.cause = text
        elif text.startswith(_NOT_RECOVERED):
            self.not_recovered.append(text.removeprefix(_NOT_RECOVERED))

    def _count(self, ticks: list[TickRecord]) -> None:
        batch = records_of(b"".join(map(bytes, ticks)))
        self.since_ns = self._began("mode", batch, self.since_ns)
        self._driver_since_ns = self._began("driver", batch, self._driver_since_ns)
        self.tally.bus_errors += self._new_errors(batch)
        self.tick = ticks[-1]
        self.tally.ticks += len(ticks)
        self.tally.skipped += int(batch["skipped"].sum())
        self.tally.late_periods += int(batch["skipped"][batch["flags"] & int(Flag.LATE) != 0].sum())
        self.tally.human_ticks += int(np.count_nonzero(batch["driver"] == Driver.HUMAN))
        self._recent.append((self.tick.now_ns, (batch["woke_ns"] - batch["deadline_ns"]) * 1e-3))
        while self._recent[0][0] < self.tick.now_ns - RECENT_NS:
            self._recent.popleft()
        for flag in Flag:
            if count := int(np.count_nonzero(batch["flags"] & int(flag))):
                self.tally.flags[str(flag.name).lower()] += count

    def _began(self, name: str, batch: Any, before_ns: int) -> int:
        """Instant of the first tick that had what the newest has in this field, without a break [ns]."""
        others = np.flatnonzero(batch[name] != batch[name][-1])
        if len(others):
            return int(batch["now_ns"][others[-1] + 1])
        goes_on = self.tick is not None and getattr(self.tick, name) == batch[name][-1]
        return before_ns if goes_on else int(batch["now_ns"][0])

    def _new_errors(self, batch: Any) -> int:
        """Failed exchanges since the tick before; each control process counts its own from the start, as its ticks."""
        number, errors = batch["tick"].astype(np.int64), batch["bus_errors"].astype(np.int64)
        last = (-1, 0) if self.tick is None else (self.tick.tick, self.tick.bus_errors)
        began = np.diff(number, prepend=last[0]) <= 0
        return int(np.where(began, errors, np.diff(errors, prepend=last[1])).sum())

    def recent_lateness(self) -> Float:
        """Of the ticks of the last seconds: how late each woke [µs], shape (ticks,)."""
        return np.concatenate([late for _, late in self._recent]) if self._recent else np.empty(0)

    def recent_rate_hz(self, now_ns: int) -> float:
        """Ticks a second over the last seconds [Hz]; 0 where too few came, or none comes any more."""
        if len(self._recent) < 2 or now_ns > self._recent[-1][0] + _STOPPED_NS:
            return 0.0
        passed_ns = self._recent[-1][0] - self._recent[0][0]
        return sum(len(late) for _, late in list(self._recent)[1:]) * 1e9 / passed_ns

    @property
    def human(self) -> bool:
        """Whether a person drove at the newest tick."""
        return self.taken_ns is not None

    @property
    def taken_ns(self) -> int | None:
        """Instant of the first tick at which the person who drives did [ns]; None while none does."""
        return self._driver_since_ns if self.tick is not None and self.tick.driver == Driver.HUMAN else None

    @property
    def mode(self) -> Mode | None:
        """What the arm was doing at the newest tick."""
        return None if self.tick is None else Mode(self.tick.mode)

    def commanded(self) -> Float:
        """Joint target of the newest tick [rad], shape (joints,); NaN where there is none."""
        return np.array([] if self.tick is None else self.tick.limited[: self._joints])

    def speed(self) -> float:
        """Largest commanded joint speed of the newest tick [rad/s]; 0 where nothing is commanded."""
        if self.tick is None:
            return 0.0
        speeds = np.abs(self.tick.limited_velocity[: self._joints])
        return float(np.nanmax(speeds)) if np.isfinite(speeds).any() else 0.0

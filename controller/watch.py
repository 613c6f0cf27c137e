"""What the supervisor sees of a run as it goes by: ticks, chunks, events, counted as they come."""

from __future__ import annotations

import math
from collections import Counter, deque
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from controller.wiring.ipc import Node
from controller.wiring.topics import CHUNKS, EVENTS, TICKS
from episodes.layout import records_of
from episodes.records import ChunkRecord, Driver, Flag, Mode, TickRecord
from episodes.schema.cadenza_pb2 import Event
from spec.arrays import Float

RECENT_NS = 5_000_000_000
"""For so long lateness is remembered, to be shown [ns]."""
LOOK_S = 0.1
"""The time from one look to the next counts for at most this much of a silence [s]."""


@dataclass(slots=True)
class Tally:
    """Counts of one run."""

    ticks: int = 0
    skipped: int = 0
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


@dataclass(slots=True)
class Silence:
    """For how long nothing has come while somebody looked for it.

    Time in which nobody looked says nothing: after a recovery of files, or on a machine that slept, there is one look
    before those that were away as well have had their turn.
    """

    seconds: float = 0.0
    _seen: int = 0
    _looked_s: float = math.inf

    def look(self, seen: int, now_s: float) -> None:
        """Take in how many have come so far, at an instant [s]."""
        passed = min(max(now_s - self._looked_s, 0.0), LOOK_S)
        self.seconds = self.seconds + passed if seen == self._seen else 0.0
        self._seen, self._looked_s = seen, now_s


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
            if event.kind == "control" and "FAULT" in event.text:
                self.tally.faults.append(event.text)
            events.append(event)
        return events

    def _count(self, ticks: list[TickRecord]) -> None:
        batch = records_of(b"".join(map(bytes, ticks)))
        self.tick = ticks[-1]
        self.tally.ticks += len(ticks)
        self.tally.skipped += int(batch["skipped"].sum())
        self.tally.bus_errors = int(ticks[-1].bus_errors)
        self.tally.human_ticks += int(np.count_nonzero(batch["driver"] == Driver.HUMAN))
        self._recent.append((self.tick.now_ns, (batch["woke_ns"] - batch["deadline_ns"]) * 1e-3))
        while self._recent[0][0] < self.tick.now_ns - RECENT_NS:
            self._recent.popleft()
        for flag in Flag:
            if count := int(np.count_nonzero(batch["flags"] & int(flag))):
                self.tally.flags[str(flag.name).lower()] += count

    def recent_lateness(self) -> Float:
        """Of the ticks of the last seconds: how late each woke [µs], shape (ticks,)."""
        return np.concatenate([late for _, late in self._recent]) if self._recent else np.empty(0)

    @property
    def human(self) -> bool:
        """Whether a person drove at the newest tick."""
        return self.tick is not None and self.tick.driver == Driver.HUMAN

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

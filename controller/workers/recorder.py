"""Draining the topics into the open episode, and counting what could not be kept."""

from __future__ import annotations

import errno
from collections import deque
from dataclasses import replace
from pathlib import Path
from typing import Any

from controller.wiring.ipc import Node
from controller.wiring.topics import CHUNKS, EVENTS, FRAME_BYTES, TICKS, frames_topic
from episodes.outcome import Outcome, Termination
from episodes.records import ChunkRecord, Flag, FrameHeader, TickRecord
from episodes.schema.cadenza_pb2 import Event
from episodes.writer import CARRIED, EpisodeWriter, Header
from spec.robot import Robot

_BATCH = 256
"""Most ticks converted at once."""
_ENGAGED = Flag.ENGAGED | Flag.ENGAGE_FAILED
_ENGAGING = 1 << 31
"""Engaging the servos takes as many periods as it takes; no tick is lost in them."""


class Gaps:
    """Counts what is missing in rising sequence numbers."""

    def __init__(self) -> None:
        self.missing = 0
        self._last: int | None = None

    def see(self, number: int, skipped: int = 0) -> None:
        """A number that came.

        Args:
            number: one that is not higher than the last means that the sender started again.
            skipped: how many numbers before this one the sender never used.
        """
        if self._last is not None:
            self.missing += max(0, number - self._last - 1 - skipped)
        self._last = number


class Recorder:
    """Writes everything that is published while an episode is open.

    Args:
        node: of this process.
        robot: for the cameras.
    """

    def __init__(self, node: Node, robot: Robot) -> None:
        self._ticks = node.subscriber(TICKS, TickRecord)
        self._chunks = node.subscriber(CHUNKS, ChunkRecord)
        self._events = node.bytes_subscriber(EVENTS)
        self._frames = {name: node.bytes_subscriber(frames_topic(name)) for name in robot.cameras}
        self._gaps: dict[str, Gaps] = {}
        self._newest_chunks: deque[ChunkRecord] = deque(maxlen=CARRIED)
        self._writer: EpisodeWriter | None = None

    @property
    def recording(self) -> bool:
        return self._writer is not None

    def open(self, path: Path, header: Header) -> None:
        """Begin an episode. What was published before is not part of it, but for the newest chunks: some may be alive.

        Raises:
            CadenzaError, OSError: as :class:`EpisodeWriter`.
        """
        self.drain()
        for gaps in self._gaps.values():
            gaps.missing = 0  # what it saw last stays: a loss right at the beginning counts
        self._writer = EpisodeWriter(path, replace(header, chunks=tuple(self._newest_chunks)))

    def close(self, outcome: Outcome, termination: Termination, facts: dict[str, str]) -> dict[str, Any]:
        """Take in what still waits and finish the file. Returns what there is to tell about it.

        Raises:
            OSError: as the file system says; the part stays for recovery.
        """
        if self._writer is None:
            return {}
        self.drain()
        dropped = {f"dropped_{name}": str(gaps.missing) for name, gaps in self._gaps.items()}
        path = self._writer.close(outcome, termination, {**dropped, **facts})
        report = {"path": str(path), "counts": dict(self._writer.counts), "dropped": self.dropped}
        self._writer = None
        return report

    def abandon(self) -> None:
        """Leave the open file as it is for recovery."""
        if self._writer is not None:
            self._writer.abandon()
            self._writer = None

    @property
    def dropped(self) -> dict[str, int]:
        """What was published but never reached this process, by topic, in the open episode."""
        return {name: gaps.missing for name, gaps in self._gaps.items()}

    def drain(self) -> int:
        """Write all that waits; returns how many records that was.

        Raises:
            OSError: disk full or broken.
        """
        done = 0
        while ticks := self._ticks.drain(_BATCH):
            done += len(ticks)
            for tick in ticks:
                self._see(TICKS, tick.tick, _ENGAGING if tick.flags & _ENGAGED else tick.skipped)
            if self._writer is not None:
                self._writer.ticks(b"".join(map(bytes, ticks)))
        for chunk in self._chunks.drain():
            done += 1
            self._see(CHUNKS, chunk.sequence)
            self._newest_chunks.append(chunk)
            if self._writer is not None:
                self._writer.chunk(chunk)
        for name, frames in self._frames.items():
            while (content := frames.receive()) is not None:
                done += 1
                header = FrameHeader.from_buffer_copy(content)
                self._see(frames_topic(name), header.sequence)
                if self._writer is not None:
                    self._writer.frame(name, memoryview(content)[FRAME_BYTES:], header.captured_ns, header.sequence)
        while (content := self._events.receive()) is not None:
            done += 1
            if self._writer is not None:
                event = Event.FromString(content)
                self._writer.event(event.time_ns, event.source, event.kind, event.text)
        if self._writer is not None:
            self._writer.service()
        return done

    def _see(self, topic: str, number: int, skipped: int = 0) -> None:
        self._gaps.setdefault(topic, Gaps()).see(number, skipped)


def is_full(error: OSError) -> bool:
    """True where the disk, this user's share of it, or what one file may hold is used up."""
    return error.errno in {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}

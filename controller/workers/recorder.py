"""Draining the topics into the open recording, and counting what could not be kept."""

from __future__ import annotations

import errno
import time
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from controller.wiring.ipc import Node
from controller.wiring.topics import CHUNKS, EVENTS, FRAME_BYTES, STATES, TICKS, frames_topic
from controller.workers.disk import DiskGuard, Space
from controller.workers.recording import Recording, Series, Turn
from controller.workers.ring import Ring
from episodes.layout import records_of
from episodes.messages import CAMERA_PREFIX, LogMessage, chunk_message, event_message, frame_message, tick_messages
from episodes.outcome import Outcome, Termination
from episodes.records import ChunkRecord, Flag, FrameHeader, TickRecord
from episodes.schema.cadenza_pb2 import Event
from episodes.writer import Header
from spec.arrays import Int
from spec.errors import CadenzaError
from spec.robot import Robot

_DISK_PAUSE_S = 0.005
_BATCH = 256
"""Most ticks converted at once."""
_ENGAGED = int(Flag.ENGAGED | Flag.ENGAGE_FAILED)
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

    def see_all(self, numbers: Int, skipped: Int) -> None:
        """As many calls of :meth:`see`. Both have shape (numbers,)."""
        before = np.concatenate(([numbers[0] - 1 if self._last is None else self._last], numbers[:-1]))
        first = 0 if self._last is None else 1  # nothing is known about what came before the first of all
        self.missing += int(np.maximum(0, numbers - before - 1 - skipped)[1 - first :].sum())
        self._last = int(numbers[-1])


class Recorder:
    """Writes everything that is published while a recording is open, and may keep the last seconds besides.

    Args:
        node: of this process.
        robot: for the cameras.
        guard: of the disk.
    """

    def __init__(self, node: Node, robot: Robot, guard: DiskGuard | None = None) -> None:
        self._ticks = node.subscriber(TICKS, TickRecord)
        self._chunks = node.subscriber(CHUNKS, ChunkRecord)
        self._events = [node.bytes_subscriber(topic) for topic in (EVENTS, STATES)]
        self._frames = {name: node.bytes_subscriber(frames_topic(name)) for name in robot.cameras}
        self._gaps: dict[str, Gaps] = {}
        self._lost: dict[str, int] = {}
        self._shed: dict[str, int] = {}
        self._shed_lately: dict[str, int] = {}
        self._ring = Ring()
        self._guard = guard or DiskGuard()
        self._recording: Recording | None = None
        self._now_ns = 0

    @property
    def recording(self) -> bool:
        return self._recording is not None

    @property
    def path(self) -> Path | None:
        """Name of the open recording."""
        return None if self._recording is None else self._recording.path

    @property
    def space(self) -> Space:
        return self._guard.space

    @property
    def free(self) -> int:
        """Bytes that were free when last looked."""
        return self._guard.free

    def keep(self, seconds: float, most_bytes: int) -> None:
        """Keep the last ``seconds`` in memory from now on, in at most ``most_bytes``; 0 keeps nothing."""
        self._ring.bound(seconds, most_bytes)

    def open(self, series: Series, header: Header, now_ns: int, from_ns: int | None = None) -> None:
        """Begin a recording.

        What came before is not part of it, but for what came at ``from_ns`` or later and is still kept, and what
        :class:`episodes.messages.Carried` says.

        Raises:
            CadenzaError: one is open, or as :class:`EpisodeWriter`.
            OSError: as :class:`EpisodeWriter`.
        """
        if self._recording is not None:
            raise CadenzaError(f"{series.path}: {self._recording.path} is still being recorded")
        self.drain(now_ns)
        for gaps in self._gaps.values():
            gaps.missing = 0  # what it saw last stays: a loss right at the beginning counts
        self._lost, self._shed, self._shed_lately = {}, {}, {}
        self._guard.begin()
        carried, before = self._ring.since(now_ns + 1 if from_ns is None else from_ns)
        recording = Recording(series, replace(header, carried=carried), self._losses)
        recording.put(before)
        self._recording = recording

    def saved(self, path: Path, header: Header, now_ns: int) -> tuple[Recording, float]:
        """A recording of what is kept in memory, all of it still to be written; and how many seconds that is.

        Raises:
            CadenzaError: nothing is kept, or as :class:`EpisodeWriter`.
            OSError: as :class:`EpisodeWriter`.
        """
        self.drain(now_ns)
        if not len(self._ring):
            raise CadenzaError(f"{path}: nothing is kept in memory to save")
        if not self._guard.has_room(path.parent, self._ring.bytes):
            raise CadenzaError(f"{path}: no room on the disk for {self._ring.bytes / 1e6:.0f} MB")
        carried, before = self._ring.since(0)
        recording = Recording(Series(path), replace(header, carried=carried), dict)
        recording.put(before)
        return recording, self._ring.held_s(now_ns)

    def close(
        self, outcome: Outcome, termination: Termination, facts: Mapping[str, str], reward: float | None = None
    ) -> dict[str, Any]:
        """Take in what still waits and finish the file. Returns what there is to tell about it.

        Raises:
            OSError: as the file system says; the part stays for recovery.
        """
        recording = self._recording
        if recording is None:
            return {}
        self.drain(self._now_ns)
        self._note_shed()
        ended = recording.end(outcome, termination, facts, reward)
        self._recording = None
        while not ended.done():  # the disk may take longer than the topics can wait
            self.drain(self._now_ns)
            time.sleep(_DISK_PAUSE_S)
        ended.result()
        return {
            "path": str(recording.path),
            "files": [str(path) for path in recording.files],
            "counts": recording.counts,
            "dropped": dict(self._lost),
            "shed": dict(self._shed),
        }

    def abandon(self) -> None:
        """Leave the open file as it is for recovery."""
        if self._recording is not None:
            self._recording.abandon()
            self._recording = None

    def turns(self) -> list[Turn]:
        """Changes of file since the last call."""
        return [] if self._recording is None else self._recording.turns()

    def drain(self, now_ns: int) -> int:
        """Write all that waits; returns how many records that was.

        Raises:
            OSError: disk full or broken.
        """
        self._now_ns = now_ns
        control, frames = self._control(), self._pictures()
        self._ring.add(now_ns, control)
        self._ring.add(now_ns, frames)
        if self._recording is not None:
            self._recording.put(control)
            if self._guard.space >= Space.SHED:
                for message in frames:
                    camera = message.topic.removeprefix(CAMERA_PREFIX)
                    self._shed_lately[camera] = self._shed_lately.get(camera, 0) + 1
            else:
                self._recording.put(frames)
            self._recording.advance()
        return len(control) + len(frames)

    def look_at_disk(self, now_ns: int) -> bool:
        """Look at the free space if it is time to; returns whether the answer is another than before."""
        if self._recording is None or not self._guard.look(self._recording.path.parent, now_ns):
            return False
        if self._guard.space < Space.SHED:
            self._note_shed()
        return True

    def _control(self) -> list[LogMessage]:
        """What waits but pictures: ticks, chunks, events."""
        messages: list[LogMessage] = []
        while content := self._ticks.drain_bytes(_BATCH):
            ticks = records_of(content)
            engaged = ticks["flags"] & _ENGAGED != 0
            skipped = np.where(engaged, _ENGAGING, ticks["skipped"]).astype(np.int64)
            self._gap(TICKS).see_all(ticks["tick"].astype(np.int64), skipped)
            messages += tick_messages(content)
        for chunk in self._chunks.drain():
            self._gap(CHUNKS).see(chunk.sequence)
            messages.append(chunk_message(chunk))
        for events in self._events:
            while (said := events.receive()) is not None:
                event = Event.FromString(said)
                messages.append(event_message(event.time_ns, event.source, event.kind, event.text))
        return messages

    def _pictures(self) -> list[LogMessage]:
        messages = []
        for name, frames in self._frames.items():
            topic = frames_topic(name)
            while (content := frames.receive()) is not None:
                header = FrameHeader.from_buffer_copy(content)
                self._gap(topic).see(header.sequence)
                jpeg = memoryview(content)[FRAME_BYTES:]
                messages.append(frame_message(name, jpeg, header.captured_ns, header.sequence))
        return messages

    def _gap(self, topic: str) -> Gaps:
        return self._gaps.setdefault(topic, Gaps())

    def _losses(self) -> dict[str, str]:
        """What is missing in the file that ends now: published and never here, or left out for want of space."""
        facts = {}
        for topic, gaps in self._gaps.items():
            facts[f"dropped_{topic}"] = str(gaps.missing)
            self._lost[topic] = self._lost.get(topic, 0) + gaps.missing
            gaps.missing = 0
        return {**facts, **{f"shed_{camera}": str(count) for camera, count in self._shed.items()}}

    def _note_shed(self) -> None:
        """Put on record how many pictures were left out since that began."""
        if self._recording is not None and self._shed_lately:
            text = "for want of space: " + ", ".join(f"{count} of {name}" for name, count in self._shed_lately.items())
            self._recording.put([event_message(self._now_ns, "recorder", "pictures_left_out", text)])
            for camera, count in self._shed_lately.items():
                self._shed[camera] = self._shed.get(camera, 0) + count
            self._shed_lately = {}


def is_full(error: OSError) -> bool:
    """True where the disk, this user's share of it, or what one file may hold is used up."""
    return error.errno in {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}

"""Writing one episode as MCAP so that kill -9 costs a tenth of a second, and a power cut about one.

The file is called ``*.mcap.part`` until it is closed; :mod:`episodes.recovery` makes a whole file of one that never
was. Data goes out in chunks of about 256 KiB, many times a second, and to the disk every second. No compression:
pictures are JPEG already, and the rest is small (a tick of six joints has about 1 kB).
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from google.protobuf.descriptor_pb2 import FileDescriptorSet
from google.protobuf.message import Message

from episodes.mcapfile import McapFile
from episodes.messages import (
    CAMERA_PREFIX,
    CHUNKS,
    EVENTS,
    TICKS,
    LogMessage,
    chunk_message,
    event_message,
    frame_message,
    tick_messages,
)
from episodes.outcome import Outcome, Termination, ending, ending_facts
from episodes.records import ChunkRecord, TickRecord
from episodes.schema.cadenza_pb2 import Chunk, Event, Tick
from episodes.schema.foxglove_pb2 import CompressedImage
from spec.calibration import Calibration
from spec.errors import CadenzaError
from spec.manifest import Manifest
from spec.robot import Robot
from spec.robotfile import robot_hash

FORMAT_VERSION = "2"
FLUSH_NS = 20_000_000
"""The recorder looks every 30 ms and so hands over to the file system every time: a kill -9 costs what came since."""
SYNC_NS = 1_000_000_000
PART = ".part"
_DISK = ThreadPoolExecutor(1, "sync")
"""A slow disk takes a tenth of a second and more; the writer must not stand still for so long."""

ROBOT_FILE, CALIBRATION_FILE, BUNDLE_FILE = "robot.json", "calibration.json", "bundle.json"
MODEL_FILE = "model.xml"
"""The arm's MJCF, so that an episode can be replayed where the robot's files are not."""


@dataclass(frozen=True, slots=True)
class Header:
    """What is known when an episode begins."""

    robot: Robot
    calibration: Calibration | None = None
    bundle: Manifest | None = None
    labels: Mapping[str, str] = field(default_factory=dict)
    """Free facts: task, seed, chunk mode."""
    carried: Sequence[LogMessage] = ()
    """From before the beginning: see :class:`episodes.messages.Carried`."""


class EpisodeWriter:
    """One open episode. Not thread-safe.

    Use as a context manager, or call :meth:`close`. Leaving the context on an exception closes the file as aborted.

    Args:
        path: where the closed episode will be, ``*.mcap``.
        header: written at once, so that it survives a crash.

    Raises:
        CadenzaError: the file exists already, or the arm's model cannot be read.
        OSError: from any method, as the file system says; the part written so far stays recoverable.
    """

    def __init__(self, path: Path, header: Header) -> None:
        self.path = path
        self.part = path.with_name(path.name + PART)
        if path.exists() or self.part.exists():
            raise CadenzaError(f"{path}: an episode of that name exists already")
        model = _model_of(header.robot)
        path.parent.mkdir(parents=True, exist_ok=True)
        self._file = self.part.open("wb")
        # Tells recovery that this file has a living writer. The kernel drops the lock when the process dies.
        fcntl.flock(self._file, fcntl.LOCK_EX)
        self._mcap = McapFile(self._file, "cadenza")
        self._channels: dict[str, int] = {}
        # Syncing the data alone does not promise that the file has a name after a power cut.
        self._sync: Future[None] | None = _DISK.submit(sync_folder, path.parent)
        self._ended: Future[Path] | None = None
        self._flushed_ns = self._synced_ns = time.monotonic_ns()
        self.counts: dict[str, int] = {}
        self._begin(header, model)
        self.write(header.carried)

    @property
    def size(self) -> int:
        """Bytes written so far."""
        return self._mcap.size

    def tick(self, record: TickRecord) -> None:
        """Write one tick."""
        self.ticks(record)

    def ticks(self, records: Any) -> None:
        """Write a batch of ticks: the bytes of one or more :class:`TickRecord`, in order."""
        self.write(tick_messages(records))

    def chunk(self, record: ChunkRecord) -> None:
        """Write one action chunk."""
        self.write((chunk_message(record),))

    def frame(self, camera: str, jpeg: bytes | memoryview, captured_ns: int, sequence: int) -> None:
        """Write one picture, as JPEG bytes. ``captured_ns`` is CLOCK_MONOTONIC [ns]."""
        self.write((frame_message(camera, jpeg, captured_ns, sequence),))

    def event(self, time_ns: int, source: str, kind: str, text: str) -> None:
        """Write one event: an order, a restart, a drop, a label."""
        self.write((event_message(time_ns, source, kind, text),))

    def write(self, messages: Sequence[LogMessage]) -> None:
        """Write messages in this order."""
        add, channels, counts = self._mcap.message, self._channels, self.counts
        for topic, time_ns, data, sequence in messages:
            add(channels[topic], time_ns, data, sequence)
            counts[topic] = counts.get(topic, 0) + 1
        self.service()

    def service(self) -> None:
        """Flush and sync when due. Every write calls it; call it also when nothing is written."""
        now = time.monotonic_ns()
        if now - self._flushed_ns >= FLUSH_NS:
            self._mcap.flush()
            self._flushed_ns = now
        if now - self._synced_ns >= SYNC_NS and not self.syncing:
            self.sync()

    def sync(self) -> None:
        """Have the disk take what has been flushed. Does not wait for it: what is written meanwhile must go on."""
        self._await_disk()
        self._synced_ns = time.monotonic_ns()
        self._sync = _DISK.submit(os.fdatasync, self._file.fileno())

    @property
    def syncing(self) -> bool:
        """Whether the disk is at it. Raises OSError where it has failed."""
        if self._sync is not None and self._sync.done():
            self._await_disk()
        return self._sync is not None

    def _await_disk(self) -> None:
        sync, self._sync = self._sync, None
        if sync is not None:
            sync.result()

    def close(
        self,
        outcome: Outcome = Outcome.UNLABELLED,
        termination: Termination = Termination.DONE,
        facts: Mapping[str, str] | None = None,
        reward: float | None = None,
    ) -> Path:
        """Finish the file, sync it and give it its final name.

        Args:
            outcome: verdict on the task.
            termination: what ended the recording.
            facts: anything else known at the end, e.g. counts of dropped records.
            reward: for the last step; None takes what :func:`episodes.outcome.ending` says.
        """
        return self.end(outcome, termination, facts, reward).result()

    def end(
        self,
        outcome: Outcome,
        termination: Termination,
        facts: Mapping[str, str] | None = None,
        reward: float | None = None,
    ) -> Future[Path]:
        """As :meth:`close`, but does not wait for the disk: the file is whole, and has its name, once this is done."""
        if self._ended is None:
            ended = ending(outcome, termination, reward)
            judged = {"outcome": outcome, "termination": termination, **ending_facts(ended)}
            self._mcap.metadata("outcome", {**(facts or {}), **judged})
            self._mcap.finish()
            self._await_disk()
            self._ended = _DISK.submit(self._named)
        return self._ended

    def _named(self) -> Path:
        os.fsync(self._file.fileno())
        self.part.rename(self.path)
        self._file.close()
        sync_folder(self.path.parent)
        return self.path

    def abandon(self) -> None:
        """Close the file as it is, for recovery to finish: after a write has failed."""
        with contextlib.suppress(OSError):
            if self._ended is not None:
                self._ended.result()
            self._await_disk()  # else it might sync whatever file is opened next
        with contextlib.suppress(OSError):  # what is still buffered does not fit either
            self._file.close()

    def _begin(self, header: Header, model: bytes | None) -> None:
        started_ns = time.monotonic_ns()
        facts = {
            "version": FORMAT_VERSION,
            "robot": header.robot.name,
            "robot_sha256": robot_hash(header.robot),
            "joints": json.dumps(header.robot.follower.names),
            "cameras": json.dumps(tuple(header.robot.cameras)),
            "rate_hz": repr(header.robot.control.rate_hz),
            "started_ns": str(started_ns),
            "started_utc": datetime.now(UTC).isoformat(),
            "carried": json.dumps(Counter(message.topic for message in header.carried)),
        }
        self._mcap.metadata("episode", facts)
        self._mcap.metadata("labels", dict(header.labels))
        self._attach(ROBOT_FILE, header.robot.model_dump_json(indent=2))
        if header.calibration is not None:
            self._attach(CALIBRATION_FILE, header.calibration.model_dump_json(indent=2))
        if header.bundle is not None:
            self._attach(BUNDLE_FILE, header.bundle.model_dump_json(indent=2))
        if model is not None:
            self._attach(MODEL_FILE, model, "application/xml")
        for topic, message in ((TICKS, Tick), (CHUNKS, Chunk), (EVENTS, Event)):
            self._channel(topic, message)
        for camera in header.robot.cameras:
            self._channel(CAMERA_PREFIX + camera, CompressedImage)
        self._mcap.flush()

    def _attach(self, name: str, content: str | bytes, kind: str = "application/json") -> None:
        data = content.encode() if isinstance(content, str) else content
        self._mcap.attachment(time.monotonic_ns(), name, kind, data)

    def _channel(self, topic: str, message: type[Message]) -> None:
        self._channels[topic] = self._mcap.channel(topic, message.DESCRIPTOR.full_name, _descriptors(message))

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if isinstance(error, OSError):
            self.abandon()
        elif error is not None:
            self.close(Outcome.ABORTED, Termination.ERROR)
        else:
            self.close()


def _model_of(robot: Robot) -> bytes | None:
    try:
        return None if robot.model is None else robot.model.read_bytes()
    except OSError as error:
        raise CadenzaError(f"{robot.model}: cannot read the arm's model: {error.strerror}") from None


def sync_folder(folder: Path) -> None:
    """Make a rename in ``folder`` survive a power cut."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _descriptors(message: type[Message]) -> bytes:
    """The message's schema with everything it imports, as MCAP wants it for protobuf."""
    files = FileDescriptorSet()
    seen: set[str] = set()

    def add(file: Any) -> None:
        if file.name in seen:
            return
        seen.add(file.name)
        for dependency in file.dependencies:
            add(dependency)
        file.CopyToProto(files.file.add())

    add(message.DESCRIPTOR.file)
    return files.SerializeToString()

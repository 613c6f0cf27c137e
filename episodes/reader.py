"""Reading episodes into arrays."""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from google.protobuf.message import DecodeError
from mcap.records import Attachment, Channel, Message, Metadata

from episodes.layout import decode_ticks
from episodes.messages import CAMERA_PREFIX, CHUNKS, EVENTS, TICKS
from episodes.outcome import Ending, Outcome, Termination, ending, reward_of
from episodes.scan import Scan, open_episode
from episodes.schema.cadenza_pb2 import Chunk as ChunkMessage
from episodes.schema.cadenza_pb2 import Event as EventMessage
from episodes.schema.foxglove_pb2 import CompressedImage
from episodes.writer import BUNDLE_FILE, FORMAT_VERSION, ROBOT_FILE
from spec.arrays import Float, Int
from spec.errors import CadenzaError
from spec.manifest import Manifest
from spec.robot import Robot
from spec.robotfile import validated


@dataclass(frozen=True, slots=True, eq=False)
class Frames:
    """Pictures of one camera, in order of capture."""

    captured_ns: Int
    """CLOCK_MONOTONIC [ns], shape (frames,), rising."""
    sequence: Int
    """Shape (frames,)."""
    jpeg: list[bytes]
    """Empty where the pictures were not asked for."""

    def __len__(self) -> int:
        return len(self.captured_ns)


@dataclass(frozen=True, slots=True, eq=False)
class LoggedChunk:
    """One action chunk and the observation it came from. See :class:`episodes.records.ChunkRecord`."""

    sequence: int
    observed_ns: int
    step_ns: int
    started_ns: int
    finished_ns: int
    weights: int
    tick: int
    frames: tuple[int, ...]
    """Sequence of the newest frame of each camera, in manifest order."""
    targets: Float
    """[rad], shape (chunk, joints)."""


@dataclass(frozen=True, slots=True)
class LoggedEvent:
    time_ns: int
    source: str
    kind: str
    text: str


@dataclass(frozen=True, slots=True, eq=False)
class Episode:
    """One episode in memory."""

    path: Path
    joints: tuple[str, ...]
    ticks: npt.NDArray[Any]
    """Structured array, one entry a tick, fields of :class:`episodes.records.TickRecord`; lists (ticks, joints)."""
    frames: Mapping[str, Frames]
    """By camera name; every camera of the robot file is there."""
    chunks: tuple[LoggedChunk, ...]
    events: tuple[LoggedEvent, ...]
    facts: Mapping[str, str]
    """Known at the start: robot, robot_sha256, rate_hz, started_ns, started_utc."""
    labels: Mapping[str, str]
    result: Mapping[str, str]
    """Known at the end; empty in an unfinished file."""
    attachments: Mapping[str, bytes]
    damage: str
    """Empty in a whole file, else why reading stopped."""

    @property
    def outcome(self) -> Outcome:
        return Outcome(self.result.get("outcome", Outcome.UNLABELLED))

    @property
    def termination(self) -> Termination | None:
        return Termination(self.result["termination"]) if "termination" in self.result else None

    @property
    def ending(self) -> Ending:
        """What the last step is to a learner."""
        return ending(self.outcome, self.termination, reward_of(self.result))

    @property
    def rewards(self) -> tuple[tuple[int, float], ...]:
        """Rewards given at instants of their own: (CLOCK_MONOTONIC [ns], reward), beside the one of the last step.

        Raises:
            CadenzaError: one of them is not a number.
        """
        try:
            return tuple((event.time_ns, float(event.text)) for event in self.events if event.kind == "reward")
        except ValueError as error:
            raise CadenzaError(f"{self.path}: a reward event: {error}") from None

    @property
    def carried(self) -> Mapping[str, int]:
        """How many messages of each topic are from before the beginning; they come first. See
        :class:`episodes.messages.Carried`."""
        counts: dict[str, int] = json.loads(self.facts.get("carried", "{}"))
        return counts

    @property
    def duration_s(self) -> float:
        """From the first tick to the last [s]."""
        times = self.ticks["now_ns"]
        return float(times[-1] - times[0]) * 1e-9 if len(times) else 0.0

    def robot(self) -> Robot:
        """The robot file it was recorded with, ports and camera addresses included."""
        return validated(Robot, self._json(ROBOT_FILE), f"{self.path}: {ROBOT_FILE}")

    def bundle(self) -> Manifest | None:
        """Manifest of the bundle that drove; None where none did."""
        if BUNDLE_FILE not in self.attachments:
            return None
        return validated(Manifest, self._json(BUNDLE_FILE), f"{self.path}: {BUNDLE_FILE}")

    def _json(self, name: str) -> Any:
        try:
            return json.loads(self.attachments[name])
        except (KeyError, ValueError):
            raise CadenzaError(f"{self.path}: {name}: missing or not readable") from None


@dataclass(slots=True)
class _Gathered:
    topics: dict[int, str] = field(default_factory=dict)
    messages: dict[str, list[Message]] = field(default_factory=dict)
    metadata: dict[str, dict[str, str]] = field(default_factory=dict)
    attachments: dict[str, bytes] = field(default_factory=dict)


def read_episode(path: Path, cameras: Collection[str] | None = None) -> Episode:
    """Read one episode, closed or unfinished.

    Args:
        path: ``*.mcap`` or ``*.mcap.part``.
        cameras: cameras whose pictures to keep; None for all, ``()`` for none. Their times are always read.

    Raises:
        CadenzaError: not an episode, or of another version.
    """
    scan = Scan(open_episode(path))
    gathered = _gather(scan)
    facts = gathered.metadata.get("episode", {})
    if facts.get("version") != FORMAT_VERSION:
        found = facts.get("version", "none")
        raise CadenzaError(f"{path}: episode format {found}, this program reads {FORMAT_VERSION}")
    try:
        joints = tuple(json.loads(facts["joints"]))
        return Episode(
            path=path,
            joints=joints,
            ticks=decode_ticks([message.data for message in gathered.messages.get(TICKS, [])], len(joints)),
            frames={
                name: _frames(gathered.messages.get(CAMERA_PREFIX + name, []), cameras is None or name in cameras)
                for name in json.loads(facts["cameras"])
            },
            chunks=tuple(_chunk(message.data) for message in gathered.messages.get(CHUNKS, [])),
            events=tuple(_event(message.data) for message in gathered.messages.get(EVENTS, [])),
            facts=facts,
            labels=gathered.metadata.get("labels", {}),
            result=gathered.metadata.get("outcome", {}),
            attachments=gathered.attachments,
            damage="" if scan.whole else scan.damage,
        )
    except (KeyError, ValueError, TypeError, DecodeError) as error:
        raise CadenzaError(f"{path}: not a sound episode: {type(error).__name__}: {error}") from None


def _gather(scan: Scan) -> _Gathered:
    gathered = _Gathered()
    for record in scan:
        match record:
            case Channel():
                gathered.topics[record.id] = record.topic
            case Message():
                gathered.messages.setdefault(gathered.topics.get(record.channel_id, ""), []).append(record)
            case Metadata():
                gathered.metadata[record.name] = dict(record.metadata)
            case Attachment():
                gathered.attachments[record.name] = record.data
            case _:
                pass
    return gathered


def _frames(messages: list[Message], keep: bool) -> Frames:
    captured = np.empty(len(messages), dtype=np.int64)
    sequence = np.array([message.sequence for message in messages], dtype=np.int64)
    pictures: list[bytes] = []
    for index, message in enumerate(messages):
        image = CompressedImage.FromString(message.data)
        captured[index] = image.timestamp.seconds * 1_000_000_000 + image.timestamp.nanos
        if keep:
            pictures.append(image.data)
    return Frames(captured, sequence, pictures)


def _chunk(message: bytes) -> LoggedChunk:
    chunk = ChunkMessage.FromString(message)
    targets = np.array(chunk.targets).reshape(chunk.length, chunk.joints)
    return LoggedChunk(
        sequence=chunk.sequence,
        observed_ns=chunk.observed_ns,
        step_ns=chunk.step_ns,
        started_ns=chunk.started_ns,
        finished_ns=chunk.finished_ns,
        weights=chunk.weights,
        tick=chunk.tick,
        frames=tuple(chunk.frames),
        targets=targets,
    )


def _event(message: bytes) -> LoggedEvent:
    event = EventMessage.FromString(message)
    return LoggedEvent(event.time_ns, event.source, event.kind, event.text)

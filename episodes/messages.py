"""Messages of the log: records of shared memory, pictures and events as the bytes that stand in an episode.

Made once, a message can be written now, kept in memory for later, or both.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable
from typing import Any, NamedTuple

from episodes.layout import encode_ticks, records_of, varint
from episodes.records import MAX_CHUNK, ChunkRecord
from episodes.schema.cadenza_pb2 import Chunk, Event
from episodes.schema.foxglove_pb2 import CompressedImage

TICKS, CHUNKS, EVENTS = "/ticks", "/chunks", "/events"
CAMERA_PREFIX = "/camera/"
_DATA_KEY = varint(CompressedImage.DATA_FIELD_NUMBER << 3 | 2)
_CHUNK_SCALARS = tuple(field.name for field in Chunk.DESCRIPTOR.fields if field.name not in {"frames", "targets"})
CARRIED_CHUNKS = MAX_CHUNK
"""Action chunks from before its beginning that an episode carries: more are never alive at once, and in mode open_loop
the one in use is at most so many older than the newest, a new one coming with every action."""
_OVERHEAD = 120
"""Bytes that a message takes beside its own, in memory and about half of it in the file."""


class LogMessage(NamedTuple):
    """One message of the log."""

    topic: str
    time_ns: int
    """CLOCK_MONOTONIC [ns]: when it was true, not when it was written."""
    data: bytes
    sequence: int = 0


class Carried:
    """What an episode carries from before its beginning, so that its first ticks can be understood: the last action
    chunks, some of which may be alive, and the newest picture of each camera."""

    def __init__(self, messages: Iterable[LogMessage] = ()) -> None:
        self._chunks: deque[LogMessage] = deque(maxlen=CARRIED_CHUNKS)
        self._frames: dict[str, LogMessage] = {}
        self.see(messages)

    def see(self, messages: Iterable[LogMessage]) -> None:
        """Messages in the order in which they came."""
        for message in messages:
            if message.topic == CHUNKS:
                self._chunks.append(message)
            elif message.topic.startswith(CAMERA_PREFIX):
                self._frames[message.topic] = message

    def messages(self) -> tuple[LogMessage, ...]:
        """To be written before anything else."""
        return (*self._chunks, *self._frames.values())


def size_of(messages: Iterable[LogMessage]) -> int:
    """About how many bytes they take."""
    return sum(len(message.data) + _OVERHEAD for message in messages)


def tick_messages(records: Any) -> list[LogMessage]:
    """The bytes of one or more :class:`TickRecord`, or one such structure, as messages."""
    batch = records_of(records)
    times, numbers = batch["now_ns"].tolist(), (batch["tick"] & 0xFFFFFFFF).tolist()
    return [LogMessage(TICKS, *fields) for fields in zip(times, encode_ticks(batch), numbers, strict=True)]


def chunk_message(record: ChunkRecord) -> LogMessage:
    """One action chunk."""
    message = Chunk(
        **{name: getattr(record, name) for name in _CHUNK_SCALARS},
        frames=record.frames[: record.cameras],
        targets=record.targets[: record.length * record.joints],
    )
    return LogMessage(CHUNKS, record.finished_ns, message.SerializeToString(), record.sequence & 0xFFFFFFFF)


def frame_message(camera: str, jpeg: bytes | memoryview, captured_ns: int, sequence: int) -> LogMessage:
    """One picture, as JPEG bytes. ``captured_ns`` is CLOCK_MONOTONIC [ns]."""
    image = CompressedImage(format="jpeg", frame_id=camera)
    image.timestamp.seconds, image.timestamp.nanos = divmod(captured_ns, 1_000_000_000)
    # The picture goes in by hand: protobuf would copy it twice more.
    data = b"".join((image.SerializeToString(), _DATA_KEY, varint(len(jpeg)), jpeg))
    return LogMessage(CAMERA_PREFIX + camera, captured_ns, data, sequence & 0xFFFFFFFF)


def event_message(time_ns: int, source: str, kind: str, text: str) -> LogMessage:
    """One event: an order, a restart, a drop, a label, a reward, a state."""
    event = Event(time_ns=time_ns, source=source, kind=kind, text=text)
    return LogMessage(EVENTS, time_ns, event.SerializeToString())

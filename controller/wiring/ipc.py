"""Publishing and receiving over iceoryx2: lock-free shared memory that survives a killed peer.

Each run has a namespace of its own, so that runs beside one another, and tests, never meet.
"""

from __future__ import annotations

import contextlib
import ctypes
import math
import os
import shutil
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from types import TracebackType
from typing import Any, Generic, Self, TypeVar

import iceoryx2 as iox2

from controller.wiring.room import LINK_BYTES, SHARED_MEMORY, need, power_of_two, publisher_bytes, set_aside
from controller.wiring.topics import Topic
from spec.errors import DeviceError

_Record = TypeVar("_Record", bound=ctypes.Structure)
_ROOT = Path(f"/tmp/cadenza-ipc-{os.getuid()}")  # noqa: S108 (iceoryx2 needs a folder that all processes of a run know)
_PREFIX = "cadenza_"
_AGAIN_S = 1.0
"""After growing failed it is tried again at most this often [s]: a try looks at every segment of the run."""


def new_namespace() -> str:
    """A name no other run has; it tells which process made it, so that leftovers can be told from the living."""
    return f"{os.getpid()}_{os.urandom(4).hex()}"


def sweep() -> int:
    """Remove what runs of processes that no longer exist left in shared memory. Returns how many namespaces."""
    namespaces = {path.name for path in _ROOT.glob("*_*")}
    namespaces |= {"_".join(p.name.removeprefix(_PREFIX).split("_")[:2]) for p in SHARED_MEMORY.glob(f"{_PREFIX}*")}
    dead = [name for name in namespaces if not _alive(name)]
    for name in dead:
        remove_namespace(name)
    return len(dead)


def _alive(namespace: str) -> bool:
    pid = namespace.partition("_")[0]
    return not pid.isdigit() or Path(f"/proc/{pid}").exists()


def remove_namespace(namespace: str) -> None:
    """Free the shared memory of a run whose processes have all ended."""
    shutil.rmtree(_ROOT / namespace, ignore_errors=True)
    for path in SHARED_MEMORY.glob(f"{_PREFIX}{namespace}_*"):
        with contextlib.suppress(FileNotFoundError, PermissionError):  # another user's is for that user to remove
            path.unlink()


class Node:
    """One process's place in a run's namespace; makes publishers and subscribers. Close it last.

    Making one frees what killed processes of the run held, so that their successors find room.

    Args:
        namespace: from :func:`new_namespace`, the same for all processes of a run.
        table: the topics.
        name: of the process, for diagnosis.

    Raises:
        NoRoomError: shared memory is full. Likewise from whatever it makes.
        DeviceError: shared memory cannot be had.
    """

    def __init__(self, namespace: str, table: dict[str, Topic], name: str) -> None:
        iox2.set_log_level(iox2.LogLevel.Fatal)
        self._table, self._prefix = table, f"{_PREFIX}{namespace}_"
        need(LINK_BYTES, f"process {name}")
        config = iox2.config.default()
        config.global_cfg.prefix = iox2.FileName.new(self._prefix)
        config.global_cfg.root_path = iox2.Path.new(f"{_ROOT / namespace}/")
        try:
            (_ROOT / namespace).mkdir(parents=True, exist_ok=True)
            self._node: Any = (
                iox2.NodeBuilder.new()
                .name(iox2.NodeName.new(name))
                .config(config)
                .signal_handling_mode(iox2.SignalHandlingMode.Disabled)  # signals are ours
                .create(iox2.ServiceType.Ipc)
            )
        except (OSError, _errors("NodeCreationFailure")) as error:
            raise DeviceError(f"shared memory of run {namespace}: {error}; is /dev/shm full or not writable?") from None
        self._ports: list[Any] = []

    def _service(self, topic: Topic) -> Any:
        payload = topic.payload if topic.payload is not None else iox2.Slice[ctypes.c_uint8]
        try:
            return (
                self._node.service_builder(iox2.ServiceName.new(topic.name))
                .publish_subscribe(payload)
                .enable_safe_overflow(True)
                .subscriber_max_buffer_size(topic.depth)
                .max_publishers(topic.publishers)
                .max_subscribers(topic.subscribers)
                .max_nodes(32)
                .open_or_create()
            )
        except _errors("PublishSubscribeOpenOrCreateError") as error:
            raise DeviceError(f"topic {topic.name}: cannot be opened: {error}") from None

    def publisher(self, topic: str) -> Publisher:
        """A sender of one topic."""
        row = self._table[topic]
        another, back = partial(self._sender, row), lambda: set_aside(self._prefix)
        return self._kept(Publisher(row, self._sender(row), another, back))

    def _sender(self, row: Topic, length: int = 0) -> Any:
        """A port with its room; ``length``: of byte strings beyond which it grows, where it may grow."""
        need(publisher_bytes(row, length), f"topic {row.name}")
        builder = self._service(row).publisher_builder()
        if row.payload is None:
            builder = builder.initial_max_slice_len(length or row.first_bytes)
        if length:
            builder = builder.allocation_strategy(iox2.AllocationStrategy.PowerOfTwo)
        try:
            port = builder.create()
        except _errors("PublisherCreateError") as error:
            raise DeviceError(f"topic {row.name}: no room for one more sender: {error}") from None
        set_aside(self._prefix)
        return port

    def subscriber(self, topic: str, record: type[_Record], depth: int | None = None) -> Subscriber[_Record]:
        """A receiver of one topic of fixed-size records. ``depth``: how many may wait, the topic's depth by default."""
        row = self._table[topic]
        if row.payload is not record:
            raise TypeError(f"topic {topic} carries {row.payload}, not {record}")
        return self._kept(Subscriber(self._receiver(row, depth), record))

    def bytes_subscriber(self, topic: str, depth: int | None = None) -> BytesSubscriber:
        """A receiver of one topic of byte strings."""
        return self._kept(BytesSubscriber(self._receiver(self._table[topic], depth)))

    def _receiver(self, row: Topic, depth: int | None) -> Any:
        need(LINK_BYTES, f"topic {row.name}")
        try:
            port = self._service(row).subscriber_builder().buffer_size(depth or row.depth).create()
        except _errors("SubscriberCreateError") as error:
            raise DeviceError(f"topic {row.name}: no room for one more receiver: {error}") from None
        set_aside(self._prefix)
        return port

    def _kept(self, port: _Port) -> _Port:
        self._ports.append(port)
        return port

    def close(self) -> None:
        """Give back every port, then the node."""
        for port in self._ports:
            port.close()
        self._ports.clear()
        self._node = None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


class Publisher:
    """Sends records or bytes. Never blocks, never raises for want of room: it returns False.

    Byte strings longer than the topic's first room go, with all that follow them, through a second port, which grows.
    The first one never does: whatever becomes of growing, what is short has its room.

    Args:
        topic: its row.
        port: with the topic's first room.
        another: makes a port that grows, with room for byte strings of a length.
        back: has all that was made filled with real memory; raises DeviceError.
    """

    def __init__(self, topic: Topic, port: Any, another: Callable[[int], Any], back: Callable[[], None]) -> None:
        self._topic, self._port, self._another, self._back = topic, port, another, back
        self._long: Any = None
        """The port that grows, once one was needed."""
        self._longest = 0
        """Byte strings up to this length have their room in it."""
        self._sparse = False
        """It grew, and there was no memory to back that: the next write there might be the last thing it does."""
        self._again_s = -math.inf
        """When growing may be tried again [s]."""

    def send(self, record: ctypes.Structure) -> bool:
        """Send a copy of a fixed-size record."""
        try:
            self._port.send_copy(record)
        except (_errors("LoanError"), _errors("SendError")):
            return False
        return True

    def send_bytes(self, *parts: bytes | bytearray | memoryview | ctypes.Structure) -> bool:
        """Send the parts as one byte string."""
        views = [memoryview(part).cast("B") for part in parts]
        length = sum(map(len, views))
        try:
            sample = self._loaned(length)
            if sample is None:
                return False
            target = sample.payload().as_memory_view().cast("B")
            start = 0
            for view in views:
                target[start : start + len(view)] = view
                start += len(view)
            sample.assume_init().send()
        except (_errors("LoanError"), _errors("SendError")):
            return False
        return True

    def _loaned(self, length: int) -> Any:
        """A sample; None where there is no room for it."""
        if self._long is None or self._sparse:
            if length <= self._topic.first_bytes:
                return self._port.loan_slice_uninit(length)
        elif length <= self._longest:
            return self._long.loan_slice_uninit(length)
        return self._long.loan_slice_uninit(length) if self._grown(length) else None

    def _grown(self, length: int) -> bool:
        """Make room for byte strings so long from now on, which takes milliseconds; whether there is."""
        now_s = time.monotonic()
        if now_s < self._again_s:
            return False
        length = max(self._longest, power_of_two(length))
        try:
            need(publisher_bytes(self._topic, length), f"topic {self._topic.name}")
            self._again_s = now_s + _AGAIN_S
            if self._long is None:
                self._long = self._another(length)
            else:
                if self._sparse:
                    self._back()
                self._sparse = True
                self._long.loan_slice_uninit(length)  # which makes another segment, and is given back
                self._back()
        except (DeviceError, _errors("LoanError")):
            return False
        self._sparse, self._longest, self._again_s = False, length, -math.inf
        return True

    def close(self) -> None:
        self._port = self._long = None


def _received(port: Any) -> Any:
    """The oldest waiting sample. One that cannot be had, for want of memory or file handles to map it, is none."""
    try:
        return port.receive()
    except _errors("ReceiveError"):
        return None


class Subscriber(Generic[_Record]):
    """Receives fixed-size records. Never blocks."""

    def __init__(self, port: Any, record: type[_Record]) -> None:
        self._port, self._record = port, record

    def receive(self) -> _Record | None:
        """A copy of the oldest waiting record."""
        sample = _received(self._port)
        return None if sample is None else self._record.from_buffer_copy(sample.payload().contents)

    def drain_bytes(self, most: int = 1 << 30) -> bytes:
        """The bytes of all waiting records, oldest first; a quarter of the work of :meth:`drain`."""
        out: list[bytes] = []
        size = ctypes.sizeof(self._record)
        while len(out) < most and (sample := _received(self._port)) is not None:
            out.append(ctypes.string_at(sample.payload_ptr, size))
        return b"".join(out)

    def drain(self, most: int = 1 << 30) -> list[_Record]:
        """Copies of all waiting records, oldest first."""
        out: list[_Record] = []
        while len(out) < most and (record := self.receive()) is not None:
            out.append(record)
        return out

    def close(self) -> None:
        self._port = None


class BytesSubscriber:
    """Receives byte strings. Never blocks."""

    def __init__(self, port: Any) -> None:
        self._port = port

    def receive(self) -> bytes | None:
        """A copy of the oldest waiting byte string."""
        sample = _received(self._port)
        return None if sample is None else bytes(sample.payload().as_memory_view())

    def newest(self) -> bytes | None:
        """The newest waiting byte string; those before it are let go."""
        newest = None
        while (sample := _received(self._port)) is not None:
            newest = sample
        return None if newest is None else bytes(newest.payload().as_memory_view())

    def close(self) -> None:
        self._port = None


_Port = TypeVar("_Port", Publisher, BytesSubscriber, Subscriber[Any])


def _errors(name: str) -> type[Exception]:
    """iceoryx2's exception classes have no common root and no type stubs."""
    kind: type[Exception] = getattr(iox2, name)
    return kind

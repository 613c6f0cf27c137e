"""A learner's server on a real socket, in a thread of the test; and episodes of plain bytes for where content is not
what is tried."""

from __future__ import annotations

import contextlib
import hashlib
import io
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from learning.fleet.client import Link, Parcel
from learning.fleet.inbox import Inbox, Limits, Offer
from learning.fleet.listening import bound_socket, server
from learning.fleet.server import Conduct, fleet_app

SHARED = "a-token-of-the-tests"
MUCH = Limits(keep_free=0)


def anything_goes(_path: Path) -> str:
    """Takes every file for an episode."""
    return ""


def content_of(size: int, seed: int = 0) -> bytes:
    """Bytes that tell where they stand."""
    block = b"".join(hashlib.sha256(b"%d %d" % (seed, k)).digest() for k in range(min(size, 4096) // 32 + 1))
    return (block * (size // len(block) + 1))[:size]


def offer(content: bytes, robot: str = "arm", episode: str = "one") -> Offer:
    return Offer(robot, episode, hashlib.sha256(content).hexdigest(), len(content))


def parcel(content: bytes, robot: str = "arm", episode: str = "one") -> Parcel:
    return Parcel(robot, episode, hashlib.sha256(content).hexdigest(), len(content))


def reader(content: bytes) -> Any:
    return io.BufferedReader(io.BytesIO(content))  # type: ignore[arg-type]


@dataclass
class Running:
    url: str
    port: int
    inbox: Inbox
    events: list[dict[str, Any]]

    def link(self, token: str = SHARED, **options: Any) -> Link:
        return Link(self.url, lambda: token, **options)

    def arrived(self, robot: str = "arm", episode: str = "one") -> bytes | None:
        path = self.inbox.episodes / robot / f"{episode}.mcap"
        return path.read_bytes() if path.exists() else None


@contextlib.contextmanager
def running(
    inbox: Inbox, shelf: Path | None = None, conduct: Conduct | None = None, tls: tuple[Path, Path] | None = None
) -> Iterator[Running]:
    events: list[dict[str, Any]] = []
    listening = bound_socket("127.0.0.1", 0)
    port = listening.getsockname()[1]
    serving = server(fleet_app(inbox, shelf, SHARED, conduct, events.append), tls)
    thread = threading.Thread(target=serving.run, kwargs={"sockets": [listening]})
    thread.start()
    try:
        yield Running(f"{'http' if tls is None else 'https'}://127.0.0.1:{port}", port, inbox, events)
    finally:
        serving.should_exit = True
        thread.join()
        inbox.close()

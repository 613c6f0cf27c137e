"""Both ends of the link between robots and learner, from the bytes of a connection on; no socket is opened.

The server is the real protocol class on a transport of ours; the client is the real one, on a connection that says what
a hostile server would.
"""

from __future__ import annotations

import asyncio
import hashlib
import io
import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import httpcore
from uvicorn.server import ServerState

from cadenza.fuzzing.dice import Dice
from cadenza.fuzzing.documents import Rewriter
from cadenza.fuzzing.mutation import Mutator
from cadenza.fuzzing.parsers.files import scratch
from cadenza.fuzzing.target import BrokenError, Layer, check
from export.shelf import bundle_name, parse_newest
from learning.fleet.client import Link, Parcel
from learning.fleet.inbox import EPISODES, Inbox, Limits
from learning.fleet.listening import PatientProtocol, server
from learning.fleet.server import Conduct, fleet_app

_TOKEN = "a-token-of-the-fuzzer"  # noqa: S105 (a secret of nobody)
_CONTENT = b"an episode that nobody reads"
_DIGEST = hashlib.sha256(_CONTENT).hexdigest()
_BUNDLE = bundle_name(1)
_WORDS = (
    b"\r\n",
    b"\r\n\r\n",
    b"Content-Length: 5\r\n",
    b"Content-Length: -1\r\n",
    b"Transfer-Encoding: chunked\r\n\r\n5\r\nabcde\r\n0\r\n\r\n",
    b"Expect: 100-continue\r\n",
    b"Range: bytes=0-",
    b"Range: bytes=5-2,-1\r\n",
    b"If-None-Match: *\r\n",
    b"Connection: upgrade\r\n",
    b"HTTP/1.0",
    b"%00",
    b"%2e%2e%2f",
    b"/../",
    b"?",
    b"&",
    b"#",
    b"\xff\xfe",
    b"\x00",
)


def _request(method: str, path: str, body: bytes = b"", headers: str = "") -> bytes:
    head = f"{method} {path} HTTP/1.1\r\nHost: a\r\nAuthorization: Bearer {_TOKEN}\r\n{headers}"
    return (head + (f"Content-Length: {len(body)}\r\n\r\n" if body else "\r\n")).encode() + body


def _requests() -> list[bytes]:
    episode = f"/v1/robots/arm/episodes/one?sha256={_DIGEST}&size={len(_CONTENT)}"
    return [
        _request("GET", "/v1/status"),
        _request("GET", episode),
        _request("PATCH", f"{episode}&offset=0", _CONTENT),
        _request("PATCH", f"{episode}&offset=0", _CONTENT[:10])
        + _request("PATCH", f"{episode}&offset=10", _CONTENT[10:]),
        _request("GET", "/v1/weights?wait=0", headers='If-None-Match: "none"\r\n'),
        _request("GET", f"/v1/weights/{_BUNDLE}/decoder.onnx", headers="Range: bytes=3-\r\n"),
        _request("GET", f"/v1/weights/{_BUNDLE}/bundle.json"),
    ]


class _Transport(asyncio.Transport):
    """Takes the server's answers."""

    def __init__(self) -> None:
        super().__init__({"peername": ("127.0.0.1", 1), "sockname": ("127.0.0.1", 2)})
        self.answers = b""
        self._closing = False

    def write(self, data: Any) -> None:
        self.answers += bytes(data)

    def close(self) -> None:
        self._closing = True

    abort = close

    def is_closing(self) -> bool:
        return self._closing

    def pause_reading(self) -> None:
        return

    resume_reading = pause_reading

    def set_protocol(self, protocol: asyncio.BaseProtocol) -> None:
        raise NotImplementedError  # no upgrade is ever granted


@contextmanager
def http_server() -> Iterator[list[Layer]]:
    """No request may fail for another reason than its own, or leave anything outside of the inbox."""
    with scratch() as folder:
        shelf = folder / "shelf" / _BUNDLE
        shelf.mkdir(parents=True)
        for name in ("decoder.onnx", "bundle.json"):
            (shelf / name).write_bytes(b"0123456789")
        inbox = Inbox(folder / "inbox", Limits(keep_free=0, total=1 << 24), lambda _path: "")
        failures: list[str] = []

        def report(event: dict[str, Any]) -> None:
            if event["event"] == "failed":
                failures.append(str(event["why"]))

        conduct = Conduct(patience_s=0.5, longest_wait_s=0.0)
        config = server(fleet_app(inbox, shelf.parent, _TOKEN, conduct, report)).config
        config.load()
        loop = asyncio.new_event_loop()

        def feed(data: bytes) -> None:
            loop.run_until_complete(_served(config, data))
            if failures:
                raise BrokenError(f"the server failed: {failures.pop()}")
            for path in (folder / "inbox" / EPISODES).rglob("*"):
                check(path.parent.parent.parent == folder / "inbox" or path.is_dir(), f"{path} is out of place")
                if path.is_file():
                    path.unlink()  # as a learner that has taken it in

        try:
            yield [Layer("requests", 1, Mutator(_requests(), _WORDS).case, feed)]
        finally:
            loop.run_until_complete(loop.shutdown_default_executor())
            loop.close()
            inbox.close()


async def _served(config: Any, data: bytes) -> None:
    """One connection, from its first byte until everything it asked for is done."""
    state = ServerState()
    protocol = PatientProtocol(config, state, {})
    transport = _Transport()
    protocol.connection_made(transport)
    if data:  # no event loop ever says that nothing came
        protocol.data_received(data)
    for _ in range(2000):
        waiting = not protocol.cycle or protocol.cycle.more_body or protocol.cycle.response_complete
        if not state.tasks or waiting:
            break
        await asyncio.sleep(0)
    protocol.connection_lost(None)
    while state.tasks:
        await asyncio.wait(state.tasks)


@contextmanager
def http_client() -> Iterator[list[Layer]]:
    """Whatever a server says, a robot goes on with an error of ours, and nothing larger than allowed."""
    with scratch() as folder:
        parcel = Parcel("arm", "one", _DIGEST, len(_CONTENT))
        newest = json.dumps({"weights": 1, "bundle": _BUNDLE, "sha256": "0" * 64, "rollback": False}).encode()
        documents = [{"server": "a"}, {"whole": False, "offset": 10}, {"message": "no"}, json.loads(newest)]
        answers = [_answer(200, json.dumps(document).encode()) for document in documents]
        answers += [_answer(status, b'{"message": "no", "reason": "x"}') for status in (401, 409, 412, 416, 500)]
        answers += [_answer(206, b"3456789", "Content-Range: bytes 3-9/10\r\n"), _answer(304, b""), _answer(204, b"")]
        words = (*_WORDS, b"HTTP/1.1 100 Continue\r\n\r\n", b"Content-Encoding: gzip\r\n", b"Location: /x\r\n", b"302")
        target = folder / "decoder.onnx"
        rewriter = Rewriter(documents)

        def take_newest(link: Link) -> None:
            offered = link.newest('"x"', 0)
            if offered is not None:
                parse_newest(offered[0], "newest.json")

        def fetch(link: Link) -> None:
            target.write_bytes(b"012")
            link.fetch(_BUNDLE, "decoder.onnx", target, 100)
            check(target.stat().st_size <= 100, "more was kept than allowed")

        asked: list[Callable[[Link], object]] = [
            Link.identity,
            lambda link: link.standing(parcel),
            lambda link: link.send(parcel, io.BytesIO(_CONTENT), 0, lambda _size: None),
            take_newest,
            fetch,
        ]
        link = Link("http://learner:1", lambda: _TOKEN)

        def feed(data: bytes) -> None:
            """The first byte says what is asked."""
            _connect(link, data[1:])
            asked[(data[0] if data else 0) % len(asked)](link)

        def about(make: Callable[[Dice], bytes]) -> Callable[[Dice], bytes]:
            return lambda dice: bytes((dice.below(len(asked)),)) + make(dice)

        try:
            yield [
                Layer("answers", 3, about(Mutator(answers, words).case), feed),
                Layer("documents", 1, about(lambda dice: _answer(200, rewriter.case(dice))), feed),
            ]
        finally:
            link.close()


def _connect(link: Link, said: bytes) -> None:
    """Have the client find a server that says this, whatever it is asked."""
    backend = httpcore.MockBackend([said[at : at + 700] for at in range(0, len(said), 700)])
    link._client._transport._pool = httpcore.ConnectionPool(network_backend=backend)  # type: ignore[attr-defined]


def _answer(status: int, body: bytes, headers: str = "") -> bytes:
    return f'HTTP/1.1 {status} X\r\nContent-Length: {len(body)}\r\nETag: "a"\r\n{headers}\r\n'.encode() + body

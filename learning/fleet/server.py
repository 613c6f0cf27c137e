"""The HTTP side of the learner: robots bring episodes and fetch bundles.

======  ======================================  =====================================================================
GET     /v1/status                              the inbox in figures
GET     /v1/robots/R/episodes/E?sha256&size     how much of an episode is here: ``{"whole": false, "offset": 4096}``
PATCH   /v1/robots/R/episodes/E?...&offset      its bytes from there on; once all are here it is verified and taken
GET     /v1/weights?wait                        ``newest.json``; 304 while it is what If-None-Match says, 204 if none
GET     /v1/weights/B/F                         a file of a bundle; Range goes on with one
======  ======================================  =====================================================================

Every request carries the token. An upload that breaks off anywhere leaves what came; the next one goes on from there.
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
from collections.abc import AsyncIterator, Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from starlette.applications import Starlette
from starlette.requests import ClientDisconnect, Request
from starlette.responses import FileResponse, JSONResponse, Response
from starlette.routing import Route
from starlette.types import ASGIApp, Receive, Scope, Send

from learning.fleet.inbox import Inbox, Offer, Reason, RefusedError, Standing
from learning.fleet.names import is_name
from learning.fleet.token import same_token

_STATUS = {
    Reason.MALFORMED: 400,
    Reason.TOO_LARGE: 413,
    Reason.OTHER_CONTENT: 409,
    Reason.OTHER_OFFSET: 416,
    Reason.ALTERED: 412,
    Reason.UNSOUND: 422,
    Reason.NO_ROOM: 507,
}
_BLOCK = 1 << 18
"""Bytes that go to the disk together, and that must come within ``patience_s``: a slower robot gives up its place."""
_LOOK_S = 0.25
"""How often a waiting robot's server looks whether there is a newer bundle [s]."""
_NEWEST_LIMIT = 1 << 16

Report = Callable[[dict[str, Any]], None]


@dataclass(frozen=True, slots=True)
class Conduct:
    """How the server treats robots."""

    uploads: int = 8
    """At a time."""
    patience_s: float = 60.0
    """For the next quarter of a megabyte."""
    longest_wait_s: float = 60.0
    """That a robot may wait for a newer bundle in one request."""


class Reception:
    """What the routes do. Runs in one event loop; whatever touches the disk runs in threads beside it.

    Args:
        shelf: folder of bundles with a ``newest.json``; None offers none.
        report: told what happened, one flat dict an event.
    """

    def __init__(self, inbox: Inbox, shelf: Path | None, conduct: Conduct, report: Report) -> None:
        self._inbox, self._shelf, self._conduct, self._report = inbox, shelf, conduct, report
        self._busy: set[tuple[str, str]] = set()
        self._uploads = 0

    async def status(self, _request: Request) -> Response:
        counts, free = await asyncio.to_thread(lambda: (self._inbox.counts(), self._inbox.free()))
        newest = await asyncio.to_thread(self._newest)
        return JSONResponse(
            {
                "server": self._inbox.identity,
                "robots": counts,
                "uploading": self._uploads,
                "free_bytes": free,
                "newest": None if newest is None else newest.decode(errors="replace"),
            }
        )

    async def standing(self, request: Request) -> Response:
        """How much of an episode is here."""
        offer = _offer(request)
        with self._alone_with(offer):
            return _told(await asyncio.to_thread(self._inbox.standing, offer))

    async def receive(self, request: Request) -> Response:
        """Bytes of an episode."""
        offer, offset = _offer(request), _number(request, "offset")
        if self._uploads >= self._conduct.uploads:
            return _later("too many robots at a time", 503, request)
        with self._alone_with(offer), self._counted():
            here = await asyncio.to_thread(self._inbox.standing, offer)
            if here.whole:  # a replay, or the answer to the last part was lost
                return _told(here, _hang_up(request))
            arrival = await asyncio.to_thread(self._inbox.begin, offer, offset)
            try:
                async for block in self._blocks(request):
                    await asyncio.to_thread(arrival.write, block)
            finally:
                arrival.close()
            if arrival.missing:
                return _told(Standing(False, offer.size - arrival.missing))
            try:
                await asyncio.to_thread(self._inbox.finish, offer)
            except RefusedError as refusal:
                self._report(_event("refused", offer, why=str(refusal)))
                raise
            self._report(_event("received", offer, bytes=offer.size))
            return _told(Standing(True, offer.size))

    async def newest(self, request: Request) -> Response:
        """What is to be driven; waits for another than the robot knows."""
        known = request.headers.get("if-none-match")
        clock = asyncio.get_running_loop().time
        until = clock() + min(_number(request, "wait", 0), self._conduct.longest_wait_s)
        while True:
            content = await asyncio.to_thread(self._newest)
            tag = _tag(content)
            if tag != known or clock() >= until or await request.is_disconnected():
                break
            await asyncio.sleep(_LOOK_S)
        headers = {"ETag": tag, "Cache-Control": "no-store"}
        if tag == known:
            return Response(status_code=304, headers=headers)
        if content is None:
            return Response(status_code=204, headers=headers)
        return Response(content, media_type="application/json", headers=headers)

    async def bundle_file(self, request: Request) -> Response:
        """A file of a bundle."""
        bundle, name = request.path_params["bundle"], request.path_params["file"]
        if not (is_name(bundle) and is_name(name)) or "," in request.headers.get("range", ""):
            raise RefusedError(Reason.MALFORMED, "bundle and file must have plain names, and be asked for in one range")
        path = None if self._shelf is None else self._shelf / bundle / name
        if path is None or path.is_symlink() or not path.is_file():
            return JSONResponse({"message": f"{bundle}/{name}: not on the shelf"}, 404)
        return FileResponse(path, media_type="application/octet-stream")

    def _newest(self) -> bytes | None:
        if self._shelf is None:
            return None
        try:
            with (self._shelf / "newest.json").open("rb") as file:
                content = file.read(_NEWEST_LIMIT + 1)
        except FileNotFoundError:
            return None
        return content if len(content) <= _NEWEST_LIMIT else None

    @contextlib.contextmanager
    def _alone_with(self, offer: Offer) -> Iterator[None]:
        key = (offer.robot, offer.episode)
        if key in self._busy:
            raise _BusyError
        self._busy.add(key)
        try:
            yield
        finally:
            self._busy.discard(key)

    @contextlib.contextmanager
    def _counted(self) -> Iterator[None]:
        self._uploads += 1
        try:
            yield
        finally:
            self._uploads -= 1

    async def _blocks(self, request: Request) -> AsyncIterator[bytes]:
        """The body in blocks. What came before it broke off is given first, then what broke it is raised."""
        body = request.stream()
        ended, broken = False, None
        while not ended:
            block = bytearray()
            try:
                async with asyncio.timeout(self._conduct.patience_s):
                    while len(block) < _BLOCK and not ended:
                        chunk = await anext(body, None)
                        ended = chunk is None
                        block += chunk or b""
            except (TimeoutError, ClientDisconnect) as error:
                ended, broken = True, error
            if block:
                yield bytes(block)
        if broken is not None:
            raise broken


class _BusyError(Exception):
    """Another request is at this episode."""


class Guard:
    """Lets through what carries the token; everything else learns nothing, and loses its connection."""

    def __init__(self, app: ASGIApp, token: str) -> None:
        self._app, self._token = app, token

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        given = b"".join(value for key, value in scope.get("headers", ()) if key == b"authorization")
        scheme, _, secret = given.partition(b" ")
        if scheme.lower() != b"bearer" or not same_token(self._token, secret):
            headers = {"WWW-Authenticate": "Bearer", "Connection": "close"}
            refused = JSONResponse({"message": "the token is missing or another"}, 401, headers)
            await refused(scope, receive, send)
            return
        await self._app(scope, receive, send)


def fleet_app(
    inbox: Inbox,
    shelf: Path | None,
    token: str,
    conduct: Conduct | None = None,
    report: Report = lambda _event: None,
) -> ASGIApp:
    """The server's application."""
    reception = Reception(inbox, shelf, conduct or Conduct(), report)
    episode = "/v1/robots/{robot}/episodes/{episode}"

    async def refused(request: Request, error: Exception) -> Response:
        if not isinstance(error, RefusedError):
            raise error
        told = {"reason": error.reason.value, "message": str(error)}
        return JSONResponse(told, _STATUS[error.reason], _hang_up(request))

    async def busy(request: Request, _error: Exception) -> Response:
        return _later("another request is at this episode", 423, request)

    async def too_slow(request: Request, _error: Exception) -> Response:
        return _later("the rest did not come", 408, request)

    async def failed(request: Request, error: Exception) -> Response:
        report({"event": "failed", "why": str(error)})
        return _later("the learner's disk fails", 500, request)

    async def broken(_request: Request, error: Exception) -> Response:
        report({"event": "failed", "why": f"{type(error).__name__}: {error}"})
        return JSONResponse({"message": "the server has an error"}, 500)

    app = Starlette(
        routes=[
            Route("/v1/status", reception.status, methods=["GET"]),
            Route(episode, reception.standing, methods=["GET"]),
            Route(episode, reception.receive, methods=["PATCH"]),
            Route("/v1/weights", reception.newest, methods=["GET"]),
            Route("/v1/weights/{bundle}/{file}", reception.bundle_file, methods=["GET"]),
        ],
        exception_handlers={
            RefusedError: refused,
            _BusyError: busy,
            TimeoutError: too_slow,
            ClientDisconnect: too_slow,
            OSError: failed,
            Exception: broken,
        },
    )
    return Guard(app, token)


def _offer(request: Request) -> Offer:
    asked = request.query_params
    robot, episode = request.path_params["robot"], request.path_params["episode"]
    return Offer(robot, episode, asked.get("sha256", ""), _number(request, "size"))


def _number(request: Request, name: str, default: int | None = None) -> int:
    text = request.query_params.get(name, "" if default is None else str(default))
    if not (text.isascii() and text.isdigit() and len(text) < 16):
        raise RefusedError(Reason.MALFORMED, f"{name} must be a whole number")
    return int(text)


def _told(standing: Standing, headers: dict[str, str] | None = None) -> Response:
    return JSONResponse({"whole": standing.whole, "offset": standing.offset}, headers=headers)


def _later(message: str, status: int, request: Request) -> Response:
    return JSONResponse({"message": message}, status, {"Retry-After": "2", **_hang_up(request)})


def _hang_up(request: Request) -> dict[str, str]:
    """An upload that is not wanted is not listened to until its end."""
    return {"Connection": "close"} if request.method == "PATCH" else {}


def _tag(content: bytes | None) -> str:
    return '"none"' if content is None else f'"{hashlib.sha256(content).hexdigest()}"'


def _event(event: str, offer: Offer, **facts: Any) -> dict[str, Any]:
    return {"event": event, "robot": offer.robot, "episode": offer.episode, **facts}

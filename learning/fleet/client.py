"""The robot's side of the link. Knows HTTP, and nothing of what it carries; see :mod:`learning.fleet.server`."""

from __future__ import annotations

import json
import ssl
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO, Self
from urllib.parse import urlsplit

import httpx

from learning.fleet.names import one_line
from spec.errors import CadenzaError, SpecError

_CONNECT_S, _SILENCE_S, _VERIFIED_S = 10.0, 60.0, 330.0
"""To connect; between two pieces of an answer; until the learner has read an episode through."""
_PIECE = 1 << 16
_ANSWER_LIMIT = 1 << 20
"""Bytes; an answer that is no file is far smaller."""
_NEVER = {400, 409, 413, 422}
_NOT_THIS = {412, 416, 423}
_NOT_NOW = {408, 429, 500, 502, 503, 504, 507}


class LinkError(CadenzaError):
    """The learner cannot be reached, or does not do what it was asked now; another attempt may do."""


class EpisodeError(LinkError):
    """As above, but the trouble is with this one episode: altered on its way, or still held by a lost connection."""


class AccessError(LinkError):
    """The learner does not know this robot's token, or this robot does not trust the learner."""


class RejectedError(CadenzaError):
    """The learner will never take this episode, and says why."""


class StoppedError(CadenzaError):
    """The robot's own program ends."""


@dataclass(frozen=True, slots=True)
class Parcel:
    """An episode on its way."""

    robot: str
    episode: str
    sha256: str
    size: int


@dataclass(frozen=True, slots=True)
class Standing:
    """How much of it the learner has."""

    whole: bool
    offset: int


class Link:
    """One connection to a learner. For one thread.

    Args:
        url: of the learner, e.g. ``https://learner.local:8470``.
        token: gives the shared secret; asked before every request, so that a new one counts at once.
        certificate: trusts what is signed by it; None: what this machine trusts.
        bytes_per_s: most that goes out; None: no limit.
        stop: ends what is going on.

    Raises:
        SpecError: no address, or a certificate that cannot be read.
    """

    def __init__(
        self,
        url: str,
        token: Callable[[], str],
        certificate: Path | None = None,
        bytes_per_s: float | None = None,
        stop: threading.Event | None = None,
    ) -> None:
        check_address(url)
        self._token, self._rate, self._stop = token, bytes_per_s, stop or threading.Event()
        self._client = httpx.Client(
            base_url=url,
            verify=_trusted(certificate) if url.startswith("https:") else False,
            timeout=httpx.Timeout(_SILENCE_S, connect=_CONNECT_S),
            trust_env=False,  # a proxy from the environment would get the token
        )

    def close(self) -> None:
        self._client.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def identity(self) -> str:
        """Which inbox the learner has; another one knows nothing of what the first received."""
        return str(self._document("GET", "/v1/status").get("server", ""))

    def standing(self, parcel: Parcel) -> Standing:
        """How much of an episode the learner has.

        Raises:
            RejectedError: it will never take it.
            LinkError: it cannot be asked now.
        """
        return _standing(self._document("GET", _place(parcel), params=_facts(parcel)), parcel)

    def send(self, parcel: Parcel, file: BinaryIO, offset: int, sent: Callable[[int], None]) -> Standing:
        """Send the rest of an episode.

        Args:
            file: its content, which must be what the parcel says.
            offset: from where on.
            sent: told how many bytes went out.

        Raises:
            RejectedError: as :meth:`standing`; also if the content proved unsound.
            LinkError: it broke off; what arrived stays there.
        """
        return _standing(
            self._document(
                "PATCH",
                _place(parcel),
                params={**_facts(parcel), "offset": offset},
                headers={"Content-Length": str(parcel.size - offset), "Content-Type": "application/octet-stream"},
                content=self._paced(file, offset, parcel.size, sent),
                timeout=httpx.Timeout(_VERIFIED_S, connect=_CONNECT_S),
            ),
            parcel,
        )

    def newest(self, known: str, wait_s: int) -> tuple[bytes, str] | None:
        """What is to be driven, and its tag. None where nothing has changed, or nothing is on offer.

        Args:
            known: the tag of what this robot has.
            wait_s: for another.
        """
        headers = {"If-None-Match": known}
        timeout = httpx.Timeout(_SILENCE_S + wait_s, connect=_CONNECT_S)
        with self._asked("GET", "/v1/weights", params={"wait": wait_s}, headers=headers, timeout=timeout) as response:
            if response.status_code in {204, 304}:
                return None
            return _content(response), response.headers.get("etag", "")

    def fetch(self, bundle: str, name: str, target: Path, limit: int) -> None:
        """Bring a file of a bundle, going on where ``target`` ends. Its content is for the caller to verify, also where
        there turns out to be no more of it.

        Raises:
            LinkError: it broke off, is not there (any more), or is larger than ``limit`` bytes.
        """
        have = target.stat().st_size if target.exists() else 0
        headers = {"Range": f"bytes={have}-"} if have else {}
        path = f"/v1/weights/{bundle}/{name}"
        with self._asked("GET", path, also=416 if have else 0, headers=headers) as response, target.open("ab") as file:
            if response.status_code == 416:
                return
            begins = response.headers.get("content-range", "")
            if response.status_code == 206 and not begins.startswith(f"bytes {have}-"):
                raise LinkError(f"{bundle}/{name}: the learner sent another part than was asked for")
            if response.status_code != 206:
                file.truncate(0)
                have = 0
            for piece in response.iter_raw(_PIECE):
                have += len(piece)
                if have > limit:
                    raise LinkError(f"{bundle}/{name}: larger than {limit} bytes")
                if self._stop.is_set():
                    raise StoppedError("stopped")
                file.write(piece)

    def _document(self, method: str, path: str, **options: Any) -> dict[str, Any]:
        with self._asked(method, path, **options) as response:
            return _json(response)

    @contextmanager
    def _asked(self, method: str, path: str, also: int = 304, **options: Any) -> Iterator[httpx.Response]:
        """An answer of which only the head is here. Errors of status and network become ours, also inside the block.

        Args:
            also: a status that is an answer too.
        """
        headers = {"Authorization": f"Bearer {self._token()}", "Accept-Encoding": "identity"}
        headers |= options.pop("headers", {})
        try:
            with self._client.stream(method, path, headers=headers, **options) as response:
                if response.status_code >= 300 and response.status_code != also:
                    raise _refusal(response)
                yield response
        except httpx.TransportError as error:
            if isinstance(error.__cause__, ssl.SSLCertVerificationError) or "CERTIFICATE_VERIFY" in str(error):
                raise AccessError(f"{self._client.base_url}: its certificate is not trusted; name it: --ca") from None
            raise LinkError(f"{self._client.base_url}: {str(error) or type(error).__name__}") from None
        except (httpx.StreamError, httpx.DecodingError) as error:
            raise LinkError(f"{self._client.base_url}: {error}") from None

    def _paced(self, file: BinaryIO, offset: int, size: int, sent: Callable[[int], None]) -> Iterator[bytes]:
        """The file from ``offset`` on, no faster than allowed."""
        file.seek(offset)
        begun = time.monotonic()
        position = offset
        while position < size:
            piece = file.read(min(_PIECE, size - position))
            if not piece:
                raise LinkError("the episode became shorter while it was sent")
            position += len(piece)
            yield piece
            sent(len(piece))
            early = 0.0 if self._rate is None else (position - offset) / self._rate - (time.monotonic() - begun)
            if self._stop.wait(max(early, 0.0)):
                raise StoppedError("stopped")


def check_address(url: str) -> None:
    """Raises SpecError for what is no address of a learner."""
    try:
        parts = urlsplit(url)
        named = httpx.URL(url).host.encode("idna")  # as a resolver will
        sound = parts.scheme in {"http", "https"} and named and parts.port != 0
    except (ValueError, httpx.InvalidURL):
        sound = False
    if not sound or parts.username or parts.password or parts.query or parts.fragment or parts.path not in {"", "/"}:
        raise SpecError("--server", url, "must be an address like https://learner.local:8470")


def _trusted(certificate: Path | None) -> ssl.SSLContext:
    try:
        return ssl.create_default_context(cafile=certificate)
    except (OSError, ssl.SSLError) as error:
        reason = getattr(error, "reason", None) or error.strerror
        raise SpecError("--ca", str(certificate), f"no certificate that can be read: {reason}") from None


def _refusal(response: httpx.Response) -> CadenzaError:
    status = response.status_code
    try:
        message = str(_json(response).get("message", ""))
    except LinkError:
        message = ""
    line = one_line(message) or f"the learner answers {status}"
    if status in _NEVER:
        return RejectedError(line)
    if status == 401:
        return AccessError(f"the learner refuses the token: {line}")
    if status in _NOT_THIS:
        return EpisodeError(line)
    return LinkError(line if status in _NOT_NOW else f"the learner answers {status}: {line}")


def _json(response: httpx.Response) -> dict[str, Any]:
    try:
        document = json.loads(_content(response))
    except (ValueError, RecursionError):
        raise LinkError("the learner answers something that is not ours") from None
    if not isinstance(document, dict):
        raise LinkError("the learner answers something that is not ours")
    return document


def _content(response: httpx.Response) -> bytes:
    content = bytearray()
    for piece in response.iter_raw():
        content += piece
        if len(content) > _ANSWER_LIMIT:
            raise LinkError("the learner's answer is too long")
    return bytes(content)


def _standing(document: dict[str, Any], parcel: Parcel) -> Standing:
    whole, offset = document.get("whole"), document.get("offset")
    if not isinstance(whole, bool) or not isinstance(offset, int) or not 0 <= offset <= parcel.size:
        raise LinkError("the learner answers something that is not ours")
    return Standing(whole, offset)


def _place(parcel: Parcel) -> str:
    return f"/v1/robots/{parcel.robot}/episodes/{parcel.episode}"


def _facts(parcel: Parcel) -> dict[str, str | int]:
    return {"sha256": parcel.sha256, "size": parcel.size}

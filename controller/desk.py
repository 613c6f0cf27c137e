"""The socket in the folder of a run through which its operator talks to it from another terminal.

One JSON document a line, both ways. Only the same user may (and root). Nothing a run does here ever waits.
"""

from __future__ import annotations

import fcntl
import json
import os
import select
import socket
import struct
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from spec.errors import CadenzaError, SpecError
from spec.files import parsed_json

SOCKET = "run.sock"
_CLIENTS = 8
_DOOR_S = 5.0
"""Longest time to be let in [s]; a run looks fifty times a second, but one that is stopped lets eight wait, and no
more."""
_LONGEST_LINE = 65536
_CREDENTIALS, _TIMEVAL = struct.Struct("3i"), struct.Struct("@ll")


@dataclass(slots=True, eq=False)
class Client:
    """Somebody at the desk."""

    link: socket.socket
    heard: bytes = b""
    unsent: bytes = b""
    asked: bool = False
    leaving: bool = False
    """Has its last answer; what it says from now on is not heard."""

    @property
    def hung_up(self) -> bool:
        """Whether nobody is at the other end any more."""
        poll = select.poll()
        poll.register(self.link, 0)
        return any(state & select.POLLHUP for _, state in poll.poll(0))

    def answer(self, document: dict[str, Any], *, last: bool = True) -> None:
        """Say one thing; ``last``: and goodbye."""
        self.unsent += json.dumps(document).encode() + b"\n"
        self.leaving = self.leaving or last


class Desk:
    """Listens, and has the folder to itself: of two runs that start in one at the same time, one is refused.

    Args:
        folder: of the run.

    Raises:
        CadenzaError: another run is on there.
    """

    def __init__(self, folder: Path) -> None:
        self._path = folder / SOCKET
        self._clients: list[Client] = []
        self._lock = _taken(folder)
        self.trouble: str | None = None
        """Why nobody can be heard: not every file system has sockets."""
        self._listening = socket.socket(socket.AF_UNIX)
        self._listening.setblocking(False)
        try:
            self._path.unlink(missing_ok=True)  # of a run that was killed
            os.fchmod(self._listening.fileno(), 0o600)  # the file has these rights from its first instant on
            _at(folder, self._listening.bind)
            self._listening.listen(_CLIENTS)
        except OSError as error:
            self._listening.close()
            self.trouble = f"{self._path}: cannot listen there: {error.strerror}"

    def requests(self) -> list[tuple[Client, dict[str, Any]]]:
        """What was asked since the last call. What is no request gets an answer and the door."""
        self._let_in()
        asked = []
        for client in self._clients:
            for line in self._lines(client):
                try:
                    document = parsed_json(line)
                except ValueError:
                    document = None
                if not isinstance(document, dict):
                    client.answer({"kind": "error", "text": "not a JSON document"})
                    break
                asked.append((client, document))
                client.asked = True
        return asked

    def send(self) -> None:
        """Hand over as much of the answers as there is room for."""
        for client in list(self._clients):
            try:
                while client.unsent:
                    client.unsent = client.unsent[client.link.send(client.unsent) :]
            except BlockingIOError:
                continue
            except OSError:
                client.leaving, client.unsent = True, b""
            if client.leaving and not client.unsent:
                client.link.close()
                self._clients.remove(client)

    def close(self) -> None:
        """Nobody is heard any more."""
        self._listening.close()  # first: who loses its link looks whether anybody is here
        for client in self._clients:
            client.link.close()
        self._clients.clear()
        if self.trouble is None:
            self._path.unlink(missing_ok=True)
        os.close(self._lock)  # last: from now on the next run may have the folder

    def _let_in(self) -> None:
        """Who comes when the place is full takes that of somebody who asks nothing."""
        for _ in range(_CLIENTS if self.trouble is None else 0):
            try:
                link, _ = self._listening.accept()
            except OSError:  # nobody there, or gone again, or too many files open: they may come again
                return
            link.setblocking(False)
            _, user, _ = _CREDENTIALS.unpack(link.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _CREDENTIALS.size))
            if user in {os.geteuid(), 0}:
                self._clients.append(Client(link))
            else:
                link.close()
            if len(self._clients) > _CLIENTS:
                idle = next(
                    (client for client in self._clients if client.leaving or not client.asked), self._clients[0]
                )
                idle.link.close()
                self._clients.remove(idle)

    def _lines(self, client: Client) -> list[bytes]:
        if client.leaving:
            return []
        try:
            while data := client.link.recv(_LONGEST_LINE):
                client.heard += data
                if len(client.heard) > _LONGEST_LINE:
                    break
            gone = not data
        except BlockingIOError:
            gone = False
        except OSError:
            gone = True
        *lines, client.heard = client.heard.split(b"\n")
        if len(client.heard) > _LONGEST_LINE:
            client.heard = b""
            client.answer({"kind": "error", "text": "too long a line"})
        if gone and not lines:
            client.leaving, client.unsent = True, b""
        return [line for line in lines if line.strip()]


def _taken(folder: Path) -> int:
    """The folder, open and locked for this process; the kernel lets it go with the process, however that ends."""
    refusal = CadenzaError(f"{folder}: another run is on there; choose another --out")
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(descriptor)
        raise refusal from None
    except OSError:  # a file system without such locks: then only a run that answers can be seen
        if is_on(folder):
            os.close(descriptor)
            raise refusal from None
    return descriptor


@contextmanager
def connected(folder: Path) -> Iterator[socket.socket | None]:
    """A link to the run of a folder; None where no run listens.

    Raises:
        CadenzaError: one does, but lets nobody in.
    """
    with socket.socket(socket.AF_UNIX) as link:
        seconds, rest = divmod(_DOOR_S, 1.0)
        # A time-out of Python's own makes connect() give up at once (unix(7), EAGAIN).
        link.setsockopt(socket.SOL_SOCKET, socket.SO_SNDTIMEO, _TIMEVAL.pack(int(seconds), round(rest * 1e6)))
        try:
            _at(folder, link.connect)
        except BlockingIOError:
            raise CadenzaError(f"{folder}: the run lets nobody in, for {_DOOR_S:g} s now; it hangs") from None
        except OSError:
            yield None
        else:
            yield link


def is_on(folder: Path) -> bool:
    """Whether a run has the folder, also one that hangs."""
    try:
        with connected(folder) as link:
            return link is not None
    except CadenzaError:
        return True


def _at(folder: Path, act: Callable[[str], None]) -> None:
    """Bind or connect by a short name: the address of a socket may have 107 bytes, the path of a folder more."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        act(f"/proc/self/fd/{descriptor}/{SOCKET}")
    finally:
        os.close(descriptor)


def answers(
    folder: Path, request: dict[str, Any], timeout_s: float | None = None, *, first_s: float | None = None
) -> Iterator[dict[str, Any]]:
    """Ask the run of a folder; everything it says about it, as it comes.

    Args:
        folder: of the run.
        request: one document.
        timeout_s: longest silence; None: for as long as it takes.
        first_s: longest silence before anything is said; None: as later.

    Raises:
        CadenzaError: nobody is there, or says anything in time.
    """
    if not folder.is_dir():
        raise SpecError("RUN", str(folder), "no such folder")
    with connected(folder) as link:
        if link is None:
            raise CadenzaError(f"{folder}: no run is on there")
        silence_s = timeout_s if first_s is None else first_s
        link.settimeout(silence_s)
        heard = b""
        try:
            link.sendall(json.dumps(request).encode() + b"\n")
            while data := link.recv(_LONGEST_LINE):
                *lines, heard = (heard + data).split(b"\n")
                yield from map(json.loads, lines)
                silence_s = timeout_s
                link.settimeout(silence_s)
        except TimeoutError:
            why = f"the run has not answered for {silence_s:g} s; it is starting or ending, or hangs"
            raise CadenzaError(f"{folder}: {why}") from None
        except (OSError, ValueError):
            return


def answer(folder: Path, request: dict[str, Any], timeout_s: float | None = None) -> dict[str, Any]:
    """The last thing the run says about it. Raises CadenzaError, also for what it refuses."""
    said = list(answers(folder, request, timeout_s))
    if not said:
        raise CadenzaError(f"{folder}: the run ended before it answered")
    if said[-1]["kind"] == "error":
        raise CadenzaError(said[-1]["text"])
    return said[-1]

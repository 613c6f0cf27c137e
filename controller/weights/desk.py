"""The socket in the folder of a run through which its operator talks to it from another terminal.

One JSON document a line, both ways. Only the same user may (and root). Nothing here ever waits.
"""

from __future__ import annotations

import json
import os
import socket
import struct
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from spec.errors import CadenzaError
from spec.files import parsed_json

SOCKET = "weights.sock"
_CLIENTS = 8
_LONGEST_LINE = 65536
_CREDENTIALS = struct.Struct("3i")


@dataclass(slots=True, eq=False)
class Client:
    """Somebody at the desk."""

    link: socket.socket
    heard: bytes = b""
    unsent: bytes = b""
    asked: bool = False
    leaving: bool = False
    """Has its last answer; what it says from now on is not heard."""

    def answer(self, document: dict[str, Any], *, last: bool = True) -> None:
        """Say one thing; ``last``: and goodbye."""
        self.unsent += json.dumps(document).encode() + b"\n"
        self.leaving = self.leaving or last


class Desk:
    """Listens.

    Args:
        folder: of the run.

    Raises:
        CadenzaError: another run listens there.
    """

    def __init__(self, folder: Path) -> None:
        self._path = folder / SOCKET
        self._clients: list[Client] = []
        with connected(folder) as other:
            if other is not None:
                raise CadenzaError(f"{folder}: another run is on there; choose another --out")
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
        for client in self._clients:
            client.link.close()
        self._clients.clear()
        self._listening.close()
        if self.trouble is None:
            self._path.unlink(missing_ok=True)

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


@contextmanager
def connected(folder: Path) -> Iterator[socket.socket | None]:
    """A link to the run of a folder; None where no run listens."""
    with socket.socket(socket.AF_UNIX) as link:
        try:
            _at(folder, link.connect)
        except OSError:
            yield None
        else:
            yield link


def _at(folder: Path, act: Callable[[str], None]) -> None:
    """Bind or connect by a short name: the address of a socket may have 107 bytes, the path of a folder more."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        act(f"/proc/self/fd/{descriptor}/{SOCKET}")
    finally:
        os.close(descriptor)

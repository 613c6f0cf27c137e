"""The control socket: a line of JSON asks, a line of JSON answers. For judges and fault injection, not the robot."""

from __future__ import annotations

import json
import socket
from collections.abc import Iterable
from pathlib import Path
from typing import Any, Protocol

from spec.errors import CadenzaError, DeviceError

_LONGEST = 65536


class Controlled(Protocol):
    """What the socket can ask for."""

    def reset(self, seed: int) -> dict[str, Any]: ...

    def state(self) -> dict[str, Any]: ...

    def inject(self, faults: dict[str, Any]) -> None: ...

    def clear(self) -> None: ...

    def statistics(self) -> dict[str, dict[str, int]]: ...

    def hand(self, joints: dict[str, float] | None, seconds: float = 0.3) -> None: ...

    def push(self, joints: dict[str, float], seconds: float) -> None: ...


class ControlServer:
    """Unix socket served from the host's own loop: no thread, requests are small and rare."""

    def __init__(self, path: Path, target: Controlled) -> None:
        """Raises DeviceError where no socket can be made at ``path``."""
        self._path, self._target = path, target
        self._listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        try:
            self._listener.bind(str(path))
        except OSError as error:
            self._listener.close()
            raise DeviceError(f"{path}: no control socket ({error}); set TMPDIR to a shorter path") from None
        self._listener.listen()
        self._listener.setblocking(False)
        self._clients: dict[socket.socket, bytearray] = {}

    def waiting(self) -> list[socket.socket]:
        """Sockets to select on."""
        return [self._listener, *self._clients]

    def serve(self, ready: Iterable[object]) -> None:
        """Answer what came in on the sockets among ``ready``."""
        for item in ready:
            if item is self._listener:
                client, _ = self._listener.accept()
                client.setblocking(False)
                self._clients[client] = bytearray()
            elif isinstance(item, socket.socket) and item in self._clients:
                self._read(item)

    def close(self) -> None:
        for client in self._clients:
            client.close()
        self._listener.close()
        self._path.unlink(missing_ok=True)

    def _read(self, client: socket.socket) -> None:
        buffer = self._clients[client]
        try:
            data = client.recv(_LONGEST)
            buffer += data
            while b"\n" in buffer:
                line, _, rest = buffer.partition(b"\n")
                buffer[:] = rest
                client.sendall(json.dumps(self._answer(line)).encode() + b"\n")
        except OSError:
            data = b""
        if not data or len(buffer) > _LONGEST:
            del self._clients[client]
            client.close()

    def _answer(self, line: bytes | bytearray) -> dict[str, Any]:
        try:
            request = json.loads(line)
            name, arguments = request["do"], request.get("with", {})
            if name not in {"reset", "state", "inject", "clear", "statistics", "hand", "push"}:
                return {"error": f"control: {name!r}: no such request"}
            return {"result": getattr(self._target, name)(**arguments)}
        except CadenzaError as error:
            return {"error": str(error)}
        except (ValueError, LookupError, TypeError, AttributeError, ArithmeticError, RuntimeError) as error:
            return {"error": f"control: {bytes(line[:80])!r}: {type(error).__name__} {error}"}

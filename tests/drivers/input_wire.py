"""An input device made of bytes only: a named pipe that carries the records keyboards and gamepads send."""

from __future__ import annotations

import os
from pathlib import Path

from drivers.teleop.inputs import EV_ABS, EV_KEY, EV_SYN, EVENT, SYN_DROPPED, SYN_REPORT
from drivers.teleop.keys import CODES


class InputWire:
    """The far end of one device. ``unplug`` hangs up, ``plug`` comes back."""

    def __init__(self, path: Path) -> None:
        self.path = str(path)
        os.mkfifo(path)
        self._fd = -1
        self.plug()

    def plug(self) -> None:
        if self._fd < 0:
            self._fd = os.open(self.path, os.O_RDWR | os.O_NONBLOCK)  # both ends, so that it opens without a reader

    def unplug(self) -> None:
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1

    def send(self, *events: tuple[int, int, int]) -> None:
        """(type, code, value) of each, and the report that ends them."""
        os.write(self._fd, b"".join(EVENT.pack(0, 0, *event) for event in (*events, (EV_SYN, SYN_REPORT, 0))))

    def raw(self, data: bytes) -> None:
        os.write(self._fd, data)

    def key(self, name: str, value: int) -> None:
        self.send((EV_KEY, CODES[name], value))

    def tap(self, name: str) -> None:
        self.key(name, 1)
        self.key(name, 0)

    def axis(self, code: int, value: int) -> None:
        self.send((EV_ABS, code, value))

    def drop(self) -> None:
        """The kernel's buffer ran over."""
        self.raw(EVENT.pack(0, 0, EV_SYN, SYN_DROPPED, 0))

"""Telling the service manager how the run is: sd_notify(3), spoken directly. Where there is none, nothing is said.

READY=1 once the arm may move, WATCHDOG=1 while the control loop ticks, STATUS= for whoever asks, STOPPING=1 at the end.
"""

from __future__ import annotations

import contextlib
import os
import socket
import time
from collections.abc import Callable, Mapping
from typing import Self

STATUS_S = 2.0
"""How often the line about a run that goes on is brought up to date [s]."""
_PATIENCE_S = 0.2
"""Longest the manager may take to make room for a message [s]; what it does not take then is lost to it."""


class Notify:
    """The run's voice towards the service manager.

    Args:
        address: of its socket, a path or ``@name`` for an abstract one; None where nobody listens.
        watchdog_s: it restarts whom it has not heard of for so long [s]; None where it does not watch.
    """

    def __init__(self, address: str | None = None, watchdog_s: float | None = None) -> None:
        self.watchdog_s = watchdog_s
        self.tell: Callable[[], str] | None = None
        """What is to be said of the run as it goes on; None: nothing beside what :meth:`status` is told."""
        self._address = None if address is None else address.replace("@", "\0", 1) if address[:1] == "@" else address
        self._said: str | None = None
        self._told_s = -float("inf")
        self._ticks = -1
        self._pet_s = -float("inf")

    @classmethod
    def of(cls, environment: Mapping[str, str]) -> Self:
        """As the manager says by NOTIFY_SOCKET, WATCHDOG_USEC and WATCHDOG_PID.

        What is addressed to another process, or makes no sense, counts as not said, as in libsystemd.
        """
        address = environment.get("NOTIFY_SOCKET", "")
        interval, for_whom = environment.get("WATCHDOG_USEC", ""), environment.get("WATCHDOG_PID", str(os.getpid()))
        watched = interval.isdecimal() and int(interval) > 0 and for_whom == str(os.getpid())
        usable = len(address) > 1 and address[0] in "/@"
        return cls(address if usable else None, int(interval) * 1e-6 if watched else None)

    def ready(self) -> None:
        """The arm may move."""
        self._send("READY=1")

    def status(self, text: str) -> None:
        """One line for ``systemctl status``; said again only when it changed."""
        if text != self._said:
            self._said = text
            self._send(f"STATUS={' '.join(text.split())}")

    def beat(self, ticks: int) -> None:
        """Life sign, at half the manager's interval, and what there is to :attr:`tell`. To be called often.

        Args:
            ticks: of the control loop so far. Without new ones there is no life sign: a run that has lost its arm is
                to be started again, however well the process that says so may be.
        """
        now_s = time.monotonic()
        if self.tell is not None and now_s >= self._told_s + STATUS_S:
            self._told_s = now_s
            self.status(self.tell())
        if self.watchdog_s is None or ticks == self._ticks:
            return
        if now_s >= self._pet_s + self.watchdog_s / 2:
            self._pet_s, self._ticks = now_s, ticks
            self._send("WATCHDOG=1")

    def stopping(self) -> None:
        """The run ends. With a life sign, so that there is a whole interval left to end in."""
        self._send("STOPPING=1\nWATCHDOG=1")

    def _send(self, message: str) -> None:
        if self._address is None:
            return
        # A manager that does not listen changes nothing for the arm, nor do too many open files.
        with (
            contextlib.suppress(OSError),
            socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as link,
        ):
            link.settimeout(_PATIENCE_S)
            link.sendto(message.encode(), self._address)

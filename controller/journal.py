"""The systemd journal, in its own protocol: every line with fields that ``journalctl`` can be asked for.

``journalctl -u cadenza CADENZA_SOURCE=control`` or ``CADENZA_EPISODE=12``. Protocol: systemd, "Native Journal
Protocol".
"""

from __future__ import annotations

import os
import socket
import struct
import sys
from collections.abc import Mapping
from enum import IntEnum
from pathlib import Path
from typing import TextIO

SOCKET = Path("/run/systemd/journal/socket")
_LONGEST = 65536
"""Bytes of one field that are passed on; more than that would need a file instead of a datagram."""


class Priority(IntEnum):
    """Of a line, as in syslog(3)."""

    ERROR = 3
    WARNING = 4
    NOTICE = 5
    INFO = 6
    DEBUG = 7


class Journal:
    """Sends lines with fields.

    Args:
        address: of the journal's socket.
        identifier: what ``journalctl -t`` finds them by.
    """

    def __init__(self, address: Path = SOCKET, identifier: str = "cadenza") -> None:
        self._address, self._common = str(address), {"SYSLOG_IDENTIFIER": identifier}
        self._link = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC)
        self._link.setblocking(False)

    def write(self, message: str, priority: Priority, fields: Mapping[str, str]) -> bool:
        """One line; False where the journal would not take it at once."""
        entry = {"MESSAGE": message, "PRIORITY": str(int(priority)), **self._common, **fields}
        try:
            self._link.sendto(b"".join(_field(name, value) for name, value in entry.items()), self._address)
        except OSError:  # full, restarting or gone
            return False
        return True

    def close(self) -> None:
        self._link.close()


def journalled(environment: Mapping[str, str], stream: TextIO | None = None) -> bool:
    """Whether a stream (standard error by default) goes to the journal, so that lines had better go there directly.

    JOURNAL_STREAM names device and inode of it, and is inherited by those whose output goes elsewhere: sd-journal(3).
    """
    device, _, inode = environment.get("JOURNAL_STREAM", "").partition(":")
    if not (device.isdecimal() and inode.isdecimal()):
        return False
    try:
        found = os.fstat((stream or sys.stderr).fileno())
    except (OSError, ValueError):
        return False
    return (found.st_dev, found.st_ino) == (int(device), int(inode))


def _field(name: str, value: str) -> bytes:
    """Values of one line as text, others with their length, little-endian."""
    data = value.encode(errors="replace")[:_LONGEST]
    if b"\n" not in data:
        return name.encode() + b"=" + data + b"\n"
    return name.encode() + b"\n" + struct.pack("<Q", len(data)) + data + b"\n"

"""A pseudo-terminal that plays the USB adapter of one bus."""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import select
import struct
import termios
import tty
from pathlib import Path

_TCGETS2 = 0x802C542A
_TERMIOS2 = struct.Struct("=4IB19s2I")
"""struct termios2 of Linux: four flag words, line discipline, 19 control characters, input and output speed."""
_CHUNK = 4096


class Terminal:
    """One end is ours, the other is a device path that any serial program opens."""

    def __init__(self, link: Path) -> None:
        """``link``: stable path of the device; it stays the same when the adapter is unplugged and back."""
        self._link = link
        self._master = -1
        self.plug()

    def fileno(self) -> int:
        """Our end, for select; -1 while unplugged."""
        return self._master

    @property
    def plugged(self) -> bool:
        return self._master >= 0

    def plug(self) -> None:
        """Create the device, or do nothing where it is."""
        if self.plugged:
            return
        self._master, slave = os.openpty()
        tty.setraw(slave)
        path = os.ttyname(slave)
        os.close(slave)
        os.set_blocking(self._master, False)
        temporary = self._link.with_name(f".{self._link.name}.new")
        temporary.unlink(missing_ok=True)
        temporary.symlink_to(path)
        temporary.replace(self._link)

    def unplug(self) -> None:
        """The device is gone: clients get a hang-up, the path does not exist."""
        if self.plugged:
            self._link.unlink(missing_ok=True)
            os.close(self._master)
            self._master = -1

    def open_elsewhere(self) -> bool:
        """True while a client has the device open (or none ever had)."""
        poller = select.poll()
        poller.register(self._master, select.POLLIN)
        return not any(event & select.POLLHUP for _, event in poller.poll(0))

    def baud(self) -> int:
        """Speed the client set [bit/s]; any number, not only the standard ones."""
        answer = fcntl.ioctl(self._master, _TCGETS2, bytes(_TERMIOS2.size))
        return int(_TERMIOS2.unpack(answer)[-1])

    def read(self) -> bytes:
        """What the client sent, b"" where nothing or no client."""
        try:
            return os.read(self._master, _CHUNK)
        except BlockingIOError:
            return b""
        except OSError as error:
            if error.errno == errno.EIO:  # the last client closed its end
                return b""
            raise

    def write(self, data: bytes) -> None:
        """Hand bytes to the client; what does not fit is lost, as in an adapter's full buffer."""
        with contextlib.suppress(BlockingIOError, OSError):
            os.write(self._master, data)

    def discard(self) -> None:
        """Forget bytes nobody fetched."""
        with contextlib.suppress(termios.error):
            termios.tcflush(self._master, termios.TCIOFLUSH)

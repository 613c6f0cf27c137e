"""One Linux input device: keys and axes as the kernel reports them, whoever owns the screen or none.

Read with nothing but the kernel's own interface (struct input_event and four ioctls, linux/input.h), so that a robot PC
needs no compiler for it. A named pipe that carries the same records serves as well.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import stat
import struct
from pathlib import Path
from typing import NamedTuple

from spec.errors import DeviceError

EV_SYN, EV_KEY, EV_ABS = 0, 1, 3
SYN_REPORT, SYN_DROPPED = 0, 3
EVENT = struct.Struct("@llHHi")
"""struct input_event: seconds, microseconds, type, code, value."""
_KEY_BYTES = 0x300 // 8  # KEY_MAX + 1 bits
_ABSINFO = struct.Struct("@6i")  # value, minimum, maximum, fuzz, flat, resolution
_FIRST_RETRY_NS, _LONGEST_RETRY_NS = 200_000_000, 2_000_000_000
_MOST_EVENTS = 256
_PIPE_RANGE = (-32768, 32767)


def _ioctl(direction: int, number: int, size: int) -> int:
    """_IOC of asm-generic/ioctl.h, type 'E'."""
    return direction << 30 | size << 16 | ord("E") << 8 | number


_GET_VERSION, _GRAB = _ioctl(2, 0x01, 4), _ioctl(1, 0x90, 4)
_GET_KEYS = _ioctl(2, 0x20 + EV_KEY, _KEY_BYTES)


class InputEvent(NamedTuple):
    """What a device reported."""

    kind: int
    code: int
    value: int
    """Of a key: 1 down, 0 up, 2 repeated. Of an axis: where it is."""


class InputDevice:
    """A device node under /dev/input. Reading never blocks and never raises; what is gone is looked for again.

    Args:
        path: best one that is stable over reboots (/dev/input/by-id/...).
    """

    def __init__(self, path: str) -> None:
        self.path = path
        self.keys: frozenset[int] | None = None
        """Keys it has; None where it does not say."""
        self.grabbed = False
        self._fd = -1
        self._is_pipe = False
        self._heard = False
        self._rest = b""
        self._skipping = False
        self._keep_grabbed = False
        self._retry_ns, self._pause_ns = 0, _FIRST_RETRY_NS

    @property
    def present(self) -> bool:
        """Whether somebody is at the other end."""
        return self._fd >= 0 and (self._heard or not self._is_pipe)

    def open(self) -> None:
        """Raises DeviceError with the remedy: missing, no permission, no input device."""
        try:
            self._connect()
        except FileNotFoundError:
            found = ", ".join(input_devices()) or "none found"
            raise DeviceError(f"{self.path}: no such input device (valid: {found})") from None
        except PermissionError:
            raise DeviceError(
                f"{self.path}: permission denied; add yourself to the group that owns it: sudo usermod -aG input $USER"
            ) from None
        except OSError as error:
            raise DeviceError(f"{self.path}: not an input device ({error.strerror})") from None

    def close(self) -> None:
        """Give it back, to other programs too; harmless when closed or gone."""
        if self._fd >= 0:
            with contextlib.suppress(OSError):
                os.close(self._fd)
        self._fd, self.grabbed, self._heard, self._rest, self._skipping = -1, False, False, b"", False

    def grab(self, wanted: bool) -> None:
        """Keep its keys from everybody else, or no longer. A keyboard that is grabbed types nowhere."""
        self._keep_grabbed = wanted
        if self._fd < 0 or self._is_pipe or wanted == self.grabbed:
            return
        with contextlib.suppress(OSError):  # another program has it; we still hear it
            fcntl.ioctl(self._fd, _GRAB, int(wanted))
            self.grabbed = wanted

    def axis_range(self, axis: int) -> tuple[int, int]:
        """Ends of an absolute axis."""
        if self._is_pipe:
            return _PIPE_RANGE
        try:
            data = fcntl.ioctl(self._fd, _ioctl(2, 0x40 + axis, _ABSINFO.size), bytes(_ABSINFO.size))
        except OSError:
            return _PIPE_RANGE
        _, low, high, *_ = _ABSINFO.unpack(data)
        return (low, high) if low < high else _PIPE_RANGE

    def read(self, now_ns: int) -> list[InputEvent] | None:
        """What it reported since the last call; None: it is gone, or lost events, and all its keys count as up."""
        if self._fd < 0:
            self._look_for_it(now_ns)
            return None
        try:
            data = os.read(self._fd, EVENT.size * _MOST_EVENTS)
        except BlockingIOError:
            self._heard = True
            return []
        except OSError:
            data = b""
        if not data:
            self._lose(now_ns)
            return None
        self._heard = True
        return self._parsed(data)

    def _parsed(self, data: bytes) -> list[InputEvent] | None:
        data = self._rest + data
        whole = len(data) - len(data) % EVENT.size
        self._rest = data[whole:]
        events: list[InputEvent] = []
        dropped = False
        for _, _, kind, code, value in EVENT.iter_unpack(data[:whole]):
            if kind == EV_SYN:
                if code == SYN_DROPPED:
                    dropped = self._skipping = True
                elif code == SYN_REPORT:
                    self._skipping = False
            elif not self._skipping:
                events.append(InputEvent(kind, code, value))
        return None if dropped else events

    def _connect(self) -> None:
        self._fd = os.open(self.path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
        try:
            self._is_pipe = stat.S_ISFIFO(os.fstat(self._fd).st_mode)
            if not self._is_pipe:
                fcntl.ioctl(self._fd, _GET_VERSION, bytes(4))
                bits = int.from_bytes(fcntl.ioctl(self._fd, _GET_KEYS, bytes(_KEY_BYTES)), "little")
                self.keys = frozenset(code for code in range(bits.bit_length()) if bits >> code & 1)
        except BaseException:
            self.close()
            raise
        self.grab(self._keep_grabbed)

    def _look_for_it(self, now_ns: int) -> None:
        if now_ns >= self._retry_ns:
            try:
                self._connect()
            except OSError:
                self._lose(now_ns)
            else:
                self._pause_ns = _FIRST_RETRY_NS

    def _lose(self, now_ns: int) -> None:
        self.close()
        self._retry_ns = now_ns + self._pause_ns
        self._pause_ns = min(2 * self._pause_ns, _LONGEST_RETRY_NS)


def input_devices(kind: str = "") -> list[str]:
    """Input devices present, by the path that is stable over reboots where there is one.

    Args:
        kind: ``kbd`` or ``joystick`` gives those alone.
    """
    suffix = f"event-{kind}" if kind else "event-*"
    stable = sorted(str(path) for path in Path("/dev/input/by-id").glob(f"*-{suffix}"))
    return stable or ([] if kind else sorted(str(path) for path in Path("/dev/input").glob("event*")))

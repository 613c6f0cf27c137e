"""The serial port: exclusive, low-latency, and every wait ends at an absolute deadline.

It has the methods of the SDK's ``PortHandler``, so the SDK's packet handler works on it. The SDK's own port spins,
reads the wall clock and takes 34 ms to notice one lost packet.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import select
import stat
import termios
import time
from collections.abc import Sequence
from pathlib import Path

import serial

from spec.errors import DeviceError

_PTY_MAJORS = range(136, 144)  # Unix98 pseudo-terminal slaves, Linux Documentation/admin-guide/devices.txt
_BITS_PER_BYTE = 10  # start, 8 data, stop
PATIENCE_NS = 40_000_000
"""An answer later than its wire time by this is lost: USB, a busy machine, a servo writing EEPROM take no longer."""
_MAX_SELECT_FD = 1024


class PortGoneError(DeviceError):
    """The device vanished while open: cable pulled, adapter reset, virtual arm ended."""


class Port:
    """One open serial port.

    Args:
        device: path of the serial device or pseudo-terminal.
        baud: [bit/s]
        sysfs: where the kernel shows USB adapters; another folder in tests.
    """

    def __init__(self, device: str, baud: int, *, sysfs: Path = Path("/sys")) -> None:
        self.device = device
        self.baud = baud
        self.low_latency = False
        """Whether the driver accepted low-latency mode. A pseudo-terminal has none and needs none."""
        self.latency_timer_ms: int | None = None
        """Latency timer of an FTDI adapter in effect [ms]; None for adapters without one."""
        self.is_using = False  # the SDK's busy flag
        self._sysfs = sysfs
        self._serial: serial.Serial | None = None
        self._fd = -1
        self._deadline_ns = 0

    @property
    def is_open(self) -> bool:
        return self._serial is not None

    def open(self) -> None:
        """Open, lock and configure. Raises DeviceError with the remedy: missing, no permission, in use, no tty."""
        path = Path(self.device)
        try:
            self._serial = serial.Serial(self.device, self.baud, timeout=0, exclusive=True)
        except (serial.SerialException, ValueError, OSError) as error:
            raise DeviceError(_why_not(path, self.baud, error)) from None
        self._fd = self._serial.fileno()
        try:
            self._configure()
        except BaseException:
            self.close()
            raise

    def close(self) -> None:
        """Free the port; harmless when closed or gone."""
        if self._serial is not None:
            with contextlib.suppress(OSError, termios.error):  # a vanished device cannot be tidied up
                self._serial.close()
            self._serial, self._fd = None, -1

    def set_baud(self, baud: int) -> None:
        """Change the speed of the open port."""
        self.baud = baud
        if self._serial is not None:
            self._serial.baudrate = baud

    def wire_ns(self, size: int) -> int:
        """Time ``size`` bytes take on the wire [ns]."""
        return size * _BITS_PER_BYTE * 1_000_000_000 // self.baud

    def send(self, data: bytes) -> bool:
        """Hand ``data`` to the driver without waiting; False where it did not take all. Raises PortGoneError."""
        try:
            return os.write(self._fd, data) == len(data)
        except BlockingIOError:
            return False
        except OSError as error:
            raise self._gone(error) from None

    def receive(self, deadline_ns: int, size: int = 4096) -> bytes:
        """What has arrived, waiting for the first byte until ``deadline_ns`` (CLOCK_MONOTONIC); empty at the deadline.

        Waits in select(), whose time-out is in microseconds; poll() rounds up to whole milliseconds.
        """
        try:
            left = max(0, deadline_ns - time.monotonic_ns())
            if not select.select((self._fd,), (), (), left * 1e-9)[0]:
                return b""
            data = os.read(self._fd, size)
        except BlockingIOError:
            return b""
        except (OSError, ValueError) as error:  # ValueError: the port was closed meanwhile
            raise self._gone(error) from None
        if not data:  # readable and yet at its end: hung up
            raise self._gone(None)
        return data

    def flush_input(self) -> None:
        """Forget what arrived unasked. Raises PortGoneError."""
        try:
            termios.tcflush(self._fd, termios.TCIFLUSH)
        except (termios.error, ValueError) as error:
            raise self._gone(error) from None

    def _gone(self, error: Exception | None) -> PortGoneError:
        reason = f" ({error})" if error else ""
        return PortGoneError(f"{self.device}: the port is gone{reason}; check the cable and reconnect")

    def _configure(self) -> None:
        if self._fd >= _MAX_SELECT_FD:
            raise DeviceError(f"{self.device}: file descriptor {self._fd} is too high for select(); close some files")
        mode = os.fstat(self._fd)
        if stat.S_ISCHR(mode.st_mode) and os.major(mode.st_rdev) in _PTY_MAJORS:
            return
        # On a pseudo-terminal this flag would outlive a killed process and lock everybody out.
        fcntl.ioctl(self._fd, termios.TIOCEXCL)
        assert self._serial is not None  # noqa: S101  only called while open
        try:
            self._serial.set_low_latency_mode(True)
            self.low_latency = True
        except (ValueError, OSError):
            self.low_latency = False
        self.latency_timer_ms = ensure_latency_timer(self.device, self._sysfs, self.low_latency)

    # --- the SDK's PortHandler -------------------------------------------------------------------------------------

    def openPort(self) -> bool:  # noqa: N802  the SDK's name
        if not self.is_open:
            self.open()
        return True

    def closePort(self) -> None:  # noqa: N802
        self.close()

    def clearPort(self) -> None:  # noqa: N802
        self.flush_input()

    def getPortName(self) -> str:  # noqa: N802
        return self.device

    def setPortName(self, name: str) -> None:  # noqa: N802
        self.device = name

    def getBaudRate(self) -> int:  # noqa: N802
        return self.baud

    def setBaudRate(self, baud: int) -> bool:  # noqa: N802
        self.set_baud(baud)
        return True

    def getBytesAvailable(self) -> int:  # noqa: N802
        return 0 if self._serial is None else int(self._serial.in_waiting)

    def readPort(self, length: int) -> bytes:  # noqa: N802
        """Up to ``length`` bytes; waits for the first one until the packet's deadline instead of returning at once."""
        return self.receive(self._deadline_ns, length) if length > 0 else b""

    def writePort(self, packet: Sequence[int]) -> int:  # noqa: N802
        return len(packet) if self.send(bytes(packet)) else 0

    def setPacketTimeout(self, packet_length: int) -> None:  # noqa: N802
        """Deadline of an answer of ``packet_length`` bytes from now."""
        latency_ns = (self.latency_timer_ms or 1) * 1_000_000
        self._deadline_ns = time.monotonic_ns() + self.wire_ns(packet_length) + latency_ns + PATIENCE_NS

    def setPacketTimeoutMillis(self, msec: float) -> None:  # noqa: N802
        self._deadline_ns = time.monotonic_ns() + round(msec * 1e6)

    def isPacketTimeout(self) -> bool:  # noqa: N802
        return time.monotonic_ns() >= self._deadline_ns


def ensure_latency_timer(device: str, sysfs: Path, low_latency: bool) -> int | None:
    """Latency timer in effect [ms] of the USB adapter behind ``device``, brought down to 1; None where it has none.

    An FTDI adapter keeps up to 16 ms of received bytes to itself. Low-latency mode makes its driver use 1 ms whatever
    the timer file says (drivers/usb/serial/ftdi_sio.c, write_latency_timer).

    Raises:
        DeviceError: the timer is too long and may not be changed; says what to type.
    """
    timer = sysfs / "bus/usb-serial/devices" / Path(device).resolve().name / "latency_timer"
    try:
        value = int(timer.read_text())
    except (OSError, ValueError):
        return None
    if low_latency or value <= 1:
        return 1
    try:
        timer.write_text("1")
    except OSError:
        raise DeviceError(
            f"{device}: USB latency timer is {value} ms and may not be changed: echo 1 | sudo tee {timer}"
        ) from None
    return 1


def serial_ports() -> list[str]:
    """Serial devices present, by the path that is stable over reboots where there is one."""
    stable = sorted(str(p) for p in Path("/dev/serial/by-id").glob("*"))
    return stable or sorted(str(p) for pattern in ("ttyUSB*", "ttyACM*") for p in Path("/dev").glob(pattern))


def _why_not(path: Path, baud: int, error: Exception) -> str:
    """One line: why the port cannot be opened and what to do."""
    if isinstance(error, ValueError):
        return f"{path}: baud {baud}: the port cannot run at this rate"
    number = getattr(error, "errno", None)
    if not path.exists():
        found = ", ".join(serial_ports()) or "none found; is the arm plugged in and powered?"
        return f"{path}: no such port (valid: {found})"
    if isinstance(error, PermissionError) or number == 13:
        return f"{path}: permission denied; add yourself to the group that owns it: sudo usermod -aG dialout $USER"
    if number in {11, 16}:
        return f"{path}: in use{_holder(path)}; end it first"
    return f"{path}: not a usable serial port ({error})"


def _holder(path: Path) -> str:
    """`` by PROGRAM (pid N)`` of a process that has ``path`` open, where that can be seen."""
    target = path.resolve()
    for entry in Path("/proc").glob("[0-9]*"):
        if entry.name == str(os.getpid()):
            continue
        try:
            if any(link.resolve() == target for link in (entry / "fd").iterdir()):
                return f" by {(entry / 'comm').read_text().strip()} (pid {entry.name})"
        except OSError:
            continue
    return " by another program"

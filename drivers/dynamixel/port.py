"""The serial port: exclusive, low-latency, and every wait is until an absolute deadline.

The SDK's own port spins, reads the wall clock and takes 34 ms to notice one lost packet.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import select
import stat
import termios
import time
from pathlib import Path

import serial

from drivers.dynamixel.line import Line, PortGoneError
from spec.errors import DeviceError

_PTY_MAJORS = range(136, 144)  # Unix98 pseudo-terminal slaves, Linux Documentation/admin-guide/devices.txt
_MAX_SELECT_FD = 1024


class Port(Line):
    """One open serial port.

    Args:
        device: path of the serial device or pseudo-terminal.
        baud: [bit/s]
        sysfs: where the kernel shows USB adapters; another folder in tests.
    """

    def __init__(self, device: str, baud: int, *, sysfs: Path = Path("/sys")) -> None:
        super().__init__(device, baud)
        self.low_latency = False
        """Whether the driver accepted low-latency mode. A pseudo-terminal has none and needs none."""
        self._sysfs = sysfs
        self._serial: serial.Serial | None = None
        self._fd = -1
        self._arrivals: select.epoll | None = None
        self._more = False
        """There may be something to read for which no event comes any more: the rest of what came, or the hang-up."""

    @property
    def is_open(self) -> bool:
        return self._serial is not None

    def open(self) -> None:
        """Open, lock and configure. Raises DeviceError with the remedy: missing, no permission, in use, no tty."""
        path = Path(self.device)
        try:
            self._serial = serial.Serial(self.device, self.baud, timeout=0, exclusive=True)
            self._fd = self._serial.fileno()
            self._configure()
            self._watch()
        except (serial.SerialException, termios.error, ValueError, OSError) as error:  # unplugged just now, too
            self.close()
            raise DeviceError(_why_not(path, self.baud, error)) from None
        except BaseException:
            self.close()
            raise

    def close(self) -> None:
        """Free the port; harmless when closed or gone."""
        if self._arrivals is not None:
            self._arrivals.close()
            self._arrivals = None
        if self._serial is not None:
            with contextlib.suppress(OSError, termios.error):  # a vanished device cannot be tidied up
                self._serial.close()
            self._serial, self._fd = None, -1

    def set_baud(self, baud: int) -> None:
        """Change the speed of the open port."""
        self.baud = baud
        if self._serial is not None:
            self._serial.baudrate = baud

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

        To ask a port that has nothing, by poll() or read(), is to wait for the kernel's worker that may be about to
        bring something, at that one's ordinary priority and whatever the time-out (n_tty_poll, n_tty_read). FIONREAD
        needs a lock that this worker holds when it wakes us. So the wait is for an event, which an edge-triggered epoll
        keeps without asking, and then the port is read. select() on it has a time-out in microseconds; its own rounds
        up to whole milliseconds.
        """
        if self._arrivals is None:
            raise self._gone(ValueError("closed"))
        try:
            while True:
                if not self._more:
                    left = max(0, deadline_ns - time.monotonic_ns())
                    if not select.select((self._arrivals,), (), (), left * 1e-9)[0]:
                        return b""
                    self._arrivals.poll(0, 1)  # takes the event away
                data = os.read(self._fd, size)  # what there is: pyserial sets VMIN 0
                self._more = len(data) == size
                if data:
                    return data
                fcntl.ioctl(self._fd, termios.FIONREAD, bytes(4))  # refused where the port is gone
        except (OSError, ValueError) as error:  # ValueError: the port was closed meanwhile
            self._more = True
            raise self._gone(error) from None

    def flush_input(self) -> None:
        """Forget what arrived unasked. Raises PortGoneError."""
        self._more = False
        try:
            if self._arrivals is not None:
                self._arrivals.poll(0, 1)  # while its bytes are there: an event without any has the port asked
            termios.tcflush(self._fd, termios.TCIFLUSH)
        except (termios.error, OSError, ValueError) as error:
            raise self._gone(error) from None

    def _gone(self, error: Exception) -> PortGoneError:
        return PortGoneError(f"{self.device}: the port is gone ({error}); check the cable and reconnect")

    def _configure(self) -> None:
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

    def _watch(self) -> None:
        self._arrivals, self._more = select.epoll(), False
        self._arrivals.register(self._fd, select.EPOLLIN | select.EPOLLET)
        number = self._arrivals.fileno()
        if number >= _MAX_SELECT_FD:
            raise DeviceError(f"{self.device}: file descriptor {number} is too high for select(); close some files")

    def now_ns(self) -> int:
        return time.monotonic_ns()

    def sleep_s(self, seconds: float) -> None:
        time.sleep(seconds)

    def getBytesAvailable(self) -> int:  # noqa: N802  the SDK's name
        return 0 if self._serial is None else int(self._serial.in_waiting)


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
        return f"{path}: in use by {holder(path) or 'another program'}; end it first"
    return f"{path}: not a usable serial port ({error})"


def holder(path: Path) -> str | None:
    """``PROGRAM (pid N)`` of another process that has ``path`` open; None where none can be seen."""
    target = path.resolve()
    for entry in Path("/proc").glob("[0-9]*"):
        if entry.name == str(os.getpid()):
            continue
        try:
            if any(link.resolve() == target for link in (entry / "fd").iterdir()):
                return f"{(entry / 'comm').read_text().strip()} (pid {entry.name})"
        except OSError:
            continue
    return None

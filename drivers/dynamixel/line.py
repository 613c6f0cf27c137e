"""What the driver asks of the line to the servos: bytes, deadlines, and the time itself.

The line owns the clock. On a serial port that is CLOCK_MONOTONIC; the virtual arm in lock-step brings a line whose time
moves only by being waited for, and the very same driver code runs on it, as fast as the machine can compute.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence

from spec.errors import DeviceError

PATIENCE_NS = 40_000_000
"""An answer later than its wire time by this is lost: USB, a busy machine, a servo writing EEPROM take no longer."""
_BITS_PER_BYTE = 10  # start, 8 data, stop


class PortGoneError(DeviceError):
    """The device vanished while open: cable pulled, adapter reset, virtual arm ended."""


class Line(ABC):
    """One bus. It has the methods of the SDK's ``PortHandler`` too, so the SDK's packet handler works on it."""

    def __init__(self, device: str, baud: int) -> None:
        """
        Args:
            device: what to call it in messages; of a serial port, its path.
            baud: [bit/s]
        """
        self.device = device
        self.baud = baud
        self.latency_timer_ms: int | None = None
        """Latency timer of an FTDI adapter in effect [ms]; None for adapters without one."""
        self.is_using = False  # the SDK's busy flag
        self._deadline_ns = 0

    @property
    @abstractmethod
    def is_open(self) -> bool: ...

    @abstractmethod
    def open(self) -> None:
        """Raises DeviceError with the remedy."""

    @abstractmethod
    def close(self) -> None:
        """Free the line; harmless when closed or gone."""

    @abstractmethod
    def set_baud(self, baud: int) -> None:
        """Change the speed [bit/s], open or not."""

    @abstractmethod
    def send(self, data: bytes) -> bool:
        """Hand ``data`` over without waiting; False where not all was taken. Raises PortGoneError."""

    @abstractmethod
    def receive(self, deadline_ns: int, size: int = 4096) -> bytes:
        """What has arrived, waiting for the first byte until ``deadline_ns``; empty at the deadline. Raises
        PortGoneError."""

    @abstractmethod
    def flush_input(self) -> None:
        """Forget what arrived unasked. Raises PortGoneError."""

    @abstractmethod
    def now_ns(self) -> int:
        """The clock that every deadline is meant on."""

    @abstractmethod
    def sleep_s(self, seconds: float) -> None:
        """Let time pass on that clock."""

    def wire_ns(self, size: int) -> int:
        """Time ``size`` bytes take on the wire [ns]."""
        return size * _BITS_PER_BYTE * 1_000_000_000 // self.baud

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

    @abstractmethod
    def getBytesAvailable(self) -> int: ...  # noqa: N802

    def readPort(self, length: int) -> bytes:  # noqa: N802
        """Up to ``length`` bytes; waits for the first one until the packet's deadline instead of returning at once."""
        return self.receive(self._deadline_ns, length) if length > 0 else b""

    def writePort(self, packet: Sequence[int]) -> int:  # noqa: N802
        return len(packet) if self.send(bytes(packet)) else 0

    def setPacketTimeout(self, packet_length: int) -> None:  # noqa: N802
        """Deadline of an answer of ``packet_length`` bytes from now."""
        latency_ns = (self.latency_timer_ms or 1) * 1_000_000
        self._deadline_ns = self.now_ns() + self.wire_ns(packet_length) + latency_ns + PATIENCE_NS

    def setPacketTimeoutMillis(self, msec: float) -> None:  # noqa: N802
        self._deadline_ns = self.now_ns() + round(msec * 1e6)

    def isPacketTimeout(self) -> bool:  # noqa: N802
        return self.now_ns() >= self._deadline_ns

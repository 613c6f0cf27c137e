"""One-off transactions with single servos, for everything outside the tick. Retried, and refused by name."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from dynamixel_sdk import COMM_RX_TIMEOUT, COMM_SUCCESS, Protocol2PacketHandler
from dynamixel_sdk.protocol2_packet_handler import PKT_ERROR, PKT_ID, PKT_LENGTH_H, PKT_LENGTH_L

from drivers.arm import BusFault
from drivers.dynamixel.line import PATIENCE_NS, Line, PortGoneError
from drivers.dynamixel.protocol import ALERT, sync_write
from drivers.dynamixel.sync import BusStatistics, SyncReader
from drivers.dynamixel.tables import Register, models
from spec.errors import DeviceError

ATTEMPTS = 6
"""Tries of one transaction. With one packet in twenty lost in each direction, one in a million still fails."""

# Error field of a status packet, e-manual Protocol 2.0, "Error".
_ERRORS = {
    1: "could not process the instruction",
    2: "does not know the instruction",
    3: "received a wrong checksum",
    4: "refuses the value: out of range",
    5: "refuses the value: wrong length",
    6: "refuses the value: beyond a limit register",
    7: "refuses access: read-only, or EEPROM while torque is on",
}
_CRC_ERROR = 3
_STATUS_OVERHEAD = 4  # what the length of a status packet counts besides its data: instruction, error, checksum
_PING_LENGTH = 3  # model number, firmware version
_FACTORY_DELAY_NS = 500_000  # Return Delay Time as delivered; what a servo has before it is programmed
_READ_ALL_NS = 5_000_000_000
"""Longest a sync read may take with its retries, at 9600 baud; whoever is silent costs the patience only."""


class _Packets(Protocol2PacketHandler):  # type: ignore[misc]  # the SDK has no types
    """The SDK's, but deaf to answers of another servo or another length than asked for, and only until the deadline.

    Answers do not say what they answer, and a late one would pass for that to the next question: a position for a
    model. A servo answers in the order asked, so once a ping, which alone is answered by three bytes, is answered,
    nothing older is under way.
    """

    servo = 0
    """Who is asked."""
    length = 0
    """Data bytes of the answer asked for; refusals have none."""

    def rxPacket(self, port: Line, fast_option: bool) -> tuple[list[int], int]:  # noqa: N802  the SDK's name
        while True:
            answer, result = super().rxPacket(port, fast_option)
            if result != COMM_SUCCESS:
                return answer, result
            as_long = answer[PKT_LENGTH_L] + (answer[PKT_LENGTH_H] << 8) == _STATUS_OVERHEAD + self.length
            if answer[PKT_ID] == self.servo and (as_long or answer[PKT_ERROR] & ~ALERT):
                return answer, result
            if port.isPacketTimeout():
                return [], COMM_RX_TIMEOUT


class ServoError(DeviceError):
    """A servo that does not answer, or answers with a refusal."""


class Bus:
    """Servos behind one open port.

    Args:
        port: open port.
        names: servo id → what to call it in messages.
    """

    def __init__(self, port: Line, names: Mapping[int, str]) -> None:
        self.port = port
        self.statistics = BusStatistics()
        """Of the transactions made here; the tick counts its own."""
        self._names = names
        self._packets = _Packets()

    def ping(self, servo: int, attempts: int = ATTEMPTS) -> int | None:
        """Model number, or None where nobody answers."""
        for attempt in range(attempts):
            self._expect(servo, _PING_LENGTH)
            number, result, error = self._packets.ping(self.port, servo)
            if result == COMM_SUCCESS and not error & ~ALERT:
                self._forget_late_answers(attempt)
                return int(number)
        return None

    def scan(self) -> dict[int, int]:
        """Everybody on the bus, id → model number; takes a second."""
        self.port.is_using = False
        answers, _result = self._packets.broadcastPing(self.port)
        return {int(servo): int(number) for servo, (number, _firmware) in sorted(answers.items())}

    def find_baud(self, servos: Iterable[int]) -> int | None:
        """A baud rate at which one of ``servos`` answers, other than the present one; leaves the port as it was."""
        configured, servos = self.port.baud, tuple(servos)
        try:
            for baud in sorted({rate for m in models().values() for rate in m.baud} - {configured}):
                try:
                    self.port.set_baud(baud)
                except (OSError, ValueError):
                    continue  # not a rate of this adapter
                if any(self.ping(servo, attempts=2) is not None for servo in servos):
                    return baud
        finally:
            self.port.set_baud(configured)
        return None

    def read(self, servo: int, register: Register) -> int:
        return register.decode(self.read_bytes(servo, register.address, register.size))

    def read_bytes(self, servo: int, address: int, size: int) -> bytes:
        """``size`` bytes of the control table at ``address``."""
        refusal = 0
        for attempt in range(ATTEMPTS):
            self._expect(servo, size)
            data, result, error = self._packets.readTxRx(self.port, servo, address, size)
            refusal = error & ~ALERT
            if result == COMM_SUCCESS and not refusal:
                self._forget_late_answers(attempt)
                return bytes(data)
            if result == COMM_SUCCESS and refusal not in {0, _CRC_ERROR}:
                break
        raise self._error(servo, f"read of {size} bytes at address {address}", refusal)

    def write(self, servo: int, register: Register, value: int) -> None:
        """Write one register and have the write acknowledged (status return level 2)."""
        refusal = 0
        for attempt in range(ATTEMPTS):
            self._expect(servo, 0)
            data = list(register.encode(value))
            result, error = self._packets.writeTxRx(self.port, servo, register.address, register.size, data)
            refusal = error & ~ALERT
            if result == COMM_SUCCESS and not refusal:
                self._forget_late_answers(attempt)
                return
            if result == COMM_SUCCESS and refusal != _CRC_ERROR:
                break
        raise self._error(servo, f"{register.name}({register.address}) = {value}", refusal)

    def read_all(self, servos: Sequence[int], address: int, size: int) -> dict[int, bytes]:
        """``size`` bytes at ``address`` of every servo, by sync read; ServoError names who stays silent."""
        reader = SyncReader(
            self.port,
            servos,
            address,
            size,
            self.statistics,
            return_delay_ns=_FACTORY_DELAY_NS,
        )
        data, fresh = bytearray(size * len(servos)), [False]
        got: dict[int, bytes] = {}
        retries = self.statistics.retries
        for attempt in range(ATTEMPTS):
            fault = reader.read(data, fresh, self.port.now_ns() + _READ_ALL_NS)
            if fault & BusFault.DISCONNECTED:
                raise PortGoneError(f"{self.port.device}: the port is gone; check the cable and reconnect")
            got |= {servo: bytes(data[k * size : (k + 1) * size]) for k, servo in enumerate(servos) if fresh[k]}
            if len(got) == len(servos):
                self._forget_late_answers(attempt + self.statistics.retries - retries)
                return got
        silent = next(servo for servo in servos if servo not in got)
        raise self._error(silent, f"sync read of {size} bytes at address {address}", 0)

    def write_all(self, register: Register, values: Mapping[int, int]) -> None:
        """Write one register of many servos by sync write, and read it back; ServoError names who did not take it."""
        wanted = {servo: register.encode(value) for servo, value in values.items()}
        found: dict[int, bytes] = {}
        for _ in range(ATTEMPTS):
            self.port.send(sync_write(register.address, register.size, wanted))
            found = self.read_all(list(wanted), register.address, register.size)
            if found == wanted:
                return
        servo = next(s for s in wanted if found[s] != wanted[s])
        raise ServoError(
            f"{self.port.device}: {self.name(servo)}: {register.name}({register.address}) reads "
            f"{register.decode(found[servo])} after {values[servo]} was written"
        )

    def reboot(self, servo: int) -> None:
        """Restart one servo; it answers again about half a second later, torque off."""
        for attempt in range(ATTEMPTS):
            self._expect(servo, 0)
            result, error = self._packets.reboot(self.port, servo)
            if result == COMM_SUCCESS and not error & ~ALERT:
                self._forget_late_answers(attempt)
                return
        raise self._error(servo, "reboot", 0)

    def _expect(self, servo: int, length: int) -> None:
        """Before a transaction that ``servo`` answers by ``length`` data bytes."""
        self.port.is_using = False
        self._packets.servo, self._packets.length = servo, length

    def _forget_late_answers(self, retries: int) -> None:
        """After a retry: what answered may be the late answer to an earlier try, and that to the retry still be under
        way."""
        if retries:
            until = self.port.now_ns() + PATIENCE_NS
            while self.port.receive(until):
                pass

    def name(self, servo: int) -> str:
        return self._names.get(servo, f"servo id {servo}")

    def _error(self, servo: int, what: str, refusal: int) -> ServoError:
        reason = _ERRORS.get(refusal, f"answers error {refusal}") if refusal else "does not answer"
        return ServoError(f"{self.port.device}: {self.name(servo)}: {reason} ({what})")

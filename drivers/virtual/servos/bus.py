"""A bus of servos: bytes from the client in, answers with the instant their last byte is through out.

Pure in time: it is told the time, so tests need no clock and no port.
"""

from __future__ import annotations

from bisect import bisect_right, insort
from collections.abc import Callable, Iterable, Sequence
from typing import NamedTuple

from drivers.virtual.servos.faults import Faults
from drivers.virtual.servos.packet import (
    BROADCAST,
    Error,
    Instruction,
    Packet,
    Receiver,
    fast_status_packet,
    packet_bytes,
    status_packet,
)
from drivers.virtual.servos.servo import Servo

_TOLERANCE = 0.03
"""Baud rates further apart than this do not understand each other."""
_SILENCE_NS = 50_000_000
"""A packet interrupted for so long is given up."""
_READS = frozenset(
    {Instruction.SYNC_READ, Instruction.FAST_SYNC_READ, Instruction.BULK_READ, Instruction.FAST_BULK_READ}
)


class Answer(NamedTuple):
    """Bytes for the client, complete at ``due_ns``."""

    due_ns: int
    data: bytes


class Outbox:
    """Answers on their way to the client, the next one due first."""

    def __init__(self) -> None:
        self._answers: list[Answer] = []

    def put(self, answers: Iterable[Answer]) -> None:
        for answer in answers:
            insort(self._answers, answer, key=_due_ns)

    def due_ns(self) -> int | None:
        """When the next one is there; None where none is on its way."""
        return self._answers[0].due_ns if self._answers else None

    def take(self, now_ns: int) -> bytes:
        """All that has arrived by ``now_ns``."""
        count = bisect_right(self._answers, now_ns, key=_due_ns)
        arrived, self._answers = self._answers[:count], self._answers[count:]
        return b"".join(answer.data for answer in arrived)

    def clear(self) -> None:
        self._answers.clear()


def _due_ns(answer: Answer) -> int:
    return answer.due_ns


def wire_ns(size: int, baud: int) -> int:
    """Time ``size`` bytes take on the wire [ns]: ten bits each (start, eight, stop)."""
    return size * 10_000_000_000 // baud


class Bus:
    """All servos on one line."""

    def __init__(self, servos: Sequence[Servo], *, wire_time: bool = True, faults: Faults | None = None) -> None:
        self.servos = tuple(servos)
        self.faults = faults or Faults()
        self._wire_time = wire_time
        self._receiver = Receiver()
        self._heard_ns = 0
        self._baud = 0
        self._free_ns = self._told_ns = 0

    def receive(self, data: bytes, baud: int, now_ns: int) -> list[Answer]:
        """The client sent ``data`` at ``baud`` [bit/s]; returns the answers, which are due in no certain order."""
        if baud != self._baud or now_ns - self._heard_ns > _SILENCE_NS:
            self._receiver.reset()
            self._baud = baud
        self._heard_ns = now_ns
        start = max(now_ns, self._free_ns)
        self._free_ns = start + self._wire(len(data))
        listening = [servo for servo in self.servos if abs(servo.baud - baud) <= _TOLERANCE * servo.baud]
        if not listening:
            return []
        answers: list[Answer] = []
        for packet in self._receiver.feed(data):
            answers += self._handle(packet, listening, now_ns)
        return answers

    def supervise(self, now_ns: int) -> None:
        """Let every servo look at its watchdog and its motor; call every ten milliseconds or so."""
        for servo in self.servos:
            servo.supervise(now_ns)

    def _wire(self, size: int) -> int:
        return wire_ns(size, self._baud) if self._wire_time and self._baud else 0

    # One packet

    def _handle(self, packet: Packet, listening: Sequence[Servo], now_ns: int) -> list[Answer]:
        if packet.instruction == Instruction.STATUS:
            return []
        packet = self._through_faults(packet)
        servos = [s for s in listening if s.awake(now_ns) and s.id not in self.faults.silent]
        if packet.sound:
            for servo in servos:
                servo.heard(now_ns)
        elif packet.size == 0:
            return []
        if packet.instruction in _READS and packet.id == BROADCAST:
            return self._send_reads(packet, servos, now_ns) if packet.sound else []
        replies: list[tuple[Servo, bytes]] = []
        if packet.id == BROADCAST:
            if packet.sound:
                replies = self._broadcast(packet, servos, now_ns)
        else:
            replies = [reply for servo in servos if (reply := self._single(packet, servo, now_ns)) is not None]
        return self._sent(replies)

    def _through_faults(self, packet: Packet) -> Packet:
        """The packet as it reaches the servos; one that is lost has size 0."""
        raw = packet_bytes(packet.id, packet.instruction, packet.parameters) if self.faults.noisy else b""
        arrived = self.faults.request(raw, _name(packet.instruction))
        if arrived == raw:
            return packet
        # Broken on the way: where the head survived, the servo still sees a packet, with a wrong CRC.
        broken = Receiver().feed(arrived) if arrived else []
        return broken[0] if broken else packet._replace(sound=False, size=0)

    def _single(self, packet: Packet, servo: Servo, now_ns: int) -> tuple[Servo, bytes] | None:
        """One servo's answer to an instruction sent to it alone."""
        if servo.id != packet.id:
            if packet.sound and servo.memory["secondary_id"] == packet.id:
                _execute(servo, packet.instruction, packet.parameters, now_ns)  # a group member acts, silently
            return None
        old_id = servo.id
        if not packet.sound:
            return servo, status_packet(old_id, Error.CRC | servo.alert)
        level_ok = packet.instruction == Instruction.PING or servo.answers(
            reading=packet.instruction == Instruction.READ
        )
        result = _execute(servo, packet.instruction, packet.parameters, now_ns)
        if not level_ok:
            return None
        if isinstance(result, Error):
            return servo, status_packet(old_id, result | servo.alert)
        return servo, status_packet(old_id, servo.alert, result)

    def _broadcast(self, packet: Packet, servos: Sequence[Servo], now_ns: int) -> list[tuple[Servo, bytes]]:
        """Broadcast ping is answered by all in order of id; everything else is obeyed in silence."""
        if packet.instruction == Instruction.PING:
            ordered = sorted(servos, key=lambda servo: servo.id)
            return [(s, status_packet(s.id, s.alert, _identity(s))) for s in ordered]
        if packet.instruction == Instruction.SYNC_WRITE:
            _sync_write(packet.parameters, {s.id: s for s in servos}, now_ns)
        elif packet.instruction == Instruction.BULK_WRITE:
            _bulk_write(packet.parameters, {s.id: s for s in servos}, now_ns)
        elif packet.instruction != Instruction.READ:
            for servo in servos:
                _execute(servo, packet.instruction, packet.parameters, now_ns)
        return []

    def _send_reads(self, packet: Packet, servos: Sequence[Servo], now_ns: int) -> list[Answer]:
        """Sync and bulk reads, plain and fast."""
        bulk = packet.instruction in {Instruction.BULK_READ, Instruction.FAST_BULK_READ}
        asked = _bulk_asked(packet.parameters) if bulk else _sync_asked(packet.parameters)
        fast = packet.instruction in {Instruction.FAST_SYNC_READ, Instruction.FAST_BULK_READ}
        by_id = {servo.id: servo for servo in servos}
        parts: list[tuple[Servo, int, bytes]] = []
        for servo_id, address, length in asked:
            servo = by_id.get(servo_id)
            if servo is None or not servo.answers(reading=True):
                if fast:
                    break  # the next one waits for its predecessor's part, which never comes
                continue  # the others answer after the usual pause
            result = servo.read(address, length, now_ns)
            error = result if isinstance(result, Error) else Error.NONE
            data = bytes(length) if isinstance(result, Error) else result
            parts.append((servo, error | servo.alert, data))
        if fast:
            if not parts:
                return []
            joint = fast_status_packet([(servo.id, error, data) for servo, error, data in parts])
            if len(parts) < len(asked):
                joint = _promising(joint, asked)
            return self._sent([(parts[0][0], joint)])
        return self._sent(
            (servo, status_packet(servo.id, error, data if not error & ~0x80 else b"")) for servo, error, data in parts
        )

    def _sent(self, replies: Iterable[tuple[Servo, bytes]]) -> list[Answer]:
        """Put status packets on the wire one after the other.

        They reach the client together when the last is through, as a USB adapter hands over what it has gathered.
        """
        gathered = bytearray()
        at = self._free_ns
        for servo, data in replies:
            at += servo.return_delay_ns + self._wire(len(data)) if self._wire_time else 0
            arrived = self.faults.answer(data)
            if arrived is not None:
                gathered += arrived
        self._free_ns = at
        data = self.faults.crackle() + gathered
        if not data:
            return []
        self._told_ns = max(self._told_ns, at + self.faults.lateness_ns())  # a late one holds up those behind it
        again = self.faults.again_ns()
        answers = [Answer(self._told_ns, data)]
        return answers if again is None else [*answers, Answer(self._told_ns + again, data)]


def _promising(joint: bytes, asked: Sequence[tuple[int, int, int]]) -> bytes:
    """A joint answer that breaks off: its head still announces the parts of all servos asked."""
    length = 1 + sum(size + 4 for _, _, size in asked)
    return joint[:5] + length.to_bytes(2, "little") + joint[7:]


def _identity(servo: Servo) -> bytes:
    """Parameters of a ping's answer: model number and firmware."""
    return servo.memory["model_number"].to_bytes(2, "little") + bytes((servo.memory["firmware_version"],))


_Handler = Callable[[Servo, bytes, int], "Error | bytes"]


def _rebooted(servo: Servo, now_ns: int) -> Error:
    servo.reboot(now_ns)
    return Error.NONE


# Instruction → fewest and most parameter bytes, and what is done.
_HANDLERS: dict[int, tuple[int, int, _Handler]] = {
    Instruction.PING: (0, 0, lambda servo, _, __: _identity(servo)),
    Instruction.READ: (4, 4, lambda servo, data, now: servo.read(_word(data, 0), _word(data, 2), now)),
    Instruction.WRITE: (2, 1024, lambda servo, data, now: servo.write(_word(data, 0), data[2:], now)),
    Instruction.REG_WRITE: (2, 1024, lambda servo, data, _: servo.register_write(_word(data, 0), data[2:])),
    Instruction.ACTION: (0, 0, lambda servo, _, now: servo.action(now)),
    Instruction.FACTORY_RESET: (1, 1, lambda servo, data, now: servo.factory_reset(data[0], now)),
    Instruction.REBOOT: (0, 0, lambda servo, _, now: _rebooted(servo, now)),
    Instruction.CLEAR: (5, 5, lambda servo, data, _: servo.clear(data)),
    Instruction.BACKUP: (5, 5, lambda servo, data, now: servo.backup(data, now)),
}


def _execute(servo: Servo, instruction: int, parameters: bytes, now_ns: int) -> Error | bytes:
    """Do one instruction; bytes are the answer's parameters."""
    if instruction not in _HANDLERS:
        return Error.INSTRUCTION
    fewest, most, handler = _HANDLERS[instruction]
    if not fewest <= len(parameters) <= most:
        return Error.DATA_LENGTH
    return handler(servo, parameters, now_ns)


def _word(data: bytes, at: int) -> int:
    return data[at] | data[at + 1] << 8


def _sync_asked(parameters: bytes) -> list[tuple[int, int, int]]:
    """(id, address, length) of each servo a sync read asks."""
    if len(parameters) < 4:
        return []
    address, length = _word(parameters, 0), _word(parameters, 2)
    return [(servo, address, length) for servo in parameters[4:]]


def _bulk_asked(parameters: bytes) -> list[tuple[int, int, int]]:
    """(id, address, length) of each servo a bulk read asks."""
    return [
        (parameters[at], _word(parameters, at + 1), _word(parameters, at + 3))
        for at in range(0, len(parameters) - 4, 5)
    ]


def _sync_write(parameters: bytes, servos: dict[int, Servo], now_ns: int) -> None:
    if len(parameters) < 4:
        return
    address, length = _word(parameters, 0), _word(parameters, 2)
    for at in range(4, len(parameters) - length, length + 1):
        servo = servos.get(parameters[at])
        if servo is not None:
            servo.write(address, parameters[at + 1 : at + 1 + length], now_ns)


def _bulk_write(parameters: bytes, servos: dict[int, Servo], now_ns: int) -> None:
    at = 0
    while at + 5 <= len(parameters):
        length = _word(parameters, at + 3)
        data = parameters[at + 5 : at + 5 + length]
        servo = servos.get(parameters[at])
        if servo is not None and len(data) == length:
            servo.write(_word(parameters, at + 1), data, now_ns)
        at += 5 + length


def _name(instruction: int) -> str:
    try:
        return Instruction(instruction).name
    except ValueError:
        return "OTHER"

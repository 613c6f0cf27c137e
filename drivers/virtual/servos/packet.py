"""Dynamixel Protocol 2.0 seen from the servo: instruction packets in, status packets out.

Written apart from the driver's own codec on purpose: two ends sharing one mistake would never notice it.
Source: https://emanual.robotis.com/docs/en/dxl/protocol2/ (packet format, CRC, byte stuffing).
"""

from __future__ import annotations

from collections.abc import Iterator
from enum import IntEnum
from typing import NamedTuple

BROADCAST = 0xFE
_HEADER = b"\xff\xff\xfd"
_STUFFING = b"\xff\xff\xfd\xfd"
_PREFIX = 7
"""Header, reserved byte, id, length."""
_MAX_LENGTH = 1024
"""A longer packet is noise: no client may send one (SDK: TXPACKET_MAX_LEN)."""


class Instruction(IntEnum):
    """Instruction byte."""

    PING = 0x01
    READ = 0x02
    WRITE = 0x03
    REG_WRITE = 0x04
    ACTION = 0x05
    FACTORY_RESET = 0x06
    REBOOT = 0x08
    CLEAR = 0x10
    BACKUP = 0x20
    STATUS = 0x55
    SYNC_READ = 0x82
    SYNC_WRITE = 0x83
    FAST_SYNC_READ = 0x8A
    BULK_READ = 0x92
    BULK_WRITE = 0x93
    FAST_BULK_READ = 0x9A


class Error(IntEnum):
    """Error field of a status packet; :data:`ALERT` is added to it while a hardware error stands."""

    NONE = 0
    RESULT_FAIL = 1
    INSTRUCTION = 2
    CRC = 3
    DATA_RANGE = 4
    DATA_LENGTH = 5
    DATA_LIMIT = 6
    ACCESS = 7


ALERT = 0x80


class Packet(NamedTuple):
    """One packet off the wire, stuffing removed."""

    id: int
    instruction: int
    parameters: bytes
    sound: bool
    """The CRC holds."""
    size: int
    """Bytes on the wire."""


def _remainders() -> list[int]:
    table = []
    for byte in range(256):
        value = byte << 8
        for _ in range(8):
            value = (value << 1 ^ 0x8005 if value & 0x8000 else value << 1) & 0xFFFF
        table.append(value)
    return table


_REMAINDERS = _remainders()


def checksum(data: bytes | bytearray | memoryview, start: int = 0) -> int:
    """CRC-16, polynomial 0x8005, no reflection, continued from ``start``."""
    value = start
    for byte in data:
        value = (value << 8 & 0xFF00) ^ _REMAINDERS[value >> 8 ^ byte]
    return value


def status_packet(servo: int, error: int, parameters: bytes = b"") -> bytes:
    """A whole status packet."""
    return packet_bytes(servo, Instruction.STATUS, bytes((error,)) + parameters)


def packet_bytes(servo: int, instruction: int, parameters: bytes) -> bytes:
    """A whole packet: stuffed, with length and CRC."""
    body = (bytes((instruction,)) + parameters).replace(_HEADER, _STUFFING)
    head = _HEADER + b"\x00" + bytes((servo,)) + (len(body) + 2).to_bytes(2, "little") + body
    return head + checksum(head).to_bytes(2, "little")


def fast_status_packet(parts: list[tuple[int, int, bytes]]) -> bytes:
    """The joint answer to a fast read: (id, error, data) of each servo, then the CRC of everything before it."""
    length = 1 + sum(len(data) + 4 for _, _, data in parts)
    out = bytearray(_HEADER + b"\x00" + bytes((BROADCAST,)) + length.to_bytes(2, "little"))
    out.append(Instruction.STATUS)
    value, done = 0, 0
    for servo, error, data in parts:
        out += bytes((error, servo)) + data
        value = checksum(memoryview(out)[done:], value)
        done = len(out)
        out += value.to_bytes(2, "little")
    return bytes(out)


class Receiver:
    """Finds packets in a stream of bytes; anything else is skipped, a broken packet costs only itself."""

    def __init__(self) -> None:
        self._buffer = bytearray()

    def reset(self) -> None:
        """Forget a packet half received."""
        self._buffer.clear()

    def feed(self, data: bytes) -> list[Packet]:
        """Packets completed by ``data``. Those with a wrong CRC are among them, marked unsound."""
        self._buffer += data
        return list(self._packets())

    def _packets(self) -> Iterator[Packet]:
        buffer = self._buffer
        while True:
            start = buffer.find(_HEADER)
            if start < 0:
                del buffer[: max(0, len(buffer) - 2)]
                return
            del buffer[:start]
            if len(buffer) < _PREFIX:
                return
            length = int.from_bytes(buffer[5:7], "little")
            if buffer[3] != 0 or not 3 <= length <= _MAX_LENGTH:
                del buffer[:3]
                continue
            size = _PREFIX + length
            if len(buffer) < size:
                return
            body = bytes(buffer[_PREFIX : size - 2])
            sound = checksum(memoryview(buffer)[: size - 2]) == int.from_bytes(buffer[size - 2 : size], "little")
            servo = buffer[4]
            # A wrong length may have swallowed a sound packet: after a bad CRC only the header is passed over.
            del buffer[: size if sound else 3]
            body = body.replace(_STUFFING, _HEADER)
            yield Packet(servo, body[0], body[1:], sound, size)

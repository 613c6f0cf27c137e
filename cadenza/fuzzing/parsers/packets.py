"""Both ends of the servo bus: answers as the driver finds them in the stream, requests as a servo does."""

from __future__ import annotations

from contextlib import AbstractContextManager

from cadenza.fuzzing.mutation import Mutator
from cadenza.fuzzing.target import Layer, as_they_are, check
from drivers.dynamixel import protocol
from drivers.virtual.servos.packet import Receiver, fast_status_packet, status_packet

_SERVOS = (1, 2, 3, 4, 5, 6)
_LENGTH = 10
"""Present current, velocity and position, as every tick reads them."""
_DATA = tuple(bytes((servo, 0xFF, 0xFF, 0xFD, 0, servo, 1, 2, 3, 4)) for servo in _SERVOS)
_WORDS = (
    protocol.HEADER,
    b"\xff\xff\xfd\xfd",
    b"\xff\xff\xfd",
    b"\x55",
    b"\xfe",
    b"\x06\x00",
    b"\xff\xff",
    b"\x00\x04",
)
_MOST_PENDING = 1400
"""The longest status packet, stuffed."""


def packets() -> AbstractContextManager[list[Layer]]:
    answers = [
        b"".join(status_packet(servo, servo % 2 * 0x80, data) for servo, data in zip(_SERVOS, _DATA, strict=True)),
        status_packet(1, 0, bytes(4)),
        fast_status_packet(list(zip(_SERVOS, [0] * len(_SERVOS), _DATA, strict=True))),
    ]
    requests = [
        protocol.sync_read(126, _LENGTH, _SERVOS),
        protocol.sync_read(126, _LENGTH, _SERVOS, fast=True),
        protocol.sync_write(116, 4, dict.fromkeys(_SERVOS, b"\xff\xff\xfd\x00")),
        protocol.packet(1, 0x02, b"\x84\x00\x04\x00"),
    ]
    replies, asked = Mutator(answers, _WORDS), Mutator([*requests, *answers], _WORDS)
    return as_they_are(
        [
            Layer("status stream", 3, replies.case, _stream),
            Layer("fast answer", 2, replies.case, _fast),
            Layer("servo's side", 2, asked.case, _receiver),
        ]
    )


def _stream(data: bytes) -> None:
    """The packets do not depend on how the bytes arrive, and what is kept waiting is bounded."""
    whole, pieces = protocol.StatusStream(_LENGTH), protocol.StatusStream(_LENGTH)
    found = whole.feed(data)
    at, seen = 0, []
    for size in (1, 3, 7, len(data)):
        seen += pieces.feed(data[at : at + size])
        at += size
    check(found == seen, "the packets depend on how the bytes arrive")
    check(whole.pending <= _MOST_PENDING, "more waits than the longest packet has")
    found += whole.finish()
    check(whole.pending == 0, "something waits after the end")
    for status in found:
        _intact(data, status)


def _intact(data: bytes, status: protocol.Status) -> None:
    """What was found stands there, checksum and all, as the other end would have sent it."""
    sent = status_packet(status.servo, status.error, status.data)
    length = len(status.data) + 4
    plain = protocol.HEADER + bytes((status.servo, length & 0xFF, length >> 8, protocol.STATUS, status.error))
    check(sent in data or plain + status.data in data or protocol.HEADER[:3] in status.data, "a packet nobody sent")


def _fast(data: bytes) -> None:
    found, _ = protocol.parse_fast(data, _SERVOS, _LENGTH)
    check([one.servo for one in found] == sorted({one.servo for one in found}), "a servo answered twice")
    check(all(len(one.data) == _LENGTH for one in found), "an answer of another length")


def _receiver(data: bytes) -> None:
    whole, pieces = Receiver(), Receiver()
    found, half = whole.feed(data), len(data) // 2
    check(found == pieces.feed(data[:half]) + pieces.feed(data[half:]), "the packets depend on how the bytes arrive")
    for one in found:
        check(one.size <= len(data), "a packet larger than all that came")

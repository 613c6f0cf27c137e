"""Bytes of Dynamixel Protocol 2.0 for the tick: sync read, fast sync read, sync write, and their answers.

Slow one-off transactions (ping, read, write, reboot) go through the SDK's packet handler. The tick does not: the SDK
gives up a sync read at the first silent servo, drops the error bytes (hence alerts), throws a fast answer away whole,
and sends what needs byte stuffing unstuffed (4.1). Source: https://emanual.robotis.com/docs/en/dxl/protocol2/.
"""

from __future__ import annotations

import struct
from array import array
from collections.abc import Iterator, Mapping, Sequence
from typing import NamedTuple

HEADER = b"\xff\xff\xfd\x00"
BROADCAST = 0xFE
SYNC_READ = 0x82
SYNC_WRITE = 0x83
FAST_SYNC_READ = 0x8A
STATUS = 0x55
ALERT = 0x80
"""Bit of the error byte: the servo has a hardware error (Hardware Error Status(70) says which)."""

_STUFFED = b"\xff\xff\xfd"
_LENGTH_END = len(HEADER) + 3  # header, id, length
_FAST_OVERHEAD = 4  # error, id, crc of each servo in a fast answer
_SIGNED = {1: "b", 2: "h", 4: "i"}  # struct codes by length


def _crc_table() -> tuple[int, ...]:
    """CRC-16 with polynomial 0x8005, most significant bit first, as the e-manual's "CRC calculation" page has it."""
    table = []
    for byte in range(256):
        crc = byte << 8
        for _ in range(8):
            crc = (crc << 1) ^ 0x8005 if crc & 0x8000 else crc << 1
        table.append(crc & 0xFFFF)
    return tuple(table)


_TABLE = array("H", _crc_table())  # a tuple's numbers lie all over the memory, and a tick finds the caches cold
_TABLE_AND_ZERO = array("H", ((crc << 8 & 0xFFFF) ^ _TABLE[crc >> 8] for crc in _TABLE))
"""Likewise for a byte followed by a zero byte."""


def crc16(data: bytes | bytearray | memoryview, crc: int = 0) -> int:
    """Checksum of ``data``, continuing from ``crc``. Two bytes a step: it halves what is the dearest part of a tick's
    parsing."""
    table, wide = _TABLE, _TABLE_AND_ZERO
    pairs = iter(data)
    for first, second in zip(pairs, pairs):  # noqa: B905  an odd last byte is dealt with below
        crc = wide[crc >> 8 ^ first] ^ table[crc & 0xFF ^ second]
    if len(data) & 1:
        crc = (crc << 8 & 0xFFFF) ^ table[crc >> 8 ^ data[-1]]
    return crc


def packet(servo: int, instruction: int, parameters: bytes | bytearray) -> bytes:
    """A whole instruction (or status) packet: byte stuffing, length and checksum added."""
    body = bytes((instruction,)) + parameters
    if _STUFFED in body:
        body = body.replace(_STUFFED, _STUFFED + b"\xfd")
    length = len(body) + 2
    head = HEADER + bytes((servo, length & 0xFF, length >> 8)) + body
    return head + crc16(head).to_bytes(2, "little")


def sync_read(address: int, length: int, servos: Sequence[int], *, fast: bool = False) -> bytes:
    """Ask every servo for ``length`` bytes at ``address``; ``fast``: answered in one joint packet."""
    parameters = address.to_bytes(2, "little") + length.to_bytes(2, "little") + bytes(servos)
    return packet(BROADCAST, FAST_SYNC_READ if fast else SYNC_READ, parameters)


def sync_write(address: int, length: int, values: Mapping[int, bytes]) -> bytes:
    """Write ``length`` bytes at ``address`` of every servo in ``values``; nobody answers."""
    parameters = address.to_bytes(2, "little") + length.to_bytes(2, "little")
    return packet(BROADCAST, SYNC_WRITE, parameters + b"".join(bytes((s,)) + data for s, data in values.items()))


class SyncWriting:
    """Sync writes of one register to always the same servos: only the values differ, so the rest is made beforehand."""

    __slots__ = ("_crc", "_fields", "_head", "_layout")

    def __init__(self, address: int, length: int, servos: Sequence[int]) -> None:
        """``length``: 1, 2 or 4 bytes."""
        whole = packet(BROADCAST, SYNC_WRITE, bytes(4 + len(servos) * (1 + length)))
        self._head = whole[: _LENGTH_END + 1] + address.to_bytes(2, "little") + length.to_bytes(2, "little")
        self._crc = crc16(self._head)
        self._layout = struct.Struct("<" + f"B{_SIGNED[length]}" * len(servos))
        self._fields = [0] * (2 * len(servos))
        self._fields[::2] = servos

    def packet(self, values: Sequence[int]) -> bytes:
        """The packet that writes signed ``values``, in servo order."""
        self._fields[1::2] = values
        data = self._layout.pack(*self._fields)
        sent = self._head + data
        if sent.find(_STUFFED, _LENGTH_END) >= 0:
            return packet(BROADCAST, SYNC_WRITE, sent[_LENGTH_END + 1 :])
        return sent + crc16(data, self._crc).to_bytes(2, "little")


def request_size(servos: int) -> int:
    """Bytes of a sync read of any kind that asks so many servos."""
    return _LENGTH_END + 1 + 4 + servos + 2


def status_size(length: int) -> int:
    """Bytes of one status packet with ``length`` data bytes, without stuffing."""
    return _LENGTH_END + 2 + length + 2


def fast_status_size(length: int, servos: int) -> int:
    """Bytes of the joint answer to a fast sync read; it is never stuffed."""
    return _LENGTH_END + 1 + servos * (length + _FAST_OVERHEAD)


def fast_status_head(length: int, servos: int) -> bytes:
    """How the joint answer begins; no other packet does, our own request echoed by the adapter included."""
    return (
        HEADER + bytes((BROADCAST,)) + (1 + servos * (length + _FAST_OVERHEAD)).to_bytes(2, "little") + bytes((STATUS,))
    )


class Status(NamedTuple):
    """One status packet."""

    servo: int
    error: int
    data: bytes


class StatusStream:
    """Finds status packets in bytes as they arrive, whatever stands between and inside them.

    A broken packet costs itself only: the search goes on right behind its header, so an intact packet is found even
    where a wrong length field claims to cover it.
    """

    __slots__ = ("_buffer", "_longest", "corrupt")

    def __init__(self, data_length: int = 1000) -> None:
        """``data_length``: most data bytes a sound answer has; a packet that claims more is noise."""
        self._buffer = bytearray()
        self._longest = 4 + data_length + (data_length + 1) // 3  # instruction, error, checksum; stuffing
        self.corrupt = 0
        """Packets with a wrong checksum, and complete headers that cannot be a status packet."""

    @property
    def pending(self) -> int:
        """Bytes received that do not make a packet yet."""
        return len(self._buffer)

    def feed(self, data: bytes) -> list[Status]:
        """The packets completed by ``data``."""
        self._buffer += data
        return list(self._take())

    def finish(self) -> list[Status]:
        """No more bytes will come: what can be found behind a broken header that was still waiting for its end."""
        found: list[Status] = []
        while self._buffer:
            found += self._take()
            if self._buffer.startswith(HEADER):
                self.corrupt += 1
                del self._buffer[: len(HEADER)]
            else:
                self._buffer.clear()
        return found

    def _take(self) -> Iterator[Status]:
        buffer = self._buffer
        while True:
            start = buffer.find(HEADER)
            if start < 0:
                # Keep what may be the beginning of a header.
                del buffer[: max(0, len(buffer) - len(HEADER) + 1)]
                return
            if start:
                del buffer[:start]
            if len(buffer) <= _LENGTH_END:
                return
            length = buffer[5] | buffer[6] << 8
            if not 4 <= length <= self._longest or buffer[_LENGTH_END] != STATUS:
                self.corrupt += buffer[4] != BROADCAST  # our own packets echoed by the adapter are no fault
                del buffer[: len(HEADER)]
                continue
            end = _LENGTH_END + length
            if len(buffer) < end:
                return
            if crc16(memoryview(buffer)[: end - 2]) != buffer[end - 2] | buffer[end - 1] << 8:
                self.corrupt += 1
                del buffer[: len(HEADER)]
                continue
            body = bytes(buffer[_LENGTH_END + 1 : end - 2])
            if _STUFFED in body:
                body = body.replace(_STUFFED + b"\xfd", _STUFFED)
            yield Status(buffer[4], body[0], body[1:])
            del buffer[:end]


class JointAnswer:
    """What the answer to a fast sync read of always the same servos looks like when nothing is wrong with it.

    Then one comparison and one checksum say so, and the data need only be picked out. Anything else, an alert too, is
    for :func:`parse_fast`.
    """

    __slots__ = ("_ids", "_last", "_quiet", "_step", "head", "size")

    def __init__(self, servos: Sequence[int], length: int) -> None:
        self.head = fast_status_head(length, len(servos))
        self.size = fast_status_size(length, len(servos))
        """[bytes]"""
        self._step, self._ids, self._quiet = length + _FAST_OVERHEAD, bytes(servos), bytes(len(servos))
        self._last = self.size - 2

    def sound(self, heard: bytes) -> bool:
        """Whether this is the whole answer and nothing else, without an alert or a refusal."""
        error, last = _LENGTH_END + 1, self._last
        return (
            len(heard) == self.size
            and heard.startswith(self.head)
            and heard[error :: self._step] == self._quiet
            and heard[error + 1 :: self._step] == self._ids
            # The last servo's checksum covers all that stands before it, the others' included.
            and crc16(heard[:last]) == heard[last] | heard[last + 1] << 8
        )

    def data(self, heard: bytes, into: bytearray) -> None:
        """Pick the data of a sound answer out of it, servo by servo."""
        step, length = self._step, self._step - _FAST_OVERHEAD
        for k in range(len(self._ids)):
            at = _LENGTH_END + 3 + k * step
            into[k * length : (k + 1) * length] = heard[at : at + length]


def parse_fast(buffer: bytes | bytearray, servos: Sequence[int], length: int) -> tuple[list[Status], bool]:
    """Answers in a joint fast-sync-read packet, as far as it came.

    Every servo appends error, id, data and the checksum of everything before it on the wire, so one servo's part is
    judged from the checksum its predecessor sent: a part hit by noise does not cost those behind it.

    Args:
        buffer: received bytes, possibly with noise in front or the end missing.
        servos: ids in the order asked.
        length: data bytes asked of each.

    Returns:
        The intact parts, and whether anything complete was broken.
    """
    start = buffer.rfind(fast_status_head(length, len(servos)))  # the newest: one before it answers an earlier request
    if start < 0:
        return [], len(buffer) > 0
    found: list[Status] = []
    corrupt = False
    at = start + _LENGTH_END + 1
    crc = crc16(buffer[start:at])
    for servo in servos:
        end = at + 2 + length
        if len(buffer) < end + 2:
            break
        sent = buffer[end] | buffer[end + 1] << 8
        if crc16(buffer[at:end], crc) == sent and buffer[at + 1] == servo:
            found.append(Status(servo, buffer[at], bytes(buffer[at + 2 : end])))
        else:
            corrupt = True
        crc = crc16(buffer[end : end + 2], sent)
        at = end + 2
    return found, corrupt

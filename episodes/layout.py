"""Ticks between their two forms: fixed-size records of shared memory, and protobuf messages of the log.

Every scalar of the ``Tick`` message has fixed width and every list is packed, so all ticks of one arm have one byte
layout: a NumPy structured type made from the schema, field keys included. Converting a batch is one assignment per
field, about 1 µs a tick, where filling protobuf objects from Python costs over 20 µs.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from typing import Any

import numpy as np
import numpy.typing as npt
from google.protobuf.descriptor import FieldDescriptor

from episodes.records import TickRecord
from episodes.schema.cadenza_pb2 import Tick

TICK_RECORD: np.dtype[Any] = np.dtype(TickRecord)

# Encoded type -> NumPy type and protobuf wire type (https://protobuf.dev/programming-guides/encoding/).
_FIXED = {
    FieldDescriptor.TYPE_FIXED64: ("<u8", 1),
    FieldDescriptor.TYPE_SFIXED64: ("<i8", 1),
    FieldDescriptor.TYPE_DOUBLE: ("<f8", 1),
    FieldDescriptor.TYPE_FIXED32: ("<u4", 5),
    FieldDescriptor.TYPE_SFIXED32: ("<i4", 5),
}
_PACKED = 2
_PER_JOINT = {"raw": 3}
FIELDS: tuple[str, ...] = tuple(field.name for field in Tick.DESCRIPTOR.fields)


def varint(value: int) -> bytes:
    """Protobuf's encoding of a number that is not negative."""
    out = bytearray()
    while value > 0x7F:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    out.append(value)
    return bytes(out)


def _is_list(field: Any) -> bool:
    return bool(field.is_repeated)


@cache
def wire_type(joints: int) -> tuple[np.dtype[Any], bytes]:
    """Byte layout of one encoded tick of an arm with ``joints`` joints, and a tick of zeros in it."""
    layout: list[Any] = []
    zero = bytearray()
    for field in Tick.DESCRIPTOR.fields:
        kind, wire = _FIXED[field.type]
        size = np.dtype(kind).itemsize
        if _is_list(field):
            count = joints * _PER_JOINT.get(field.name, 1)
            key = varint(field.number << 3 | _PACKED) + varint(count * size)
            value: Any = (field.name, kind, (count,))
        else:
            count, key, value = 1, varint(field.number << 3 | wire), (field.name, kind)
        layout += [(f"key {field.name}", f"V{len(key)}"), value]
        zero += key + bytes(count * size)
    return np.dtype(layout), bytes(zero)


def records_of(buffer: Any) -> npt.NDArray[Any]:
    """Bytes of one or more :class:`TickRecord`, or one such structure, as a structured array; no copy."""
    return np.frombuffer(buffer, dtype=TICK_RECORD)


def encode_ticks(records: npt.NDArray[Any]) -> list[bytes]:
    """Structured array of :class:`TickRecord` → one ``Tick`` message each. All must have the same number of joints."""
    if not len(records):
        return []
    joints = int(records["joints"][0])
    kind, zero = wire_type(joints)
    out = np.frombuffer(bytearray(zero * len(records)), dtype=kind)
    for name in FIELDS:
        column = records[name]
        out[name] = column if column.ndim == 1 else column[:, : joints * _PER_JOINT.get(name, 1)]
    data, size = out.tobytes(), kind.itemsize
    return [data[start : start + size] for start in range(0, len(data), size)]


def decode_ticks(messages: Sequence[bytes], joints: int) -> npt.NDArray[Any]:
    """``Tick`` messages → structured array with the fields of the schema; lists have shape (ticks, joints).

    Messages written by any other protobuf library are understood too, only slower.
    """
    kind, zero = wire_type(joints)
    data = b"".join(messages)
    if len(data) == len(messages) * kind.itemsize:
        ticks = np.frombuffer(data, dtype=kind)
        template = np.frombuffer(zero, dtype=kind)
        if all((ticks[f"key {name}"] == template[f"key {name}"]).all() for name in FIELDS):
            return ticks
    return _parse_ticks(messages, kind)


def _parse_ticks(messages: Sequence[bytes], kind: np.dtype[Any]) -> npt.NDArray[Any]:
    ticks: npt.NDArray[Any] = np.zeros(len(messages), dtype=kind)
    for index, message in enumerate(messages):
        tick = Tick.FromString(message)
        for name in FIELDS:
            ticks[name][index] = getattr(tick, name)
    return ticks

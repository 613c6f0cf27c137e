"""The servo side's codec: round trips, stuffing, checksums, and finding packets in garbage."""

from __future__ import annotations

from dynamixel_sdk import Protocol2PacketHandler
from hypothesis import given
from hypothesis import strategies as st

from drivers.virtual.servos.packet import (
    Instruction,
    Receiver,
    checksum,
    fast_status_packet,
    packet_bytes,
    status_packet,
)

ids = st.integers(0, 252)
# Bytes that love to look like headers and stuffing.
tricky = st.lists(st.sampled_from([0x00, 0xFD, 0xFF, 0x55, 0x12]), max_size=60).map(bytes) | st.binary(max_size=200)


@given(tricky)
def test_checksum_is_the_sdk_s(data: bytes) -> None:
    assert checksum(data) == Protocol2PacketHandler().updateCRC(0, data, len(data))


@given(ids, tricky)
def test_a_packet_comes_out_as_it_went_in(servo: int, parameters: bytes) -> None:
    packets = Receiver().feed(packet_bytes(servo, Instruction.WRITE, parameters))
    assert [(p.id, p.instruction, p.parameters, p.sound) for p in packets] == [
        (servo, Instruction.WRITE, parameters, True)
    ]


@given(ids, tricky)
def test_the_header_never_occurs_inside_a_packet(servo: int, parameters: bytes) -> None:
    raw = packet_bytes(servo, Instruction.WRITE, parameters)
    assert raw[7:-2].count(b"\xff\xff\xfd\x00") == 0


@given(ids, tricky)
def test_the_sdk_takes_out_the_stuffing_we_put_in(servo: int, parameters: bytes) -> None:
    # SDK 4.1 unstuffs in place and looks back at what it has overwritten: after one stuffing it takes any FF FD FD for
    # another, and loses a byte. Such packets cannot be compared with it.
    _, stuffed, rest = parameters.partition(b"\xff\xff\xfd")
    if stuffed and (b"\xff\xfd\xfd" in rest + b"\xfd" or b"\xff\xff\xfd" in rest):
        return
    raw = list(status_packet(servo, 0, parameters))
    plain = Protocol2PacketHandler().removeStuffing(raw)
    length = plain[5] | plain[6] << 8
    assert bytes(plain[9 : 7 + length - 2]) == parameters


@given(st.lists(st.tuples(ids, tricky), min_size=1, max_size=4), st.lists(st.integers(1, 30), min_size=1, max_size=20))
def test_packets_survive_any_slicing_of_the_stream(sent: list[tuple[int, bytes]], cuts: list[int]) -> None:
    stream = b"".join(packet_bytes(servo, Instruction.WRITE, data) for servo, data in sent)
    receiver, found, at, k = Receiver(), [], 0, 0
    while at < len(stream):
        size = cuts[k % len(cuts)]
        found += receiver.feed(stream[at : at + size])
        at, k = at + size, k + 1
    assert [(p.id, p.parameters) for p in found] == sent


# Garbage without 0xFF cannot announce a packet of its own, so nothing after it may be lost.
@given(st.binary(max_size=80).map(lambda b: b.replace(b"\xff", b"\xfe")), ids, tricky)
def test_garbage_before_a_packet_costs_nothing(garbage: bytes, servo: int, parameters: bytes) -> None:
    found = Receiver().feed(garbage + packet_bytes(servo, Instruction.READ, parameters))
    assert [(p.id, p.parameters) for p in found if p.sound] == [(servo, parameters)]


@given(ids, st.binary(min_size=1, max_size=40), st.data())
def test_a_flipped_bit_never_passes_for_a_sound_packet(servo: int, parameters: bytes, data: st.DataObject) -> None:
    raw = bytearray(packet_bytes(servo, Instruction.WRITE, parameters))
    at, bit = data.draw(st.integers(0, len(raw) - 1)), data.draw(st.integers(0, 7))
    raw[at] ^= 1 << bit
    assert not any(p.sound for p in Receiver().feed(bytes(raw)))


@given(ids, st.binary(max_size=40), ids, st.binary(max_size=40))
def test_a_truncated_packet_does_not_swallow_the_next(a: int, first: bytes, b: int, second: bytes) -> None:
    cut = packet_bytes(a, Instruction.WRITE, first + b"\x00")[:-3]
    padding = packet_bytes(b, Instruction.WRITE, bytes(60))
    found = [p for p in Receiver().feed(cut + packet_bytes(b, Instruction.READ, second) + padding) if p.sound]
    assert (b, Instruction.READ, second) in [(p.id, p.instruction, p.parameters) for p in found]


def test_the_worked_example_of_the_manual() -> None:
    """e-manual, Protocol 2.0, Read: Present Position of id 1."""
    expected = bytes.fromhex("FF FF FD 00 01 07 00 02 84 00 04 00 1D 15")
    assert packet_bytes(1, Instruction.READ, bytes((0x84, 0x00, 0x04, 0x00))) == expected


def test_every_part_of_a_fast_answer_closes_with_the_checksum_so_far() -> None:
    raw = fast_status_packet([(1, 0, b"\x01\x02"), (2, 0x80, b"\x03\x04")])
    first_end = 8 + 2 + 2
    assert int.from_bytes(raw[first_end : first_end + 2], "little") == checksum(raw[:first_end])
    assert int.from_bytes(raw[-2:], "little") == checksum(raw[:-2])
    assert int.from_bytes(raw[5:7], "little") == len(raw) - 7

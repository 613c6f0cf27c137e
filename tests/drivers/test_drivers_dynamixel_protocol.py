"""Packets byte for byte: the e-manual's examples, the SDK as second opinion, and noise."""

from __future__ import annotations

from dynamixel_sdk import Protocol2PacketHandler
from hypothesis import example, given
from hypothesis import strategies as st

from drivers.dynamixel.protocol import (
    HEADER,
    STATUS,
    JointAnswer,
    Status,
    StatusStream,
    SyncWriting,
    crc16,
    fast_status_size,
    packet,
    parse_fast,
    status_size,
    sync_read,
    sync_write,
)

SDK = Protocol2PacketHandler()
payloads = st.binary(max_size=40) | st.lists(
    st.sampled_from([b"\xff\xff\xfd", b"\xff", b"\xfd", b"\x00", b"\xff\xff\xfd\x00"]), max_size=8
).map(b"".join)
statuses = st.builds(Status, st.integers(0, 252), st.sampled_from([0, 0x80, 4]), payloads)


def sent(status: Status) -> bytes:
    return packet(status.servo, STATUS, bytes((status.error,)) + status.data)


# Examples of the e-manual, Protocol 2.0: Sync Read, Sync Write, Fast Sync Read.


def test_sync_read_of_the_manual() -> None:
    assert sync_read(132, 4, [1, 2]) == bytes.fromhex("FFFFFD00FE0900828400040001 02CEFA")


def test_fast_sync_read_of_the_manual() -> None:
    request = sync_read(132, 4, [3, 7, 4], fast=True)
    assert request == bytes.fromhex("FFFFFD00FE0A008A84000400030704 20F2")


def test_sync_write_of_the_manual() -> None:
    values = {1: (150).to_bytes(4, "little"), 2: (170).to_bytes(4, "little")}
    wanted = "FFFFFD00FE1100837400040001960000 0002AA0000008287"
    assert sync_write(116, 4, values) == bytes.fromhex(wanted)


def test_status_of_the_manual() -> None:
    stream = StatusStream(4)
    data = bytes.fromhex("FFFFFD0001080055 00A6000000 8CC0") + bytes.fromhex("FFFFFD0002080055 001F080000 BABE")
    assert stream.feed(data) == [Status(1, 0, b"\xa6\x00\x00\x00"), Status(2, 0, b"\x1f\x08\x00\x00")]
    assert stream.corrupt == stream.pending == 0


FAST = bytes.fromhex("FFFFFD00FE19005500 03A60000008408 00071F08000016CA 0004FF030000D19E")


def test_fast_status_of_the_manual() -> None:
    answers, corrupt = parse_fast(FAST, [3, 7, 4], 4)
    assert answers == [
        Status(3, 0, b"\xa6\x00\x00\x00"),
        Status(7, 0, b"\x1f\x08\x00\x00"),
        Status(4, 0, b"\xff\x03\x00\x00"),
    ]
    assert not corrupt
    assert len(FAST) == fast_status_size(4, 3)


@given(st.binary(max_size=60))
def test_checksum_agrees_with_the_sdk(data: bytes) -> None:
    assert crc16(data) == SDK.updateCRC(0, list(data), len(data))


@given(st.integers(0, 252), payloads)
@example(1, b"\xff\xff\xfd\xff\xff\xfd")
def test_stuffing_agrees_with_the_sdk(servo: int, payload: bytes) -> None:
    """Against its addStuffing alone: the SDK's own txPacket (4.1) throws the stuffed packet away."""
    length = len(payload) + 3
    plain = [*HEADER, servo, length & 0xFF, length >> 8, 0x03, *payload, 0, 0]
    stuffed = SDK.addStuffing(plain)[:-2]
    crc = SDK.updateCRC(0, stuffed, len(stuffed))
    assert packet(servo, 0x03, payload) == bytes(stuffed) + crc.to_bytes(2, "little")


# Any packets, cut anywhere, with anything in between.


@given(st.lists(statuses, max_size=6), st.lists(st.integers(1, 30), min_size=1, max_size=20))
def test_any_cutting_gives_the_same_packets(packets: list[Status], cuts: list[int]) -> None:
    data = b"".join(map(sent, packets))
    stream, found, at, turn = StatusStream(60), [], 0, 0
    while at < len(data):
        step = cuts[turn % len(cuts)]
        found += stream.feed(data[at : at + step])
        at, turn = at + step, turn + 1
    assert found == packets
    assert stream.corrupt == 0


@given(st.lists(statuses, min_size=1, max_size=5), st.data())
def test_one_broken_byte_costs_one_packet(packets: list[Status], data: st.DataObject) -> None:
    pieces = [bytearray(sent(p)) for p in packets]
    victim = data.draw(st.integers(0, len(pieces) - 1))
    position = data.draw(st.integers(0, len(pieces[victim]) - 1))
    pieces[victim][position] ^= data.draw(st.integers(1, 255))
    stream = StatusStream(60)
    found = stream.feed(b"".join(pieces)) + stream.finish()
    others = packets[:victim] + packets[victim + 1 :]
    assert [p for p in found if p in others] == others
    assert len(found) == len(others)


@given(st.binary(max_size=50), st.lists(statuses, max_size=4), st.binary(max_size=50))
def test_packets_are_found_in_noise(before: bytes, packets: list[Status], after: bytes) -> None:
    stream = StatusStream(60)
    found = stream.feed(before + b"".join(map(sent, packets)) + after) + stream.finish()
    assert all(p in found for p in packets)
    assert stream.pending == 0


@given(st.binary(max_size=400))
def test_noise_is_no_packet_and_leaves_nothing_behind(noise: bytes) -> None:
    stream = StatusStream(10)
    found = stream.feed(noise) + stream.finish()
    assert all(sent(packet) in noise for packet in found)
    assert stream.pending == 0
    parse_fast(noise, [1, 2, 3], 10)  # does not raise


def test_an_echo_of_our_own_request_is_no_fault() -> None:
    answer = Status(1, 0, b"\x01\x02")
    stream = StatusStream(2)
    assert stream.feed(sync_read(132, 4, [1, 2]) + sent(answer)) == [answer]
    assert stream.corrupt == 0


def test_a_length_field_cannot_swallow_what_follows() -> None:
    broken = bytearray(sent(Status(1, 0, b"\x01\x02")))
    broken[5] = 0xFF
    stream = StatusStream(2)
    assert stream.feed(bytes(broken) + sent(Status(2, 0, b"\x03\x04"))) == [Status(2, 0, b"\x03\x04")]
    assert stream.corrupt == 1


# Fast answers.


def fast_answer(packets: list[Status]) -> bytes:
    length = len(packets[0].data)
    size = 3 + len(packets) * (length + 4) - 2
    answer = HEADER + bytes((0xFE, size & 0xFF, size >> 8, STATUS))
    for p in packets:
        answer += bytes((p.error, p.servo)) + p.data
        answer += crc16(answer).to_bytes(2, "little")
    return answer


fast_packets = st.lists(
    st.builds(Status, st.integers(0, 252), st.sampled_from([0, 0x80]), st.binary(min_size=10, max_size=10)),
    min_size=1,
    max_size=7,
    unique_by=lambda p: p.servo,
)


@given(fast_packets, st.data())
def test_one_broken_byte_of_a_fast_answer_costs_few(packets: list[Status], data: st.DataObject) -> None:
    """A byte broken in error, id or data costs that servo; in a checksum also the one that continues from it."""
    answer = bytearray(fast_answer(packets))
    head = len(HEADER) + 4
    position = data.draw(st.integers(head, len(answer) - 1))
    answer[position] ^= data.draw(st.integers(1, 255))
    victim, inside = divmod(position - head, 14)
    lost = {victim} if inside < 12 else {victim, victim + 1}
    found, corrupt = parse_fast(answer, [p.servo for p in packets], 10)
    assert corrupt
    assert found == [p for k, p in enumerate(packets) if k not in lost]


@given(fast_packets, st.data())
def test_an_answer_passes_for_sound_only_if_it_is(packets: list[Status], data: st.DataObject) -> None:
    servos, answer = [p.servo for p in packets], fast_answer(packets)
    joint, into = JointAnswer(servos, 10), bytearray(10 * len(packets))
    assert joint.sound(answer) == (not any(p.error for p in packets))
    joint.data(answer, into)
    assert bytes(into) == b"".join(p.data for p in packets)
    broken = bytearray(answer)
    broken[data.draw(st.integers(0, len(answer) - 1))] ^= data.draw(st.integers(1, 255))
    assert not joint.sound(bytes(broken))
    assert not joint.sound(answer[:-1])
    assert not joint.sound(answer + b"\x00")


@given(
    st.sampled_from([(1, 100), (2, 30_000), (4, 2**31 - 1)]),
    st.lists(st.integers(0, 252), min_size=1, max_size=7, unique=True),
    st.data(),
)
@example((4, 2**31 - 1), [1], None)
def test_a_sync_write_made_beforehand_is_the_same(
    size: tuple[int, int], servos: list[int], data: st.DataObject | None
) -> None:
    length, most = size
    drawn = st.lists(st.integers(-most, most), min_size=len(servos), max_size=len(servos))
    values = data.draw(drawn) if data else [int.from_bytes(b"\xff\xff\xfd\xfe", "little", signed=True)]  # is stuffed
    wanted = {s: v.to_bytes(length, "little", signed=True) for s, v in zip(servos, values, strict=True)}
    assert SyncWriting(116, length, servos).packet(values) == sync_write(116, length, wanted)


@given(fast_packets, st.data())
def test_a_cut_fast_answer_gives_what_came(packets: list[Status], data: st.DataObject) -> None:
    answer = fast_answer(packets)
    cut = data.draw(st.integers(0, len(answer)))
    found, _ = parse_fast(b"\x12\xff" + answer[:cut], [p.servo for p in packets], 10)
    assert found == packets[: max(0, cut - 8) // 14]


def test_of_two_joint_answers_the_newer_counts() -> None:
    parts = [Status(1, 0, b"\x01\x02"), Status(2, 0, b"\x03\x04")]
    newer = [Status(1, 0, b"\x05\x06"), Status(2, 0, b"\x07\x08")]
    echo = sync_read(132, 2, [1, 2], fast=True)
    assert parse_fast(echo + fast_answer(parts) + fast_answer(newer), [1, 2], 2) == (newer, False)


def test_a_joint_answer_of_other_size_is_not_taken() -> None:
    late = fast_answer([Status(1, 0, b"\x01"), Status(2, 0, b"\x02")])
    wanted = [Status(1, 0, b"\x05\x06"), Status(2, 0, b"\x07\x08")]
    assert parse_fast(late + fast_answer(wanted), [1, 2], 2) == (wanted, False)


def test_sizes() -> None:
    assert status_size(10) == len(sent(Status(1, 0, bytes(10)))) == 21
    assert fast_status_size(10, 6) == 92

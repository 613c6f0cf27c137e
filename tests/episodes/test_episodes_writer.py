"""Episodes on disk: what is written is what is read, by us and by any MCAP reader."""

from __future__ import annotations

import ctypes
import json
import threading
from pathlib import Path

import numpy as np
import pytest
from mcap.reader import make_reader

import episodes.writer
from episodes.layout import TICK_RECORD, encode_ticks, records_of
from episodes.outcome import Outcome, Termination
from episodes.reader import read_episode
from episodes.records import ChunkRecord, TickRecord
from episodes.schema.cadenza_pb2 import Chunk, Tick
from episodes.writer import EpisodeWriter, Header
from spec.errors import CadenzaError
from spec.robot import Robot
from spec.robotfile import load_robot


@pytest.fixture(scope="module")
def robot() -> Robot:
    return load_robot(Path("robots/virtual.yaml"))


def make_tick(number: int, joints: int = 6, seed: int = 0) -> TickRecord:
    rng = np.random.default_rng([seed, number])
    record = TickRecord.from_buffer_copy(rng.bytes(ctypes.sizeof(TickRecord)))
    record.tick, record.now_ns, record.joints = number, 10_000_000_000 + number * 5_000_000, joints
    for name in (
        "position",
        "velocity",
        "effort",
        "asked",
        "limited",
        "limited_velocity",
        "limited_acceleration",
        "sent",
        "policy",
        "human",
        "human_velocity",
        "human_effort",
        "human_goal",
    ):
        getattr(record, name)[:] = rng.normal(size=16).tolist()
    record.fresh[:], record.alpha = [1] * 16, 0.25
    return record


def make_chunk(sequence: int, joints: int = 6, length: int = 8) -> ChunkRecord:
    record = ChunkRecord(
        sequence=sequence,
        observed_ns=sequence * 10,
        step_ns=100,
        started_ns=1,
        finished_ns=sequence * 10 + 5,
        length=length,
        joints=joints,
        weights=3,
        cameras=2,
        tick=sequence,
    )
    record.frames[:2] = [sequence + 1, sequence + 2]
    record.targets[: length * joints] = np.linspace(0, 1, length * joints).tolist()
    return record


def test_schema_and_records_have_the_same_fields() -> None:
    for message, record in ((Tick, TickRecord), (Chunk, ChunkRecord)):
        assert [field.name for field in message.DESCRIPTOR.fields] == [name for name, _ in record._fields_]


@pytest.mark.parametrize("joints", [1, 6, 7, 16])
def test_tick_bytes_are_what_protobuf_reads(joints: int) -> None:
    records = [make_tick(k, joints) for k in range(3)]
    messages = encode_ticks(records_of(b"".join(bytes(r) for r in records)))
    for record, message in zip(records, messages, strict=True):
        tick = Tick.FromString(message)
        for name, kind in TickRecord._fields_:
            value = getattr(record, name)
            if issubclass(kind, ctypes.Array):
                width = joints * (3 if name == "raw" else 1)
                assert list(getattr(tick, name)) == list(value)[:width], name
            else:
                assert getattr(tick, name) == value, name


def test_what_is_written_is_read_back(tmp_path: Path, robot: Robot) -> None:
    path = tmp_path / "a.mcap"
    records = [make_tick(k) for k in range(50)]
    writer = EpisodeWriter(path, Header(robot, labels={"task": "push"}))
    writer.ticks(b"".join(bytes(record) for record in records[:40]))
    for record in records[40:]:
        writer.tick(record)
    writer.chunk(make_chunk(4))
    for k in range(3):
        writer.frame("top", b"\xff\xd8" + bytes([k]) * 1000, 5_000_000_001 * (k + 1), 7 + k)
    writer.event(3, "test", "label", "good")
    assert not path.exists()
    assert writer.close(Outcome.SUCCESS, Termination.DONE, {"dropped_ticks": "0"}) == path
    assert not writer.part.exists()

    episode = read_episode(path)
    assert episode.joints == robot.follower.names
    assert episode.robot() == robot
    raw = np.frombuffer(b"".join(bytes(record) for record in records), dtype=TICK_RECORD)
    assert np.array_equal(episode.ticks["sent"], raw["sent"][:, :6])
    assert np.array_equal(episode.ticks["raw"], raw["raw"][:, :18])
    assert np.array_equal(episode.ticks["flags"], raw["flags"])
    chunk = episode.chunks[0]
    assert (chunk.sequence, chunk.tick, chunk.frames) == (4, 4, (5, 6))
    assert np.array_equal(chunk.targets, np.linspace(0, 1, 48).reshape(8, 6))
    top = episode.frames["top"]
    assert top.captured_ns.tolist() == [5_000_000_001, 10_000_000_002, 15_000_000_003]
    assert top.sequence.tolist() == [7, 8, 9]
    assert top.jpeg[2] == b"\xff\xd8" + b"\x02" * 1000
    assert len(episode.frames["front"]) == 0
    assert episode.events[0].text == "good"
    assert (episode.outcome, episode.termination) == (Outcome.SUCCESS, Termination.DONE)
    assert episode.labels == {"task": "push"}
    assert episode.damage == ""


def test_any_mcap_reader_reads_it(tmp_path: Path, robot: Robot) -> None:
    path = tmp_path / "a.mcap"
    with EpisodeWriter(path, Header(robot)) as writer:
        for k in range(20):
            writer.tick(make_tick(k))
        writer.frame("top", b"jpeg", 1, 0)
    with path.open("rb") as file:
        reader = make_reader(file)
        summary = reader.get_summary()
        assert summary is not None
        schemas = {channel.topic: summary.schemas[channel.schema_id].name for channel in summary.channels.values()}
        assert schemas["/camera/top"] == "foxglove.CompressedImage"
        ticks = [message for _, channel, message in reader.iter_messages() if channel.topic == "/ticks"]
        assert [Tick.FromString(message.data).tick for message in ticks] == list(range(20))
        robot_file = next(item for item in reader.iter_attachments() if item.name == "robot.json")
        assert json.loads(robot_file.data)["name"] == robot.name


def test_a_name_is_taken_once(tmp_path: Path, robot: Robot) -> None:
    path = tmp_path / "a.mcap"
    with EpisodeWriter(path, Header(robot)), pytest.raises(CadenzaError, match="exists already"):
        EpisodeWriter(path, Header(robot))
    with pytest.raises(CadenzaError, match="exists already"):
        EpisodeWriter(path, Header(robot))


def test_an_exception_closes_the_episode_as_aborted(tmp_path: Path, robot: Robot) -> None:
    path = tmp_path / "a.mcap"
    with pytest.raises(ZeroDivisionError), EpisodeWriter(path, Header(robot)) as writer:  # noqa: PT012 (both belong in it)
        writer.tick(make_tick(0))
        raise ZeroDivisionError
    episode = read_episode(path)
    assert (episode.outcome, episode.termination) == (Outcome.ABORTED, Termination.ERROR)


@pytest.mark.parametrize("content", [b"", b"hello", b"\x89MCAP0\r\n", b"\x89MCAP0\r\n" + b"\x05" * 200])
def test_a_foreign_file_is_refused_in_one_line(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "a.mcap"
    path.write_bytes(content)
    with pytest.raises(CadenzaError, match=r"a\.mcap") as caught:
        read_episode(path)
    assert "\n" not in str(caught.value)


def test_a_slow_disk_does_not_hold_up_the_writer(tmp_path: Path, robot: Robot, monkeypatch: pytest.MonkeyPatch) -> None:
    """While the disk took a tenth of a second, the ticks of that time were nowhere but in memory."""
    begun, done = threading.Event(), threading.Event()

    def slow(descriptor: int) -> None:
        begun.set()
        assert done.wait(30.0)

    monkeypatch.setattr(episodes.writer.os, "fdatasync", slow)
    with EpisodeWriter(tmp_path / "a.mcap", Header(robot)) as writer:
        writer.sync()
        assert begun.wait(30.0)
        writer.ticks(b"".join(bytes(make_tick(k)) for k in range(500)))  # more than a chunk
        assert writer.syncing
        assert writer.part.stat().st_size > 250_000
        done.set()
    assert len(read_episode(tmp_path / "a.mcap").ticks) == 500


def test_a_disk_that_fails_is_noticed(tmp_path: Path, robot: Robot, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(descriptor: int) -> None:
        raise OSError(5, "Input/output error")

    monkeypatch.setattr(episodes.writer.os, "fdatasync", broken)
    writer = EpisodeWriter(tmp_path / "a.mcap", Header(robot))
    writer.tick(make_tick(0))
    writer.sync()
    with pytest.raises(OSError, match="Input/output"):
        writer.close()
    writer.abandon()
    assert writer.part.exists()

"""The recorder over real shared memory: everything published is on record, everything lost is counted."""

from __future__ import annotations

import os
import resource
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from controller.wiring.ipc import Node, new_namespace, remove_namespace
from controller.wiring.topics import CHUNKS, EVENTS, STATES, TICKS, frames_topic, topics
from controller.workers.recorder import Gaps, Recorder, is_full
from controller.workers.recording import Series
from episodes.outcome import Outcome, Termination
from episodes.reader import read_episode
from episodes.records import ChunkRecord, Flag, FrameHeader, TickRecord
from episodes.recovery import recover
from episodes.schema.cadenza_pb2 import Event
from episodes.writer import Header
from spec.robot import Robot
from spec.robotfile import load_robot


@pytest.fixture
def robot() -> Robot:
    return load_robot(Path("robots/virtual.yaml"))


@pytest.fixture
def node(robot: Robot) -> Iterator[Node]:
    namespace = new_namespace()
    with Node(namespace, topics(robot), "test") as node:
        yield node
    remove_namespace(namespace)


def test_what_is_published_is_on_record(node: Node, robot: Robot, tmp_path: Path) -> None:
    recorder = Recorder(node, robot)
    ticks, chunks = node.publisher(TICKS), node.publisher(CHUNKS)
    frames, events = node.publisher(frames_topic("front")), node.publisher(EVENTS)
    ticks.send(TickRecord(tick=9, joints=6))
    recorder.open(Series(tmp_path / "a.mcap"), Header(robot), 0)
    for number in range(10, 500):
        ticks.send(TickRecord(tick=number, now_ns=number, joints=6))
        if number % 100 == 0:
            recorder.drain(0)
    chunks.send(ChunkRecord(sequence=3, joints=6, length=2))
    pictures = [os.urandom(50_000 + number) for number in range(5)]
    for number, picture in enumerate(pictures):
        frames.send_bytes(FrameHeader(sequence=number, captured_ns=number), picture)
    events.send_bytes(Event(time_ns=1, source="me", kind="label", text="good").SerializeToString())
    states = node.publisher(STATES)
    states.send_bytes(Event(time_ns=2, source="control", kind="state", text="x" * 40_000).SerializeToString())
    told = recorder.close(Outcome.FAIL, Termination.TIME_LIMIT, {"seconds": "3"})
    ticks.send(TickRecord(tick=501, joints=6))
    recorder.drain(0)

    assert told["path"] == str(tmp_path / "a.mcap")
    assert set(told["dropped"].values()) == {0}
    episode = read_episode(tmp_path / "a.mcap")
    assert episode.ticks["tick"].tolist() == list(range(10, 500))
    assert [chunk.sequence for chunk in episode.chunks] == [3]
    assert episode.frames["front"].jpeg == pictures
    assert [(event.kind, len(event.text)) for event in episode.events] == [("label", 4), ("state", 40_000)]
    assert (episode.outcome, episode.termination) == (Outcome.FAIL, Termination.TIME_LIMIT)
    assert episode.result["seconds"] == "3"


def test_losses_are_counted_and_written_down(node: Node, robot: Robot, tmp_path: Path) -> None:
    recorder = Recorder(node, robot)
    recorder.open(Series(tmp_path / "a.mcap"), Header(robot), 0)
    ticks = node.publisher(TICKS)
    depth = topics(robot)[TICKS].depth
    ticks.send(TickRecord(tick=0, joints=6))
    recorder.drain(0)
    for number in range(1, depth + 31):  # the recorder sleeps too long
        ticks.send(TickRecord(tick=number, joints=6))
    recorder.close(Outcome.FAIL, Termination.DONE, {})
    episode = read_episode(tmp_path / "a.mcap")
    assert episode.result["dropped_ticks"] == "30"
    assert len(episode.ticks) == depth + 1


def test_a_loss_before_the_first_record_of_an_episode_counts(node: Node, robot: Robot, tmp_path: Path) -> None:
    recorder, frames = Recorder(node, robot), node.publisher(frames_topic("top"))
    for name, numbers in (("a", (0, 1, 5)), ("b", (8, 9))):
        recorder.open(Series(tmp_path / f"{name}.mcap"), Header(robot), 0)
        for number in numbers:
            frames.send_bytes(FrameHeader(sequence=number, captured_ns=number), b"picture")
        assert recorder.close(Outcome.FAIL, Termination.DONE, {})["dropped"][frames_topic("top")] == (
            3 if name == "a" else 2
        )


def test_periods_the_loop_skipped_are_no_loss(node: Node, robot: Robot, tmp_path: Path) -> None:
    recorder = Recorder(node, robot)
    recorder.open(Series(tmp_path / "a.mcap"), Header(robot), 0)
    ticks = node.publisher(TICKS)
    for tick, skipped, flags in ((0, 0, 0), (5, 4, Flag.LATE), (90, 0, Flag.ENGAGED), (91, 0, 0), (93, 0, 0)):
        ticks.send(TickRecord(tick=tick, skipped=skipped, flags=int(flags), joints=6))
    assert recorder.close(Outcome.FAIL, Termination.DONE, {})["dropped"][TICKS] == 1


def test_after_a_failure_it_keeps_draining_and_leaves_the_part(node: Node, robot: Robot, tmp_path: Path) -> None:
    recorder = Recorder(node, robot)
    recorder.open(Series(tmp_path / "a.mcap"), Header(robot), 0)
    recorder.abandon()
    node.publisher(TICKS).send(TickRecord(tick=1, joints=6))
    assert recorder.drain(0) == 1
    assert (tmp_path / "a.mcap.part").exists()
    assert not recorder.recording
    recorder.open(Series(tmp_path / "b.mcap"), Header(robot), 0)
    recorder.close(Outcome.FAIL, Termination.DONE, {})
    assert read_episode(tmp_path / "b.mcap").damage == ""


def test_a_full_disk_is_said_and_what_was_written_is_saved(node: Node, robot: Robot, tmp_path: Path) -> None:
    recorder = Recorder(node, robot)
    recorder.open(Series(tmp_path / "a.mcap"), Header(robot), 0)
    frames = node.publisher(frames_topic("top"))
    for number in range(25):
        assert frames.send_bytes(FrameHeader(sequence=number, captured_ns=number), os.urandom(50_000))
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1_000_000, hard))  # as good as a full disk, and nobody else notices
    try:
        with pytest.raises(OSError, match="too large") as caught:
            recorder.drain(0)
        recorder.abandon()
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert is_full(caught.value)
    found = recover(tmp_path / "a.mcap.part")
    assert found is not None
    assert found.episode is not None
    assert len(read_episode(found.episode).frames["top"]) >= 10


@given(st.lists(st.booleans(), min_size=1, max_size=60))
def test_gaps_count_what_is_missing(arrives: list[bool]) -> None:
    gaps = Gaps()
    numbers = [number for number, here in enumerate(arrives) if here]
    for number in numbers:
        gaps.see(number)
    assert gaps.missing == (numbers[-1] - numbers[0] + 1 - len(numbers) if numbers else 0)

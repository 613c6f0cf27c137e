"""Where a recording begins, how it goes from file to file, and what is done when the disk fills up."""

from __future__ import annotations

import os
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from controller.wiring.ipc import Node, new_namespace, remove_namespace
from controller.wiring.topics import CHUNKS as CHUNKS_TOPIC
from controller.wiring.topics import TICKS as TICKS_TOPIC
from controller.wiring.topics import frames_topic, topics
from controller.workers.disk import DiskBounds, DiskGuard, Space, judge
from controller.workers.recorder import Recorder
from controller.workers.recording import Recording, Series
from controller.workers.ring import Ring
from episodes.messages import CAMERA_PREFIX, CARRIED_CHUNKS, CHUNKS, EVENTS, Carried, LogMessage, event_message, size_of
from episodes.outcome import Outcome, Termination
from episodes.reader import Episode, read_episode
from episodes.records import ChunkRecord, FrameHeader, TickRecord
from episodes.writer import Header
from spec.errors import CadenzaError
from spec.robot import Robot
from spec.robotfile import load_robot

SECOND = 1_000_000_000
BOUNDS = DiskBounds(low=1000, begin=500, shed=300, full=100)


@pytest.fixture(scope="module")
def robot() -> Robot:
    return load_robot(Path("robots/virtual.yaml"))


@pytest.fixture
def node(robot: Robot) -> Iterator[Node]:
    namespace = new_namespace()
    with Node(namespace, topics(robot), "test") as node:
        yield node
    remove_namespace(namespace)


_TOPICS = st.sampled_from([CHUNKS, EVENTS, CAMERA_PREFIX + "top", CAMERA_PREFIX + "front"])
_BATCHES = st.lists(
    st.tuples(st.integers(0, 3 * SECOND), st.lists(st.tuples(_TOPICS, st.integers(0, 5000)), max_size=6)), max_size=15
)


def made(batches: list[tuple[int, list[tuple[str, int]]]]) -> list[tuple[int, list[LogMessage]]]:
    """Batches of messages at rising instants; every message has a number of its own."""
    out, now, number = [], 0, 0
    for gap, entries in batches:
        now += gap
        messages = []
        for topic, size in entries:
            messages.append(LogMessage(topic, number, bytes(size), number))
            number += 1
        out.append((now, messages))
    return out


def test_what_was_taken_in_late_is_of_its_own_instant() -> None:
    """While the disk was waited for, everything came as if at the instant before."""
    ring = Ring(20.0, 1000)
    messages = [LogMessage(CHUNKS, second * SECOND, b"", second) for second in range(5)]
    ring.add(SECOND, messages)
    assert ring.since(3 * SECOND).messages == messages[3:]


@given(_BATCHES, st.floats(0.0, 5.0), st.integers(0, 30_000), st.integers(0, 12 * SECOND))
def test_the_ring_is_the_end_of_what_came_within_both_bounds(
    batches: list[tuple[int, list[tuple[str, int]]]], seconds: float, most: int, back: int
) -> None:
    ring = Ring(seconds, most)
    came: list[tuple[int, LogMessage]] = []
    for now, messages in made(batches):
        ring.add(now, messages)
        came += [(now, message) for message in messages]
        assert ring.bytes <= most or not len(ring)
        carried, kept = ring.since(0)
        assert ring.bytes == size_of(kept)
        count = len(kept)
        assert kept == [message for _, message in came[len(came) - count :]]
        assert all(now - at <= round(seconds * 1e9) for at, _ in came[len(came) - count :])
        # What is not kept any more left for a reason: too old, or no room beside what is kept.
        if round(seconds * 1e9) > 0 and count < len(came):
            at, message = came[len(came) - count - 1]
            assert now - at > round(seconds * 1e9) or size_of([message, *kept]) > most
        assert list(carried) == list(Carried(message for _, message in came[: len(came) - count]).messages())
        from_ns = now - back
        _, cut = ring.since(from_ns)
        assert cut == [message for at, message in came[len(came) - count :] if at >= from_ns]


@given(_BATCHES)
def test_an_episode_carries_the_last_chunks_and_pictures(batches: list[tuple[int, list[tuple[str, int]]]]) -> None:
    came = [message for _, messages in made(batches * 5) for message in messages]
    carried = Carried(came).messages()
    chunks = [message for message in came if message.topic == CHUNKS]
    assert [message for message in carried if message.topic == CHUNKS] == chunks[-CARRIED_CHUNKS:]
    for camera in ("top", "front"):
        pictures = [message for message in came if message.topic == CAMERA_PREFIX + camera]
        assert [message for message in carried if message.topic == CAMERA_PREFIX + camera] == pictures[-1:]


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    sizes=st.lists(st.integers(0, 60_000), min_size=1, max_size=60),
    rotate=st.integers(20_000, 200_000),
    slices=st.lists(st.integers(1, 150_000), min_size=1, max_size=20),
)
def test_a_change_of_file_loses_and_doubles_nothing(
    robot: Robot, sizes: list[int], rotate: int, slices: list[int]
) -> None:
    with tempfile.TemporaryDirectory() as folder:
        recording = Recording(Series(Path(folder) / "a.mcap", rotate), Header(robot, labels={"task": "push"}), dict)
        told = 0
        for number, size in enumerate(sizes):
            recording.put([event_message(number + 1, "test", "x", "y" * size)])
            recording.advance(slices[number % len(slices)])
            told += len(recording.turns())
        recording.close(Outcome.SUCCESS, Termination.DONE, {}, None)
        told += len(recording.turns())
        episodes = [read_episode(path) for path in recording.files]
        assert [event.time_ns for episode in episodes for event in episode.events] == list(range(1, len(sizes) + 1))
        assert told == len(episodes) - 1
        assert [episode.labels["segment"] for episode in episodes] == [str(k) for k in range(len(episodes))]
        assert {episode.labels["session"] for episode in episodes} == {"a"}
        assert [episode.path.name for episode in episodes] == [f"a-{k:06d}.mcap" for k in range(len(episodes))]
        assert {episode.termination for episode in episodes[:-1]} <= {Termination.ROTATED}
        assert episodes[-1].termination is Termination.DONE
        if len(episodes) > 1:
            with pytest.raises(CadenzaError, match="exists already"):
                Recording(recording.series, Header(robot), dict)


def test_each_file_of_a_rotation_can_be_understood_alone(node: Node, robot: Robot, tmp_path: Path) -> None:
    """Chunks alive at a change of file are in both files; ticks and pictures in one."""
    recorder = Recorder(node, robot)
    ticks, chunks, frames = (node.publisher(name) for name in (TICKS_TOPIC, CHUNKS_TOPIC, frames_topic("top")))
    recorder.open(Series(tmp_path / "a.mcap", 300_000), Header(robot), 0)
    for number in range(100):
        for tick in range(5 * number, 5 * number + 5):
            ticks.send(TickRecord(tick=tick, now_ns=tick + 1, joints=6))
        chunks.send(ChunkRecord(sequence=number, joints=6, length=2))
        frames.send_bytes(FrameHeader(sequence=number, captured_ns=number + 1), bytes(10_000))
        recorder.drain(number)
    told = recorder.close(Outcome.SUCCESS, Termination.DONE, {})
    episodes = [read_episode(Path(path)) for path in told["files"]]
    assert len(episodes) > 3
    assert told["path"] == str(tmp_path / "a.mcap")
    assert [tick for episode in episodes for tick in episode.ticks["tick"]] == list(range(500))
    new: list[int] = []
    pictures: list[int] = []
    for episode in episodes:
        old, shown = episode.carried.get(CHUNKS, 0), episode.carried.get(CAMERA_PREFIX + "top", 0)
        assert [chunk.sequence for chunk in episode.chunks[:old]] == new[-CARRIED_CHUNKS:]
        assert episode.frames["top"].sequence[:shown].tolist() == pictures[-1:]
        new += [chunk.sequence for chunk in episode.chunks[old:]]
        pictures += episode.frames["top"].sequence[shown:].tolist()
        assert episode.result["dropped_ticks"] == "0"
    assert new == pictures == list(range(100))


def played(recorder: Recorder, node: Node, seconds: range) -> None:
    """Ten ticks and one picture a second, drained at once."""
    ticks, frames = node.publisher(TICKS_TOPIC), node.publisher(frames_topic("top"))
    for second in seconds:
        for tick in range(10 * second, 10 * second + 10):
            ticks.send(TickRecord(tick=tick, now_ns=tick * SECOND // 10, joints=6))
        frames.send_bytes(FrameHeader(sequence=second, captured_ns=second * SECOND + 1), bytes(1000))
        recorder.drain(second * SECOND)
    ticks.close()  # only a few senders find room
    frames.close()


def test_a_recording_begins_before_it_was_asked_for(node: Node, robot: Robot, tmp_path: Path) -> None:
    recorder = Recorder(node, robot)
    recorder.keep(20.0, 10_000_000)
    played(recorder, node, range(10))
    recorder.open(Series(tmp_path / "a.mcap"), Header(robot), 9 * SECOND, from_ns=6 * SECOND)
    played(recorder, node, range(10, 12))
    recorder.close(Outcome.SUCCESS, Termination.DONE, {})
    episode = read_episode(tmp_path / "a.mcap")
    assert episode.ticks["tick"].tolist() == list(range(60, 120))
    assert episode.frames["top"].sequence.tolist() == list(range(5, 12))  # one is carried

    recorder.keep(0.0, 0)
    played(recorder, node, range(12, 14))
    recorder.open(Series(tmp_path / "b.mcap"), Header(robot), 13 * SECOND, from_ns=10 * SECOND)
    played(recorder, node, range(14, 15))
    recorder.close(Outcome.SUCCESS, Termination.DONE, {})
    assert read_episode(tmp_path / "b.mcap").ticks["tick"].tolist() == list(range(140, 150))


def test_the_ring_is_saved_beside_an_open_recording(node: Node, robot: Robot, tmp_path: Path) -> None:
    recorder = Recorder(node, robot)
    with pytest.raises(CadenzaError, match="nothing is kept"):
        recorder.saved(tmp_path / "high.mcap", Header(robot), 0)
    recorder.keep(5.0, 10_000_000)
    recorder.open(Series(tmp_path / "a.mcap"), Header(robot), 0)
    played(recorder, node, range(10))
    saving, seconds = recorder.saved(tmp_path / "high.mcap", Header(robot, labels={"highlight": "1"}), 9 * SECOND)
    assert seconds == 5.0
    played(recorder, node, range(10, 12))
    while saving.waiting:
        saving.advance(500)
    saving.close(Outcome.UNLABELLED, Termination.SAVED, {}, None)
    recorder.close(Outcome.SUCCESS, Termination.DONE, {})
    assert read_episode(tmp_path / "a.mcap").ticks["tick"].tolist() == list(range(120))
    highlight = read_episode(tmp_path / "high.mcap")
    assert highlight.ticks["tick"].tolist() == list(range(40, 100))
    assert highlight.labels == {"highlight": "1"}


@given(st.lists(st.integers(0, 2000), min_size=1))
def test_what_the_disk_means_never_lags_and_hovering_does_not_toggle(frees: list[int]) -> None:
    space = Space.AMPLE
    for free in frees:
        before, space = space, judge(free, space, BOUNDS)
        plain = judge(free, Space.AMPLE, BOUNDS)
        assert space >= plain  # less is never taken for more
        assert plain is Space(sum(free < bound for bound in (BOUNDS.low, BOUNDS.shed, BOUNDS.full)))
        if space > plain:
            assert space <= before  # only what held before may go on a little longer
            assert free < 1.1 * {1: BOUNDS.low, 2: BOUNDS.shed, 3: BOUNDS.full}[int(space)]


def test_a_filling_disk_costs_pictures_first_and_then_the_recording_ends(
    node: Node, robot: Robot, tmp_path: Path
) -> None:
    free = 2000
    recorder = Recorder(node, robot, DiskGuard(BOUNDS, lambda _: free))
    ticks, frames = node.publisher(TICKS_TOPIC), node.publisher(frames_topic("top"))
    recorder.open(Series(tmp_path / "a.mcap"), Header(robot), 0)
    spaces = []
    for second, left in enumerate((2000, 900, 250, 200, 250, 900, 250, 90)):
        free = left
        recorder.look_at_disk(second * SECOND)
        spaces.append(recorder.space)
        ticks.send(TickRecord(tick=second, now_ns=second + 1, joints=6))
        frames.send_bytes(FrameHeader(sequence=second, captured_ns=second + 1), bytes(100))
        recorder.drain(second * SECOND)
    assert spaces == [
        *(Space.AMPLE, Space.LOW, Space.SHED, Space.SHED, Space.SHED, Space.LOW, Space.SHED, Space.FULL),
    ]
    told = recorder.close(Outcome.ABORTED, Termination.DISK_FULL, {})
    assert told["shed"] == {"top": 5}
    episode = read_episode(tmp_path / "a.mcap")
    assert episode.termination is Termination.DISK_FULL
    assert episode.ticks["tick"].tolist() == list(range(8))
    assert episode.frames["top"].sequence.tolist() == [0, 1, 5]
    assert episode.result["shed_top"] == "5"
    assert [event.text for event in episode.events] == ["for want of space: 3 of top", "for want of space: 2 of top"]


def test_looking_at_the_disk_is_not_done_all_the_time(tmp_path: Path) -> None:
    asked = []
    guard = DiskGuard(BOUNDS, lambda folder: asked.append(folder) or 250)  # type: ignore[func-returns-value]
    changes = [guard.look(tmp_path, now * SECOND // 50) for now in range(150)]
    assert len(asked) == 3
    assert sum(changes) == 1
    guard.begin()
    assert guard.look(tmp_path, 3 * SECOND)  # a disk that is still full is news to the next recording


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 24 MB."""
    mounted = tmp_path / "small"
    mounted.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=24m", "tmpfs", str(mounted)]
    if os.getuid() != 0 or subprocess.run(mount, capture_output=True, check=False).returncode != 0:
        pytest.skip("cannot mount a file system here")
    yield mounted
    subprocess.run(["umount", str(mounted)], check=True)


def test_a_real_disk_that_fills_up_leaves_a_whole_episode(node: Node, robot: Robot, small_disk: Path) -> None:
    megabyte = 1_000_000
    bounds = DiskBounds(low=18 * megabyte, begin=0, shed=8 * megabyte, full=4 * megabyte)
    recorder = Recorder(node, robot, DiskGuard(bounds))
    ticks, frames = node.publisher(TICKS_TOPIC), node.publisher(frames_topic("top"))
    recorder.open(Series(small_disk / "a.mcap"), Header(robot), 0)
    seen: list[Space] = []
    number = 0
    while recorder.space < Space.FULL:
        for _ in range(500):
            ticks.send(TickRecord(tick=number, now_ns=number + 1, joints=6))
            number += 1
        frames.send_bytes(FrameHeader(sequence=number, captured_ns=number), os.urandom(2 * megabyte))
        recorder.drain(number)
        if recorder.look_at_disk(number * SECOND):
            seen.append(recorder.space)
    assert seen == [Space.LOW, Space.SHED, Space.FULL]
    told = recorder.close(Outcome.ABORTED, Termination.DISK_FULL, {})
    episode: Episode = read_episode(small_disk / "a.mcap")
    assert episode.damage == ""
    assert len(episode.ticks) == number
    assert told["shed"]["top"] > 0

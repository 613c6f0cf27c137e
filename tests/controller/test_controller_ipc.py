"""Topics over real shared memory, also when a peer is killed."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from controller.wiring.ipc import Node, new_namespace, remove_namespace, sweep
from controller.wiring.topics import CHUNKS, EVENTS, ORDERS, SIGHTS, STATES, TELEOP, TICKS, Topic, frames_topic, topics
from episodes.records import ChunkRecord, FrameHeader, Order, OrderRecord, TickRecord
from spec.robotfile import load_robot

ROOT = Path(__file__).parents[2]
TABLE = topics(load_robot(ROOT / "robots" / "virtual.yaml"))

VICTIM = """
import sys
from pathlib import Path
from controller.wiring.ipc import Node
from controller.wiring.topics import TICKS, topics
from episodes.records import TickRecord
from spec.robotfile import load_robot
node = Node(sys.argv[1], topics(load_robot(Path("robots/virtual.yaml"))), "victim")
ticks = node.publisher(TICKS)
for number in range(5):
    ticks.send(TickRecord(tick=int(sys.argv[2]) + number))
print("sent", flush=True)
sys.stdin.read()
"""


@pytest.fixture
def namespace() -> Iterator[str]:
    name = new_namespace()
    yield name
    remove_namespace(name)
    assert not list(Path("/dev/shm").glob(f"cadenza_{name}*"))


def test_every_topic_carries_what_the_table_says(namespace: str) -> None:
    assert {TICKS, CHUNKS, ORDERS, TELEOP, EVENTS, STATES, SIGHTS, "frames/top", "frames/front"} == set(TABLE)
    for topic in TABLE.values():
        assert topic.depth >= 8
        assert topic.budget_ms > 0
    with Node(namespace, TABLE, "test") as node:
        for topic in TABLE.values():
            if topic.payload is not None:
                receiver, sender = node.subscriber(topic.name, topic.payload), node.publisher(topic.name)
                assert receiver.receive() is None
                assert sender.send(topic.payload())
                assert bytes(receiver.receive()) == bytes(topic.payload())
                assert receiver.receive() is None


def test_records_arrive_whole_and_in_order(namespace: str) -> None:
    with Node(namespace, TABLE, "test") as node:
        chunks, sender = node.subscriber(CHUNKS, ChunkRecord), node.publisher(CHUNKS)
        for number in range(5):
            record = ChunkRecord(sequence=number)
            record.targets[:] = [number + 0.5] * len(record.targets)
            assert sender.send(record)
        arrived = chunks.drain()
        assert [record.sequence for record in arrived] == list(range(5))
        assert arrived[3].targets[100] == 3.5
        orders = node.subscriber(ORDERS, OrderRecord)
        assert node.publisher(ORDERS).send(OrderRecord(1, 2, int(Order.STOP)))
        assert Order(orders.receive().order) is Order.STOP
        with pytest.raises(TypeError, match="carries"):
            node.subscriber(ORDERS, TickRecord)


def test_a_slow_reader_loses_the_oldest_and_holds_nobody_up(namespace: str) -> None:
    with Node(namespace, TABLE, "test") as node:
        ticks, sender = node.subscriber(TICKS, TickRecord, depth=4), node.publisher(TICKS)
        for number in range(50):
            assert sender.send(TickRecord(tick=number))
        assert [record.tick for record in ticks.drain()] == [46, 47, 48, 49]


def test_pictures_of_any_size(namespace: str) -> None:
    with Node(namespace, TABLE, "test") as node:
        frames, sender = node.bytes_subscriber(frames_topic("top")), node.publisher(frames_topic("top"))
        sizes = [10, 100_000, 2_000_000, 5]
        for number, size in enumerate(sizes):
            assert sender.send_bytes(FrameHeader(sequence=number, size=size), os.urandom(size))
        for number, size in enumerate(sizes[:3]):
            content = frames.receive()
            header = FrameHeader.from_buffer_copy(content)
            assert (header.sequence, len(content)) == (number, size + len(bytes(header)))
        assert FrameHeader.from_buffer_copy(frames.newest()).sequence == 3
        assert frames.newest() is None


def test_namespaces_do_not_meet(namespace: str) -> None:
    other = new_namespace()
    with Node(namespace, TABLE, "a") as here, Node(other, TABLE, "b") as there:
        ticks = there.subscriber(TICKS, TickRecord)
        here.publisher(TICKS).send(TickRecord(tick=1))
        assert ticks.receive() is None
    remove_namespace(other)


def test_killed_senders_are_succeeded(namespace: str) -> None:
    """More lives than the topic has places for senders: the dead must give theirs back."""
    with Node(namespace, TABLE, "test") as node:
        ticks = node.subscriber(TICKS, TickRecord)
        for life in range(4):
            child = subprocess.Popen(
                [sys.executable, "-c", VICTIM, namespace, str(10 * life)],
                stdin=subprocess.PIPE, stdout=subprocess.PIPE, cwd=ROOT,
            )  # fmt: skip
            assert child.stdout is not None
            assert child.stdout.readline() == b"sent\n"
            child.send_signal(signal.SIGKILL)
            child.communicate()
            assert [record.tick for record in ticks.drain()] == [10 * life + number for number in range(5)]


def test_what_a_killed_run_left_is_swept_away() -> None:
    script = "from controller.wiring.ipc import new_namespace\nname = new_namespace()\nprint(name, flush=True)\n"
    script += VICTIM.replace("sys.argv[1]", "name").replace("int(sys.argv[2])", "0")
    child = subprocess.Popen([sys.executable, "-c", script], stdin=subprocess.PIPE, stdout=subprocess.PIPE, cwd=ROOT)
    assert child.stdout is not None
    name = child.stdout.readline().decode().strip()
    child.stdout.readline()
    sweep()
    assert list(Path("/dev/shm").glob(f"cadenza_{name}*"))
    child.send_signal(signal.SIGKILL)
    child.communicate()
    assert sweep() >= 1
    assert not list(Path("/dev/shm").glob(f"cadenza_{name}*"))


def test_topics_follow_the_robot_file() -> None:
    fast = load_robot(ROOT / "robots" / "virtual.yaml", {"control.rate_hz": "500", "cameras.top.fps": "60"})
    table = topics(fast)
    assert isinstance(table[TICKS], Topic)
    assert table[TICKS].rate_hz == 500
    assert table[TICKS].depth >= 2 * 500
    assert table["frames/top"].depth >= 60

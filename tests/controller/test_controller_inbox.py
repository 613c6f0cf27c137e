"""What waits in shared memory for a tick: the newest of what is renewed, the oldest of what must not be lost."""

from __future__ import annotations

import math
from collections.abc import Iterator
from pathlib import Path

import pytest

from controller.wiring.ipc import Node, Publisher, new_namespace, remove_namespace
from controller.wiring.topics import CHUNKS, ORDERS, TELEOP, topics
from controller.workers.control_process import SharedInbox, chunk_of, sample_of
from episodes.records import ChunkRecord, Order, OrderRecord, TeleopRecord
from spec.robotfile import load_robot
from spec.teleop import Button

TABLE = topics(load_robot(Path("robots/virtual.yaml")))


@pytest.fixture
def node() -> Iterator[Node]:
    name = new_namespace()
    with Node(name, TABLE, "test") as node:
        yield node
    remove_namespace(name)


def _inbox(node: Node, *, teleop: bool = True) -> tuple[SharedInbox, Publisher]:
    chunks, orders = node.subscriber(CHUNKS, ChunkRecord), node.subscriber(ORDERS, OrderRecord)
    human = node.subscriber(TELEOP, TeleopRecord) if teleop else None
    return SharedInbox(chunks, orders, human, 6), node.publisher(TELEOP)


def _sample(number: int, buttons: Button = Button.NONE, joints: int = 6) -> TeleopRecord:
    record = TeleopRecord(sequence=number, read_ns=number, joints=joints, buttons=int(buttons))
    record.position[:joints] = [0.1 * number] * joints
    record.goal[:joints] = [math.nan] * joints
    return record


def test_the_newest_sample_comes_once(node: Node) -> None:
    inbox, sender = _inbox(node)
    assert inbox.human() is None
    for number in range(1, 4):
        sender.send(_sample(number))
    sample = inbox.human()
    assert sample is not None
    assert (sample.sequence, sample.position) == (3, (0.1 * 3,) * 6)
    assert len(sample.goal) == 6
    assert inbox.human() is None


def test_a_button_that_went_down_and_up_between_two_ticks_is_seen(node: Node) -> None:
    """A device may be read more often than the loop ticks."""
    inbox, sender = _inbox(node)
    for number, buttons in enumerate([Button.NONE, Button.TOGGLE | Button.DEAD_MAN, Button.NONE]):
        sender.send(_sample(number, buttons))
    sample = inbox.human()
    assert sample is not None
    assert sample.buttons == Button.TOGGLE  # but nobody holds the dead man's button now
    sender.send(_sample(9))
    sample = inbox.human()
    assert sample is not None
    assert sample.buttons == Button.NONE


def test_a_sample_of_another_arm_is_none(node: Node) -> None:
    inbox, sender = _inbox(node)
    sender.send(_sample(1, joints=5))
    assert inbox.human() is None


def test_without_a_device_nothing_is_looked_for(node: Node) -> None:
    inbox, sender = _inbox(node, teleop=False)
    sender.send(_sample(1))
    assert inbox.human() is None


def test_orders_come_one_by_one(node: Node) -> None:
    inbox, _ = _inbox(node)
    sender = node.publisher(ORDERS)
    for order in (Order.TAKE_OVER, Order.MARK):
        sender.send(OrderRecord(1, 1, int(order)))
    assert [inbox.order(), inbox.order(), inbox.order()] == [Order.TAKE_OVER, Order.MARK, None]


def test_a_record_becomes_the_sample_it_was_made_of() -> None:
    record = _sample(4, Button.TAKE)
    record.velocity[:6], record.effort[:6] = [0.5] * 6, [-0.1] * 6
    sample = sample_of(record)
    assert (sample.velocity, sample.effort, sample.buttons) == ((0.5,) * 6, (-0.1,) * 6, Button.TAKE)
    assert all(map(math.isnan, sample.goal))


@pytest.mark.parametrize("number", [8, 99, 2**32 - 1])
def test_an_order_nobody_knows_is_none_and_the_next_one_counts(node: Node, number: int) -> None:
    inbox, _ = _inbox(node)
    sender = node.publisher(ORDERS)
    for order in (number, int(Order.HOLD)):
        sender.send(OrderRecord(1, 1, order))
    assert [inbox.order(), inbox.order()] == [None, Order.HOLD]


@pytest.mark.parametrize(("length", "joints"), [(0, 6), (64, 0), (2**31, 2), (2**32 - 1, 2**32 - 1)])
def test_a_chunk_of_impossible_size_is_an_empty_one(length: int, joints: int) -> None:
    assert chunk_of(ChunkRecord(length=length, joints=joints)).targets.size == 0

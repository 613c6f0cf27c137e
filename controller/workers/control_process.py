"""``python -m controller.workers.control_process``: the process that owns the arm and ticks.

It hears orders and chunks over shared memory only; nothing it does in a tick can wait for another process.
"""

from __future__ import annotations

import logging
import os
import signal
import sys
import time
from collections.abc import Callable
from dataclasses import asdict
from typing import Any, Protocol

import numpy as np

from controller.clock import Clock, MonotonicClock
from controller.decide import Decide
from controller.eyes import Eyes
from controller.loop import ControlLoop, Termination
from controller.realtime import RealtimeReport, enter_realtime
from controller.snapshot import STATE, written
from controller.spent import Spent
from controller.state import State
from controller.wiring.child import Child, run_child
from controller.wiring.ipc import Node, Subscriber
from controller.wiring.topics import CHUNKS, ORDERS, SIGHTS, STATES, TELEOP, TICKS
from drivers.arm import Arm
from drivers.dynamixel.arm import DynamixelArm
from episodes.records import ChunkRecord, FrameHeader, Order, OrderRecord, TeleopRecord, TickRecord
from spec.chunk import Chunk
from spec.errors import CadenzaError
from spec.robot import Robot
from spec.teleop import Button, TeleopSample

_DEAD_MAN = int(Button.DEAD_MAN)
_ORDERS = {int(order): order for order in Order}


class SharedInbox:
    """Chunks, orders and a person's wishes as they wait in shared memory. Implements :class:`controller.loop.Inbox`.

    Args:
        human: None where nobody can take the arm.
        joints: of the arm.
    """

    def __init__(
        self,
        chunks: Subscriber[ChunkRecord],
        orders: Subscriber[OrderRecord],
        human: Subscriber[TeleopRecord] | None,
        joints: int,
    ) -> None:
        self._chunks, self._orders, self._human, self._joints = chunks, orders, human, joints

    def chunk(self) -> Chunk | None:
        """The newest chunk that came since the last call."""
        newest = None
        while (record := self._chunks.receive()) is not None:
            newest = record
        return None if newest is None else chunk_of(newest)

    def order(self) -> Order | None:
        """The oldest order not yet handed over. A number that is no order is none: nothing may end the loop by it."""
        record = self._orders.receive()
        return None if record is None else _ORDERS.get(record.order)

    def human(self) -> TeleopSample | None:
        """The newest sample, with the buttons of those before it that nobody else will look at."""
        if self._human is None:
            return None
        newest, passed = None, 0
        while (record := self._human.receive()) is not None:
            passed |= 0 if newest is None else newest.buttons
            newest = record
        if newest is None or newest.joints != self._joints:
            return None
        return sample_of(newest, passed & ~_DEAD_MAN)


def chunk_of(record: ChunkRecord) -> Chunk:
    """The tick's view of a published chunk. Impossible sizes give an empty chunk, which the loop refuses."""
    count = record.length * record.joints
    if not 0 < count <= len(record.targets):
        targets = np.empty((0, 0))
    else:
        targets = np.array(record.targets[:count]).reshape(record.length, record.joints)
    targets.setflags(write=False)
    return Chunk(record.sequence, record.observed_ns, record.step_ns, targets, record.weights)


def sample_of(record: TeleopRecord, pressed: int = 0) -> TeleopSample:
    """The tick's view of a published sample; ``pressed`` are buttons that went down and up again before it."""
    joints = record.joints
    return TeleopSample(
        record.sequence,
        record.read_ns,
        tuple(record.position[:joints]),
        tuple(record.velocity[:joints]),
        tuple(record.effort[:joints]),
        tuple(record.goal[:joints]),
        record.buttons | pressed,
    )


class BusArm(Arm, Protocol):
    """An arm that counts what happens on its bus."""

    @property
    def fast_sync_read(self) -> bool: ...

    @property
    def statistics(self) -> Any:
        """A dataclass of counts."""
        ...


def work(child: Child, connect: Callable[..., BusArm] = DynamixelArm, spent: Spent | None = None) -> None:
    """Until ordered to stop.

    Args:
        child: this process.
        connect: makes the arm.
        spent: counts how long publishing, and whole ticks, take; reported at the end.
    """
    robot, parent, clock = child.assignment.robot, os.getppid(), MonotonicClock()
    logging.basicConfig(stream=sys.stderr, format="%(message)s")
    decide = Decide.of(robot)
    decide.check_home()
    inbox, publish, mark = inbox_of(child, decide.joints), _publishing(child, spent), _marking(child)
    with connect(robot.follower, rate_hz=robot.control.rate_hz) as arm:
        # Only now: opening an arm may take longer than a camera has until its first picture.
        eyes = eyes_of(robot, child.node, clock)
        loop = ControlLoop(
            arm,
            decide,
            clock,
            robot.control.rate_hz,
            inbox,
            publish,
            lambda line: child.event(time.monotonic_ns(), "control", line),
            mark,
            port=robot.follower.port,
            eyes=eyes,
        )
        _stop_by_signal(loop, parent)
        _say_ready(child, arm, enter_realtime(robot.control.realtime, robot.control.priority, robot.control.cpu))
        ended = loop.run()
    _report(child, loop, arm, ended, spent)
    if ended is Termination.ERROR:
        raise CadenzaError("the control loop ended on an error; its log has the details")


def inbox_of(child: Child, joints: int) -> SharedInbox:
    """What waits for an arm of so many joints."""
    node = child.node
    return SharedInbox(
        node.subscriber(CHUNKS, ChunkRecord),
        node.subscriber(ORDERS, OrderRecord),
        None if child.assignment.robot.teleop is None else node.subscriber(TELEOP, TeleopRecord),
        joints,
    )


def eyes_of(robot: Robot, node: Node, clock: Clock) -> Eyes | None:
    """For its cameras, from now on; None where it has none."""
    if not robot.cameras:
        return None
    stale_ns = {name: camera.stale_ns for name, camera in robot.cameras.items()}
    return Eyes(stale_ns, node.subscriber(SIGHTS, FrameHeader).receive, clock.now_ns())


def _marking(child: Child) -> Callable[[int, State], None]:
    """Puts a state on record."""
    states = child.node.publisher(STATES)

    def mark(tick: int, state: State) -> None:
        states.send_bytes(child.remark(time.monotonic_ns(), STATE, written(tick, state)))

    return mark


def _publishing(child: Child, spent: Spent | None) -> Callable[[TickRecord], None]:
    ticks = child.node.publisher(TICKS)

    def publish(record: TickRecord) -> None:
        ticks.send(record)  # no room means that every reader sleeps; the recorder sees the gap
        if spent is not None:
            spent.add(record, time.monotonic_ns())

    return publish


def _stop_by_signal(loop: ControlLoop, parent: int) -> None:
    """SIGTERM ends the loop; it comes from the kernel too, once the parent is gone."""
    signal.signal(
        signal.SIGTERM,
        lambda *_: loop.stop(Termination.STOPPED if os.getppid() == parent else Termination.PARENT_GONE),
    )


def _say_ready(child: Child, arm: BusArm, real_time: RealtimeReport) -> None:
    child.say(
        "ready",
        pid=os.getpid(),
        realtime=real_time.lines(),
        missing=[str(privilege) for privilege in real_time.missing],
        fast_sync_read=arm.fast_sync_read,
    )


def _report(child: Child, loop: ControlLoop, arm: BusArm, ended: Termination, spent: Spent | None) -> None:
    child.say(
        "report",
        termination=ended,
        fault=loop.state.authority.fault.name,
        ticks=loop.ticks,
        skipped=loop.skipped,
        bus_errors=loop.bus_errors,
        refused_chunks=loop.state.refused_chunks,
        bus=asdict(arm.statistics),
        **({} if spent is None else {"spent_us": spent.as_dict()}),
    )


def main() -> int:
    """Entry of the process."""
    return run_child("control", work)


if __name__ == "__main__":
    sys.exit(main())

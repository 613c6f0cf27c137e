"""``python -m controller.workers.control_process``: the process that owns the arm and ticks.

It hears orders and chunks over shared memory only; nothing it does in a tick can wait for another process.
"""

from __future__ import annotations

import logging
import os
import signal
import sys
import time
from dataclasses import asdict

import numpy as np

from controller.clock import MonotonicClock
from controller.decide import Decide
from controller.loop import ControlLoop, Termination
from controller.realtime import enter_realtime
from controller.snapshot import STATE, written
from controller.wiring.child import Child, run_child
from controller.wiring.ipc import Subscriber
from controller.wiring.topics import CHUNKS, ORDERS, TELEOP, TICKS
from drivers.dynamixel.arm import DynamixelArm
from episodes.records import ChunkRecord, Order, OrderRecord, TeleopRecord, TickRecord
from spec.chunk import Chunk
from spec.errors import CadenzaError
from spec.teleop import Button, TeleopSample

_DEAD_MAN = int(Button.DEAD_MAN)


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
        """The oldest order not yet handed over."""
        record = self._orders.receive()
        return None if record is None else Order(record.order)

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


def work(child: Child) -> None:
    """Until ordered to stop."""
    robot, parent = child.assignment.robot, os.getppid()
    logging.basicConfig(stream=sys.stderr, format="%(message)s")
    decide = Decide.of(robot)
    node = child.node
    inbox = SharedInbox(
        node.subscriber(CHUNKS, ChunkRecord),
        node.subscriber(ORDERS, OrderRecord),
        None if robot.teleop is None else node.subscriber(TELEOP, TeleopRecord),
        decide.joints,
    )
    ticks = node.publisher(TICKS)

    def publish(record: TickRecord) -> None:
        ticks.send(record)  # no room means that every reader sleeps; the recorder sees the gap

    with DynamixelArm(robot.follower, rate_hz=robot.control.rate_hz) as arm:
        loop = ControlLoop(
            arm,
            decide,
            MonotonicClock(),
            robot.control.rate_hz,
            inbox,
            publish,
            lambda line: child.event(time.monotonic_ns(), "control", line),
            lambda tick, state: child.event(time.monotonic_ns(), STATE, written(tick, state)),
        )
        signal.signal(
            signal.SIGTERM,
            lambda *_: loop.stop(Termination.STOPPED if os.getppid() == parent else Termination.PARENT_GONE),
        )
        real_time = enter_realtime(robot.control.realtime, robot.control.priority, robot.control.cpu)
        child.say(
            "ready",
            pid=os.getpid(),
            realtime=real_time.lines(),
            missing=[str(privilege) for privilege in real_time.missing],
            fast_sync_read=arm.fast_sync_read,
        )
        ended = loop.run()
    fault = loop.state.authority.fault.name
    child.say(
        "report",
        termination=ended,
        fault=fault,
        ticks=loop.ticks,
        skipped=loop.skipped,
        bus_errors=loop.bus_errors,
        refused_chunks=loop.state.refused_chunks,
        bus=asdict(arm.statistics),
    )
    if ended is Termination.ERROR:
        raise CadenzaError("the control loop ended on an error; its log has the details")


def main() -> int:
    """Entry of the process."""
    return run_child("control", work)


if __name__ == "__main__":
    sys.exit(main())

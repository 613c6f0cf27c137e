"""The loop, the driver and the virtual arm together, in real time: bytes on a pseudo-terminal, faults on the wire."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pytest
from motion_checks import check_motion

from controller.clock import MonotonicClock
from controller.decide import Decide
from controller.loop import ControlLoop, Termination
from drivers.dynamixel.arm import DynamixelArm
from drivers.virtual import VirtualRobot
from episodes.records import Flag, Mode, Order, TickRecord
from spec.arrays import frozen
from spec.chunk import Chunk
from spec.robotfile import load_robot
from spec.teleop import TeleopSample

pytestmark = pytest.mark.daemon

ROBOT = load_robot(Path(__file__).parents[2] / "robots" / "virtual.yaml", {"control.rate_hz": "100"})
STEP_NS = 100_000_000
LIMITS = ROBOT.limits()


@dataclass
class Policy:
    """A slow wave around the start pose, a chunk every policy step; starts the arm at once."""

    happenings: dict[int, Callable[[], None]] = field(default_factory=dict)
    """Tick → what is done to the virtual arm then."""
    ticks: int = 0
    sequence: int = 0
    next_ns: int = 0

    def order(self) -> Order | None:
        self.ticks += 1
        if self.ticks in self.happenings:
            self.happenings[self.ticks]()
        return Order.START if self.ticks == 1 else None

    def human(self) -> TeleopSample | None:
        return None

    def chunk(self) -> Chunk | None:
        now = time.monotonic_ns()
        if now < self.next_ns:
            return None
        self.next_ns = now + STEP_NS
        self.sequence += 1
        due = (now + STEP_NS * np.arange(1, 11)) * 1e-9
        targets = LIMITS.home + 0.08 * np.sin(2.0 * due)[:, None]
        return Chunk(self.sequence, now, STEP_NS, frozen(targets))


@pytest.fixture(scope="module")
def virtual() -> Iterator[VirtualRobot]:
    with VirtualRobot(ROBOT, seed=1) as running:
        yield running


def _drive(
    virtual: VirtualRobot, seconds: float, happenings: dict[int, Callable[[], None]] | None = None
) -> tuple[Termination, list[TickRecord], ControlLoop]:
    records: list[TickRecord] = []
    arm = DynamixelArm(virtual.robot.follower, rate_hz=ROBOT.control.rate_hz)
    arm.open()
    loop = ControlLoop(
        arm,
        Decide.of(virtual.robot),
        MonotonicClock(),
        ROBOT.control.rate_hz,
        Policy(happenings or {}),
        lambda record: records.append(TickRecord.from_buffer_copy(record)),
    )
    return loop.run(round(seconds * ROBOT.control.rate_hz)), records, loop


def _check_limits(records: list[TickRecord]) -> None:
    flags = np.array([record.flags for record in records])
    check_motion(flags, np.array([record.limited[:6] for record in records]), ROBOT)


def test_the_policy_moves_the_virtual_arm(virtual: VirtualRobot) -> None:
    ended, records, _ = _drive(virtual, 5.0)
    assert ended is Termination.STOPPED
    assert records[-1].mode == Mode.POLICY
    _check_limits(records)
    driving = [record for record in records if record.mode == Mode.POLICY]
    measured = np.array([record.position[:6] for record in driving])
    sent = np.array([record.sent[:6] for record in driving])
    assert np.ptp(measured[:, 0]) > 0.05  # it really moved
    assert (
        np.abs(measured - sent).max() < 0.25
    )  # and to where it was told, but for the sag of servos without integral gain
    assert all(virtual.client.state()["torque"]["follower"])  # left standing, held


def test_lost_and_corrupt_packets_are_ridden_out_and_counted(virtual: VirtualRobot) -> None:
    try:
        ended, records, loop = _drive(virtual, 5.0, {2: lambda: virtual.client.inject({"loss": 0.05, "corrupt": 0.01})})
    finally:
        virtual.client.clear()
    counted = virtual.client.statistics()["follower"]
    assert counted["answers_lost"] > 10
    assert counted["requests_lost"] > 10
    assert ended is Termination.STOPPED
    assert not any(record.flags & Flag.FAULT_LATCHED for record in records)
    # A joint unheard for several ticks makes the arm wait, at the very end as well as anywhere; it always goes on.
    drove = np.array([record.mode == Mode.POLICY for record in records])
    assert drove.mean() > 0.5
    assert drove[-100:].any()
    assert records[-1].bus_errors > 0
    assert loop.bus_errors == records[-1].bus_errors
    _check_limits(records)


def test_a_silent_servo_stops_the_arm_and_its_return_lets_it_go_on(virtual: VirtualRobot) -> None:
    """40 ticks of 10 ms: past stale_ticks, past the Bus Watchdog, short of fault_ticks."""
    ended, records, _ = _drive(
        virtual,
        5.0,
        {300: lambda: virtual.client.inject({"silent_ids": [3]}), 340: virtual.client.clear},
    )
    assert ended is Termination.STOPPED
    held = [record for record in records if record.mode == Mode.HOLD and record.flags & Flag.STALE_JOINT]
    assert len(held) >= 10
    assert not any(record.fresh[2] for record in held)
    # The others are heard; on a busy machine not in every tick.
    assert sum(list(record.fresh[:6]) == [1, 1, 0, 1, 1, 1] for record in held) >= 10
    assert any(record.flags & Flag.ENGAGED for record in records[330:])
    assert records[-1].mode == Mode.POLICY
    _check_limits([record for record in records if record.tick < 330])

"""The loop, the driver and the virtual servos in simulated time: every byte is real, and every fault falls on its tick.

What a fault does to the servos themselves shows only here: whose watchdog fires, who still gets goals, what a servo
remembers when its power comes back.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from motion_checks import check_motion

from controller.decide import Decide
from controller.loop import ControlLoop
from drivers.dynamixel.arm import DynamixelArm
from drivers.virtual.lockstep import LockstepRobot
from drivers.virtual.servos.servo import Servo
from episodes.records import Flag, Mode, Order, TickRecord
from spec.errors import DeviceError
from spec.robotfile import load_robot
from spec.teleop import TeleopSample

ROBOT = load_robot(Path(__file__).parents[2] / "robots/virtual.yaml", {"control.rate_hz": "200"})
BEGIN = 60
"""Tick at which something goes wrong, on the way to the start pose."""
ELBOW = ROBOT.follower.names.index("elbow_flex")
FIRED = 0xFF  # Bus Watchdog(98) of -1


class Run:
    """An arm on its way to the start pose, and the policy behind it.

    Args:
        happenings: tick → what is done to the robot then.
        orders: tick → order.
    """

    def __init__(self, happenings: dict[int, Callable[[], None]], orders: dict[int, Order]) -> None:
        self.robot = LockstepRobot(ROBOT, 1)
        self.happenings, self.orders = happenings, {1: Order.START, **orders}
        self.records: list[TickRecord] = []
        self.notices: list[str] = []
        self.watchdogs: list[list[int]] = []
        """Register 98 of each servo, after each tick."""
        self.goals: list[list[int]] = []
        """Register 116 of each servo, after each tick."""
        self.ticks = 0
        self.arm = DynamixelArm(self.robot.robot.follower, rate_hz=200.0, line=self.robot.line("follower"))
        self.arm.open()
        self.loop = ControlLoop(
            self.arm,
            Decide.of(ROBOT),
            self.robot.clock,
            200.0,
            self,
            self._publish,
            self.notices.append,
            port="/dev/arm",
        )

    @property
    def servos(self) -> list[Servo]:
        return list(self.robot.world.arms["follower"].bus.servos)

    @property
    def profiles(self) -> list[tuple[int, int]]:
        """What each servo itself allows: Profile Velocity(112) and Acceleration(108), forgotten without power."""
        return [(servo.memory["profile_velocity"], servo.memory["profile_acceleration"]) for servo in self.servos]

    def live(self, ticks: int) -> Run:
        self.loop.run(ticks)
        return self

    def order(self) -> Order | None:
        self.ticks += 1
        self.happenings.get(self.ticks, lambda: None)()
        return self.orders.get(self.ticks)

    def human(self) -> TeleopSample | None:
        return None

    def chunk(self) -> None:
        return None

    def _publish(self, record: TickRecord) -> None:
        self.records.append(TickRecord.from_buffer_copy(record))
        self.watchdogs.append([servo.memory["bus_watchdog"] & 0xFF for servo in self.servos])
        self.goals.append([servo.memory["goal_position"] for servo in self.servos])

    def first(self, mode: Mode) -> int:
        """The tick from BEGIN on, counted from 1, that is first in this mode."""
        return next(k for k, tick in enumerate(self.records[BEGIN - 1 :]) if tick.mode == mode)

    def check(self) -> None:
        flags = np.array([tick.flags for tick in self.records])
        check_motion(flags, np.array([tick.limited[:6] for tick in self.records]), ROBOT)
        assert self.records[-1].mode == Mode.EASE_IN
        assert all(self.robot.state()["torque"]["follower"])


def test_while_one_servo_is_silent_the_others_are_heard_and_led() -> None:
    """60 ticks: past the Bus Watchdog of the silent one, short of a fault."""
    run = Run({}, {})
    run.happenings = {
        BEGIN: lambda: run.robot.inject({"silent_ids": [ROBOT.follower.joints["elbow_flex"].id]}),
        BEGIN + 60: run.robot.clear,
    }
    run.live(BEGIN + 120)
    silence = run.records[BEGIN : BEGIN + 59]
    others = [k for k in range(6) if k != ELBOW]
    assert {tuple(tick.fresh[:6]) for tick in silence} == {(1, 1, 0, 1, 1, 1)}
    assert {tick.write_fault for tick in silence} == {0}
    for tick, goals, watchdogs in list(zip(run.records, run.goals, run.watchdogs, strict=True))[BEGIN : BEGIN + 59]:
        assert [goals[k] for k in others] == [tick.sent_ticks[k] for k in others]
        assert FIRED not in [watchdogs[k] for k in others]
    assert run.watchdogs[BEGIN + 58][ELBOW] == FIRED  # it stopped by itself, and holds
    assert run.first(Mode.HOLD) == ROBOT.control.stale_ticks
    assert any(tick.flags & Flag.ENGAGED for tick in run.records[BEGIN + 59 :])
    assert not any(tick.flags & Flag.FAULT_LATCHED for tick in run.records)
    run.check()


def test_a_servo_that_shuts_down_is_named_and_restarted_on_the_operators_word() -> None:
    run = Run({}, {BEGIN + 100: Order.CLEAR_FAULT, BEGIN + 110: Order.START})
    run.happenings = {BEGIN: lambda: run.robot.inject({"overload": ROBOT.follower.joints["elbow_flex"].id})}
    run.live(BEGIN + 300)
    assert run.first(Mode.FAULT) == 3
    assert "EASE_IN -> FAULT (SERVO_ALERT: elbow_flex: overload)" in run.notices
    assert "FAULT -> HOLD (recovered)" in run.notices
    run.check()


def test_an_arm_that_was_unplugged_is_opened_again_on_the_operators_word() -> None:
    run = Run({}, dict.fromkeys((BEGIN + 40, BEGIN + 100), Order.CLEAR_FAULT) | {BEGIN + 110: Order.START})
    run.happenings = {
        BEGIN: lambda: run.robot.inject({"unplug": True}),
        BEGIN + 60: run.robot.clear,  # back after 0.3 s, but its file is dead
    }
    run.live(BEGIN + 200)
    assert run.first(Mode.FAULT) <= 1
    assert "EASE_IN -> FAULT (PORT_GONE: /dev/arm)" in run.notices
    assert "not recovered: follower: no such port; is the arm plugged in?" in run.notices
    assert {tick.mode for tick in run.records[BEGIN + 1 : BEGIN + 100]} == {Mode.FAULT}
    run.check()


def test_servos_whose_power_came_back_are_programmed_before_they_move() -> None:
    """They have forgotten how fast they may go, their watchdog and their torque; identity and limits are looked at."""
    seen: list[list[tuple[int, int]]] = []
    run = Run({}, {})
    run.happenings = {
        BEGIN: lambda: run.robot.inject({"power": False}),
        BEGIN + 1: lambda: seen.append(run.profiles),
        BEGIN + 40: run.robot.clear,
    }
    before = run.profiles
    run.live(BEGIN + 120)
    assert before == run.profiles
    assert seen == [[(0, 0)] * 6]
    run.check()


def test_an_engagement_that_fails_half_way_leaves_the_arm_where_it_is(monkeypatch: pytest.MonkeyPatch) -> None:
    """Its power went and it sank; the servos hold again, but one did not say so. They were sent to the old pose."""
    run = Run({}, dict.fromkeys((BEGIN + 180, BEGIN + 200), Order.CLEAR_FAULT) | {BEGIN + 210: Order.START})
    run.happenings = {BEGIN: lambda: run.robot.inject({"power": False}), BEGIN + 120: run.robot.clear}
    hold, held = run.arm.hold, list[list[int]]()

    def half() -> None:
        hold()
        held.append([servo.memory["goal_position"] for servo in run.servos])
        if len(held) == 2:  # after that of the start
            raise DeviceError("elbow_flex does not answer")

    monkeypatch.setattr(run.arm, "hold", half)
    run.live(BEGIN + 400)
    assert "not recovered: elbow_flex does not answer" in run.notices
    assert run.goals[BEGIN + 180 : BEGIN + 200] == [held[1]] * 20
    run.check()

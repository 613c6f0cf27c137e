"""A latched fault: its cause is named, it ends on the operator's word alone, and the episode of all that replays."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import cast

import numpy as np
import pytest
from motion_checks import check_motion
from recorded_life import Life

from controller.authority import Authority, Fault
from controller.notices import Notices
from controller.replay import replay
from controller.state import Command
from controller.takeover import Obstacle
from drivers.arm import BusFault
from episodes.reader import read_episode
from episodes.records import Flag, Mode, Order
from spec.teleop import TeleopSample

FAULTY, WELL, CLEARED, STARTED, END = 400, 640, 660, 700, 1300
"""Ticks of the run at which the cause sets in and ends, and at which the operator says so and starts again."""


class Plan(Life):
    """A calm life but for one fault."""

    def __init__(self, cause: str, clear: tuple[int, ...] = (CLEARED,), well: int = WELL) -> None:
        orders = {3: Order.START, STARTED: Order.START} | dict.fromkeys(clear, Order.CLEAR_FAULT)
        super().__init__(3, orders, calm=True, port="/dev/arm")
        self.cause, self.well = cause, well

    def order(self) -> Order | None:
        order = super().order()
        faulty = FAULTY <= self._calls < self.well
        match self.cause:
            case "silent":
                self.arm.silent = {1} if faulty else set()
            case "gone":
                self.arm.gone = faulty
            case _:
                self.arm.read_fault = BusFault.SERVO if faulty else BusFault.NONE
        if self.cause == "alarm" and self._calls == FAULTY + 5:
            self.arm.alarming = ("j1: overload",)
        return order

    def human(self) -> TeleopSample | None:
        return None

    def modes(self, of: slice) -> set[Mode]:
        return {Mode(tick.mode) for tick in self.ticks[of]}

    @property
    def said(self) -> list[str]:
        return [line for line in self.notices if "FAULT" in line or "->" not in line]


@pytest.mark.parametrize(
    ("cause", "said"),
    [
        ("silent", ["POLICY -> HOLD", "HOLD -> FAULT (STALE_JOINT: j1)"]),
        ("gone", ["POLICY -> FAULT (PORT_GONE: /dev/arm)"]),
        ("alarm", ["POLICY -> FAULT (SERVO_ALERT)", "SERVO_ALERT: j1: overload", "restarted: j1: overload"]),
    ],
)
def test_a_fault_says_where_it_is_and_ends_on_the_operators_word(cause: str, said: list[str], tmp_path: Path) -> None:
    life = Plan(cause).live(END)
    after = [line for line in life.notices if line not in {"IDLE -> EASE_IN", "EASE_IN -> HOLD", "HOLD -> POLICY"}]
    assert after == [*said, "FAULT -> HOLD (recovered)", "HOLD -> EASE_IN"]
    assert life.arm.recoveries == 2  # to start, and on the word
    engaged = [number for number, tick in enumerate(life.ticks) if tick.flags & Flag.ENGAGED]
    assert engaged[1:] == [CLEARED]
    assert life.modes(slice(WELL, CLEARED)) == {Mode.FAULT}  # that the cause is gone changes nothing by itself
    assert life.modes(slice(CLEARED, STARTED - 1)) == {Mode.HOLD}
    assert life.ticks[STARTED].mode == Mode.EASE_IN
    assert life.ticks[-1].mode == Mode.POLICY
    flags = np.array([tick.flags for tick in life.ticks])
    check_motion(flags, np.array([tick.limited[:2] for tick in life.ticks]), life.robot)
    verdict = replay(read_episode(life.episode(tmp_path / "a.mcap")))
    assert verdict.equal, verdict


@pytest.mark.parametrize("cause", ["silent", "gone"])
def test_a_word_too_soon_leaves_the_fault_latched_and_says_why(cause: str, tmp_path: Path) -> None:
    life = Plan(cause, clear=(WELL - 50, CLEARED)).live(END)
    why = {"silent": "j1 (id 1): no answer", "gone": "none: the port is gone; check the cable and reconnect"}
    assert f"not recovered: {why[cause]}" in life.notices
    assert life.ticks[WELL - 50].flags & Flag.ENGAGE_FAILED
    assert life.modes(slice(WELL - 50, CLEARED)) == {Mode.FAULT}
    assert life.ticks[-1].mode == Mode.POLICY
    verdict = replay(read_episode(life.episode(tmp_path / "a.mcap")))
    assert verdict.equal, verdict


def test_a_servo_that_shut_down_in_an_outage_is_not_restarted_without_a_word() -> None:
    """30 ticks of silence: longer than the Bus Watchdog waits, shorter than a fault."""
    life = Plan("silent", clear=(), well=FAULTY + 30)
    life.arm.alarming = ()
    alarm = life.arm.hold

    def hold() -> None:
        alarm()
        life.arm.alarming = ("j1: overload",)

    life.arm.hold = hold  # type: ignore[method-assign]
    life.live(WELL)
    assert "j1: overload" in life.notices
    assert life.notices[-1] == "HOLD -> FAULT (NOT_ENGAGED)"
    assert life.arm.alarming == ("j1: overload",)  # it was looked at, not restarted


def test_servos_that_may_have_lost_their_power_are_checked_before_they_hold() -> None:
    life = Plan("silent", clear=(), well=FAULTY + 30).live(WELL)
    assert life.arm.recoveries == 2
    assert life.ticks[-1].mode == Mode.POLICY


def test_an_arm_that_is_held_back_on_its_way_home_says_by_what() -> None:
    """The start pose was not reached, and nobody could tell why."""
    notices: list[str] = []
    state = Plan("silent").loop._decide.initial()
    easing = state._replace(authority=Authority(mode=Mode.EASE_IN))
    command = SimpleNamespace(mode=Mode.FAULT, fault=Fault.NOT_HOME, flags=0, obstacle=Obstacle.NONE)
    for hindrance in ("the workspace box", ""):
        teller = Notices(Plan("silent").arm, "/dev/arm", notices.append, lambda _, found=hindrance: found)  # type: ignore[misc]
        teller.tell(easing, state, cast("Command", command), None, 0)
    assert notices == ["EASE_IN -> FAULT (NOT_HOME: held back by the workspace box)", "EASE_IN -> FAULT (NOT_HOME)"]


def test_a_servo_that_never_says_what_alarms_it_is_asked_no_more() -> None:
    life = Plan("mute", clear=()).live(WELL)
    assert life.said == [
        "POLICY -> FAULT (SERVO_ALERT)",
        "SERVO_ALERT: no servo names an error; a Bus Watchdog may have fired",
    ]

"""The loop around the decision, on a virtual clock: pacing, records, and an orderly end whatever happens."""

from __future__ import annotations

import logging
import math
from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np
import pytest
from controller_plant import SimulatedArm, chunk, robot, sine

from controller.authority import Engagement
from controller.clock import VirtualClock
from controller.decide import Decide, Inputs, State
from controller.loop import ControlLoop, EmptyInbox, Termination
from drivers.arm import BusFault
from episodes.records import Driver, Flag, Mode, Order, TickRecord
from spec.chunk import Chunk
from spec.robot import Robot
from spec.teleop import Button, TeleopSample

PERIOD_NS = 5_000_000


@dataclass
class Script:
    """An inbox that knows the time: a chunk every policy step, orders at given instants, anything else by hook."""

    clock: VirtualClock
    orders: dict[int, Order] = field(default_factory=dict)
    """Tick of the run → order."""
    policy: bool = True
    latency_ns: int = 40_000_000
    calls: int = 0
    sequence: int = 0
    every: int = 20
    hook: Callable[[int], None] = lambda _tick: None
    person: Callable[[int], TeleopSample | None] = lambda _tick: None
    waiting: list[tuple[int, Chunk]] = field(default_factory=list)

    def order(self) -> Order | None:
        self.calls += 1
        self.hook(self.calls)
        return self.orders.get(self.calls)

    def human(self) -> TeleopSample | None:
        return self.person(self.calls)

    def chunk(self) -> Chunk | None:
        now = self.clock.now_ns()
        if self.policy and self.calls % self.every == 0:
            self.waiting.append((now + self.latency_ns, chunk(self.sequence, now, sine(0.3))))
            self.sequence += 1
        if self.waiting and self.waiting[0][0] <= now:
            return self.waiting.pop(0)[1]
        return None


@dataclass
class Rig:
    loop: ControlLoop
    arm: SimulatedArm
    script: Script
    clock: VirtualClock
    records: list[TickRecord]
    notices: list[str]
    marks: list[tuple[int, State]]

    def run(self, ticks: int) -> Termination:
        return self.loop.run(ticks)


def _rig(machine: Robot | None = None, **orders: int) -> Rig:
    machine = machine or robot()
    clock = VirtualClock(10**9)
    arm = SimulatedArm(clock, np.array([0.1, 0.3]))
    script = Script(clock, {tick: Order[name] for name, tick in orders.items()})
    records: list[TickRecord] = []
    notices: list[str] = []
    marks: list[tuple[int, State]] = []

    def publish(record: TickRecord) -> None:
        records.append(TickRecord.from_buffer_copy(record))

    loop = ControlLoop(
        arm,
        Decide.of(machine),
        clock,
        machine.control.rate_hz,
        script,
        publish,
        notices.append,
        lambda tick, state: marks.append((tick, state)),
    )
    return Rig(loop, arm, script, clock, records, notices, marks)


@pytest.fixture
def rig() -> Rig:
    return _rig(START=3)


def test_a_run_from_start_to_policy(rig: Rig) -> None:
    assert rig.run(600) is Termination.STOPPED
    modes = [record.mode for record in rig.records]
    assert modes[0] == Mode.IDLE
    assert modes[-1] == Mode.POLICY
    assert [notice.split(" -> ")[1] for notice in rig.notices][:3] == ["EASE_IN", "HOLD", "POLICY"]
    assert rig.arm.held
    assert rig.arm.closed
    assert len(rig.records) == rig.loop.ticks == 596  # engaging the servos took four periods
    assert rig.loop.skipped == 4  # missed all the same, and counted
    assert not any(record.flags & Flag.LATE for record in rig.records)  # but on purpose: that is not being late
    engaged = next(record for record in rig.records if record.flags & Flag.ENGAGED)
    assert engaged.skipped == 4


def test_commands_that_never_left_do_not_add_up_to_a_jump() -> None:
    """Found on a busy machine: after a write for which no time was left, the next goal was two periods away."""
    rig = _rig(START=3)
    lost = range(330, 338)

    def lose(tick: int) -> None:
        rig.arm.write_fault = BusFault.SKIPPED if tick in lost else BusFault.NONE

    rig.script.hook = lose
    assert rig.run(500) is Termination.STOPPED
    arrived = [record.sent[0] for record in rig.records if record.mode == Mode.POLICY and not record.write_fault]
    assert sum(record.write_fault != 0 for record in rig.records) == len(lost)
    assert np.ptp(arrived) > 0.1  # it was moving
    assert np.abs(np.diff(arrived)).max() <= 3.0 * 0.005
    assert np.abs(np.diff(arrived, 2)).max() <= 25.0 * 0.005**2 * 1.001
    assert rig.records[-1].mode == Mode.POLICY


def test_stopping_does_not_wait_for_a_bus_that_takes_nothing() -> None:
    rig = _rig(START=3, STOP=400)

    def lose(tick: int) -> None:
        rig.arm.write_fault = BusFault.DISCONNECTED if tick >= 350 else BusFault.NONE

    rig.script.hook = lose
    assert rig.run(2000) is Termination.STOPPED
    assert rig.loop.ticks < 500


def test_records_hold_what_was_read_asked_limited_and_sent(rig: Rig) -> None:
    rig.run(400)
    first = rig.records[0]
    assert list(first.position[:2]) == [0.1, 0.3]
    assert np.isnan(list(first.sent[:2])).all()  # nothing was sent
    assert first.chunk == -1
    for before, record in zip(rig.records, rig.records[1:], strict=False):
        assert record.tick > before.tick
        assert record.deadline_ns <= record.woke_ns <= record.read_ns <= record.decided_ns <= record.written_ns
        assert record.now_ns == record.deadline_ns  # never late here
        assert list(record.fresh[:2]) == [1, 1]
        assert record.joints == 2
    driving = [record for record in rig.records if record.mode == Mode.POLICY]
    assert driving[-1].weights == 7
    for record in driving:
        assert list(record.limited[:2]) == list(record.sent[:2])
        assert np.abs(np.subtract(record.limited[:2], record.asked[:2])).max() < 2e-3 or record.flags & Flag.LIMITED
        assert list(record.sent_ticks[:2]) == [round(angle * 2048 / np.pi) + 2048 for angle in record.sent[:2]]
    assert len(rig.arm.sent) >= len(driving)


def test_ticks_lie_on_the_grid_and_a_stall_skips_whole_periods(rig: Rig) -> None:
    def stall(tick: int) -> None:
        if tick == 300:
            rig.arm.stall_ns = 17_000_000

    rig.script.hook = stall
    rig.run(400)
    late = [record for record in rig.records if record.flags & Flag.LATE]
    assert [record.skipped for record in late] == [2]
    assert late[0].flags & Flag.LATE
    assert rig.loop.skipped == 2 + 4  # four more while the servos were engaged
    assert late[0].woke_ns - late[0].deadline_ns > 2 * PERIOD_NS  # the whole lateness, from what was planned
    start = rig.records[0].now_ns - rig.records[0].tick * PERIOD_NS
    assert all(record.now_ns == start + record.tick * PERIOD_NS for record in rig.records)
    steps = np.abs(np.diff([record.limited[0] for record in rig.records if record.mode == Mode.POLICY]))
    assert steps.max() <= 3.0 * 0.005  # what was missed is not caught up in a jump


def test_bus_errors_are_counted_and_never_end_the_loop(rig: Rig) -> None:
    def faults(tick: int) -> None:
        rig.arm.silent = {1} if tick % 7 == 0 else set()
        rig.arm.write_fault = BusFault.TIMEOUT if tick % 11 == 0 else BusFault.NONE

    rig.script.hook = faults
    assert rig.run(600) is Termination.STOPPED
    assert rig.records[-1].mode == Mode.POLICY
    failed = [record for record in rig.records if record.flags & Flag.READ_FAILED]
    unsent = [record for record in rig.records if record.flags & Flag.WRITE_FAILED]
    assert len(failed) > 50
    assert len(unsent) > 30
    assert rig.loop.bus_errors == rig.records[-1].bus_errors == len(failed) + len(unsent)


def test_stop_order_brakes_holds_closes_and_ends() -> None:
    rig = _rig(START=3, STOP=400)
    assert rig.run(10_000) is Termination.STOPPED
    assert 400 < rig.loop.ticks < 440
    assert rig.records[-1].mode == Mode.HOLD
    assert list(rig.records[-1].limited_velocity[:2]) == [0.0, 0.0]
    assert rig.arm.closed


@pytest.mark.parametrize("reason", [Termination.STOPPED, Termination.PARENT_GONE])
def test_stop_from_outside_ends_alike_with_its_reason(rig: Rig, reason: Termination) -> None:
    rig.script.hook = lambda tick: rig.loop.stop(reason) if tick == 300 else None
    assert rig.run(10_000) is reason
    assert rig.loop.ticks < 340
    assert rig.arm.closed


def test_ending_by_ticks_in_full_motion_still_brakes(rig: Rig) -> None:
    rig.run(330)
    path = np.array([[0.1, 0.3], *rig.arm.sent])
    assert rig.records[-1].mode == Mode.POLICY
    assert np.abs(np.diff(path[-3:], axis=0)).max() < 1e-4  # the last goals do not differ any more
    assert np.abs(np.diff(path, 3, axis=0)).max() <= 600 * 0.005**3 * 1.01


@pytest.mark.parametrize("where", ["read", "publish", "inbox"])
def test_an_exception_brakes_holds_and_ends_the_loop_with_error(where: str, caplog: pytest.LogCaptureFixture) -> None:
    rig = _rig(START=3)

    def explode(tick: int) -> None:
        if tick == 350 and where == "read":
            rig.arm.breaks = RuntimeError("broken driver")
        if tick == 350 and where == "inbox":
            raise RuntimeError("broken inbox")
        if tick == 350 and where == "publish":
            rig.loop._publish = _broken

    rig.script.hook = explode
    with caplog.at_level(logging.ERROR):
        assert rig.run(1000) is Termination.ERROR
    assert "broken" in caplog.text
    assert rig.arm.closed
    path = np.array(rig.arm.sent)
    assert np.abs(np.diff(path, 3, axis=0)).max() <= 600 * 0.005**3 * 1.01  # braked, not stopped dead
    assert np.abs(np.diff(path[-2:], axis=0)).max() < 1e-4


def _broken(_record: TickRecord) -> None:
    raise RuntimeError("broken publisher")


def test_who_cannot_be_told_and_what_cannot_be_put_on_record_ends_nothing(caplog: pytest.LogCaptureFixture) -> None:
    """Only a tick that nobody hears of does (above): then nobody could see whether the arm is well."""
    rig = _rig(START=3, MARK=300)

    def broken(*_: object) -> None:
        raise RuntimeError("broken listener")

    rig.loop._notices._notice = rig.loop._mark = broken
    with caplog.at_level(logging.ERROR):
        assert rig.run(400) is Termination.STOPPED
    assert rig.records[-1].mode == Mode.POLICY
    assert len([line for line in caplog.messages if "a notice could not be given" in line]) == 1
    assert "is not on record" in caplog.text


def test_servos_that_refuse_to_hold_are_named_and_nothing_is_sent() -> None:
    rig = _rig(START=3)
    rig.arm.refuses_hold = True
    rig.loop.run(100)
    assert any("overload; reboot it" in notice for notice in rig.notices)
    assert rig.records[-1].mode == Mode.FAULT
    assert any(record.flags & Flag.ENGAGE_FAILED for record in rig.records)
    assert rig.arm.sent == []


def test_stopping_while_a_fault_is_latched_says_so() -> None:
    rig = _rig(START=3)

    def go_silent(tick: int) -> None:
        if tick == 300:
            rig.arm.silent = {0, 1}
        if tick == 500:
            rig.loop.stop()

    rig.script.hook = go_silent
    assert rig.run(1000) is Termination.FAULT
    assert any("FAULT (STALE_JOINT: j0, j1)" in notice for notice in rig.notices)


def _with_a_person(**orders: int) -> Rig:
    """A leader that mirrors the arm, read every other tick; its button is held from tick 400 to 404 and 520 to 524."""
    rig = _rig(robot(teleop={}), **orders)

    def person(tick: int) -> TeleopSample | None:
        if tick % 2:
            return None
        press = Button.TOGGLE if 400 <= tick < 404 or 520 <= tick < 524 else Button.NONE
        where = tuple((rig.arm.position + (0.002 * (tick - 400) if 400 < tick < 450 else 0.0)).tolist())
        goal = (math.nan, math.nan) if 400 < tick <= 520 else where
        return TeleopSample(tick, rig.clock.now_ns() - 1_000_000, where, (0.4, 0.4), (0.1, 0.2), goal, int(press))

    rig.script.person = person
    return rig


def test_records_hold_who_drove_and_what_the_person_said() -> None:
    rig = _with_a_person(START=3, MARK=450)
    rig.run(620)
    before, newest = rig.records[0], None
    assert (before.teleop, before.arrived, before.order, before.driver) == (-1, -1, 0, Driver.NONE)
    assert np.isnan([*before.human[:2], *before.human_goal[:2], *before.policy[:2]]).all()
    for number, record in enumerate(rig.records, 1):
        said = rig.script.person(number)
        newest = said or newest
        assert bool(record.flags & Flag.NEW_TELEOP) == (said is not None)
        if newest is not None:  # what it said stands until the next
            assert record.teleop == newest.sequence
            assert record.buttons == newest.buttons
            assert tuple(record.human_effort[:2]) == newest.effort
        assert bool(record.flags & Flag.ORDERED) == (number in rig.script.orders)
        assert record.order == rig.script.orders.get(number, 0)
        assert (record.arrived >= 0) == bool(record.flags & (Flag.NEW_CHUNK | Flag.CHUNK_REFUSED))
        if record.driver == Driver.POLICY:
            assert list(record.policy[:2]) == list(record.asked[:2])
    assert {record.driver for record in rig.records} == set(Driver)
    turn = [record for record in rig.records if record.driver == Driver.HUMAN]
    assert turn[0].flags & Flag.TAKEN_OVER
    assert [turn[0].alpha, turn[-1].alpha] == [0.0, 1.0]
    assert np.isfinite([list(record.policy[:2]) for record in turn]).all()
    assert any("(taken over by button)" in notice for notice in rig.notices)
    assert any("HUMAN -> HOLD (given back)" in notice for notice in rig.notices)


def test_a_refused_takeover_says_why_once() -> None:
    rig = _rig(START=3, TAKE_OVER=400)
    rig.run(450)
    assert [notice for notice in rig.notices if notice.startswith("takeover")] == [
        "takeover: the teleoperation device is silent"
    ]


def test_a_person_who_loses_the_arm_is_told() -> None:
    rig = _with_a_person(START=3)
    person = rig.script.person
    rig.script.person = lambda tick: person(tick) if tick < 450 else None
    rig.run(700)
    assert rig.records[-1].mode == Mode.HOLD
    assert [notice for notice in rig.notices if notice.startswith("takeover")] == [
        "takeover: the teleoperation device is silent",
        "takeover: over, the teleoperation device was silent for too long; the arm rests until START",
    ]


def test_an_order_to_mark_hands_over_the_state_that_tick_left() -> None:
    rig = _with_a_person(START=3, MARK=430)
    rig.run(500)
    ((tick, state),) = rig.marks
    assert rig.records[429].order == Order.MARK
    assert tick == rig.records[429].tick
    assert state.commanded is not None
    assert state.commanded.position == tuple(rig.records[429].limited[:2])


def test_what_was_logged_decides_alike_again() -> None:
    """The inputs of every tick can be had back from its record and the chunks alone: replay is bit-equal."""
    rig = _with_a_person(START=3, MARK=450, HOLD=580)
    made: dict[int, Chunk] = {}
    given = rig.script.chunk

    def noted() -> Chunk | None:
        new = given()
        if new is not None:
            made[new.sequence] = new
        return new

    def faults(tick: int) -> None:
        rig.arm.silent = {tick % 2} if tick % 13 == 0 else set()
        rig.arm.write_fault = BusFault.TIMEOUT if tick % 29 == 0 else BusFault.NONE

    rig.script.chunk = noted  # type: ignore[method-assign]
    rig.script.hook = faults
    rig.run(620)
    assert {record.mode for record in rig.records} >= {Mode.POLICY, Mode.BLEND, Mode.HUMAN}
    decide = Decide.of(robot(teleop={}))
    state = decide.initial()
    for record in rig.records:
        state, command = decide(state, _inputs_of(record, made), record.now_ns)
        loops_own = Flag.LATE | Flag.WRITE_FAILED
        assert (command.mode, command.flags) == (record.mode, record.flags & ~loops_own)
        assert (command.driver, command.alpha) == (record.driver, record.alpha)
        assert (command.policy or NOWHERE) == pytest.approx(tuple(record.policy[:2]), abs=0.0, nan_ok=True)
        if command.commanded is not None:
            assert command.commanded.position == tuple(record.limited[:2])
            assert command.commanded.acceleration == tuple(record.limited_acceleration[:2])
            assert command.asked == tuple(record.asked[:2])


NOWHERE = (math.nan, math.nan)


def _inputs_of(record: TickRecord, chunks: dict[int, Chunk]) -> Inputs:
    flags, engagement, human = Flag(record.flags), Engagement.NONE, None
    if flags & (Flag.ENGAGED | Flag.ENGAGE_FAILED):
        engagement = Engagement.DONE if flags & Flag.ENGAGED else Engagement.FAILED
    if flags & Flag.NEW_TELEOP:
        human = TeleopSample(
            record.teleop,
            record.teleop_ns,
            tuple(record.human[:2]),
            tuple(record.human_velocity[:2]),
            tuple(record.human_effort[:2]),
            tuple(record.human_goal[:2]),
            record.buttons,
        )
    return Inputs(
        np.array(record.position[:2]),
        np.array(record.velocity[:2]),
        np.array(record.effort[:2]),
        np.array(record.fresh[:2], dtype=np.bool_),
        BusFault(record.read_fault),
        chunks[record.arrived] if flags & (Flag.NEW_CHUNK | Flag.CHUNK_REFUSED) else None,
        Order(record.order) if flags & Flag.ORDERED else None,
        engagement,
        bool(flags & Flag.UNSENT),
        human,
    )


def test_an_empty_inbox_leaves_the_arm_idle() -> None:
    clock = VirtualClock()
    arm = SimulatedArm(clock, np.zeros(2))
    loop = ControlLoop(arm, Decide.of(robot()), clock, 200.0, EmptyInbox(), lambda _record: None)
    assert loop.run(50) is Termination.STOPPED
    assert arm.sent == []
    assert not arm.held

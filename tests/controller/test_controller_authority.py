"""Who moves the arm, rung by rung, in lock-step: every bound of the ladder to the tick."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
from controller_plant import STEP_NS, chunk, robot, sine
from hypothesis import given, settings
from hypothesis import strategies as st

from controller.authority import Authority, Bounds, Engagement, Facts, Fault
from controller.decide import Command, Decide
from controller.ladder import step
from controller.lockstep import Lockstep
from controller.schedule import Schedule
from drivers.arm import BusFault
from episodes.records import Flag, Mode, Order
from spec.arrays import Bool, Float
from spec.chunk import Chunk
from spec.robot import Robot

NOBODY: Bool = np.zeros(2, dtype=np.bool_)
HALF: Bool = np.array([True, False])
PERIOD_NS = 5_000_000
HOME = 0.2


class Bench:
    """Lock-step with a perfect servo, and a policy that sends a chunk every step unless told not to."""

    def __init__(self, machine: Robot | None = None, start: Float | None = None) -> None:
        self.robot = machine or robot()
        self.where = np.array([HOME, HOME] if start is None else start)
        self.lockstep = Lockstep(Decide.of(self.robot), self.robot.control.rate_hz, self._plant, self.where)
        self.sequence = 0
        self.policy = True
        self.deaf = False
        self.curve: Callable[[float], float] = sine(0.3)
        self.commands: list[Command] = []

    def _plant(self, goal: Float | None) -> tuple[Float, Float]:
        if goal is not None and not self.deaf:
            self.where = goal
        return self.where, np.zeros_like(self.where)

    def tick(
        self,
        order: Order | None = None,
        *,
        heard: Bool | None = None,
        fault: BusFault = BusFault.NONE,
        sent: Chunk | None = None,
    ) -> Command:
        if sent is None and self.policy and len(self.commands) % 20 == 0:
            sent = chunk(self.sequence, self.lockstep.now_ns, self.curve)
        if sent is not None:
            self.sequence = sent.sequence + 1
        self.commands.append(self.lockstep.step(sent, order, heard, fault))
        return self.commands[-1]

    def ticks(self, count: int, *, heard: Bool | None = None, fault: BusFault = BusFault.NONE) -> Command:
        for _ in range(count):
            self.tick(heard=heard, fault=fault)
        return self.commands[-1]

    def until(self, mode: Mode, within: int) -> int:
        """Ticks it took."""
        for count in range(within):
            if self.tick().mode is mode:
                return count + 1
        raise AssertionError(f"{self.commands[-1].mode.name} after {within} ticks, not {mode.name}")

    def driving(self) -> Bench:
        self.tick(Order.START)
        self.until(Mode.POLICY, 400)
        self.ticks(50)
        return self

    @property
    def at_rest(self) -> bool:
        commanded = self.commands[-1].commanded
        return commanded is not None and commanded.at_rest


def test_idle_sends_nothing() -> None:
    bench = Bench()
    assert all(bench.tick().position is None for _ in range(50))
    assert bench.commands[-1].mode is Mode.IDLE


def test_start_engages_then_eases_in_from_where_the_arm_stands_then_follows_the_policy() -> None:
    bench = Bench(start=np.array([-1.0, 1.0]))
    command = bench.tick(Order.START)
    assert command.engage
    assert command.position is None
    command = bench.tick()
    assert command.mode is Mode.EASE_IN
    assert command.flags & Flag.ENGAGED
    assert command.position == pytest.approx((-1.0, 1.0), abs=1e-3)  # no jump: begins at the measured pose
    bench.until(Mode.HOLD, 1000)
    assert bench.where == pytest.approx([HOME, HOME], abs=1e-3)
    assert bench.until(Mode.POLICY, 25) <= 21  # the next chunk observed at the start pose


def test_without_a_policy_it_waits_at_the_start_pose() -> None:
    bench = Bench()
    bench.policy = False
    bench.tick(Order.START)
    bench.until(Mode.HOLD, 10)
    command = bench.ticks(500)
    assert command.mode is Mode.HOLD
    assert command.flags & Flag.NO_CHUNK
    assert command.fault is Fault.NONE


def test_home_rests_at_the_start_pose_whatever_the_policy_says() -> None:
    bench = Bench(start=np.array([-0.5, 0.5]))
    bench.tick(Order.HOME)
    bench.until(Mode.HOLD, 1000)
    assert bench.ticks(100).mode is Mode.HOLD
    assert bench.where == pytest.approx([HOME, HOME], abs=1e-3)
    bench.tick(Order.START)
    bench.until(Mode.POLICY, 60)


def test_hold_on_the_operators_word_lasts_until_start() -> None:
    bench = Bench().driving()
    assert bench.tick(Order.HOLD).mode is Mode.HOLD
    bench.ticks(34)
    assert bench.at_rest
    assert bench.ticks(300).mode is Mode.HOLD
    bench.tick(Order.START)
    assert bench.commands[-1].mode is Mode.EASE_IN
    bench.until(Mode.POLICY, 600)


def test_when_chunks_stop_the_tail_is_followed_for_its_time_then_the_arm_stops() -> None:
    """The last chunk came; its successor is due a step later, a step of grace, then 300 ms of tail: 100 ticks."""
    bench = Bench().driving()
    while not bench.tick().flags & Flag.NEW_CHUNK:
        pass
    bench.policy = False
    for since in range(1, 101):
        command = bench.tick()
        assert command.mode is Mode.POLICY, since
        assert bool(command.flags & Flag.TAIL) == (since > 40)
    assert bench.tick().mode is Mode.HOLD
    assert bench.commands[-1].flags & Flag.NO_CHUNK
    bench.ticks(34)
    assert bench.at_rest


def test_when_the_last_chunk_ends_before_its_tail_the_arm_stops_at_once() -> None:
    bench = Bench().driving()
    bench.policy = False
    bench.lockstep.state = bench.lockstep.state._replace(schedule=Schedule(newest=99))
    bench.tick(sent=chunk(100, bench.lockstep.now_ns, sine(0.3), length=2))
    for _ in range(39):
        assert bench.tick().mode is Mode.POLICY
    assert bench.tick().mode is Mode.HOLD


def test_it_goes_on_by_itself_when_chunks_come_again_but_not_from_an_old_observation() -> None:
    bench = Bench().driving()
    bench.policy = False
    bench.until(Mode.HOLD, 130)
    held = bench.lockstep.now_ns
    bench.ticks(40)
    late = chunk(bench.sequence, held - STEP_NS, sine(0.3))
    assert bench.tick(sent=late).flags & Flag.CHUNK_REFUSED  # what it saw is from before the stop
    assert bench.commands[-1].mode is Mode.HOLD
    fresh = chunk(bench.sequence, bench.lockstep.now_ns, sine(0.3))
    assert bench.tick(sent=fresh).mode is Mode.POLICY


@pytest.mark.parametrize("heard", [NOBODY, HALF], ids=["all silent", "one silent"])
def test_stale_joints_hold_then_fault_each_after_its_ticks(heard: Bool) -> None:
    bench = Bench(robot(stale_ticks=10, fault_ticks=100)).driving()
    for silent in range(1, 150):
        command = bench.tick(heard=heard)
        assert command.flags & Flag.STALE_JOINT
        expected = Mode.POLICY if silent < 10 else Mode.HOLD if silent < 100 else Mode.FAULT
        assert command.mode is expected, silent
        assert command.position is not None  # the arm is never left without a goal
    assert command.fault is Fault.STALE_JOINT
    assert bench.at_rest


def test_single_lost_packets_change_nothing() -> None:
    bench, undisturbed = Bench().driving(), Bench().driving()
    rng = np.random.default_rng(5)
    for _ in range(500):
        lost = rng.random(2) < 0.3
        assert bench.tick(heard=~lost).position == undisturbed.tick().position


def test_a_short_silence_is_over_by_itself() -> None:
    bench = Bench().driving()
    bench.ticks(15, heard=HALF)
    assert bench.commands[-1].mode is Mode.HOLD
    assert not any(command.engage for command in bench.commands[-15:])
    assert bench.until(Mode.POLICY, 25) <= 22


def test_after_a_silence_longer_than_the_bus_watchdog_the_servos_are_engaged_anew_where_they_stand() -> None:
    """100 ms of silence at 200 Hz is 20 ticks: the servos may have stopped by themselves, and where is measured."""
    bench = Bench().driving()
    bench.ticks(60, heard=NOBODY)
    assert bench.commands[-1].mode is Mode.HOLD
    assert not bench.lockstep.state.authority.engaged
    before = bench.where
    bench.where = before + 0.1  # sagged meanwhile
    bench.deaf = True
    bench.tick(heard=NOBODY)
    assert bench.tick().engage
    bench.deaf = False
    command = bench.tick()
    assert command.flags & Flag.ENGAGED
    assert command.position == pytest.approx(tuple(before + 0.1), abs=1e-3)
    bench.until(Mode.POLICY, 25)


def test_a_process_that_was_stopped_for_longer_than_the_bus_watchdog_engages_anew_at_once() -> None:
    """SIGSTOP, a debugger, a swapped-out machine: the servos have stopped and say so until they are engaged."""
    bench = Bench().driving()
    bench.lockstep._tick += 40
    command = bench.tick(fault=BusFault.SERVO)
    assert command.mode is Mode.HOLD
    while not command.engage:
        command = bench.tick(fault=BusFault.SERVO)
        assert len(bench.commands) < 400
    assert bench.tick().flags & Flag.ENGAGED
    bench.until(Mode.POLICY, 60)


def test_a_fault_is_latched_until_cleared_and_then_waits_for_start() -> None:
    bench = Bench().driving()
    bench.ticks(3, fault=BusFault.SERVO)
    assert (bench.commands[-1].mode, bench.commands[-1].fault) == (Mode.FAULT, Fault.SERVO_ALERT)
    for order in (Order.START, Order.HOME, Order.HOLD):
        assert bench.tick(order).mode is Mode.FAULT
    command = bench.ticks(300)
    assert command.flags & Flag.FAULT_LATCHED
    command = bench.tick(Order.CLEAR_FAULT)
    assert (command.mode, command.engage) == (Mode.FAULT, True)  # what was latched is over when the servos are sound
    command = bench.tick()
    assert (command.mode, command.fault, command.engage) == (Mode.HOLD, Fault.NONE, False)
    assert command.flags & Flag.ENGAGED
    assert bench.ticks(300).mode is Mode.HOLD
    bench.tick(Order.START)
    bench.until(Mode.POLICY, 600)


def test_two_alerts_are_line_noise() -> None:
    bench = Bench().driving()
    for _ in range(20):
        bench.ticks(2, fault=BusFault.SERVO)
        assert bench.tick().mode is Mode.POLICY


def test_a_fault_whose_cause_comes_back_is_latched_again_after_its_ticks() -> None:
    bench = Bench().driving()
    bench.ticks(101, heard=HALF)
    assert bench.tick(Order.CLEAR_FAULT, heard=HALF).engage  # it does not wait for a readable bus
    for silent in range(1, 100):
        assert bench.tick(heard=HALF).mode is Mode.HOLD, silent
    assert bench.tick(heard=HALF).fault is Fault.STALE_JOINT


@pytest.mark.parametrize("order", [Order.STOP, None])
def test_a_recovery_that_fails_leaves_the_fault_latched(order: Order | None) -> None:
    facts = Facts(order, Engagement.FAILED, 0, 0, 0, 0, False, False, True)
    now = Authority(mode=Mode.FAULT, fault=Fault.SERVO_ALERT, held=True, engaging=True, resting=True)
    after = step(now, facts, Bounds(10, 19, 100), 5)
    assert (after.mode, after.fault, after.engaging) == (Mode.FAULT, Fault.SERVO_ALERT, False)


def test_who_ends_the_loop_does_not_recover_any_more() -> None:
    bench = Bench().driving()
    bench.ticks(3, fault=BusFault.SERVO)
    bench.tick(Order.STOP)
    assert not bench.tick(Order.CLEAR_FAULT).engage


def test_the_first_tick_without_a_port_is_a_fault() -> None:
    """Nothing on it comes back by itself: its file is dead, and what hangs on the next one is to be looked at."""
    bench = Bench().driving()
    command = bench.tick(heard=NOBODY, fault=BusFault.DISCONNECTED)
    assert (command.mode, command.fault) == (Mode.FAULT, Fault.PORT_GONE)
    assert command.position is not None


@pytest.mark.parametrize(("away", "mode"), [(99, Mode.HOLD), (100, Mode.FAULT)])
def test_a_loop_that_was_away_for_as_long_as_a_joint_may_be_silent_is_a_fault(away: int, mode: Mode) -> None:
    bench = Bench().driving()
    bench.lockstep._tick += away
    command = bench.tick()
    assert (command.mode, command.fault) == (mode, Fault.STALLED if mode is Mode.FAULT else Fault.NONE)


def test_a_loop_that_was_away_while_the_arm_rested_is_none() -> None:
    bench = Bench().driving()
    bench.tick(Order.HOLD)
    bench.ticks(100)
    bench.lockstep._tick += 1000
    assert bench.tick().mode is Mode.HOLD


def test_nothing_is_sent_between_the_engagement_and_the_first_reading_behind_it() -> None:
    """The servos hold where they stand; the goal before that may be elsewhere by now."""
    bench = Bench().driving()
    bench.ticks(3, fault=BusFault.SERVO)
    bench.where = bench.where + 0.3
    bench.deaf = True
    bench.tick(Order.CLEAR_FAULT)
    assert bench.tick(heard=HALF).position is None
    bench.deaf = False
    assert bench.tick().position == pytest.approx(tuple(bench.where), abs=1e-3)


def test_a_policy_that_sends_no_numbers_is_survived_then_faulted() -> None:
    bench = Bench().driving()
    bench.policy = False
    for count in range(1, 4):
        bad = chunk(bench.sequence, bench.lockstep.now_ns, lambda _t: float("nan"))
        command = bench.tick(sent=bad)
        assert command.flags & Flag.CHUNK_REFUSED
        assert command.flags & Flag.NONFINITE
        assert command.mode is (Mode.POLICY if count < 3 else Mode.FAULT)
    assert command.fault is Fault.NONFINITE


def test_servos_that_refuse_to_hold_are_a_fault() -> None:
    after = step(
        Authority(engaging=True), Facts(None, Engagement.FAILED, 0, 0, 0, 0, False, False, True), Bounds(10, 19, 100), 5
    )
    assert (after.mode, after.fault, after.engaging) == (Mode.FAULT, Fault.NOT_ENGAGED, False)


def test_a_start_pose_that_is_never_reached_is_a_fault() -> None:
    bounds = Bounds(10, 19, 100)
    easing = Authority(mode=Mode.EASE_IN, engaged=True, since_ns=0)
    facts = Facts(None, Engagement.NONE, 0, 0, 0, 0, False, False, False)
    assert step(easing, facts, bounds, bounds.ease_in_ns).mode is Mode.EASE_IN
    assert step(easing, facts, bounds, bounds.ease_in_ns + 1).fault is Fault.NOT_HOME


def test_start_on_a_dead_bus_becomes_a_fault_not_a_wait_for_ever() -> None:
    bench = Bench(robot(fault_ticks=100))
    bench.tick(Order.START, heard=NOBODY)
    command = bench.ticks(99, heard=NOBODY)
    assert command.fault is Fault.STALE_JOINT
    assert command.position is None


def test_stop_brakes_then_is_done() -> None:
    bench = Bench().driving()
    bench.tick(Order.STOP)
    bench.ticks(34)
    assert bench.commands[-1].done
    assert bench.at_rest


def test_a_start_broken_off_by_silence_goes_on_to_the_start_pose_not_to_the_policy() -> None:
    bench = Bench(start=np.array([-1.0, 1.0]))
    bench.tick(Order.START)
    bench.ticks(20)
    bench.ticks(12, heard=HALF)
    assert bench.commands[-1].mode is Mode.HOLD
    assert bench.ticks(2).mode is Mode.EASE_IN


def test_bounds_come_from_the_robot_file() -> None:
    machine = robot(stale_ticks=30, fault_ticks=200)
    assert Bounds.of(machine.control, machine.follower)[:3] == (15, 15, 200)  # the watchdog's 100 ms come first
    without = machine.follower.model_copy(update={"bus_watchdog_ms": None})
    assert Bounds.of(machine.control, without)[:3] == (30, 200, 200)


orders = st.one_of(st.none(), st.sampled_from(list(Order)))
events = st.lists(
    st.tuples(orders, st.sampled_from(["all", "half", "none"]), st.booleans(), st.booleans(), st.integers(1, 40)),
    max_size=12,
)


@settings(max_examples=40, deadline=None)
@given(events)
def test_no_sequence_of_orders_and_faults_makes_the_arm_jump_or_go_limp(
    happenings: list[tuple[Order | None, str, bool, bool, int]],
) -> None:
    bench = Bench().driving()
    before = bench.where
    for order, hearing, alert, policy, ticks in happenings:
        bench.policy = policy
        heard = {"all": None, "half": HALF, "none": NOBODY}[hearing]
        fault = BusFault.SERVO if alert else BusFault.NONE
        for tick in range(ticks):
            command = bench.tick(order if tick == 0 else None, heard=heard, fault=fault)
            if command.position is None:  # the servos hold where they were engaged, until that is measured
                assert heard is not None or not bench.lockstep.state.authority.engaged
                assert command.flags & Flag.ENGAGED or bench.commands[-2].position is None
                continue
            step_rad = np.abs(np.subtract(command.position, before)).max()
            assert step_rad <= 3.0 * 0.005 + 1e-9
            before = command.position
            if command.mode is Mode.FAULT:
                assert command.fault is not Fault.NONE
                assert command.flags & Flag.FAULT_LATCHED

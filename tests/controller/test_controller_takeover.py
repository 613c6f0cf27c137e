"""A person takes the arm and gives it back, in lock-step: when, how smoothly, and what stands in the way."""

from __future__ import annotations

import math
from itertools import pairwise
from typing import Any

import numpy as np
import pytest
from controller_plant import chunk, robot
from duo import HOME, NAN, Duo, machine
from hypothesis import given, settings
from hypothesis import strategies as st
from motion_checks import check_motion

from controller.authority import Fault
from controller.decide import Decide
from controller.lockstep import Lockstep
from controller.snapshot import written
from controller.takeover import REARM_NS, Obstacle, Rules
from drivers.arm import BusFault
from episodes.records import Driver, Flag, Mode, Order
from spec.arrays import Bool
from spec.errors import SpecError
from spec.robot import Teleop
from spec.robotfile import validated
from spec.teleop import Button, TeleopSample

PERIOD_NS = 5_000_000
NOBODY: Bool = np.zeros(2, dtype=np.bool_)
HALF: Bool = np.array([True, False])
FULL_STEP = 3.0 * 0.005
"""[rad] in a tick at the joints' velocity limit."""


def wave(t: float) -> float:
    return 0.3 * math.sin(2.0 * math.pi * 0.6 * t)


# Taking it


@pytest.mark.parametrize("how", ["button", "toggle", "order", "force"])
def test_a_person_has_the_arm_in_the_very_tick_that_shows_it(how: str) -> None:
    duo = Duo().driving()
    if how == "force":
        duo.push = 0.2
    press = {"button": Button.TAKE, "toggle": Button.TOGGLE}.get(how, Button.NONE)
    command = duo.tick(Order.TAKE_OVER if how == "order" else None, press)
    assert (command.mode, command.driver, command.alpha) == (Mode.BLEND, Driver.HUMAN, 0.0)
    assert command.flags & Flag.TAKEN_OVER
    assert bool(command.flags & Flag.FORCE) == (how == "force")
    assert duo.until(Mode.HUMAN, 60) == 40  # 200 ms
    assert duo.commands[-1].alpha == 1.0
    assert not any(command.flags & Flag.TAKEN_OVER for command in duo.commands[-40:])


def test_the_weight_of_the_person_rises_from_nothing_to_all() -> None:
    duo = Duo().driving()
    duo.tick(press=Button.TAKE)
    duo.until(Mode.HUMAN, 60)
    alphas = [command.alpha for command in duo.commands[-41:]]
    assert alphas[0] == 0.0
    assert alphas[-1] == 1.0
    assert all(b > a for a, b in pairwise(alphas))


def test_taking_over_in_the_middle_of_a_fast_motion_is_no_jump() -> None:
    """Nor a jerk: where the fade ends, and where it begins, the command goes on as it went."""
    duo = Duo()
    duo.curve = lambda t: 0.5 * math.sin(2.0 * math.pi * 0.7 * t)
    duo.driving().ticks(400)
    while abs(np.diff(duo.positions[-2:], axis=0)).max() < 0.01:  # 2 rad/s
        duo.tick()
    plain = np.abs(np.diff(duo.positions[-400:], axis=0)).max()
    velocity = np.diff(duo.positions[-3:], axis=0)
    duo.tick(press=Button.TAKE)
    duo.ticks(60)
    after = np.diff(duo.positions[-62:], axis=0)
    assert np.abs(after).max() <= plain
    assert np.abs(after[0] - velocity[-1]).max() <= 25.0 * 0.005**2
    check_motion(duo.flags, duo.positions, duo.robot)


@pytest.mark.parametrize("offset", [0.0, 0.2, -0.3])
def test_what_is_asked_sets_out_from_the_motion_that_was_commanded(offset: float) -> None:
    """However far the leader was pulled aside, and also the second time: nothing of the first turn is left."""
    duo = Duo()
    duo.curve = lambda t: 0.5 * math.sin(2.0 * math.pi * 0.7 * t)
    duo.driving()
    for _ in range(2):
        duo.ticks(150)
        before = duo.commands[-1].commanded
        assert before is not None
        duo.push, speed = offset, before.velocity[0]
        duo.hand = lambda t, speed=speed: 0.1 * speed * (1.0 - math.exp(-10.0 * t))  # the leader's mass runs out
        command = duo.tick(press=Button.TAKE)
        goes_on = np.add(before.position, np.multiply(before.velocity, 0.005))
        assert command.flags & Flag.TAKEN_OVER
        assert command.asked == pytest.approx(tuple(goes_on), abs=1e-9)
        duo.ticks(60)
        blend = [command for command in duo.commands[-61:] if command.mode is Mode.BLEND]
        asked = np.array([command.asked for command in blend])
        assert np.abs(np.diff(asked, 2, axis=0)).max() <= 100.0 * 0.005**2  # a step would ask for 8,000 rad/s²
        duo.ticks(60)  # 0.3 rad aside and against the motion is more than the joints can do in the time of a blend
        assert duo.where == pytest.approx(duo.leader + offset, abs=0.01)
        duo.push = 0.0
        duo.tick(press=Button.RELEASE)
        duo.until(Mode.POLICY, 60)
    check_motion(duo.flags, duo.positions, duo.robot)


def test_the_arm_follows_the_hand() -> None:
    duo = Duo().driving()
    duo.hand = wave
    duo.tick(press=Button.TAKE)
    duo.ticks(400)
    began = duo.took_ns
    assert began is not None
    t = (duo.lockstep.now_ns - PERIOD_NS - began) * 1e-9
    assert duo.where == pytest.approx(duo.grip + wave(t), abs=0.01)


@pytest.mark.parametrize(("rate", "device"), [(100, 50), (200, 50), (500, 50), (500, 100)])
def test_a_slow_device_with_coarse_encoders_does_not_make_the_arm_tremble(rate: int, device: int) -> None:
    """Sampled at 50 Hz by an encoder of 4096 a turn and a velocity in steps of 0.229 rpm, 3 ms before it is heard.
    What a hand accelerates by at most is 9.7 rad/s²; the joints are allowed 25, which a staircase makes full use of."""
    tick_rad, step_rad_s = 2.0 * math.pi / 4096, 0.229 * 2.0 * math.pi / 60.0
    turn = 2.0 * math.pi * 0.7

    def sample(number: int, now_ns: int, press: Button) -> TeleopSample:
        t = max(0.0, (now_ns - 3_000_000) * 1e-9 - 1.0)  # the hand rests until it has the arm
        p, v = HOME + 0.5 * math.sin(turn * t), 0.5 * turn * math.cos(turn * t)
        p, v = round(p / tick_rad) * tick_rad, round(v / step_rad_s) * step_rad_s
        return TeleopSample(number, now_ns - 3_000_000, (p, p), (v, v), (0.0, 0.0), NAN, int(press))

    arm = Lockstep(
        Decide.of(robot(teleop={}, rate_hz=rate)), rate, lambda _goal: (at_home, np.zeros(2)), np.full(2, HOME)
    )
    at_home, off, trembling = np.full(2, HOME), [], []
    for tick in range(6 * rate):
        human = None
        if tick % (rate // device) == 0:
            human = sample(tick, arm.now_ns, Button.TAKE if tick >= rate // 2 else Button.NONE)
        command = arm.step(None, Order.START if tick == 0 else None, human=human)
        if tick > 2 * rate and command.commanded is not None:
            assert command.mode is Mode.HUMAN
            t = tick / rate - 1.0
            off.append(command.commanded.position[0] - HOME - 0.5 * math.sin(turn * t))
            trembling.append(command.commanded.acceleration[0] + 0.5 * turn**2 * math.sin(turn * t))
    assert np.abs(off).max() < 0.02
    assert np.std(trembling) < 2.2
    assert np.abs(trembling).max() < 6.0


def test_between_samples_the_hand_goes_on_but_not_for_long() -> None:
    duo = Duo(every=4).taken()
    duo.hand = lambda t: 0.5 * t
    duo.ticks(100)
    duo.silent = True
    before = duo.where.copy()
    duo.ticks(8)
    assert (duo.where - before) == pytest.approx(np.full(2, 8 * 0.5 * 0.005), abs=2e-3)
    duo.ticks(10)
    assert duo.commands[-1].mode is Mode.HUMAN
    assert duo.where - before == pytest.approx(np.full(2, 11 * 0.5 * 0.005), abs=1e-2)  # two intervals, then it stands


# Giving it back


@pytest.mark.parametrize("how", ["button", "toggle", "order"])
def test_given_back_the_arm_waits_for_a_chunk_that_saw_it_given_back(how: str) -> None:
    duo = Duo().taken()
    duo.hand = wave
    duo.ticks(100)
    while len(duo.commands) % 20 != 10:
        duo.tick()
    press = {"button": Button.RELEASE, "toggle": Button.TOGGLE}.get(how, Button.NONE)
    given_ns = duo.lockstep.now_ns
    command = duo.tick(Order.RELEASE if how == "order" else None, press)
    assert (command.mode, command.driver, command.alpha) == (Mode.HOLD, Driver.NONE, 1.0)
    assert command.flags & Flag.RELEASED
    assert command.chunk == -1
    assert command.policy is None
    late = chunk(duo.sequence, given_ns - 1, duo.curve)  # observed while the person still drove
    assert duo.tick(sent=late).flags & Flag.CHUNK_REFUSED
    assert duo.commands[-1].mode is Mode.HOLD
    assert duo.until(Mode.BLEND, 20) <= 11
    assert (duo.commands[-1].driver, duo.commands[-1].alpha) == (Driver.POLICY, 1.0)
    assert duo.until(Mode.POLICY, 40) == 20  # the policy step is what the schedule fades over
    assert duo.commands[-1].alpha == 0.0
    alphas = [command.alpha for command in duo.commands[-21:]]
    assert all(b < a for a, b in pairwise(alphas))
    check_motion(duo.flags, duo.positions, duo.robot)


def test_without_a_policy_the_arm_stays_where_it_was_given_back() -> None:
    duo = Duo()
    duo.policy = False
    duo.tick(Order.START)
    duo.ticks(30)
    duo.tick(Order.TAKE_OVER)
    duo.hand = lambda t: 0.2 * min(t, 1.0)
    duo.ticks(300)
    duo.tick(Order.RELEASE)
    command = duo.ticks(300)
    assert (command.mode, command.driver) == (Mode.HOLD, Driver.NONE)
    assert duo.where == pytest.approx(duo.grip + 0.2, abs=2e-3)


@pytest.mark.parametrize("rest", [Order.HOLD, Order.HOME])
def test_out_of_a_rest_the_arm_comes_back_to_rest(rest: Order) -> None:
    """Whoever said HOLD said that the policy must not move it; a person's turn in between does not unsay that."""
    duo = Duo().driving()
    duo.tick(rest)
    duo.ticks(300)
    assert duo.commands[-1].mode is Mode.HOLD
    assert duo.tick(press=Button.TAKE).mode is Mode.BLEND
    duo.ticks(60)
    duo.tick(press=Button.RELEASE)
    assert {duo.tick().mode for _ in range(200)} == {Mode.HOLD}
    assert duo.commands[-1].alpha == 0.0
    duo.tick(Order.START)
    duo.until(Mode.POLICY, 400)


def test_taken_on_its_way_to_the_start_pose_the_policy_carries_on_from_where_it_was_given_back() -> None:
    duo = Duo().driving()
    duo.tick(Order.START)
    duo.ticks(5)
    assert duo.tick(press=Button.TAKE).mode is Mode.BLEND
    duo.ticks(60)
    duo.tick(press=Button.RELEASE)
    modes = {duo.tick().mode for _ in range(100)}
    assert modes == {Mode.HOLD, Mode.BLEND, Mode.POLICY}


def test_what_the_policy_says_while_a_person_drives_is_on_record_and_faults_nobody() -> None:
    duo = Duo().taken()
    assert duo.commands[-1].policy is not None
    duo.ticks(100)
    assert duo.commands[-1].policy == pytest.approx((duo.curve(duo.lockstep.now_ns * 1e-9 - 0.005),) * 2, abs=0.01)
    duo.policy = False
    for _ in range(10):
        bad = chunk(duo.sequence, duo.lockstep.now_ns, lambda _t: math.nan)
        assert duo.tick(sent=bad).mode is Mode.HUMAN
    duo.tick(press=Button.RELEASE)
    for _ in range(2):
        bad = chunk(duo.sequence, duo.lockstep.now_ns, lambda _t: math.nan)
        assert duo.tick(sent=bad).mode is Mode.HOLD  # counted from the release on
    bad = chunk(duo.sequence, duo.lockstep.now_ns, lambda _t: math.nan)
    assert duo.tick(sent=bad).fault is Fault.NONFINITE


def test_who_takes_the_arm_in_the_very_tick_in_which_the_policy_would_be_faulted_has_it() -> None:
    duo = Duo().driving()
    duo.policy = False
    for count in range(3):
        bad = chunk(duo.sequence, duo.lockstep.now_ns, lambda _t: math.nan)
        command = duo.tick(sent=bad, press=Button.TAKE if count == 2 else Button.NONE)
    assert (command.driver, command.fault) == (Driver.HUMAN, Fault.NONE)


# What stands in the way


@pytest.mark.parametrize("order", [None, Order.TAKE_OVER])
def test_an_arm_that_is_not_under_command_is_not_given(order: Order | None) -> None:
    duo = Duo()
    duo.ticks(5)
    command = duo.tick(order, Button.NONE if order else Button.TAKE)
    assert (command.mode, command.obstacle) == (Mode.IDLE, Obstacle.NOT_READY)
    assert command.flags & Flag.TAKEOVER_REFUSED
    duo.driving()
    duo.ticks(3, fault=BusFault.SERVO)
    command = duo.tick(order, Button.NONE if order else Button.TAKE)
    assert (command.mode, command.obstacle) == (Mode.FAULT, Obstacle.NOT_READY)
    duo.tick(Order.STOP)
    assert duo.tick(order, Button.NONE if order else Button.TAKE).obstacle is Obstacle.NOT_READY


def test_without_a_device_in_the_robot_file_an_order_to_take_over_is_refused() -> None:
    duo = Duo(robot()).driving()
    command = duo.tick(Order.TAKE_OVER, Button.TAKE)
    assert (command.mode, command.driver) == (Mode.POLICY, Driver.POLICY)
    assert command.flags & Flag.TAKEOVER_REFUSED


def test_servos_that_were_engaged_in_this_very_tick_have_not_said_yet_where_they_hold_the_arm() -> None:
    """They sagged while they were silent; the leader is where the arm was."""
    duo = Duo(machine({"force": False})).driving()
    duo.ticks(60, heard=NOBODY)
    held = np.array(duo.commands[-1].position)
    duo.where, duo.deaf = held + 0.5, True
    duo.away = -np.full(2, 0.5)
    while not duo.tick().engage:
        pass
    command = duo.tick(Order.TAKE_OVER)
    assert command.flags & Flag.ENGAGED
    assert command.obstacle is not Obstacle.NONE
    assert command.driver is not Driver.HUMAN


@pytest.mark.parametrize(
    ("wrong", "obstacle"),
    [
        ({"silent": True}, Obstacle.SILENT),
        ({"frozen_ns": 10**12}, Obstacle.SILENT),
        ({"broken": math.nan}, Obstacle.SILENT),
        ({"broken": math.inf}, Obstacle.SILENT),
        ({"broken": 1e6}, Obstacle.SILENT),
        ({"hurry": 1e3}, Obstacle.SILENT),
        ({"away": np.array([0.0, 0.36])}, Obstacle.FAR),
    ],
    ids=["silent", "from the future", "nan", "infinite", "no angle", "no hand is so fast", "too far"],
)
def test_an_arm_is_not_given_to_a_device_that_is_stale_or_elsewhere(wrong: dict[str, Any], obstacle: Obstacle) -> None:
    duo = Duo(machine({"force": False})).driving()
    for name, value in wrong.items():
        setattr(duo, name, value)
    duo.ticks(30)
    command = duo.tick(Order.TAKE_OVER)
    assert (command.mode, command.obstacle) == (Mode.POLICY, obstacle)
    assert command.flags & Flag.TAKEOVER_REFUSED
    assert not duo.tick().flags & Flag.TAKEOVER_REFUSED


def test_a_button_that_was_down_when_the_device_was_first_heard_has_not_been_pressed() -> None:
    duo = Duo()
    duo.held = Button.TAKE
    duo.driving()
    assert duo.ticks(50).mode is Mode.POLICY
    duo.held = Button.NONE
    duo.ticks(5)
    duo.silent = True
    duo.ticks(30)
    duo.silent, duo.held = False, Button.TAKE  # the process behind the device came back to life
    assert duo.ticks(50).mode is Mode.POLICY
    duo.held = Button.NONE
    duo.tick()
    assert duo.tick(press=Button.TAKE).mode is Mode.BLEND


@pytest.mark.parametrize(
    ("wrong", "back"),
    [
        ({"silent": True}, {"silent": False}),
        ({"broken": math.nan}, {"broken": None}),
        ({"frozen_ns": 0}, {"frozen_ns": None}),
    ],
    ids=["silent", "nan", "standing still"],
)
def test_when_the_device_is_lost_the_arm_is_held_and_goes_on_with_the_person_when_it_is_back(
    wrong: dict[str, Any], back: dict[str, Any]
) -> None:
    duo = Duo().taken()
    duo.hand = wave
    duo.ticks(100)
    for name, value in wrong.items():
        setattr(duo, name, value)
    assert duo.until(Mode.HOLD, 25) == 20 + 1  # 100 ms old is not yet older than 100 ms
    command = duo.commands[-1]
    assert command.flags & Flag.STALE_TELEOP
    assert (command.driver, command.alpha, command.obstacle) == (Driver.NONE, 1.0, Obstacle.SILENT)
    assert {duo.tick().mode for _ in range(150)} == {Mode.HOLD}  # and the policy does not take the chance
    for name, value in back.items():
        setattr(duo, name, value)
    command = duo.tick()
    assert (command.mode, command.driver, command.alpha) == (Mode.BLEND, Driver.HUMAN, 1.0)
    duo.until(Mode.HUMAN, 50)
    check_motion(duo.flags, duo.positions, duo.robot)


def test_a_lost_device_is_waited_for_also_where_the_arm_was_taken_out_of_a_rest() -> None:
    duo = Duo().driving()
    duo.tick(Order.HOLD)
    duo.ticks(60)
    duo.tick(press=Button.TAKE)
    duo.ticks(60)
    duo.silent = True
    duo.until(Mode.HOLD, 25)
    duo.silent = False
    assert duo.tick().driver is Driver.HUMAN


def test_a_device_that_comes_back_elsewhere_does_not_get_the_arm() -> None:
    duo = Duo().taken()
    duo.silent = True
    duo.until(Mode.HOLD, 25)
    duo.silent, duo.away = False, np.array([0.5, 0.0])
    for _ in range(50):
        command = duo.tick()
        assert (command.mode, command.obstacle) == (Mode.HOLD, Obstacle.FAR)
        assert command.flags & Flag.TAKEOVER_REFUSED
    duo.away = np.zeros(2)
    assert duo.tick().mode is Mode.BLEND


def test_an_arm_that_is_held_for_long_is_not_lost_by_a_moment_of_silence() -> None:
    duo = Duo().taken()
    duo.silent = True
    duo.until(Mode.HOLD, 25)
    duo.silent, duo.away = False, np.array([0.5, 0.0])
    duo.ticks(300)
    duo.silent = True
    duo.ticks(30)
    duo.silent, duo.away = False, np.zeros(2)
    assert duo.tick().driver is Driver.HUMAN


def test_a_foot_pedal_gives_the_arm_back_though_the_leader_is_gone() -> None:
    duo = Duo().taken()
    duo.frozen_ns = 0
    duo.until(Mode.HOLD, 25)
    assert duo.tick(press=Button.RELEASE).flags & Flag.RELEASED
    duo.until(Mode.POLICY, 60)


@pytest.mark.parametrize("dead_man", [False, True])
@pytest.mark.parametrize("wrong", [{"silent": True}, {"frozen_ns": 0}], ids=["silent", "standing still"])
def test_a_device_that_comes_back_too_late_finds_the_arm_resting(dead_man: bool, wrong: dict[str, Any]) -> None:
    """Nobody may be holding it any more: the arm would follow the leader's fall. A dead man's pedal may be held."""
    duo = Duo(machine({"dead_man": dead_man}))
    duo.held = Button.DEAD_MAN if dead_man else Button.NONE
    duo.taken()
    for name, value in wrong.items():
        setattr(duo, name, value)
    duo.until(Mode.HOLD, 25)
    duo.ticks(250)
    duo.silent, duo.frozen_ns = False, None
    for _ in range(50):
        assert duo.tick().mode is Mode.HOLD
    duo.tick(press=Button.TAKE)  # a person who is there says so
    duo.until(Mode.HUMAN, 60)


@pytest.mark.parametrize("heard", [NOBODY, HALF], ids=["all silent", "one silent"])
def test_silent_joints_hold_the_arm_and_the_person_keeps_it(heard: Bool) -> None:
    duo = Duo().taken()
    duo.hand = wave
    assert duo.ticks(12, heard=heard).mode is Mode.HOLD
    assert duo.tick().mode is Mode.BLEND
    duo.until(Mode.HUMAN, 50)
    duo.ticks(40, heard=heard)  # longer than the servos' own watchdog: they are engaged anew
    assert not duo.lockstep.state.authority.engaged
    duo.ticks(60)
    assert duo.commands[-1].driver is Driver.HUMAN


@pytest.mark.parametrize("order", [Order.HOLD, Order.STOP, Order.START, Order.HOME])
def test_the_operators_word_ends_a_persons_turn(order: Order) -> None:
    duo = Duo().taken()
    command = duo.tick(order)
    assert command.driver is Driver.NONE
    assert not duo.lockstep.state.authority.taken
    assert not command.flags & Flag.RELEASED
    assert duo.ticks(100).driver is (Driver.POLICY if order is Order.START else Driver.NONE)


def test_an_arm_that_is_being_stopped_is_not_given() -> None:
    duo = Duo().driving()
    duo.tick(Order.STOP)
    command = duo.tick(press=Button.TAKE)
    assert (command.mode, command.driver, command.obstacle) == (Mode.HOLD, Driver.NONE, Obstacle.NOT_READY)


def test_the_operators_hold_wins_over_a_button_of_the_same_tick() -> None:
    duo = Duo().driving()
    command = duo.tick(Order.HOLD, Button.TAKE)
    assert (command.mode, command.driver) == (Mode.HOLD, Driver.NONE)


def test_a_fault_of_the_arm_ends_a_persons_turn() -> None:
    duo = Duo().taken()
    command = duo.ticks(3, fault=BusFault.SERVO)
    assert (command.mode, command.fault, command.alpha) == (Mode.FAULT, Fault.SERVO_ALERT, 0.0)
    assert not duo.lockstep.state.authority.taken
    duo.tick(Order.CLEAR_FAULT)
    assert duo.ticks(50).mode is Mode.HOLD


# Force


def test_a_pull_counts_where_the_policy_drives_and_nowhere_else() -> None:
    duo = Duo().driving()
    duo.tick(Order.HOME)
    duo.ticks(5)
    duo.push = 0.2
    assert duo.tick().flags & Flag.FORCE
    assert duo.ticks(300).mode is Mode.HOLD
    duo.tick(Order.START)
    assert duo.until(Mode.BLEND, 20)  # the moment the policy is about to drive
    assert duo.commands[-1].driver is Driver.HUMAN


def test_current_alone_trips_as_well_and_lag_is_no_pull() -> None:
    rules = Rules.of(machine({"takeover": {"position": {"j0": 0.1}, "current": {"j0": 0.3}, "lag_s": 0.05}}))
    assert rules is not None
    for velocity, position, effort, trips in [
        ((0.0, 0.0), (0.09, 0.0), (0.0, 0.0), False),
        ((0.0, 0.0), (0.11, 0.0), (0.0, 0.0), True),
        ((4.0, 0.0), (-0.2, 0.0), (0.0, 0.0), False),  # trails the goal by lag · velocity
        ((0.0, 0.0), (0.0, 0.0), (-0.31, 0.0), True),
        ((0.0, 0.0), (0.0, 9.0), (0.0, 9.0), False),  # no threshold is known of this joint
    ]:
        duo = Duo(machine({"takeover": {"position": {"j0": 0.1}, "current": {"j0": 0.3}, "lag_s": 0.05}})).driving()
        where = duo.where
        pulled = TeleopSample(
            9999, duo.lockstep.now_ns, tuple(where + position), velocity, effort, tuple(where.tolist())
        )
        command = duo.lockstep.step(human=pulled)
        assert bool(command.flags & Flag.FORCE) == trips


def test_who_lets_go_and_holds_on_for_a_moment_does_not_take_it_again() -> None:
    duo = Duo().taken()
    duo.tick(press=Button.RELEASE)
    duo.push = 0.2  # the leader is back under torque, and the hand still at it
    duo.until(Mode.POLICY, 60)
    assert duo.ticks(200).mode is Mode.POLICY
    duo.push = 0.0
    duo.ticks(REARM_NS // PERIOD_NS - 1)
    duo.push = 0.2
    assert duo.tick().mode is Mode.POLICY  # a sample short of half a second
    duo.push = 0.0
    duo.ticks(REARM_NS // PERIOD_NS + 1)
    duo.push = 0.2
    assert duo.tick().mode is Mode.BLEND


def test_whoever_has_the_arm_does_not_leave_the_leader_alone() -> None:
    """A leader that mirrors on, because it does not give way or the arm is only held, is not quiet for that."""
    stiff = Duo()
    stiff.stiff = True
    stiff.taken().ticks(150)
    held = Duo(machine({"dead_man": True}))
    held.held = Button.DEAD_MAN
    held.taken()
    held.held = Button.NONE
    assert held.ticks(150).mode is Mode.HOLD
    held.held = Button.DEAD_MAN
    for duo in (stiff, held):
        duo.tick(press=Button.RELEASE)
        duo.push = 0.2
        assert not any(duo.tick().flags & Flag.FORCE for _ in range(150))


def test_a_pull_is_over_when_the_device_is_no_longer_heard() -> None:
    duo = Duo().driving()
    duo.push = 0.5
    assert duo.tick().flags & Flag.FORCE
    duo.silent = True
    duo.ticks(25)
    assert not duo.commands[-1].flags & (Flag.FORCE | Flag.TAKEOVER_REFUSED)


def test_a_leader_that_comes_back_from_silence_is_not_pulled_at() -> None:
    duo = Duo().driving()
    duo.silent = True
    duo.ticks(30)
    duo.silent, duo.push = False, 0.2
    assert not any(duo.tick().flags & Flag.FORCE for _ in range(200))


def test_without_thresholds_or_with_force_off_a_pull_is_nothing() -> None:
    for teleop in ({"takeover": None}, {"force": False}):
        duo = Duo(machine(teleop)).driving()
        duo.push = 0.3
        assert duo.ticks(50).mode is Mode.POLICY


def test_a_pull_from_too_far_away_is_refused_and_said() -> None:
    duo = Duo().driving()
    duo.push = 0.5
    command = duo.tick()
    assert (command.mode, command.obstacle) == (Mode.POLICY, Obstacle.FAR)
    assert command.flags & Flag.FORCE
    assert command.flags & Flag.TAKEOVER_REFUSED


# Dead man


def test_nothing_drives_unless_the_dead_mans_button_is_held() -> None:
    duo = Duo(machine({"dead_man": True}))
    duo.where = np.full(2, -0.5)
    duo.tick(Order.START)
    assert duo.ticks(100).mode is Mode.HOLD
    duo.held = Button.DEAD_MAN
    assert duo.tick().mode is Mode.EASE_IN
    duo.ticks(20)
    duo.held = Button.NONE
    assert duo.tick().mode is Mode.HOLD
    duo.held = Button.DEAD_MAN
    duo.until(Mode.POLICY, 400)
    duo.ticks(50)
    duo.held = Button.NONE
    command = duo.tick()
    assert (command.mode, command.driver) == (Mode.HOLD, Driver.NONE)
    assert duo.ticks(100).mode is Mode.HOLD
    duo.held = Button.DEAD_MAN
    pressed_ns = duo.lockstep.now_ns
    duo.until(Mode.POLICY, 25)
    newest = duo.lockstep.state.schedule.last
    assert newest is not None
    assert newest.observed_ns >= pressed_ns - PERIOD_NS


def test_a_dead_mans_button_whose_device_is_gone_is_not_held() -> None:
    duo = Duo(machine({"dead_man": True}))
    duo.held = Button.DEAD_MAN
    duo.driving().silent = True
    assert duo.until(Mode.HOLD, 25) == 21


def test_a_person_drives_only_while_the_dead_mans_button_is_held() -> None:
    duo = Duo(machine({"dead_man": True}))
    duo.held = Button.DEAD_MAN
    duo.taken()
    duo.held = Button.NONE
    command = duo.tick()
    assert (command.mode, command.obstacle) == (Mode.HOLD, Obstacle.DEAD_MAN)
    duo.ticks(20)
    duo.held = Button.DEAD_MAN
    assert duo.tick().driver is Driver.HUMAN
    duo.silent = True  # a button whose device is gone is not held
    assert duo.until(Mode.HOLD, 25) == 21


# Everything at once


def test_who_takes_it_back_in_the_middle_of_a_blend_gets_it_without_a_jump() -> None:
    duo = Duo().taken()
    duo.hand = wave
    duo.ticks(50)
    duo.tick(press=Button.RELEASE)
    duo.until(Mode.BLEND, 40)
    duo.ticks(8)
    before = duo.commands[-1].alpha
    assert 0.0 < before < 1.0
    command = duo.tick(press=Button.TAKE)
    assert (command.mode, command.driver) == (Mode.BLEND, Driver.HUMAN)
    assert 0.0 < command.alpha <= before
    duo.until(Mode.HUMAN, 50)
    check_motion(duo.flags, duo.positions, duo.robot)


def test_a_mark_changes_nothing() -> None:
    marked, plain = Duo().driving(), Duo().driving()
    for _ in range(50):
        a, b = marked.tick(Order.MARK), plain.tick()
        assert a.flags & Flag.ORDERED
        assert a._replace(flags=0) == b._replace(flags=0)
    assert written(0, marked.lockstep.state) == written(0, plain.lockstep.state)


def test_what_came_is_in_the_flags() -> None:
    duo = Duo(every=4)
    duo.tick(Order.START)
    for _ in range(50):
        command = duo.tick()
        assert bool(command.flags & Flag.NEW_TELEOP) == (duo.sent[-1] is not None)
        assert not command.flags & Flag.ORDERED


def test_a_device_that_is_too_slow_for_its_own_time_out_is_no_robot_file() -> None:
    with pytest.raises(SpecError, match="stale_ms"):
        validated(Teleop, {"device": "gamepad", "rate_hz": 20, "stale_ms": 90}, "robot.yaml")


def test_a_dead_mans_button_must_exist() -> None:
    with pytest.raises(SpecError, match="dead_man needs a button"):
        validated(Teleop, {"device": "leader", "dead_man": True}, "robot.yaml")
    validated(Teleop, {"device": "keyboard", "dead_man": True}, "robot.yaml")  # has one of its own


happenings = st.lists(
    st.tuples(
        st.one_of(st.none(), st.sampled_from(list(Order))),
        st.sampled_from([Button.NONE, Button.TAKE, Button.RELEASE, Button.TOGGLE, Button.TAKE | Button.RELEASE]),
        st.sampled_from(["all", "all", "half", "none"]),
        st.sampled_from(["fine", "fine", "fine", "silent", "nan", "away", "frozen", "push", "jump"]),
        st.booleans(),
        st.sampled_from([0, 0, 0, 1, 3]),
        st.integers(1, 60),
    ),
    max_size=14,
)


@settings(max_examples=80, deadline=None)
@given(happenings, st.booleans(), st.sampled_from([1, 2, 4]), st.integers(0, 3))
def test_whatever_happens_no_limit_is_broken_and_it_is_clear_who_drives(
    what: list[tuple[Order | None, Button, str, str, bool, int, int]], dead_man: bool, every: int, seed: int
) -> None:
    duo = Duo(machine({"dead_man": dead_man}), every)
    duo.held = Button.DEAD_MAN if dead_man else Button.NONE
    duo.driving()
    rng = np.random.default_rng(seed)
    for order, press, hearing, device, policy, alerts, ticks in what:
        duo.policy, duo.silent, duo.broken, duo.frozen_ns, duo.push = policy, False, None, None, 0.0
        duo.away = np.zeros(2)
        duo.hand = lambda t: 0.4 * math.sin(4.0 * t)
        match device:
            case "silent":
                duo.silent = True
            case "nan":
                duo.broken = math.nan
            case "away":
                duo.away = np.array([0.0, 0.5])
            case "frozen":
                duo.frozen_ns = duo.lockstep.now_ns
            case "push":
                duo.push = 0.2
            case "jump":  # a hand no arm can follow
                duo.hand = lambda _t: float(rng.uniform(-5.0, 5.0))
        heard = {"all": None, "half": HALF, "none": NOBODY}[hearing]
        for tick in range(ticks):
            fault = BusFault.SERVO if tick < alerts else BusFault.NONE
            command = duo.tick(
                order if tick == 0 else None, press if tick < 3 else Button.NONE, heard=heard, fault=fault
            )
            _consistent(duo, dead_man)
            # Without a goal only where the servos were just engaged, and hold by themselves until they are read.
            if command.position is None:
                assert heard is not None or not duo.lockstep.state.authority.engaged
                assert command.flags & Flag.ENGAGED or duo.commands[-2].position is None
    check_motion(duo.flags, duo.positions, duo.robot)


def _consistent(duo: Duo, dead_man: bool) -> None:
    command, authority = duo.commands[-1], duo.lockstep.state.authority
    assert 0.0 <= command.alpha <= 1.0
    assert not (authority.taken and authority.returning)
    assert command.mode is not Mode.FAULT or not (authority.taken or authority.returning)
    assert (command.driver is Driver.NONE) == (command.mode in {Mode.IDLE, Mode.EASE_IN, Mode.HOLD, Mode.FAULT})
    if command.mode is Mode.POLICY:
        assert (command.driver, command.alpha) == (Driver.POLICY, 0.0)
    if command.mode is Mode.HUMAN:
        assert (command.driver, command.alpha) == (Driver.HUMAN, 1.0)
    if command.driver is Driver.HUMAN:
        assert authority.taken
    if command.driver is Driver.POLICY:
        assert command.policy is not None
        assert command.policy == command.asked
    if dead_man and command.driver is not Driver.NONE:
        assert duo.held & Button.DEAD_MAN
    if command.flags & Flag.TAKEN_OVER:
        assert not command.flags & (Flag.TAKEOVER_REFUSED | Flag.RELEASED)

"""What only a leader arm can suffer: a mute servo, a joint outside its travel, lost packets, a cable pulled in hand."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from drivers.teleop import Follow, LeaderArm
from drivers.teleop.gesture import GripperGesture
from drivers.teleop.leader import Hands
from drivers.virtual import VirtualRobot
from spec.arrays import Float
from spec.robotfile import load_robot
from spec.teleop import Button, TeleopSample

POSE = np.array([0.1, -0.2, 0.2, -0.8, 0.1, -0.6])
STILL = np.zeros(6)


@pytest.fixture(scope="module")
def virtual() -> Iterator[VirtualRobot]:
    robot = load_robot(Path("robots/virtual.yaml"))
    with VirtualRobot(robot.model_copy(update={"cameras": {}}), 0) as running:
        yield running


@pytest.fixture
def leader(virtual: VirtualRobot) -> Iterator[LeaderArm]:
    with LeaderArm(virtual.robot) as opened:
        yield opened
        virtual.client.clear()
        virtual.client.hand(None)


def cycles(leader: LeaderArm, seconds: float, *, human: bool = False, position: Float = POSE) -> list[TeleopSample]:
    samples = []
    until = time.monotonic() + seconds
    while (now := time.monotonic()) < until:
        now_ns = time.monotonic_ns()
        samples.append(leader.exchange(Follow(now_ns, position, STILL, human), now_ns + 16_000_000))
        time.sleep(max(0.0, now + 0.02 - time.monotonic()))
    return samples


def torque(virtual: VirtualRobot) -> list[bool]:
    return list(virtual.client.state()["torque"]["leader"])


def test_one_mute_servo_makes_no_sample_younger_and_is_named(virtual: VirtualRobot, leader: LeaderArm) -> None:
    cycles(leader, 2.0)
    virtual.client.inject({"arm": "leader", "silent_ids": [4]})
    first = cycles(leader, 0.1)
    assert len({sample.read_ns for sample in first}) == 1, "at once, not when it counts as lost"
    while leader.hands is not Hands.LOST:
        cycles(leader, 0.02)
    assert "wrist_flex" in leader.trouble
    virtual.client.clear()
    while leader.hands is not Hands.MIRRORING:
        cycles(leader, 0.1)
    assert leader.trouble == ""


def test_lost_packets_are_no_loss(virtual: VirtualRobot, leader: LeaderArm) -> None:
    cycles(leader, 1.0)
    virtual.client.inject({"arm": "leader", "loss": 0.02, "corrupt": 0.02})
    samples = cycles(leader, 3.0)
    assert leader.hands is Hands.MIRRORING
    assert len({sample.read_ns for sample in samples}) > 0.7 * len(samples)


def test_a_joint_outside_its_travel_is_not_taken_hold_of_until_it_is_moved_inside(virtual: VirtualRobot) -> None:
    """An arm left lying beyond its limits must not be pulled anywhere; it is read all the while."""
    narrow = virtual.robot.leader
    assert narrow is not None
    lift = narrow.joints["shoulder_lift"].model_copy(update={"position": (-1.5, -0.8), "home": -1.0})
    joints = {**narrow.joints, "shoulder_lift": lift}
    robot = virtual.robot.model_copy(update={"leader": narrow.model_copy(update={"joints": joints})})
    with LeaderArm(virtual.robot) as free:
        cycles(free, 0.1, human=True)
        virtual.client.hand({"shoulder_lift": 0.3})
        cycles(free, 1.0, human=True)
        free.grip.let_go()
        free.hands = Hands.UNTOUCHED  # closing would hold it
    with LeaderArm(robot) as leader:
        samples = cycles(leader, 1.0)
        assert leader.hands is Hands.UNTOUCHED
        assert "shoulder_lift" in leader.trouble
        assert "move it inside by hand" in leader.trouble
        assert samples[-1].read_ns > samples[0].read_ns
        assert not any(torque(virtual))
        virtual.client.hand({"shoulder_lift": -1.0})
        deadline = time.monotonic() + 15.0
        while leader.hands is not Hands.MIRRORING:
            assert time.monotonic() < deadline, leader.trouble
            cycles(leader, 0.1)
        assert leader.trouble == ""
        virtual.client.hand(None)


def test_a_leader_that_was_lost_in_a_persons_hand_gives_way_again(virtual: VirtualRobot, leader: LeaderArm) -> None:
    cycles(leader, 1.0)
    cycles(leader, 0.3, human=True)
    virtual.client.inject({"arm": "leader", "unplug": True})
    cycles(leader, 0.3, human=True)
    assert leader.hands is Hands.LOST
    virtual.client.inject({"arm": "leader", "unplug": False})
    while leader.hands is Hands.LOST:
        samples = cycles(leader, 0.1, human=True)
    assert leader.hands is Hands.YIELDING
    assert not any(torque(virtual))
    assert np.isnan(samples[-1].goal).all()


def test_closing_the_gripper_twice_presses_toggle_for_a_moment(virtual: VirtualRobot, leader: LeaderArm) -> None:
    cycles(leader, 0.5, human=True)
    pressed, tries = [False], 0
    while not any(pressed):  # on a busy machine the hand may be too slow for a gesture
        assert (tries := tries + 1) < 6
        samples = []
        for angle in (-1.2, 0.0, -1.2, 0.0):
            virtual.client.hand({"gripper": angle}, 0.15)
            samples += cycles(leader, 0.25, human=True)
        samples += cycles(leader, 0.5, human=True)
        pressed = [bool(sample.buttons & Button.TOGGLE) for sample in samples]
    assert not pressed[-1]
    assert np.count_nonzero(np.diff(pressed)) == 2, "once down, once up"


def test_a_follower_that_grips_is_no_gesture(virtual: VirtualRobot, leader: LeaderArm) -> None:
    """It grips until a gripper in somebody's hand would have made the gesture by the same motion."""
    cycles(leader, 3.0)
    free, found = GripperGesture(leader.spec.joints["gripper"].position), False
    deadline = time.monotonic() + 30.0
    while not found:
        assert time.monotonic() < deadline
        for angle in (-1.4, 0.0):
            pose = POSE.copy()
            pose[5] = angle
            for sample in cycles(leader, 0.4, position=pose):
                assert not sample.buttons
                found |= free.see(sample.position[5], None, sample.read_ns)
    assert not any(sample.buttons for sample in cycles(leader, 0.3))

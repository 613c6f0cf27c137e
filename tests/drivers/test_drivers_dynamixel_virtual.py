"""The driver on the virtual arm: physics behind the bytes, real baud, real loss, a real watchdog."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from dynamixel_wire import soon

from drivers.arm import BusFault
from drivers.dynamixel import DynamixelArm
from drivers.dynamixel.safety import HARDWARE_ERRORS
from drivers.virtual import VirtualRobot
from spec.arrays import Float
from spec.errors import DeviceError
from spec.robotfile import load_robot

ROBOT = Path(__file__).parents[2] / "robots/virtual.yaml"


@pytest.fixture(scope="module")
def virtual() -> Iterator[VirtualRobot]:
    with VirtualRobot(load_robot(ROBOT)) as running:
        yield running


@pytest.fixture
def arm(virtual: VirtualRobot) -> Iterator[DynamixelArm]:
    with DynamixelArm(virtual.robot.follower, rate_hz=virtual.robot.control.rate_hz, may_relax=True) as opened:
        opened.hold()
        yield opened
        virtual.client.clear()


def truth(virtual: VirtualRobot) -> Float:
    joints = virtual.client.state()["joints"]["follower"]
    return np.array([joints[name] for name in virtual.robot.follower.names])


def goals(arm: DynamixelArm) -> Float:
    """Where the servos were told to be [rad]: what one may send without moving."""
    ids = [joint.id for joint in arm.spec.joints.values()]
    found = arm.bus.read_all(ids, 116, 4)
    return arm.units.position(np.array([int.from_bytes(found[i], "little", signed=True) for i in ids]))


def ticking(arm: DynamixelArm, ticks: int, target: Float) -> list[BusFault]:
    """Read and write at about 200 Hz; faults of the reads."""
    faults = []
    for _ in range(ticks):
        until = time.monotonic_ns() + 5_000_000
        faults.append(arm.read(until).fault)
        arm.write(target, until)
        time.sleep(max(0.0, (until - time.monotonic_ns()) * 1e-9))
    return faults


def test_the_calibration_is_true(virtual: VirtualRobot, arm: DynamixelArm) -> None:
    ticking(arm, 60, goals(arm))
    assert list(arm.where().values()) == pytest.approx(truth(virtual), abs=0.01)


def test_joints_go_where_they_are_sent(virtual: VirtualRobot, arm: DynamixelArm) -> None:
    start = goals(arm)
    target = start.copy()
    target[0] += 0.3
    target[4] -= 0.3
    steps = np.linspace(0, 1, 60)
    for share in steps:
        ticking(arm, 1, start + share * (target - start))
    ticking(arm, 60, target)
    assert truth(virtual)[[0, 4]] == pytest.approx(target[[0, 4]], abs=0.03)


def test_the_wrong_baud_is_found_out(virtual: VirtualRobot) -> None:
    wrong = virtual.robot.follower.model_copy(update={"baud": 115_200})
    with pytest.raises(DeviceError, match=r"no servo answers at 115200 baud, but they do at 1000000"):
        DynamixelArm(wrong).open()


def test_an_arm_left_holding_stands(virtual: VirtualRobot) -> None:
    with DynamixelArm(virtual.robot.follower, may_relax=True) as arm:
        arm.hold()
        ticking(arm, 40, goals(arm))
    stood = truth(virtual)
    time.sleep(0.3)  # longer than the watchdog, which is disarmed
    with DynamixelArm(virtual.robot.follower) as arm:
        arm.hold()
        ticking(arm, 20, goals(arm))
    assert truth(virtual) == pytest.approx(stood, abs=0.02)
    assert all(virtual.client.state()["torque"]["follower"])


def test_every_loss_is_counted_and_none_raised(virtual: VirtualRobot, arm: DynamixelArm) -> None:
    before, target = virtual.client.statistics()["follower"], goals(arm)
    virtual.client.inject({"loss": 0.1, "corrupt": 0.03})
    faults = ticking(arm, 300, target)
    virtual.client.clear()
    after = virtual.client.statistics()["follower"]

    def grown(*names: str) -> int:
        return sum(after.get(name, 0) - before.get(name, 0) for name in names)

    harmed = grown("requests_lost.FAST_SYNC_READ", "requests_lost.SYNC_READ", "answers_lost")
    harmed += grown("requests_corrupted.FAST_SYNC_READ", "requests_corrupted.SYNC_READ", "answers_corrupted")
    # Every harmed exchange shows as a fault of its read; two harmed tries of one read make one fault.
    retried = arm.statistics.retries
    assert harmed > 0
    assert harmed - retried <= sum(bool(fault) for fault in faults)
    assert arm.statistics.silent + arm.statistics.corrupt >= harmed
    assert not any(fault & (BusFault.SERVO | BusFault.DISCONNECTED) for fault in faults)


def test_the_watchdog_stops_a_silent_arm_and_hold_wakes_it(virtual: VirtualRobot, arm: DynamixelArm) -> None:
    ticking(arm, 10, goals(arm))
    time.sleep(0.4)
    assert arm.read(soon()).fault & BusFault.SERVO
    assert all(virtual.client.state()["torque"]["follower"])
    arm.hold()
    assert not arm.read(soon()).fault & BusFault.SERVO


def test_an_overload_is_reported_and_rebooted_away(virtual: VirtualRobot, arm: DynamixelArm) -> None:
    gripper = virtual.robot.follower.joints["gripper"].id
    virtual.client.inject({"overload": gripper})
    deadline = time.monotonic() + 5
    while not arm.read(soon()).fault & BusFault.SERVO:
        assert time.monotonic() < deadline
        time.sleep(0.02)
    assert "overload" in HARDWARE_ERRORS.values()
    assert arm.health()[5].errors == ("overload",)
    virtual.client.clear()
    arm.reboot("gripper")
    assert arm.health()[5].errors == ()
    assert not arm.health()[5].torque
    arm.hold()
    assert arm.health()[5].torque

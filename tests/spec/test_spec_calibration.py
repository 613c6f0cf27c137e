"""Calibration files belong to one arm and notice being edited."""

import json
import os
from pathlib import Path

import pytest

from spec.calibration import Calibration, JointCalibration, load_calibration, save_calibration, with_takeover
from spec.errors import MisfitError, SpecError
from spec.robot import Arm, Robot, Takeover, Teleop, TeleopDevice
from spec.robotfile import load_robot

VIRTUAL = Path(__file__).parents[2] / "robots/virtual.yaml"


@pytest.fixture
def arm(tmp_path: Path) -> Arm:
    arm = load_robot(VIRTUAL).follower.model_copy(update={"calibration": tmp_path / "arm.json"})
    save_calibration(calibration_of(arm), arm.calibration)
    return arm


def calibration_of(arm: Arm) -> Calibration:
    joints = {
        name: JointCalibration(id=j.id, model=j.model, inverted=j.inverted, zero_ticks=2048, range_ticks=(500, 3500))
        for name, j in arm.joints.items()
    }
    return Calibration(serial=arm.serial, joints=joints)


def test_round_trip(arm: Arm) -> None:
    assert load_calibration(arm) == calibration_of(arm)


def test_an_edited_file_is_refused(arm: Arm) -> None:
    document = json.loads(arm.calibration.read_text())
    document["joints"]["gripper"]["zero_ticks"] += 100
    arm.calibration.write_text(json.dumps(document))
    with pytest.raises(SpecError, match="does not match the content; calibrate again"):
        load_calibration(arm)


def test_a_missing_file_names_the_command(arm: Arm) -> None:
    arm.calibration.unlink()
    with pytest.raises(SpecError, match="make one: cadenza calibrate joints"):
        load_calibration(arm)


@pytest.mark.parametrize("content", [b"", b"[]", b"{", b"null", b"\xff"])
def test_a_broken_file_is_refused(arm: Arm, content: bytes) -> None:
    arm.calibration.write_bytes(content)
    with pytest.raises(SpecError, match=r"arm\.json"):
        load_calibration(arm)


def test_what_has_no_end_is_not_read(arm: Arm, tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    for path in (Path("/dev/zero"), tmp_path / "pipe"):
        with pytest.raises(SpecError, match="not a regular file"):
            load_calibration(arm.model_copy(update={"calibration": path}))


def test_a_calibration_of_another_arm_is_refused(arm: Arm) -> None:
    with pytest.raises(MisfitError, match="made for arm 'virtual-follower', robot file says 'other'"):
        load_calibration(arm.model_copy(update={"serial": "other"}))


def test_a_changed_servo_is_refused(arm: Arm) -> None:
    joints = dict(arm.joints)
    joints["gripper"] = joints["gripper"].model_copy(update={"inverted": not joints["gripper"].inverted})
    with pytest.raises(MisfitError, match=r"gripper\.inverted: calibrated with .*calibrate again"):
        load_calibration(arm.model_copy(update={"joints": joints}))


@pytest.fixture
def robot(tmp_path: Path) -> Robot:
    """A robot whose leader has no takeover thresholds yet."""
    robot = load_robot(VIRTUAL)
    assert robot.leader is not None
    leader = robot.leader.model_copy(update={"calibration": tmp_path / "leader.json"})
    save_calibration(calibration_of(leader), leader.calibration)
    return robot.model_copy(update={"leader": leader, "teleop": Teleop()})


def thresholds(arm: Arm, rad: float = 0.1) -> Takeover:
    return Takeover(position=dict.fromkeys(arm.names, rad), current=dict.fromkeys(arm.names, 0.5), lag_s=0.03)


def test_without_thresholds_no_pull_counts(robot: Robot) -> None:
    resolved = with_takeover(robot)
    assert resolved.teleop is not None
    assert not resolved.teleop.force
    assert resolved.teleop.takeover is None


def test_thresholds_come_from_the_leaders_calibration_unless_the_robot_file_has_its_own(robot: Robot) -> None:
    assert robot.leader is not None
    assert robot.teleop is not None
    measured, own = thresholds(robot.leader, 0.1), thresholds(robot.leader, 0.2)
    save_calibration(calibration_of(robot.leader).model_copy(update={"takeover": measured}), robot.leader.calibration)
    resolved = with_takeover(robot).teleop
    assert resolved is not None
    assert resolved.force
    assert resolved.takeover == measured
    settled = robot.model_copy(update={"teleop": robot.teleop.model_copy(update={"takeover": own})})
    assert with_takeover(settled) == settled


def test_thresholds_of_other_joints_are_refused(robot: Robot) -> None:
    assert robot.leader is not None
    wrong = Takeover(position={"knee": 0.1}, current={"knee": 0.1}, lag_s=0.0)
    save_calibration(calibration_of(robot.leader).model_copy(update={"takeover": wrong}), robot.leader.calibration)
    with pytest.raises(MisfitError, match=r"takeover\.position: joints \['knee'\].*cadenza calibrate takeover"):
        with_takeover(robot)


@pytest.mark.parametrize(
    "teleop", [None, Teleop(force=False), Teleop(device=TeleopDevice.GAMEPAD)], ids=["none", "no force", "gamepad"]
)
def test_where_no_leader_is_felt_at_nothing_is_read(robot: Robot, teleop: Teleop | None) -> None:
    assert robot.leader is not None
    robot.leader.calibration.unlink()
    without = robot.model_copy(update={"teleop": teleop})
    assert with_takeover(without) is without

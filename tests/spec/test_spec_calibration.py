"""Calibration files belong to one arm and notice being edited."""

import json
from pathlib import Path

import pytest

from spec.calibration import Calibration, JointCalibration, load_calibration, save_calibration
from spec.errors import MisfitError, SpecError
from spec.robot import Arm
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


def test_a_calibration_of_another_arm_is_refused(arm: Arm) -> None:
    with pytest.raises(MisfitError, match="made for arm 'virtual-follower', robot file says 'other'"):
        load_calibration(arm.model_copy(update={"serial": "other"}))


def test_a_changed_servo_is_refused(arm: Arm) -> None:
    joints = dict(arm.joints)
    joints["gripper"] = joints["gripper"].model_copy(update={"inverted": not joints["gripper"].inverted})
    with pytest.raises(MisfitError, match=r"gripper\.inverted: calibrated with .*calibrate again"):
        load_calibration(arm.model_copy(update={"joints": joints}))

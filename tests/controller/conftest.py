"""What tests of this room share: one virtual arm for the daemon tests of a file, and ears for hang-ups."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from pathlib import Path

import pytest
from tiny_bundle import write_tiny_bundle

from drivers.virtual import VirtualRobot
from drivers.virtual.servos.shaft import MOUNTING
from export.bundle import Bundle
from spec.calibration import Calibration, JointCalibration, save_calibration
from spec.robotfile import load_robot


@pytest.fixture
def hears_hangups() -> Iterator[None]:
    """Also where these tests run under nohup, which has every process below it ignore them."""
    before = signal.signal(signal.SIGHUP, signal.SIG_DFL)
    yield
    signal.signal(signal.SIGHUP, before)


@pytest.fixture(scope="module")
def virtual(tmp_path_factory: pytest.TempPathFactory) -> Iterator[VirtualRobot]:
    robot = load_robot(Path("robots/virtual.yaml"), {"control.rate_hz": "100", "control.realtime": "try"})
    path = tmp_path_factory.mktemp("calibration") / "follower.json"
    joints = {
        name: JointCalibration(
            id=joint.id,
            model=joint.model,
            inverted=joint.inverted,
            zero_ticks=MOUNTING["follower"][name][0],
            range_ticks=(0, 4095),
        )
        for name, joint in robot.follower.joints.items()
    }
    save_calibration(Calibration(serial=robot.follower.serial, joints=joints), path)
    robot = robot.model_copy(update={"follower": robot.follower.model_copy(update={"calibration": path})})
    with VirtualRobot(robot, 0) as virtual:
        yield virtual


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory, virtual: VirtualRobot) -> Bundle:
    return write_tiny_bundle(tmp_path_factory.mktemp("bundle") / "tiny", virtual.robot.follower.names, ramp=-0.005)

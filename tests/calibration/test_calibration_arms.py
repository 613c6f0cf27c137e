"""Calibrating the virtual arm: by itself, and by a person who is not there."""

from __future__ import annotations

import io
import json
from collections.abc import Iterator, Mapping
from pathlib import Path

import numpy as np
import pytest

from cadenza.commands import calibrate, calibrate_joints
from calibration.automatic import Route, Stage, measure_automatically, stops
from calibration.bench import Bench
from calibration.guided import measure_by_hand
from calibration.measurement import shortfalls
from drivers.virtual import VirtualRobot
from spec.calibration import Calibration, load_calibration
from spec.errors import CadenzaError, DeviceError, MisfitError, SpecError
from spec.robot import Arm, Robot
from spec.robotfile import load_robot

ROBOTS = Path(__file__).parents[2] / "robots"
ROBOT = ROBOTS / "virtual.yaml"


@pytest.fixture(scope="module")
def virtual() -> Iterator[VirtualRobot]:
    with VirtualRobot(load_robot(ROBOT)) as running:
        yield running


def shipped(arm: Arm) -> Calibration:
    return load_calibration(arm)


def test_joints_are_found_by_their_stops(virtual: VirtualRobot) -> None:
    """One joint, raised first, since all take a minute; the shipped calibration came from all of them."""
    arm = virtual.robot.follower
    route = Route((Stage("elbow_flex", 0.0, sweep=False), Stage("wrist_flex", 1.0)), force=0.45)
    with Bench(arm, relax=False, force=route.force) as bench:
        found = measure_automatically(bench, route, stops(virtual.robot, arm), lambda _: None)
    assert set(found) == {"wrist_flex"}
    for name, measured in found.items():
        known = shipped(arm).joints[name]
        assert abs(measured.zero - known.zero_ticks) <= 2
        assert np.abs(np.subtract((measured.lowest, measured.highest), known.range_ticks)).max() <= 4


def test_something_in_the_way_is_not_taken_for_a_stop(virtual: VirtualRobot) -> None:
    arm = virtual.robot.follower
    wrong = stops(virtual.robot, arm) | {"gripper": (-2.5, 0.03)}
    with (
        Bench(arm, relax=False, force=0.45) as bench,
        pytest.raises(DeviceError, match=r"joint gripper: 1\.\d+ rad between its stops, the model says 2.530"),
    ):
        measure_automatically(bench, Route((Stage("gripper", 1.0),), 0.45), wrong, lambda _: None)


def test_by_hand(virtual: VirtualRobot) -> None:
    """Nobody moves it, so what is seen is an arm at rest; the arithmetic of sweeps has tests of its own."""
    assert virtual.robot.leader is not None
    arm = virtual.robot.leader
    texts: list[str] = []
    looks: list[Mapping[str, tuple[int, int, int]]] = []

    with Bench(arm, relax=True) as bench:
        assert not bench.read("torque_enable").any()

        def watch(joints: Mapping[str, tuple[int, int, int]]) -> bool:
            looks.append(dict(joints))
            return len(looks) < 5

        measured = measure_by_hand(bench, texts.append, watch)
    assert len(texts) == 1
    assert "zero pose" in texts[0]
    assert set(measured) == set(arm.names) == set(looks[-1])
    for m in measured.values():
        assert m.lowest <= m.zero <= m.highest


# The command


def test_what_to_calibrate_is_named() -> None:
    with pytest.raises(SpecError, match=r"'cameras'.*valid: joints"):
        calibrate.main(["cameras"])


def test_automatic_is_for_the_virtual_arm(tmp_path: Path) -> None:
    with pytest.raises(SpecError, match="virtual arm only"):
        calibrate.main(["joints", "--config", str(ROBOTS / "koch.yaml"), "--auto"])


def test_by_hand_needs_a_person(virtual: VirtualRobot, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.stdin", io.StringIO())
    attach = str(virtual.ready_file)
    with pytest.raises(CadenzaError, match="needs a person at a terminal"):
        calibrate.main(["joints", "--config", str(ROBOT), "--robot.virtual.attach", attach])


def test_stops_need_a_model_with_these_joints(virtual: VirtualRobot, tmp_path: Path) -> None:
    robot: Robot = virtual.robot
    with pytest.raises(MisfitError, match="needs model"):
        stops(robot.model_copy(update={"model": None}), robot.follower)
    other = tmp_path / "other.xml"
    other.write_text("<mujoco/>")
    with pytest.raises(MisfitError, match=r"other.xml: joint shoulder_pan: missing"):
        stops(robot.model_copy(update={"model": other}), robot.follower)


def test_a_model_that_cannot_be_read_is_one_line(virtual: VirtualRobot, tmp_path: Path) -> None:
    broken = virtual.robot.model_copy(update={"model": tmp_path / "missing.xml"})
    with pytest.raises(SpecError, match=r"missing.xml: .*: MuJoCo cannot read the model$"):
        stops(broken, virtual.robot.follower)


def test_a_calibration_the_arm_contradicts_does_not_replace_the_former(virtual: VirtualRobot, tmp_path: Path) -> None:
    path = tmp_path / "arm.json"
    leader = virtual.robot.leader
    assert leader is not None
    measured = shipped(leader)
    pan = measured.joints["shoulder_pan"]
    there = leader.joints["shoulder_pan"].model_copy(update={"position": (-2.5, -1.5), "home": -2.0})
    joints = {**leader.joints, "shoulder_pan": there}
    arm = leader.model_copy(update={"calibration": path, "joints": joints})
    elsewhere = pan.model_copy(update={"range_ticks": (pan.zero_ticks + 900, pan.zero_ticks + 1800)})
    wrong = measured.model_copy(update={"joints": {**measured.joints, "shoulder_pan": elsewhere}})
    for former in (None, b"as it was"):
        if former is not None:
            path.write_bytes(former)
        with pytest.raises(DeviceError, match=r"shoulder_pan: stands at .* outside its sweep"):
            calibrate_joints._keep(wrong, arm, hold=False)
        assert (path.read_bytes() if path.exists() else None) == former


def test_shipped_calibrations_fit_the_robot_file() -> None:
    robot = load_robot(ROBOT)
    for arm in (robot.follower, robot.leader):
        assert arm is not None
        assert json.loads(arm.calibration.read_text())["serial"] == arm.serial
        for name, joint in shipped(arm).joints.items():
            assert joint.range_ticks[0] < joint.zero_ticks < joint.range_ticks[1], name
        assert shortfalls(arm, shipped(arm)) == []

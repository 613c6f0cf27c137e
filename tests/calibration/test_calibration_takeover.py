"""Thresholds of takeover: the arithmetic on made-up residuals, the motion, and a leader of the virtual arm."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cadenza.commands import calibrate, calibrate_joints, calibrate_takeover
from calibration.quiet import Mirroring, Recording
from calibration.residuals import FALSE_TRIPS_PER_HOUR, MARGIN, channels, lag, takeover
from calibration.sensitivity import pulled
from calibration.wander import Wander
from drivers.teleop import LeaderArm
from drivers.virtual import VirtualRobot
from spec.calibration import load_calibration, save_calibration
from spec.errors import CadenzaError, DeviceError, SpecError
from spec.robot import Takeover
from spec.robotfile import load_robot

ROBOTS = Path(__file__).parents[2] / "robots"
ROBOT = load_robot(ROBOTS / "virtual.yaml", {"cameras": "{}"})
NAMES = ROBOT.follower.names


def make_recording(seconds: float = 60.0, lag_s: float = 0.03, noise: float = 0.01, seed: int = 0) -> Recording:
    """Joints that swing, each at its own pace, and trail what they mirror."""
    rng = np.random.default_rng(seed)
    time = np.arange(0.0, seconds, 0.02)
    phase = time[:, None] * np.linspace(1.0, 3.0, len(NAMES))
    velocity = np.cos(phase) * np.linspace(1.0, 3.0, len(NAMES))
    position = np.sin(phase)
    strayed = rng.normal(0.0, noise, position.shape)
    current = rng.normal(0.0, 0.1, position.shape)
    return Recording(NAMES, seconds, time, position + lag_s * velocity + strayed, position, velocity, current)


def thresholds_of(recording: Recording) -> Takeover:
    return takeover(recording, channels(recording, lag(recording)), lag(recording))


@given(st.integers(0, 1000), st.floats(0.0, 0.2), st.floats(0.005, 0.1))
@settings(max_examples=25, deadline=None)
def test_thresholds_are_clear_of_everything_seen_and_as_rare_as_asked(seed: int, lag_s: float, noise: float) -> None:
    recording = make_recording(lag_s=lag_s, noise=noise, seed=seed)
    assert lag(recording) == pytest.approx(lag_s, abs=0.1 * noise)
    found = channels(recording, lag(recording))
    for channel in found:
        assert channel.threshold >= MARGIN * channel.highest
        assert channel.false_trips_per_hour <= FALSE_TRIPS_PER_HOUR / (2 * len(NAMES))
    thresholds = thresholds_of(recording)
    assert thresholds.false_trips_per_hour <= FALSE_TRIPS_PER_HOUR
    assert not pulled(recording, thresholds)


def test_a_pull_is_seen_in_one_sample_of_one_joint() -> None:
    recording = make_recording()
    thresholds = thresholds_of(recording)
    for kind, values in (("position", recording.position), ("current", recording.current)):
        level = getattr(thresholds, kind)["wrist_roll"]
        values[700, NAMES.index("wrist_roll")] += 2.1 * level
        assert pulled(recording, thresholds)
        values[700, NAMES.index("wrist_roll")] -= 2.1 * level
    assert not pulled(recording, thresholds)


def test_twice_the_residuals_are_twice_the_threshold() -> None:
    once, twice = (channels(make_recording(noise=noise, lag_s=0.0), 0.0) for noise in (0.02, 0.04))
    for a, b in zip(once[: len(NAMES)], twice[: len(NAMES)], strict=True):
        assert b.threshold == pytest.approx(2 * a.threshold, rel=0.01)


def test_a_few_seconds_say_nothing() -> None:
    with pytest.raises(DeviceError, match=r"only 5\.0 s of samples; measure for longer"):
        channels(make_recording(seconds=5.0), 0.0)


@given(st.integers(0, 100))
@settings(max_examples=8, deadline=None)
def test_the_motion_is_smooth_within_both_arms_limits_and_clear_of_the_table(seed: int) -> None:
    start = np.array([0.3, -0.2, 0.5, 0.1, 0.0, -0.2])
    wander, step = Wander(ROBOT, start, seed), 0.005
    path = np.array([np.concatenate(wander.at(k * step)) for k in range(4000)])
    position, velocity = path[:, :6], path[:, 6:]
    limits = ROBOT.limits()
    assert position[0] == pytest.approx(start)
    assert (position >= limits.lower - 1e-9).all()
    assert (position <= limits.upper + 1e-9).all()
    assert (np.abs(velocity) <= limits.velocity + 1e-9).all()
    assert (np.abs(np.diff(velocity, axis=0)) <= limits.acceleration * step + 1e-9).all()
    assert np.abs(np.diff(position, axis=0) / step - velocity[:-1]).max() < limits.acceleration.max() * step
    end = wander.home(20.0)
    assert wander.at(end)[0] == pytest.approx(limits.home)
    assert wander.at(end + 60.0)[0] == pytest.approx(limits.home)


def test_the_motion_keeps_to_what_the_leader_can_reach_and_repeats_itself() -> None:
    robot = load_robot(ROBOTS / "virtual.yaml", {"leader.joints.wrist_roll.position": "[-0.2, 0.3]"})
    one, two = (Wander(robot, np.zeros(6), 7) for _ in range(2))
    reached = np.array([one.at(0.05 * k)[0] for k in range(800)])
    assert reached[:, 4].min() >= -0.2 - 1e-9
    assert reached[:, 4].max() <= 0.3 + 1e-9
    assert reached == pytest.approx(np.array([two.at(0.05 * k)[0] for k in range(800)]))


def test_without_a_model_the_motion_stays_near_home() -> None:
    robot = load_robot(ROBOTS / "virtual.yaml", {"model": "null", "workspace": "null", "collision": "null"})
    wander = Wander(robot, np.zeros(6), 1)
    reached = np.array([wander.at(5.0 + 0.05 * k)[0] for k in range(400)])
    assert np.abs(reached - robot.limits().home).max() <= 0.6 + 1e-9


def test_a_leader_nobody_touches_is_not_pulled_at_and_one_that_is_pushed_is() -> None:
    with VirtualRobot(ROBOT, 0) as virtual, LeaderArm(virtual.robot) as leader:
        mirroring = Mirroring(virtual.robot, leader, 0)
        recording = mirroring.run(11.0, lambda _: None)
        assert recording.goal.shape == (len(recording.read_s), len(NAMES))
        assert 0.0 < lag(recording) < 0.2
        thresholds = thresholds_of(recording)
        assert not pulled(recording, thresholds)
        mirroring.rest()
        first = mirroring.samples
        virtual.client.push({"wrist_roll": 0.4}, 0.5)
        mirroring.wait(0.5)
        assert pulled(mirroring.recording(first), thresholds)


def _synthetic(*_: Any) -> tuple[Any, ...]:
    recording = make_recording()
    found = channels(recording, lag(recording))
    return (
        recording,
        found,
        takeover(recording, found, lag(recording)),
        dict.fromkeys(NAMES[:-1], 0.1) | {NAMES[-1]: None},
    )


@pytest.fixture
def robots(tmp_path: Path) -> Path:
    shutil.copytree(ROBOTS, tmp_path / "robots")
    (tmp_path / "assets").symlink_to(ROBOTS.parent / "assets")
    return tmp_path / "robots"


def test_the_command_keeps_what_it_found(
    robots: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(calibrate_takeover, "_measured", _synthetic)
    before = load_calibration(leader_of(robots))
    assert calibrate.main(["takeover", "--config", str(robots / "virtual.yaml"), "--json"]) == 0
    report = json.loads(capsys.readouterr().out)
    after = load_calibration(leader_of(robots))
    assert after.takeover == _synthetic()[2]
    assert after.joints == before.joints
    assert report["joints"]["gripper"]["smallest_push"] is None
    assert report["false_trips_per_hour"] <= FALSE_TRIPS_PER_HOUR
    assert Path(report["picture"]).stat().st_size > 10_000
    assert calibrate.main(["takeover", "--config", str(robots / "virtual.yaml")]) == 0
    shown = capsys.readouterr().out
    assert "wrist_roll" in shown
    assert "> 0.4" in shown
    # Joints calibrated anew keep the thresholds.
    assert calibrate_joints._takeover(leader_of(robots)) == after.takeover


def leader_of(robots: Path) -> Any:
    return load_robot(robots / "virtual.yaml").leader


@pytest.mark.parametrize(
    ("words", "why"),
    [
        *(
            (["--seconds", seconds], "must be from 20 (shorter says nothing) to 3600")
            for seconds in ("3", "0", "-1", "nan", "inf")
        ),
        (["--robot.leader", "null", "--robot.teleop", "null"], "leader: None: taking over by force needs a leader arm"),
        (["--robot.teleop.device", "gamepad"], "teleop.device: 'gamepad': force is felt on a leader arm only"),
    ],
)
def test_what_cannot_be_measured_is_refused_before_anything_moves(words: list[str], why: str) -> None:
    with pytest.raises(SpecError, match=r".*") as refused:
        calibrate.main(["takeover", "--config", str(ROBOTS / "virtual.yaml"), *words])
    assert why in str(refused.value)


def test_without_joints_calibrated_nothing_moves(robots: Path) -> None:
    (robots / "calibration" / "virtual-leader.json").unlink()
    with pytest.raises(CadenzaError, match="cadenza calibrate joints"):
        calibrate.main(["takeover", "--config", str(robots / "virtual.yaml")])


def test_a_file_of_before_takeover_is_still_read(robots: Path) -> None:
    leader = leader_of(robots)
    calibration = load_calibration(leader).model_copy(update={"takeover": None})
    save_calibration(calibration, leader.calibration)
    assert "takeover" not in json.loads(leader.calibration.read_bytes())
    assert load_calibration(leader) == calibration

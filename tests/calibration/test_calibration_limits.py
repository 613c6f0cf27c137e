"""Limits from peaks: crossed about as often as declared, and refused where the data cannot say."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from calibration.derivatives import derivatives, half_window
from calibration.limits import BLOCK_S, Peaks, check_support, fit, peaks
from calibration.widest import widest_acceleration, widest_current, widest_velocity
from spec.arrays import Float
from spec.errors import CadenzaError, SpecError
from spec.robotfile import load_robot
from spec.robotpatch import patch_robot, patched

ROBOTS = Path(__file__).parents[2] / "robots"


def _draw(rng: np.random.Generator, count: int) -> Float:
    return np.abs(rng.normal(0.0, 1.0, count))


def test_a_limit_is_crossed_no_more_often_than_declared_by_motions_that_were_not_seen() -> None:
    aim, blocks = 0.5, 1440
    much = np.sort(_draw(np.random.default_rng(99), 500_000))
    often, seen = [], []
    for seed in range(8):
        found = Peaks(_draw(np.random.default_rng(seed), blocks), np.repeat(np.arange(blocks // 8), 8))
        limit = fit(found, blocks * BLOCK_S / 3600, aim, seed).limit
        crossed = 1.0 - np.searchsorted(much, limit) / len(much)
        often.append(crossed * 3600 / BLOCK_S)
        seen.append(limit / found.value.max())
    assert np.mean(np.array(often) <= aim) >= 0.75
    assert max(seen) <= 1.5
    assert min(seen) >= 1.0


def test_a_limit_in_the_midst_of_the_motion_is_expected_to_trip_often() -> None:
    found = Peaks(_draw(np.random.default_rng(1), 1440), np.repeat(np.arange(180), 8))
    result = fit(found, 0.2, 0.5)
    median_of_tail = float(np.quantile(found.value, 0.9))
    assert result.expected(median_of_tail) == pytest.approx(720, rel=0.2)  # a tenth of 7200 half seconds
    assert result.trips_per_hour <= 0.5


@pytest.mark.parametrize("blocks", [[1] * 9 + [95], [1] * 10])
def test_episodes_of_one_block_each_have_a_limit_too(blocks: list[int]) -> None:
    """Resampled, ten episodes of which nine are short can be ten blocks; fewer than the eleven it took failed."""
    values = _draw(np.random.default_rng(0), sum(blocks))
    result = fit(Peaks(values, np.repeat(np.arange(len(blocks)), blocks)), 1.0, 0.05)
    assert result.highest == values.max()
    assert result.highest <= result.limit <= 1.5 * result.highest


def test_what_the_data_cannot_say_is_refused_with_what_they_can() -> None:
    check_support(0.24, 50, 1700, 1.0, 24)
    with pytest.raises(CadenzaError, match=r"record 0\.24 hours, or ask for --false-trips-per-hour 2\.4 or more"):
        check_support(0.1, 50, 720, 1.0, 24)
    with pytest.raises(CadenzaError, match="are too few to fit limits to"):
        check_support(5.0, 3, 36000, 1.0, 24)


def test_peaks_are_those_of_half_seconds_and_know_their_episode() -> None:
    found = peaks([np.array([0.0, 3.0, 1.0, 2.0]), np.array([5.0])], 4.0)
    assert found.value.tolist() == [3.0, 2.0, 5.0]
    assert found.episode.tolist() == [0, 0, 1]


def test_derivatives_are_those_of_a_polynomial_and_of_a_swing() -> None:
    time = np.arange(0.0, 2.0, 0.01)[:, None]
    half = half_window(100.0)
    exact = derivatives(time**3 - time, 100.0)
    assert exact is not None
    inside = time[half:-half]
    assert exact.velocity == pytest.approx(3 * inside**2 - 1, abs=1e-8)
    assert exact.jerk == pytest.approx(np.full_like(inside, 6.0), abs=1e-5)
    swing = derivatives(np.sin(2 * np.pi * time), 100.0)
    assert swing is not None
    assert np.abs(swing.jerk).max() == pytest.approx((2 * np.pi) ** 3, rel=0.03)
    assert derivatives(time[: 2 * half], 100.0) is None


def test_the_rounding_of_an_encoder_is_no_jerk() -> None:
    """Third differences of a slow motion read by an encoder are 2000 rad/s³ RMS at 100 Hz, and say nothing."""
    tick, rng = 2 * np.pi / 4096, np.random.default_rng(0)
    noise = rng.uniform(-0.5, 0.5, (5000, 1)) * tick
    measured = derivatives(noise, 100.0)
    assert measured is not None
    assert np.std(np.diff(noise, 3, axis=0)) * 1e6 > 1500
    assert np.std(measured.jerk) == pytest.approx(_jerk_noise(tick / np.sqrt(12), 100.0), rel=0.1)
    assert np.std(measured.jerk) < 10


def _jerk_noise(rms: float, rate_hz: float) -> float:
    """RMS of the jerk [rad/s³] that white noise of the position [rad] brings with it: the kernel's response to one
    sample that is off."""
    half = half_window(rate_hz)
    one_off = np.zeros((4 * half + 1, 1))
    one_off[2 * half] = 1.0
    kernel = derivatives(one_off, rate_hz)
    assert kernel is not None
    return float(rms * np.linalg.norm(kernel.jerk))


def test_no_limit_is_wider_than_the_servos_allow() -> None:
    robot = load_robot(ROBOTS / "koch.yaml")
    fastest, hardest, current = widest_velocity(robot), widest_acceleration(robot), widest_current(robot)
    assert fastest["shoulder_pan"] == pytest.approx(0.8 * 265 * 0.229 * 2 * np.pi / 60)
    assert all(hardest[name] > joint.acceleration for name, joint in robot.follower.joints.items())
    assert set(current) == {"elbow_flex", "wrist_flex", "wrist_roll", "gripper"}  # XL430 has none to limit
    without = robot.model_copy(update={"model": None, "workspace": None, "collision": None})
    assert widest_acceleration(without)["elbow_flex"] == robot.follower.joints["elbow_flex"].acceleration


def test_a_robot_file_is_patched_in_place_and_nothing_else_changes(tmp_path: Path) -> None:
    text = (ROBOTS / "koch.yaml").read_text()
    changed = patched(text, {"follower.joints.elbow_flex.jerk": 1234.5, "follower.joints.shoulder_pan.velocity": 2.25})
    lines = [(a, b) for a, b in zip(text.splitlines(), changed.splitlines(), strict=True) if a != b]
    assert [after for _, after in lines] == [
        lines[0][0].replace("velocity: 2.5", "velocity: 2.25"),
        lines[1][0].replace("jerk: 300.0", "jerk: 1234.5"),
    ]
    with pytest.raises(SpecError, match="does not have this field"):
        patched(text, {"follower.joints.shoulder_pan.current": 1.0})
    file = tmp_path / "robot.yaml"
    file.write_text(text)
    with pytest.raises(SpecError):
        patch_robot(file, {"follower.joints.elbow_flex.jerk": -1.0})
    assert file.read_text() == text
    assert list(tmp_path.iterdir()) == [file]


def test_a_robot_file_behind_a_link_is_patched_where_it_stands(tmp_path: Path) -> None:
    real, link = tmp_path / "elsewhere" / "koch.yaml", tmp_path / "robot.yaml"
    real.parent.mkdir()
    real.write_text((ROBOTS / "koch.yaml").read_text())
    link.symlink_to(real)
    patch_robot(link, {"follower.joints.elbow_flex.jerk": 400.0})
    assert link.is_symlink()
    assert load_robot(real).follower.joints["elbow_flex"].jerk == 400.0

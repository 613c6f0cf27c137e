"""Limits fitted to motions, and what the real envelope makes of the same motions."""

from __future__ import annotations

import numpy as np
import pytest
from controller_plant import robot

from cadenza.envelope_fit import Found, found_limits, limits_of, still_joints
from cadenza.motions import Piece, replayed
from calibration.derivatives import Derivatives, derivatives, half_window
from spec.errors import CadenzaError
from spec.robot import Limits

RATE = 100.0
ROBOT = robot(rate_hz=RATE)
AIM = 400.0


def _motion(episode: int) -> Piece:
    """Six seconds of swinging, another way in every episode."""
    rng = np.random.default_rng(episode)
    time = np.arange(0.0, 6.0, 1.0 / RATE)
    waves = [rng.uniform(0.05, 0.2) * np.sin(rng.uniform(2.0, 6.0) * time + rng.uniform(0, 6)) for _ in range(4)]
    path = np.stack([waves[0] + waves[1], waves[2] + waves[3]], axis=1)
    asked, measured = derivatives(path, RATE), derivatives(0.98 * path, RATE)
    assert asked is not None
    assert measured is not None
    return Piece(episode, asked, measured, np.zeros((len(time) - 2 * half_window(RATE), 2)))


MOTIONS = [_motion(episode) for episode in range(12)]


@pytest.fixture(scope="module")
def fitted() -> tuple[Found, ...]:
    return found_limits(ROBOT, MOTIONS, AIM)[0]


def test_the_envelope_with_fitted_limits_lets_the_motions_pass(fitted: tuple[Found, ...]) -> None:
    hours = sum(map(len, MOTIONS)) / RATE / 3600
    result = replayed(MOTIONS, limits_of(ROBOT, fitted), RATE)
    assert result.trips <= 2 * AIM * hours + 2


def test_limits_below_what_the_motions_ask_trip_on_them(fitted: tuple[Found, ...]) -> None:
    """The complaint: a limit on every clean motion."""
    wide = limits_of(ROBOT, fitted)
    narrow = Limits(wide.lower, wide.upper, 0.4 * wide.velocity, wide.acceleration, wide.jerk, wide.home)
    before, after = (replayed(MOTIONS, limits, RATE) for limits in (narrow, wide))
    assert before.limited > 20 * max(after.limited, 1)
    assert before.trips >= len(MOTIONS)


def test_a_limit_is_above_all_that_was_seen_and_says_what_it_costs(fitted: tuple[Found, ...]) -> None:
    assert [(f.joint, f.quantity) for f in fitted] == [
        (joint, quantity) for joint in ("j0", "j1") for quantity in ("velocity", "acceleration", "jerk")
    ]
    for found in fitted:
        assert found.limit >= found.fit.highest or found.held
        assert found.limit <= found.widest
        assert found.trips_per_hour <= found.aim or found.held
    assert fitted[0].now == 3.0


def test_a_current_that_was_not_measured_has_no_limit_fitted(fitted: tuple[Found, ...]) -> None:
    assert all(f.quantity != "current" for f in fitted)


@pytest.mark.parametrize("pose", [0.0, -0.35])
@pytest.mark.parametrize("flicker", [0.0, 2 * np.pi / 4096])
def test_a_joint_that_stood_still_keeps_its_limits(pose: float, flicker: float) -> None:
    """Was given limits of a hundred-millionth, with which the next run died, or ended in a division by zero."""
    rng = np.random.default_rng(0)
    found, _ = found_limits(ROBOT, [_with_still_joint(motion, pose, flicker, rng) for motion in MOTIONS], AIM)
    assert {f.joint for f in found} == {"j0"}
    assert still_joints(ROBOT, found) == ("j1",)
    limits, before = limits_of(ROBOT, found), ROBOT.limits()
    for quantity in ("velocity", "acceleration", "jerk"):
        assert getattr(limits, quantity)[1] == getattr(before, quantity)[1]
        assert getattr(limits, quantity)[0] != getattr(before, quantity)[0]


def _with_still_joint(motion: Piece, pose: float, flicker: float, rng: np.random.Generator) -> Piece:
    """The second joint stands, read by an encoder that flickers by so much [rad]."""
    samples = len(motion) + 2 * half_window(RATE)
    still = derivatives(pose + flicker * rng.integers(0, 2, (samples, 1)), RATE)
    assert still is not None
    asked, measured = (
        Derivatives(*(np.hstack([moving[:, :1], stood]) for moving, stood in zip(of, still, strict=True)))
        for of in (motion.asked, motion.measured)
    )
    return Piece(motion.episode, asked, measured, motion.effort)


def test_episodes_in_which_nothing_moved_are_one_line() -> None:
    rng = np.random.default_rng(0)
    motions = [_with_still_joint(motion, 0.0, 0.0, rng) for motion in MOTIONS]
    stood = [Piece(m.episode, _turned(m.asked), _turned(m.measured), m.effort) for m in motions]
    with pytest.raises(CadenzaError, match="no joint was asked to move"):
        found_limits(ROBOT, stood, AIM)


def _turned(of: Derivatives) -> Derivatives:
    """Both joints as the second."""
    return Derivatives(*(np.hstack([values[:, 1:], values[:, 1:]]) for values in of))


def test_too_little_motion_for_the_declared_rate_is_one_line() -> None:
    with pytest.raises(CadenzaError, match="--false-trips-per-hour") as refused:
        found_limits(ROBOT, MOTIONS, 0.1)
    assert "\n" not in str(refused.value)


def test_three_episodes_are_too_few() -> None:
    with pytest.raises(CadenzaError, match="too few"):
        found_limits(ROBOT, MOTIONS[:3], AIM)

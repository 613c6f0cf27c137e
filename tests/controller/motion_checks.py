"""Judging a commanded motion by its finite differences, whatever produced it."""

from __future__ import annotations

import numpy as np

from episodes.records import Flag
from spec.robot import Robot


def check_motion(flags: np.ndarray, commanded: np.ndarray, robot: Robot) -> None:
    """Position, velocity, acceleration and jerk of a logged command are within the robot's limits.

    After a long silence of the bus the servos are engaged anew and the command starts again from where the arm was
    measured to be: there a new motion begins.

    Args:
        flags: of each tick, shape (ticks,).
        commanded: what the envelope let through [rad], shape (ticks, joints), NaN where there was no command.
        robot: robot file.
    """
    limits, period = robot.limits(), 1.0 / robot.control.rate_hz
    # A command that never left is no motion: the next one goes on from the one before it.
    given = np.isfinite(commanded).all(axis=1) & ((flags & int(Flag.WRITE_FAILED)) == 0)
    assert given.sum() > 100
    for motion in _motions(flags, given, commanded):
        # A motion that begins outside, where somebody had put the arm, may only come back in.
        assert (motion >= np.minimum(limits.lower, motion[0]) - 1e-9).all()
        assert (motion <= np.maximum(limits.upper, motion[0]) + 1e-9).all()
        assert (np.abs(np.diff(motion, axis=0)) <= limits.velocity * period * 1.001).all()
        assert (np.abs(np.diff(motion, 2, axis=0)) <= limits.acceleration * period**2 * 1.001).all()
        assert (np.abs(np.diff(motion, 3, axis=0)) <= limits.jerk * period**3 * 1.01).all()


def _motions(flags: np.ndarray, given: np.ndarray, commanded: np.ndarray) -> list[np.ndarray]:
    """Each from the first command behind an engagement on."""
    begins = {int(given[:engaged].sum()) for engaged in np.flatnonzero(flags & int(Flag.ENGAGED))}
    return [motion for motion in np.split(commanded[given], sorted(begins - {0})) if len(motion)]

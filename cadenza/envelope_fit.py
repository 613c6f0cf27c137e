"""Limits of a robot file fitted to recorded motions.

Velocity and acceleration as asked, current as measured, and jerk as the envelope needs it to follow: that is more than
the motion's own, since a target is a place and a speed to be met at the next tick.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from cadenza.motions import Piece, jerk_needed
from calibration.limits import Fit, Peaks, check_support, fit, peaks
from calibration.widest import widest_acceleration, widest_current, widest_velocity
from spec.arrays import Float, frozen
from spec.errors import CadenzaError
from spec.robot import Limits, Robot

UNITS = {"velocity": "rad/s", "acceleration": "rad/s²", "jerk": "rad/s³", "current": "A"}
_CATCH_UP = 1.1
"""Room above what is asked, in velocity and acceleration: a command that is behind must be able to catch up."""
_DONE = {"velocity", "acceleration"}
"""Is compared with what the arm did."""
_FINEST = {"velocity": 0.1, "current": 0.03}
"""A joint that was never asked for more than this [rad/s] made no motion to go by: an encoder that flickers between two
ticks comes to a third of it. One whose current never rose above thirty units of its register [A] did no work."""


@dataclass(frozen=True, slots=True, eq=False)
class Found:
    """One quantity of one joint."""

    joint: str
    quantity: str
    now: float | None
    """Limit in the robot file."""
    fit: Fit
    limit: float
    """Fitted, no wider than servo and structure allow, to three figures."""
    widest: float
    aim: float
    """Declared trips an hour of it."""
    peaks: Peaks
    measured: Peaks | None
    """Of the same quantity as the arm did it; None where that is what was fitted to."""

    @property
    def unit(self) -> str:
        return UNITS[self.quantity]

    @property
    def held(self) -> bool:
        """Servo or structure allow less than the data call for; of a jerk, more would limit nothing."""
        return self.fit.limit > self.widest

    @property
    def trips_per_hour(self) -> float:
        return self.fit.expected(self.limit)

    @property
    def trips_per_hour_now(self) -> float | None:
        return None if self.now is None else self.fit.expected(self.now)


def found_limits(
    robot: Robot, motions: Sequence[Piece], aim: float, progress: Callable[[], None] = lambda: None
) -> tuple[tuple[Found, ...], float]:
    """Every limit, and the hours of motion they are from. A joint that stood still has none here.

    Raises:
        CadenzaError: too little data for the declared rate.
    """
    rate, names = robot.control.rate_hz, robot.follower.names
    hours = sum(map(len, motions)) / rate / 3600.0
    measurable = widest_current(robot)
    highest = {quantity: _highest(motions, quantity, len(names)) for quantity in _FINEST}
    moved = [(index, name) for index, name in enumerate(names) if highest["velocity"][index] > _FINEST["velocity"]]
    currents = [name for index, name in moved if name in measurable and highest["current"][index] > _FINEST["current"]]
    channels = 3 * len(moved) + len(currents)
    blocks = sum(len(peaks([m.effort[:, 0]], rate).value) for m in motions)
    check_support(hours, len({m.episode for m in motions}), blocks, aim, channels)
    if not moved:
        raise CadenzaError("no joint was asked to move in these episodes: there is nothing to fit limits to")
    widest = {"velocity": widest_velocity(robot), "acceleration": widest_acceleration(robot), "current": measurable}
    channel = _Channels(robot, motions, hours, aim / channels)
    found = [
        channel.found(name, quantity, [_size(m.asked, quantity, index) for m in motions], widest[quantity][name])
        for quantity in ("velocity", "acceleration")
        for index, name in moved
    ]
    top = {f.joint: _jerk_of_use(f.limit, rate) for f in found if f.quantity == "acceleration"}
    needed = jerk_needed(motions, _with(robot, found, top), rate, progress)
    for index, name in moved:
        found.append(channel.found(name, "jerk", [piece[:, index] for piece in needed], top[name]))
        if name in currents:
            found.append(channel.found(name, "current", [m.effort[:, index] for m in motions], measurable[name]))
    order = list(UNITS)
    return tuple(sorted(found, key=lambda f: (names.index(f.joint), order.index(f.quantity)))), hours


@dataclass(frozen=True, slots=True)
class _Channels:
    """What all quantities have in common."""

    robot: Robot
    motions: Sequence[Piece]
    hours: float
    aim: float

    def found(self, joint: str, quantity: str, values: Sequence[Float], widest: float) -> Found:
        best = fit(highest := self._gathered(values), self.hours, self.aim)
        index = self.robot.follower.names.index(joint)
        done = [_size(m.measured, quantity, index) for m in self.motions] if quantity in _DONE else None
        return Found(
            joint,
            quantity,
            getattr(self.robot.follower.joints[joint], quantity),
            best,
            min(_three_figures(best.limit * (_CATCH_UP if quantity in _DONE else 1.0)), widest),
            widest,
            self.aim,
            highest,
            None if done is None else self._gathered(done),
        )

    def _gathered(self, values: Sequence[Float]) -> Peaks:
        of_piece = peaks(values, self.robot.control.rate_hz)
        return Peaks(of_piece.value, np.array([m.episode for m in self.motions])[of_piece.episode])


def still_joints(robot: Robot, found: Sequence[Found]) -> tuple[str, ...]:
    """Those that nothing was fitted to."""
    fitted = {f.joint for f in found}
    return tuple(name for name in robot.follower.names if name not in fitted)


def limits_of(robot: Robot, found: Sequence[Found]) -> Limits:
    """The robot's limits with the fitted ones in their place."""
    return _with(robot, found, {f.joint: f.limit for f in found if f.quantity == "jerk"})


def _with(robot: Robot, found: Sequence[Found], jerk: Mapping[str, float]) -> Limits:
    before, limits = robot.limits(), {(f.joint, f.quantity): f.limit for f in found}
    limits |= {(name, "jerk"): limit for name, limit in jerk.items()}
    velocity, acceleration, most_jerk = (
        frozen(
            [limits.get((name, quantity), getattr(joint, quantity)) for name, joint in robot.follower.joints.items()]
        )
        for quantity in ("velocity", "acceleration", "jerk")
    )
    return Limits(before.lower, before.upper, velocity, acceleration, most_jerk, before.home)


def _highest(motions: Sequence[Piece], quantity: str, joints: int) -> Float:
    """Highest magnitude of each joint in all motions, shape (joints,)."""
    values = [m.effort if quantity == "current" else getattr(m.asked, quantity) for m in motions]
    highest: Float = np.abs(np.concatenate([np.zeros((1, joints)), *values])).max(axis=0)
    return highest


def _size(motion: object, quantity: str, index: int) -> Float:
    values: Float = np.abs(getattr(motion, quantity)[:, index])
    return values


def _jerk_of_use(acceleration: float, rate_hz: float) -> float:
    """From full acceleration one way to full the other and back within one period: more would limit nothing."""
    return 4.0 * acceleration * rate_hz


def _three_figures(value: float) -> float:
    """Rounded up."""
    last = 10.0 ** (np.floor(np.log10(value)) - 2)
    return float(f"{np.ceil(value / last) * last:.3g}")

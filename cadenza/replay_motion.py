"""The motion of an episode, to be played again: what was sent, and whether an arm may do it."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from controller.recorded import kinematics_of
from controller.workers.playback import Motion
from episodes.reader import Episode
from episodes.records import Flag, Mode
from spec.arrays import Float
from spec.errors import CadenzaError, MisfitError, SpecError
from spec.robot import Robot

_DRIVEN = (Mode.POLICY, Mode.BLEND, Mode.HUMAN)
_TICK_RAD = 2 * np.pi / 4096
_ROOM = 1e-6
"""Share of a limit that rounding may take."""
_HARD = 0.95
"""Share of its acceleration limit from which on a joint has no room."""
_STOPPED_RAD_S = 1e-9
_LOOK_S = 0.02
"""The tool is looked at this often [s] when a workspace box is to be kept."""


@dataclass(frozen=True, slots=True, eq=False)
class Recorded:
    """A motion with what is known of it."""

    motion: Motion
    begin_ns: int
    """When it began on record [ns]."""
    velocity: Float
    """Commanded at the same instants [rad/s], shape (n, joints)."""
    acceleration: Float
    """[rad/s²], shape (n, joints)."""


def motion_of(episode: Episode, speed: float) -> Recorded:
    """From the moment somebody drove until the arm stood after the last one did.

    Where what was sent is the command rounded to encoder ticks, the command is taken: the servos interpolate no
    rounding away.

    Raises:
        CadenzaError: nobody drove.
    """
    ticks = episode.ticks
    driven = np.flatnonzero(np.isin(ticks["mode"], _DRIVEN))
    if not len(driven):
        raise CadenzaError(f"{episode.path}: nobody moved the arm in it")
    still = (np.abs(ticks["limited_velocity"][driven[-1] :]) < _STOPPED_RAD_S).all(axis=1)
    end = driven[-1] + (int(np.argmax(still)) if still.any() else len(still) - 1)
    ticks = ticks[driven[0] : end + 1]
    left = np.isfinite(ticks["sent"]).all(axis=1) & (ticks["flags"] & int(Flag.WRITE_FAILED) == 0)
    ticks = ticks[left]
    if len(ticks) < 2:
        raise CadenzaError(f"{episode.path}: nothing was sent while somebody drove")
    rounded = np.abs(ticks["limited"] - ticks["sent"]) <= _TICK_RAD
    position = np.where(rounded, ticks["limited"], ticks["sent"])
    begin_ns = int(ticks["now_ns"][0])
    seconds = (ticks["now_ns"] - begin_ns) * 1e-9
    motion = Motion(seconds, position, speed)
    return Recorded(motion, begin_ns, ticks["limited_velocity"].copy(), ticks["limited_acceleration"].copy())


def check_motion(episode: Episode, recorded: Recorded, robot: Robot) -> None:
    """Refuse what the arm may not do, before anything moves.

    Raises:
        MisfitError: the joints differ.
        SpecError: a pose, speed or acceleration beyond the limits of the robot file.
    """
    names = robot.follower.names
    if episode.joints != names:
        raise MisfitError(f"{episode.path}: joints {list(episode.joints)}, the arm has {list(names)} ({robot.name})")
    motion, limits = recorded.motion, robot.limits()
    for bound, beyond in (
        (limits.lower, motion.position < limits.lower - _ROOM),
        (limits.upper, motion.position > limits.upper + _ROOM),
    ):
        if beyond.any():
            row, joint = np.argwhere(beyond)[0]
            raise SpecError(
                f"{episode.path}: {names[joint]}",
                round(float(motion.position[row, joint]), 4),
                f"[rad], {motion.seconds[row]:.2f} s into the motion, is beyond the robot file's {bound[joint]:g}",
            )
    _check_speed(recorded, limits.velocity, limits.acceleration, names)
    _check_workspace(episode, motion, robot)


def at_limit(recorded: Recorded, robot: Robot) -> float:
    """Share of the motion in which some joint accelerates as hard as it may: an arm that is late stays late there."""
    accelerations = np.abs(recorded.acceleration) * recorded.motion.speed**2
    return float((accelerations >= _HARD * robot.limits().acceleration).any(axis=1).mean())


def _check_speed(recorded: Recorded, velocity: Float, acceleration: Float, names: tuple[str, ...]) -> None:
    motion, speed = recorded.motion, recorded.motion.speed
    steps = np.abs(np.diff(motion.position, axis=0)) / np.diff(motion.seconds)[:, None]
    # A command that went on elsewhere after the servos were engaged anew is a jump that no velocity tells of.
    rates = np.maximum(np.abs(recorded.velocity), np.concatenate([steps * (1 - 1e-3), steps[-1:]]))
    for what, values, limit, power in (
        ("rad/s", rates, velocity, 1),
        ("rad/s²", np.abs(recorded.acceleration), acceleration, 2),
    ):
        share = values * speed**power / limit
        if share.max() > 1.0 + 1e-3:
            row, joint = np.unravel_index(int(np.argmax(share)), share.shape)
            most = speed * (1.0 / share.max()) ** (1.0 / power)
            raise SpecError(
                "--speed",
                speed,
                f"{names[joint]} would do {values[row, joint] * speed**power:.3g} {what} {motion.seconds[row]:.2f} s "
                f"into the motion, the robot file allows {limit[joint]:g}",
                (f"up to {np.floor(most * 1000) / 1000:g}",),
            )


def _check_workspace(episode: Episode, motion: Motion, robot: Robot) -> None:
    kinematics = kinematics_of(robot)
    if robot.workspace is None or kinematics is None:
        return
    low, high = robot.workspace.bounds().T
    times = np.arange(0.0, motion.length_s, _LOOK_S)
    for seconds, pose in zip(times, motion.at(times).tolist(), strict=True):
        place = np.array(kinematics.tool(pose))
        if (place < low - 1e-3).any() or (place > high + 1e-3).any():
            raise SpecError(
                f"{episode.path}: tool",
                [round(float(value), 3) for value in place],
                f"[m], {seconds:.2f} s into the motion, is outside the robot file's workspace",
            )

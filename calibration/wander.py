"""A motion like those a policy makes, without any purpose: to learn how an arm moves when nobody touches it.

From one random pose straight to the next, each time with a random share of the arm's speed and acceleration, with
pauses in between. Poses keep clear of the table and of the arm's own foot where the arm's model is known.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import mujoco
import numpy as np
import ruckig

from spec.arrays import Float
from spec.errors import MisfitError, SpecError
from spec.robot import Limits, Robot

_SPEED, _ACCELERATION = (0.3, 1.0), (0.2, 0.6)
"""Shares of the limits. A policy reaches both limits now and then, but its bursts are over within a few ticks, where
here a joint gathers speed for a tenth of a second. A leader that mirrored the shipped policy strayed half as far."""
_LONGEST_MOVE = 1.2
"""[rad]"""
_PAUSE_S, _PAUSES = 0.4, 0.3
"""Length of a pause, and how many moves end in one."""
_GENTLE = 0.2
"""Share of the limits for the way to and from the start pose."""
_AROUND_HOME = 0.6
"""How far from home joints go where there is no model to say what is free [rad]."""
_ABOVE_TABLE, _FROM_AXIS = 0.04, 0.09
"""Lowest height of tool and wrist, and their least distance from the vertical axis of the arm's foot [m]."""
_TRIES = 400


class Wander:
    """A smooth motion that never ends. Arrays have shape (joints,).

    Args:
        robot: its follower's limits and home pose count, narrowed to what the leader can reach; ``model`` too.
        start: where the motion begins [rad].
        seed: makes it reproducible.

    Raises:
        SpecError: MuJoCo cannot read the model.
        MisfitError: the model lacks the tool or a joint.
    """

    def __init__(self, robot: Robot, start: Float, seed: int) -> None:
        limits = robot.limits()
        self._lower, self._upper = limits.lower.copy(), limits.upper.copy()
        if robot.leader is not None:
            ranges = Limits.of(robot.leader)
            self._lower, self._upper = np.maximum(self._lower, ranges.lower), np.minimum(self._upper, ranges.upper)
        self._limits, self._home = limits, np.clip(limits.home, self._lower, self._upper)
        self._free = None if robot.model is None else _Free(robot.model, robot.follower.names)
        if self._free is None:
            self._lower = np.maximum(self._lower, self._home - _AROUND_HOME)
            self._upper = np.minimum(self._upper, self._home + _AROUND_HOME)
        self._rng = np.random.default_rng(seed)
        self._planner = ruckig.Ruckig(len(start), 1e-3)
        self._trajectory = ruckig.Trajectory(len(start))
        self._began_s = self._pause_s = 0.0
        self._goal = np.array(start, dtype=np.float64)
        self._go(self._home, _GENTLE, _GENTLE)
        self.begins_s = float(self._trajectory.duration)
        """Until then it is on its way to the start pose [s]."""

    def at(self, time_s: float) -> tuple[Float, Float]:
        """Angles [rad] and speeds [rad/s] at ``time_s`` since the motion began, which never goes back."""
        while time_s > self._began_s + self._trajectory.duration + self._pause_s:
            self._began_s += self._trajectory.duration + self._pause_s
            self._pause_s = _PAUSE_S if self._rng.random() < _PAUSES else 0.0
            self._go(self._next(), self._rng.uniform(*_SPEED), self._rng.uniform(*_ACCELERATION))
        position, velocity, _ = self._trajectory.at_time(time_s - self._began_s)
        return np.array(position), np.array(velocity)

    def home(self, time_s: float) -> float:
        """Go gently to the start pose from here on; returns when it will be reached [s]."""
        position, velocity = self.at(time_s)
        self._goal, self._began_s, self._pause_s = position, time_s, np.inf
        self._go(self._home, _GENTLE, _GENTLE, velocity)
        return time_s + float(self._trajectory.duration)

    def _go(self, goal: Float, speed: float, acceleration: float, velocity: Float | None = None) -> None:
        limits, move = self._limits, ruckig.InputParameter(len(goal))
        move.current_position, move.target_position = self._goal.tolist(), goal.tolist()
        move.current_velocity = (np.zeros_like(goal) if velocity is None else velocity).tolist()
        fastest = speed * limits.velocity if velocity is None else np.maximum(speed * limits.velocity, abs(velocity))
        move.max_velocity = fastest.tolist()
        move.max_acceleration = (acceleration * limits.acceleration).tolist()
        move.max_jerk = limits.jerk.tolist()
        move.synchronization = ruckig.Synchronization.Phase  # straight ahead, so what lies between poses is known
        if self._planner.calculate(move, self._trajectory) < 0:
            raise SpecError("follower.joints", goal.tolist(), "no motion within these limits")
        self._goal = goal

    def _next(self) -> Float:
        for _ in range(_TRIES):
            move = self._rng.uniform(-_LONGEST_MOVE, _LONGEST_MOVE, len(self._goal))
            goal = np.clip(self._goal + move, self._lower, self._upper)
            if self._free is None or self._free.way(self._goal, goal):
                return np.asarray(goal)
        return self._home


class _Free:
    """Whether the arm's hand meets table or foot on a straight way."""

    def __init__(self, model: Path, joints: Sequence[str]) -> None:
        try:
            self._model = mujoco.MjModel.from_xml_path(str(model))
        except ValueError as error:
            raise SpecError(str(model), " ".join(str(error).split())[:200], "MuJoCo cannot read the model") from None
        numbers = [mujoco.mj_name2id(self._model, mujoco.mjtObj.mjOBJ_JOINT, name) for name in joints]
        site = mujoco.mj_name2id(self._model, mujoco.mjtObj.mjOBJ_SITE, "tool")
        if -1 in numbers or site < 0:
            raise MisfitError(f"{model}: lacks the site tool, or one of the joints {', '.join(joints)}")
        self._qpos = self._model.jnt_qposadr[numbers]
        self._data = mujoco.MjData(self._model)
        self._site, self._hand = site, int(self._model.site_bodyid[site])

    def way(self, start: Float, end: Float) -> bool:
        return all(self._pose(start + (end - start) * share) for share in np.linspace(0.0, 1.0, 9)[1:])

    def _pose(self, joints: Float) -> bool:
        self._data.qpos[self._qpos] = joints
        mujoco.mj_kinematics(self._model, self._data)
        for place in (self._data.site_xpos[self._site], self._data.xpos[self._hand]):
            if place[2] < _ABOVE_TABLE or float(np.hypot(place[0], place[1])) < _FROM_AXIS:
                return False
        return True

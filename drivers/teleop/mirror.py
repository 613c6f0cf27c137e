"""The motion a leader arm makes while it mirrors the follower: starts where the leader stands, catches up gently,
then moves with it.
"""

from __future__ import annotations

import numpy as np
import ruckig

from spec.arrays import Float
from spec.robot import Arm, Limits

GENTLE = 0.25
"""Share of the leader's velocity and acceleration limits used until it has caught up."""
CAUGHT_UP_RAD = 0.02
"""Nearer than this in every joint, the leader has caught up: about a dozen encoder ticks."""
_FASTEST = 0.9
"""Share of the velocity limit a target may move at: what is left closes the distance."""


class Mirror:
    """A jerk-limited motion after a moving target, within the leader's own limits.

    Joints that the follower can turn further than the leader stay at the leader's end.

    Args:
        arm: the leader's section of the robot file.
    """

    def __init__(self, arm: Arm) -> None:
        limits = Limits.of(arm)
        self._lower, self._upper, self._velocity = limits.lower, limits.upper, limits.velocity
        joints = len(limits.lower)
        self._planner = ruckig.Ruckig(joints, 1e-3)
        self._trajectory = ruckig.Trajectory(joints)
        self._wanted = ruckig.InputParameter(joints)
        self._wanted.synchronization = ruckig.Synchronization.No
        self._wanted.max_jerk = limits.jerk.tolist()
        self._wanted.target_position = self._wanted.target_velocity = self._wanted.target_acceleration = [0.0] * joints
        self._acceleration = limits.acceleration
        self.begin(np.zeros(joints))

    def begin(self, position: Float) -> None:
        """Stand at ``position`` [rad], shape (joints,), with the way to the target still to go."""
        self.position: Float = np.clip(position, self._lower, self._upper)
        self._speed, self._rate = np.zeros_like(self.position), np.zeros_like(self.position)
        self.caught_up = False

    def step(self, target: Float, velocity: Float, seconds: float) -> Float:
        """Where to be ``seconds`` from the step before, after a target that is now at ``target`` [rad] and moves at
        ``velocity`` [rad/s], shapes (joints,).

        Planned in the frame that moves with the target, where meeting it means coming to rest.
        """
        inside = np.clip(target, self._lower, self._upper)
        fastest = _FASTEST * self._velocity
        moving = np.where(inside == target, np.clip(velocity, -fastest, fastest), 0.0)
        share = 1.0 if self.caught_up else GENTLE
        wanted = self._wanted
        # A target faster than the gentle share is still gone along with, or it would never be met.
        wanted.max_velocity = (np.maximum(share * self._velocity, np.abs(moving) / _FASTEST) - moving).tolist()
        wanted.min_velocity = (-np.maximum(share * self._velocity, np.abs(moving) / _FASTEST) - moving).tolist()
        wanted.max_acceleration = (share * self._acceleration).tolist()
        wanted.current_position = (self.position - (inside - moving * seconds)).tolist()
        wanted.current_velocity = (self._speed - moving).tolist()
        wanted.current_acceleration = self._rate.tolist()
        if self._planned():
            behind, faster, rate = (np.array(values) for values in self._trajectory.at_time(seconds))
            position, self._speed, self._rate = behind + inside, faster + moving, rate
        else:  # never seen; stand where we are
            position, self._speed, self._rate = self.position, 0.0 * self._speed, 0.0 * self._rate
        self.position = np.clip(position, self._lower, self._upper)
        at_end = self.position != position
        self._speed[at_end] = self._rate[at_end] = 0.0
        self.caught_up = self.caught_up or bool((np.abs(self.position - inside) < CAUGHT_UP_RAD).all())
        return self.position

    def _planned(self) -> bool:
        try:
            return bool(self._planner.calculate(self._wanted, self._trajectory) >= 0)
        except ruckig.RuckigError:
            return False

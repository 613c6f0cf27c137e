"""The motion a leader arm makes while it mirrors the follower: starts where the leader stands, catches up gently,
then moves with it.
"""

from __future__ import annotations

import numpy as np
import ruckig

from spec.arrays import Float
from spec.robot import Arm, Limits

GENTLE = 0.25
"""Share of the leader's velocity and acceleration limits used at first."""
_EAGER = 0.25
"""By so much that share grows in a second until the leader has caught up: after a target that moves briskly it would
not otherwise."""
CAUGHT_UP_RAD = 0.02
"""Nearer than this in every joint, the leader has caught up: about a dozen encoder ticks."""
_NO_PLAN = (ruckig.RuckigError, ValueError)
"""What ruckig raises where it knows no way: ValueError for one that would take more than two hours, an answer that its
own enumeration lacks (-101)."""
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
        self._lower, self._upper, self._fastest = limits.lower, limits.upper, limits.velocity
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
        """[rad]"""
        self.velocity: Float = np.zeros_like(self.position)
        """[rad/s]"""
        self.acceleration: Float = np.zeros_like(self.position)
        """[rad/s²]"""
        self._share = GENTLE

    @property
    def caught_up(self) -> bool:
        """It has been where the target is."""
        return self._share >= 1.0

    def step(self, target: Float, velocity: Float, seconds: float) -> Float:
        """Where to be ``seconds`` from the step before, after a target that is now at ``target`` [rad] and moves at
        ``velocity`` [rad/s], shapes (joints,).

        Planned in the frame that moves with the target, where meeting it means coming to rest.
        """
        inside = np.clip(target, self._lower, self._upper)
        fastest = _FASTEST * self._fastest
        moving = np.where(inside == target, np.clip(velocity, -fastest, fastest), 0.0)
        self._share = share = min(1.0, self._share + _EAGER * seconds)
        wanted = self._wanted
        # A target faster than that share is still gone along with.
        most = np.maximum(share * self._fastest, np.abs(moving) / _FASTEST)
        wanted.max_velocity, wanted.min_velocity = (most - moving).tolist(), (-most - moving).tolist()
        wanted.max_acceleration = (share * self._acceleration).tolist()
        wanted.current_position = (self.position - (inside - moving * seconds)).tolist()
        wanted.current_velocity = (self.velocity - moving).tolist()
        wanted.current_acceleration = self.acceleration.tolist()
        if self._planned():
            behind, faster, rate = (np.array(values) for values in self._trajectory.at_time(seconds))
            position, self.velocity, self.acceleration = behind + inside, faster + moving, rate
        else:  # never seen; stand where we are
            position, self.velocity, self.acceleration = self.position, 0.0 * self.velocity, 0.0 * self.acceleration
        self.position = np.clip(position, self._lower, self._upper)
        at_end = self.position != position
        self.velocity[at_end] = self.acceleration[at_end] = 0.0
        if (np.abs(self.position - inside) < CAUGHT_UP_RAD).all():
            self._share = 1.0
        return self.position

    def _planned(self) -> bool:
        try:
            return bool(self._planner.calculate(self._wanted, self._trajectory) >= 0)
        except _NO_PLAN:
            return False

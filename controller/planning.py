"""One period of the fastest motion within velocity, acceleration and jerk, by ruckig: to a target, or to a stand."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from itertools import starmap
from typing import NamedTuple

import ruckig

from controller.commanded import Commanded
from controller.curve import Motion
from controller.stopping import Reach
from spec.robot import Limits

GENTLE = 0.25
"""Share of the velocity and acceleration limits used where the arm moves by itself: the way to the start pose."""

ROUNDING = 1e-9
"""[rad], [m], [rad/s], [rad/s²]: smaller than this is the rounding of the planner, not a motion."""

_NO_PLAN = (ruckig.RuckigError, ValueError)
"""What ruckig raises where it knows no way: ValueError for one that would take more than two hours, an answer that its
own enumeration lacks (-101)."""

_LOOK_AT = (0.25, 0.5, 0.75, 1.0)
"""Shares of the braking time at which the arm is looked at."""


class Rest(NamedTuple):
    """What braking from a command comes to."""

    lowest: tuple[float, ...]
    highest: tuple[float, ...]
    way: tuple[list[float], ...]
    """Poses on the way there and the last; empty where they were not asked for."""


class Planner:
    """Plans within the limits of one arm. Holds scratch memory, no state.

    Args:
        limits: per joint.
        period_s: control period [s].
    """

    __slots__ = ("_braking", "_moving", "_period", "_planner", "_still", "_trajectory", "_within")

    def __init__(self, limits: Limits, period_s: float) -> None:
        joints = len(limits.lower)
        self._period, self._still = period_s, (0.0,) * joints
        columns = limits.lower, limits.upper, limits.velocity, limits.acceleration, limits.jerk
        limits_of_each = [column.tolist() for column in columns]
        self._within = {
            share: tuple(starmap(partial(Reach.of, share), zip(*limits_of_each, strict=True)))
            for share in (1.0, GENTLE)
        }
        self._planner, self._trajectory = ruckig.Ruckig(joints, period_s), ruckig.Trajectory(joints)
        self._moving = {share: _input(ruckig.ControlInterface.Position, limits, share) for share in (1.0, GENTLE)}
        self._braking = _input(ruckig.ControlInterface.Velocity, limits, 1.0)

    def brake(self, now: Commanded) -> Commanded:
        """One period of the fastest jerk-limited stop; stays put once it stands."""
        if now.at_rest:
            return now
        braked = self._advance(self._braking, now)
        if braked is None:  # ruckig has no answer to a state it made itself: never seen; stand where we are
            return now._replace(velocity=self._still, acceleration=self._still)
        return braked._replace(velocity=_settled(braked.velocity), acceleration=_settled(braked.acceleration))

    def pursue(self, now: Commanded, asked: Motion, *, gentle: bool) -> Commanded | None:
        """One period along the fastest way to meet the target; ``gentle``: with a share of the limits.

        Planned in the frame that moves with the target, where meeting it means coming to rest at zero. Planned in the
        room instead, a command a hair ahead of its target would have to turn round and take a fresh run-up.

        The target is the nearest to ``asked`` that can be passed through without leaving the position limits.
        """
        share = GENTLE if gentle else 1.0
        period, wanted = self._period, self._moving[share]
        position, velocity = [], []
        behind, slower, most, least = [], [], [], []
        for p, u, q, v, reach in zip(
            now.position, now.velocity, asked.position, asked.velocity, self._within[share], strict=True
        ):
            low, high, allowed, fastest, *_ = reach
            target, speed = (q, v) if low <= q <= high and -allowed <= v <= allowed else reach.nearest(q, v)
            position.append(target)
            velocity.append(speed)
            behind.append(p - (target - speed * period))
            slower.append(u - speed)
            most.append(fastest - speed)
            least.append(-fastest - speed)
        wanted.max_velocity, wanted.min_velocity = most, least
        if not self._planned(wanted, behind, slower, now.acceleration):
            return None
        ahead, faster, acceleration = self._trajectory.at_time(period)
        return Commanded(
            tuple([e + q for e, q in zip(ahead, position, strict=True)]),
            tuple([e + v for e, v in zip(faster, velocity, strict=True)]),
            tuple(acceleration),
            now.short,
            now.seen,
            now.room,
            now.use,
        )

    def rest(self, moved: Commanded, *, way: bool) -> Rest | None:
        """Where braking from ``moved`` would lead, and on which way if asked; None where there is no plan."""
        if not self._planned(self._braking, moved.position, moved.velocity, moved.acceleration):
            return None
        extrema = self._trajectory.position_extrema
        at, duration = self._trajectory.at_time, self._trajectory.duration
        poses = tuple([at(share * duration)[0] for share in _LOOK_AT]) if way else ()
        return Rest(tuple([bound.min for bound in extrema]), tuple([bound.max for bound in extrema]), poses)

    def _planned(
        self,
        wanted: ruckig.InputParameter,
        position: Sequence[float],
        velocity: Sequence[float],
        acceleration: Sequence[float],
    ) -> bool:
        """Plan from a state into the scratch trajectory; False where ruckig knows no way."""
        wanted.current_position, wanted.current_velocity = position, velocity
        wanted.current_acceleration = acceleration
        try:
            return bool(self._planner.calculate(wanted, self._trajectory) >= 0)
        except _NO_PLAN:
            return False

    def _advance(self, wanted: ruckig.InputParameter, now: Commanded) -> Commanded | None:
        """One period along the plan for ``wanted``; None where there is no plan."""
        if not self._planned(wanted, now.position, now.velocity, now.acceleration):
            return None
        position, velocity, acceleration = self._trajectory.at_time(self._period)
        return now._replace(position=tuple(position), velocity=tuple(velocity), acceleration=tuple(acceleration))


def _input(interface: ruckig.ControlInterface, limits: Limits, share: float) -> ruckig.InputParameter:
    """What is the same in every plan; ``share`` of velocity and acceleration is used."""
    joints = len(limits.lower)
    wanted = ruckig.InputParameter(joints)
    wanted.control_interface = interface
    wanted.synchronization = ruckig.Synchronization.No
    wanted.max_velocity = [share * limit for limit in limits.velocity.tolist()]
    wanted.max_acceleration = [share * limit for limit in limits.acceleration.tolist()]
    wanted.max_jerk = limits.jerk.tolist()
    wanted.target_velocity = wanted.target_acceleration = [0.0] * joints
    return wanted


def _settled(values: tuple[float, ...]) -> tuple[float, ...]:
    return tuple([0.0 if abs(value) < ROUNDING else value for value in values])

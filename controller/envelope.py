"""The safety envelope: whatever is asked, what leaves here can be followed and stays inside every limit.

The command is a motion of its own (position, velocity, acceleration of every joint) that advances one control period
a tick. Each tick ruckig plans the fastest way from that motion to the target and the first period of the plan becomes
the new command. So velocity, acceleration and jerk are limited by construction.

Position limits and the workspace box hold by an invariant: *from the command the arm can always still brake to a stand
inside*. A new command is taken only if braking from it would end inside; otherwise the arm brakes now, along the very
stop that was known to end inside when the present command was taken. A command that starts outside (the arm was put
there by hand) may do everything that brings it no further out.

The box is judged by where the tool is at the command, at three points of the way it would brake on, and where it would
come to rest. Between those it can bulge out by about lever · (angle/4)²/8: half a millimetre for 0.3 m and 0.5 rad.

Most ticks are far from every limit. There an upper bound of the braking distance, and of how far the tool can have come
since its place was last looked at, proves as much for a fraction of the time.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import partial
from itertools import starmap
from typing import NamedTuple

import ruckig

from controller.curve import Motion
from controller.kinematics import Kinematics
from controller.stopping import Reach
from spec.arrays import Float
from spec.robot import Limits

FOLLOWED_RAD = 2e-3
"""A command this near to what was asked counts as what was asked: one encoder tick is 1.5 mrad."""

GENTLE = 0.25
"""Share of the velocity and acceleration limits used where the arm moves by itself: the way to the start pose."""

_LOOK_AT = (0.25, 0.5, 0.75, 1.0)
"""Shares of the braking time at which the tool's place is checked."""

_ROUNDING = 1e-9
"""[rad], [m], [rad/s], [rad/s²]: smaller than this is the rounding of the planner, not a motion."""


class Commanded(NamedTuple):
    """The motion that is being commanded, and how far outside the workspace it would come to rest."""

    position: tuple[float, ...]
    """[rad]"""
    velocity: tuple[float, ...]
    """[rad/s]"""
    acceleration: tuple[float, ...]
    """[rad/s²]"""
    outside: float = 0.0
    """Distance out of the workspace box [m], the larger of now and at rest."""
    seen: tuple[float, ...] = ()
    """Pose at which the tool's place was last looked at [rad]."""
    margin: float = 0.0
    """How far inside the box it was then [m]."""

    @property
    def at_rest(self) -> bool:
        return not any(self.velocity) and not any(self.acceleration)

    @property
    def motion(self) -> Motion:
        return Motion(self.position, self.velocity)


class Step(NamedTuple):
    """One period's worth of command."""

    commanded: Commanded
    limited: bool
    """It is not where it was asked to be."""
    workspace: bool
    """Because of the workspace box."""
    finite: bool
    """What was asked was a number."""


class _Rest(NamedTuple):
    """What braking from a command comes to."""

    lowest: tuple[float, ...]
    highest: tuple[float, ...]
    way: tuple[list[float], ...]
    """Poses on the way there and the last; empty where there is no box to check them against."""


class Envelope:
    """The limits of one arm. Holds scratch memory of the planner, no state: all state is in :class:`Commanded`.

    Args:
        limits: per joint.
        period_s: control period [s].
        kinematics, workspace: the tool's place, and the box [m], shape (3, 2), it must stay in; None: no box.
    """

    __slots__ = (
        "_bounds",
        "_box",
        "_braking",
        "_kinematics",
        "_lower",
        "_moving",
        "_period",
        "_planner",
        "_trajectory",
        "_upper",
        "_velocity",
        "_within",
        "joints",
    )

    def __init__(
        self,
        limits: Limits,
        period_s: float,
        kinematics: Kinematics | None = None,
        workspace: Float | None = None,
    ) -> None:
        self.joints = len(limits.lower)
        self._period = period_s
        self._lower: tuple[float, ...] = tuple(limits.lower.tolist())
        self._upper: tuple[float, ...] = tuple(limits.upper.tolist())
        self._velocity: tuple[float, ...] = tuple(limits.velocity.tolist())
        acceleration, jerk = tuple(limits.acceleration.tolist()), tuple(limits.jerk.tolist())
        limits_of_each = (self._lower, self._upper, self._velocity, acceleration, jerk)
        self._within = {
            share: tuple(starmap(partial(Reach.of, share), zip(*limits_of_each, strict=True)))
            for share in (1.0, GENTLE)
        }
        levers = (0.0,) * self.joints if kinematics is None else kinematics.levers
        self._bounds = tuple(zip(self._lower, self._upper, acceleration, jerk, levers, strict=True))
        self._kinematics = kinematics
        self._box: list[list[float]] | None = None if workspace is None or kinematics is None else workspace.tolist()
        self._planner = ruckig.Ruckig(self.joints, period_s)
        self._trajectory = ruckig.Trajectory(self.joints)
        self._moving = {
            share: self._input(ruckig.ControlInterface.Position, acceleration, jerk, share) for share in (1.0, GENTLE)
        }
        self._braking = self._input(ruckig.ControlInterface.Velocity, acceleration, jerk, 1.0)

    def _input(
        self, interface: ruckig.ControlInterface, acceleration: tuple[float, ...], jerk: tuple[float, ...], share: float
    ) -> ruckig.InputParameter:
        wanted = ruckig.InputParameter(self.joints)
        wanted.control_interface = interface
        wanted.synchronization = ruckig.Synchronization.No
        wanted.max_velocity = [share * limit for limit in self._velocity]
        wanted.max_acceleration = [share * limit for limit in acceleration]
        wanted.max_jerk = list(jerk)
        wanted.target_velocity = wanted.target_acceleration = [0.0] * self.joints
        return wanted

    def standing(self, position: tuple[float, ...]) -> Commanded:
        """The command of an arm that stands at ``position`` [rad]."""
        still = (0.0,) * self.joints
        beyond = self._beyond(position)
        return Commanded(position, still, still, max(0.0, beyond), position, -beyond)

    def follow(self, now: Commanded, asked: Motion, *, gentle: bool = False) -> Step:
        """One period from ``now`` towards ``asked``; brakes where that is not a number or not possible."""
        if not math.isfinite(sum(asked.position) + sum(asked.velocity)):
            return Step(self.brake(now), True, False, False)
        moved = self._pursue(now, asked, GENTLE if gentle else 1.0)
        if moved is None:
            return Step(self.brake(now), True, False, True)
        if not self._plainly_inside(moved):
            moved = self._looked_at(moved)
            if not self._plainly_inside(moved):
                checked = self._checked(now, moved)
                if checked is None:
                    return Step(self.brake(now), True, True, True)
                moved = checked
        for done, wish in zip(moved.position, asked.position, strict=True):
            if not -FOLLOWED_RAD <= done - wish <= FOLLOWED_RAD:
                return Step(moved, True, False, True)
        return Step(moved, False, False, True)

    def _looked_at(self, moved: Commanded) -> Commanded:
        """``moved``, knowing how far inside the box the tool is now."""
        if self._box is None or moved.outside:
            return moved
        return moved._replace(seen=moved.position, margin=-self._beyond(moved.position))

    def _plainly_inside(self, moved: Commanded) -> bool:
        """Whether braking from ``moved`` surely ends inside all limits, by bounds alone.

        Speed at most |v| + a²/2j, braked from there; and before, that speed for as long as a takes to go.
        """
        travel = 0.0
        seen = moved.seen or moved.position
        for p, v, a, was, (lower, upper, acceleration, jerk, lever) in zip(
            moved.position, moved.velocity, moved.acceleration, seen, self._bounds, strict=True
        ):
            fastest = abs(v) + 0.5 * a * a / jerk
            reach = fastest * (abs(a) / jerk + 0.5 * (fastest / acceleration + acceleration / jerk))
            if p - reach < lower or p + reach > upper:
                return False
            travel += lever * (abs(p - was) + reach)
        return self._box is None or (moved.outside == 0.0 and travel < moved.margin)

    def _checked(self, now: Commanded, moved: Commanded) -> Commanded | None:
        """``moved`` with every joint braked that would leave its limits; None where the tool would leave the box."""
        rest = self._rest(moved)
        if rest is None:
            return self.brake(now)
        leaving = [
            (low < lower - _ROUNDING and low < at) or (high > upper + _ROUNDING and high > at)
            for low, high, at, lower, upper in zip(
                rest.lowest, rest.highest, now.position, self._lower, self._upper, strict=True
            )
        ]
        if any(leaving):
            moved = _chosen(leaving, self.brake(now), moved)
            rest = self._rest(moved) or rest
        if self._box is None:
            return moved
        here = self._beyond(moved.position)
        outside = max(0.0, here, *map(self._beyond, rest.way))
        if outside > now.outside + _ROUNDING:
            return None
        return moved._replace(outside=outside, seen=moved.position, margin=-here)

    def brake(self, now: Commanded) -> Commanded:
        """One period of the fastest jerk-limited stop; stays put once it stands."""
        if now.at_rest:
            return now
        braked = self._advance(self._braking, now)
        if braked is None:  # ruckig has no answer to a state it made itself: never seen; stand where we are
            still = (0.0,) * self.joints
            return now._replace(velocity=still, acceleration=still)
        return braked._replace(velocity=_settled(braked.velocity), acceleration=_settled(braked.acceleration))

    def _pursue(self, now: Commanded, asked: Motion, share: float) -> Commanded | None:
        """One period along the fastest way to meet the target, with this share of the limits.

        Planned in the frame that moves with the target, where meeting it means coming to rest at zero. Planned in the
        room instead, a command a hair ahead of its target would have to turn round and take a fresh run-up.

        The target is the nearest to ``asked`` that can be passed through without leaving the position limits.
        """
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
            now.outside,
            now.seen,
            now.margin,
        )

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
        except ruckig.RuckigError:
            return False

    def _advance(self, wanted: ruckig.InputParameter, now: Commanded) -> Commanded | None:
        """One period along the plan for ``wanted``; None where there is no plan."""
        if not self._planned(wanted, now.position, now.velocity, now.acceleration):
            return None
        position, velocity, acceleration = self._trajectory.at_time(self._period)
        return Commanded(tuple(position), tuple(velocity), tuple(acceleration), now.outside, now.seen, now.margin)

    def _rest(self, moved: Commanded) -> _Rest | None:
        """Where braking from ``moved`` would lead; None where there is no plan."""
        if not self._planned(self._braking, moved.position, moved.velocity, moved.acceleration):
            return None
        extrema = self._trajectory.position_extrema
        way: tuple[list[float], ...] = ()
        if self._box is not None:
            at, duration = self._trajectory.at_time, self._trajectory.duration
            way = tuple([at(share * duration)[0] for share in _LOOK_AT])
        return _Rest(tuple([bound.min for bound in extrema]), tuple([bound.max for bound in extrema]), way)

    def _beyond(self, pose: Sequence[float]) -> float:
        """How far the tool is out of the box along the worst axis [m]; negative inside."""
        if self._kinematics is None or self._box is None:
            return 0.0
        (x0, x1), (y0, y1), (z0, z1) = self._box
        x, y, z = self._kinematics.tool(pose)
        return max(x0 - x, x - x1, y0 - y, y - y1, z0 - z, z - z1)


def _chosen(first: list[bool], a: Commanded, b: Commanded) -> Commanded:
    """Joint by joint ``a`` where ``first`` says so, else ``b``."""

    def mixed(of_a: tuple[float, ...], of_b: tuple[float, ...]) -> tuple[float, ...]:
        return tuple([x if pick else y for pick, x, y in zip(first, of_a, of_b, strict=True)])

    return b._replace(
        position=mixed(a.position, b.position),
        velocity=mixed(a.velocity, b.velocity),
        acceleration=mixed(a.acceleration, b.acceleration),
    )


def _settled(values: tuple[float, ...]) -> tuple[float, ...]:
    return tuple([0.0 if abs(value) < _ROUNDING else value for value in values])

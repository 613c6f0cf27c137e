"""The safety envelope: whatever is asked, what leaves here can be followed and stays inside every limit.

The command is a motion of its own (position, velocity, acceleration of every joint) that advances one control period
a tick. Each tick ruckig plans the fastest way from that motion to the target and the first period of the plan becomes
the new command. So velocity, acceleration and jerk are limited by construction.

Position limits, the workspace box, and the distances between links and to the table hold by an invariant: *from the
command the arm can always still brake to a stand inside*. A new command is taken only if braking from it would end
inside; otherwise the arm brakes now, along the very stop that was known to end inside when the present command was
taken. A command that starts outside (the arm was put there by hand) may do everything that brings it no further out;
one that starts with two links too near to each other, everything that brings those no nearer, and on the way to the
start pose what it must do first, within ``DETOUR``.

Box and distances are judged by the pose of the command, those at three points of the way it would brake on, and the
one it would come to rest in. Between those the tool can bulge out by about lever · (angle/4)²/8: half a millimetre for
0.3 m and 0.5 rad. Distances are kept larger by that.

Most ticks are far from every limit. There an upper bound of the braking distance, and of how much nearer anything can
have come since the arm was last looked at, proves as much for a fraction of the time.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple, Self

import numpy as np

from controller.clearance import Clearance
from controller.commanded import Commanded, joint_by_joint
from controller.curve import Motion
from controller.kinematics import Kinematics
from controller.planning import ROUNDING, Planner, Rest
from controller.stopping import braking_reach
from controller.surroundings import DETOUR, Surroundings, further_in, lacking
from spec.arrays import Float
from spec.robot import Limits, Robot

FOLLOWED_RAD = 2e-3
"""A command this near to what was asked counts as what was asked: one encoder tick is 1.5 mrad."""

_AHEAD, _SPARE = 2.0, 0.01
"""Looked at is what is nearer than this many times the braking distance and so much more [m]: the next ticks can then
do without a look."""

_LOOK_RAD = 0.05
"""So far ahead is looked for what keeps an arm that stands from going on."""

_PROBE_RAD = 1e-3
"""So far a joint is turned in thought, to see whether it leads out of what is in the way or further in."""


class Step(NamedTuple):
    """One period's worth of command."""

    commanded: Commanded
    limited: bool
    """It is not where it was asked to be."""
    workspace: bool
    """Because of the workspace box."""
    collision: bool
    """Because two links, or a link and the table, would come too near."""
    finite: bool
    """What was asked was a number."""


class Envelope:
    """The limits of one arm. Holds scratch memory of the planner, no state: all state is in :class:`Commanded`.

    Args:
        limits: per joint.
        period_s: control period [s].
        kinematics, workspace: the tool's place, and the box [m], shape (3, 2), it must stay in; None: no box.
        clearance, margin: what may collide, and how far apart it stays [m]; None: anything may.
    """

    __slots__ = ("_around", "_bounds", "_lower", "_planner", "_upper", "joints")

    def __init__(
        self,
        limits: Limits,
        period_s: float,
        kinematics: Kinematics | None = None,
        workspace: Float | None = None,
        clearance: Clearance | None = None,
        margin: float = 0.0,
    ) -> None:
        self.joints = len(limits.lower)
        self._lower: tuple[float, ...] = tuple(limits.lower.tolist())
        self._upper: tuple[float, ...] = tuple(limits.upper.tolist())
        rates = limits.acceleration.tolist(), limits.jerk.tolist()
        self._bounds = tuple(zip(self._lower, self._upper, *rates, strict=True))
        self._planner = Planner(limits, period_s)
        self._around = Surroundings(self.joints, kinematics, workspace, clearance, margin)

    @classmethod
    def of(cls, robot: Robot) -> Self:
        """The envelope a robot file describes.

        Raises:
            SpecError, MisfitError: the MJCF that the workspace box or the collision check needs cannot be used.
        """
        limits, period_s, collision = robot.limits(), 1.0 / robot.control.rate_hz, robot.collision
        if robot.model is None or (robot.workspace is None and collision is None):
            return cls(limits, period_s)
        table = collision is not None and collision.table
        kinematics = Kinematics(robot.model, robot.follower.names, table=table)
        workspace = None if robot.workspace is None else robot.workspace.bounds()
        if collision is None:
            return cls(limits, period_s, kinematics, workspace)
        return cls(limits, period_s, kinematics, workspace, Clearance(kinematics), collision.margin)

    def standing(self, position: tuple[float, ...]) -> Commanded:
        """The command of an arm that stands at ``position`` [rad]."""
        still = (0.0,) * self.joints
        room = self._around.room(position, self._around.everything)
        return Commanded(position, still, still, lacking(room), position, tuple(room.tolist()), self._around.use(room))

    def outside(self, pose: tuple[float, ...]) -> tuple[str, float] | None:
        """What a pose [rad] lies outside of or too near to, in words, and by how much [m]; None: it is inside. Looks at
        everything."""
        room = self._around.room(pose, self._around.everything)
        worst = int(room.argmin())
        return None if room[worst] >= -ROUNDING else (self._around.name(worst), -float(room[worst]))

    def follow(self, now: Commanded, asked: Motion, *, gentle: bool = False) -> Step:
        """One period from ``now`` towards ``asked``; brakes where that is not a number or not possible."""
        if not math.isfinite(sum(asked.position) + sum(asked.velocity)):
            return Step(self.brake(now), True, False, False, False)
        moved = self._planner.pursue(now, asked, gentle=gentle)
        if moved is None:
            return Step(self.brake(now), True, False, False, True)
        if not self._plainly_inside(moved):
            moved, workspace, collision = self._checked(now, moved, DETOUR if gentle else 0.0)
            if workspace or collision:
                return Step(moved, True, workspace, collision, True)
        for done, wish in zip(moved.position, asked.position, strict=True):
            if not -FOLLOWED_RAD <= done - wish <= FOLLOWED_RAD:
                return Step(moved, True, False, False, True)
        return Step(moved, False, False, False, True)

    def hindrance(self, now: Commanded, asked: Motion) -> str:
        """What of the envelope keeps an arm that stands from going on towards ``asked``, in words; empty where nothing
        does. Not for every tick: it looks at everything."""
        here, everything = np.array(now.position), self._around.everything
        way = np.array(asked.position) - here
        way *= min(1.0, _LOOK_RAD / max(float(np.abs(way).max()), ROUNDING))
        before, after = (self._around.room(pose.tolist(), everything) for pose in (here, here + way))
        worse = np.flatnonzero((after < 0.0) & (after < before))
        return self._around.name(int(worse[after[worse].argmin()])) if len(worse) else ""

    def _plainly_inside(self, moved: Commanded) -> bool:
        """Whether braking from ``moved`` surely ends inside all limits, by bounds alone."""
        if not moved.use:
            return False
        used = 0.0
        for p, v, a, was, use, (lower, upper, acceleration, jerk) in zip(
            moved.position, moved.velocity, moved.acceleration, moved.seen, moved.use, self._bounds, strict=True
        ):
            reach = braking_reach(v, a, acceleration, jerk)
            if p - reach < lower or p + reach > upper:
                return False
            used += use * (abs(p - was) + reach)
        return used < 1.0

    def _checked(self, now: Commanded, moved: Commanded, detour: float) -> tuple[Commanded, bool, bool]:
        """``moved`` with every joint braked that would leave its limits; all of them where the tool would leave the
        box, or something would come too near: then the second or third answer says so.
        """
        moved, reach, near = self._surveyed(moved)
        if not near and not self._limits_near(moved, reach):
            return moved, False, False
        rest = self._planner.rest(moved, way=bool(near))
        if rest is None:
            return self.brake(now), False, False
        leaving = [
            (low < lower - ROUNDING and low < at) or (high > upper + ROUNDING and high > at)
            for low, high, at, lower, upper in zip(
                rest.lowest, rest.highest, now.position, self._lower, self._upper, strict=True
            )
        ]
        if any(leaving):
            moved, _, near = self._surveyed(joint_by_joint(leaving, self.brake(now), moved))
            rest = self._planner.rest(moved, way=bool(near)) or rest
        if not near:
            return moved, False, False
        chosen, worse = self._weighed(now, moved, rest, near, detour)
        if not worse:
            return chosen, False, False
        out = self._way_out(now, moved, worse, detour) if now.short else None
        return out or self.brake(now), 0 in worse, worse != [0]

    def _weighed(
        self, now: Commanded, moved: Commanded, rest: Rest, near: list[int], detour: float
    ) -> tuple[Commanded, list[int]]:
        """``moved``, knowing what room is missing now and on the way to rest; and where that is more than before."""
        least = np.array(moved.room)
        least[near] = np.min([least[near], *[self._around.room(pose, near) for pose in rest.way]], axis=0)
        short = lacking(least)
        if worse := further_in(short, now.short, detour):
            return moved, worse
        # No more than before: a rounding error in every tick would add up.
        return moved._replace(short=tuple(map(min, short, now.short))), []

    def _way_out(self, now: Commanded, moved: Commanded, worse: list[int], detour: float) -> Commanded | None:
        """``moved`` with only those joints that bring nothing further in; None where that is not enough.

        An arm that was put too near to something would else stand there for good, because one joint's share of the way
        out leads in by microns.
        """
        here = self._around.room(now.position, worse)
        inward = []
        for joint, (was, will) in enumerate(zip(now.position, moved.position, strict=True)):
            pose = list(now.position)
            pose[joint] += math.copysign(_PROBE_RAD, will - was)
            inward.append(will != was and bool((self._around.room(pose, worse) < here - ROUNDING).any()))
        chosen, _, near = self._surveyed(joint_by_joint(inward, self.brake(now), moved))
        rest = self._planner.rest(chosen, way=bool(near))
        if rest is None or not near:
            return None if rest is None else chosen
        chosen, still_worse = self._weighed(now, chosen, rest, near, detour)
        return None if still_worse else chosen

    def _surveyed(self, moved: Commanded) -> tuple[Commanded, list[float], list[int]]:
        """``moved``, knowing what room there is at its pose; how far each joint goes at most while it brakes [rad]; and
        for what that might be too far.

        Only what may be near is really looked at. Of the rest it is known how much nearer it can have come.
        """
        reach = [
            braking_reach(v, a, acceleration, jerk)
            for v, a, (_, _, acceleration, jerk) in zip(moved.velocity, moved.acceleration, self._bounds, strict=True)
        ]
        since = np.abs(np.subtract(moved.position, moved.seen))
        needed, come = (self._around.levers @ np.array([reach, since]).T).T
        room = np.array(moved.room) - come
        doubtful = np.flatnonzero(room <= _AHEAD * needed + _SPARE).tolist()
        room[doubtful] = self._around.room(moved.position, doubtful)
        near: list[int] = np.flatnonzero(room <= needed).tolist()
        short = moved.short if near else ()
        seen = moved._replace(short=short, seen=moved.position, room=tuple(room.tolist()), use=self._around.use(room))
        return seen, reach, near

    def _limits_near(self, moved: Commanded, reach: Sequence[float]) -> bool:
        return any(
            p - r < lower or p + r > upper
            for p, r, lower, upper in zip(moved.position, reach, self._lower, self._upper, strict=True)
        )

    def brake(self, now: Commanded) -> Commanded:
        """One period of the fastest jerk-limited stop; stays put once it stands."""
        return self._planner.brake(now)

"""A scripted person at the virtual leader arm: takes it, does the push task by hand, lets go.

It sees what a person would see, the table and the arms, and acts on nothing but the leader, by forces. So everything
behind it, from the leader's servos to the follower's, works as with a real person.
"""

from __future__ import annotations

import numpy as np

from drivers.virtual.client import SimClient
from drivers.virtual.expert import PushExpert
from drivers.virtual.scene import follower_model
from spec.arrays import Float
from spec.robot import Robot

STEP_S = 0.1
"""How often the person looks and thinks."""
_AHEAD = 3
"""Steps of the plan between now and where the hand is heading: looking closer, it would halt at every step."""
_TUG_RAD, _HARDER = 0.08, 0.04
"""How far the hand pulls an arm that its servos still hold, and by how much more at each step until they yield. No
more than needed: what gives way suddenly flies off."""
_HARDEST = 0.2
_APART = 0.1
"""A hand further than this from where it meant to be begins its plan anew [rad]."""
_ALONGSIDE = 0.3
"""The leader has come to where the arm is when no joint is further away [rad]: a little less than a takeover allows."""
_TUG_JOINTS = ("shoulder_pan", "wrist_roll")
"""Where a tug is felt best: no weight rests on these."""


class ScriptedHand:
    """Call :meth:`step` every :data:`STEP_S` between :meth:`grab` and :meth:`let_go`.

    Args:
        robot: robot file with a virtual arm that has a leader.
        client: connection to it.
    """

    def __init__(self, robot: Robot, client: SimClient) -> None:
        goal = np.array(follower_model(robot).numeric("goal").data[:2])
        self._expert = PushExpert(robot, goal, STEP_S)
        self._client, self._names = client, robot.follower.names
        self._tugged = [self._names.index(name) for name in _TUG_JOINTS if name in self._names]
        self._aim: Float | None = None
        """Where the hand is meant to be now, shape (joints,); None before the first step."""
        self._before: Float | None = None
        self._tug = _TUG_RAD

    def alongside(self) -> bool:
        """Whether the leader has come to where the arm is: a hand that closes around it before that keeps it away."""
        state = self._client.state()
        apart = self._angles(state, "leader") - self._angles(state, "follower")
        return float(np.abs(apart).max()) < _ALONGSIDE

    def grab(self) -> None:
        """Close the hand around the arm, and go along with it."""
        self._aim = self._before = None
        self._tug = _TUG_RAD
        self._client.hand({}, STEP_S)

    def step(self) -> bool:
        """Look, and move on. While the leader's servos still hold the arm it is tugged at, ever harder.

        Returns:
            True where the cube is where it belongs.
        """
        state = self._client.state()
        leader, follower = (self._angles(state, arm) for arm in ("leader", "follower"))
        cube = np.array([state["cube"]["x"], state["cube"]["y"]])
        if self._aim is None or any(state["torque"]["leader"]) or float(np.abs(leader - self._aim).max()) > _APART:
            self._aim, self._before = leader, None
        plan = self._expert.plan(self._aim, follower, cube, _AHEAD, self._before)
        if any(state["torque"]["leader"]):
            self._reach(leader + self._pull(plan[-1] - leader))
        else:
            self._tug = _TUG_RAD
            self._before, self._aim = self._aim, plan[0]
            self._reach(plan[-1])
        return self._expert.delivered(cube)

    def let_go(self) -> None:
        """Take the hand off the arm."""
        self._client.hand(None)

    def _pull(self, wanted: Float) -> Float:
        """How far beyond the arm the hand pulls [rad], shape (joints,)."""
        pull = np.zeros(len(wanted))
        for joint in self._tugged:
            pull[joint] = np.copysign(self._tug, wanted[joint])
        self._tug = min(self._tug + _HARDER, _HARDEST)
        return pull

    def _reach(self, angles: Float) -> None:
        self._client.hand(dict(zip(self._names, angles.tolist(), strict=True)), _AHEAD * STEP_S)

    def _angles(self, state: dict[str, dict[str, dict[str, float]]], arm: str) -> Float:
        return np.array([state["joints"][arm][name] for name in self._names])

"""A scripted person beside the arm: watches, steps in before the policy fails, and is no better than people are."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from cadenza.finetuning.arm import LockstepArm
from drivers.virtual.expert import PushExpert

_AHEAD = 4
"""Steps of the plan that are followed as a chunk; each step begins a new one."""
_STEADY = 0.7
"""Share of a step's trembling that carries over into the next one."""


@dataclass(frozen=True, slots=True)
class Manners:
    """How the person drives, and when."""

    pace: float = 0.6
    """Of the scripted expert's speed."""
    tremble: float = 0.003
    """Disturbance of the joint targets [rad], standard deviation of each step's new part."""
    hesitates: float = 0.06
    """Chance at each step to stop and think."""
    thinks_s: tuple[float, float] = (0.3, 0.9)
    """For how long then [s]."""
    stuck_s: float = 1.5
    """Steps in when nothing has come nearer for so long [s]."""
    lost: float = 0.09
    """Steps in when the cube is this far off the line to the goal, or that far beyond it [m]."""
    drives_s: tuple[float, float] = (1.5, 4.0)
    """Gives the arm back after so long [s], unless the task is done before."""


class Person:
    """Call :meth:`begin` at the start of an episode, :meth:`watch` at every step, and :meth:`drive` at those where it
    said so."""

    def __init__(self, arm: LockstepArm, manners: Manners) -> None:
        self._arm, self._manners = arm, manners
        # Who plans a step for less time than it is given goes slower by as much.
        self._nearest, self._since = float("inf"), 0
        self._expert = PushExpert(arm.robot, arm.goal, arm.step_s * manners.pace)

    def begin(self, rng: np.random.Generator) -> None:
        """A new episode; everything random comes from ``rng``."""
        self._rng = rng
        self._driving = self._pausing = 0
        self._tremble = np.zeros(len(self._arm.commanded))
        self._before = self._arm.commanded
        self._forget()

    def watch(self, late: bool) -> bool:
        """Whether the person drives the coming step. ``late``: the policy's time is up."""
        if self._driving:
            self._driving -= 1
            if not self._driving and not late:
                self._forget()
                return False
            self._driving = max(self._driving, 1)
            return True
        if late or self._fails():
            self._driving = self._steps(self._manners.drives_s)
            self._before = self._arm.commanded
        return self._driving > 0

    def drive(self) -> None:
        """Offer the arm the person's targets for the coming step."""
        arm, manners = self._arm, self._manners
        cube = arm.cube
        plan = self._expert.plan(arm.commanded, arm.measured, np.array([cube.x, cube.y]), _AHEAD, self._before)
        if not self._pausing and self._rng.random() < manners.hesitates:
            self._pausing = self._steps(manners.thinks_s)
        if self._pausing:
            self._pausing -= 1
            plan = np.repeat(arm.commanded[None], _AHEAD, axis=0)
        self._tremble = _STEADY * self._tremble + self._rng.normal(0.0, manners.tremble, len(arm.commanded))
        # The trembling is none of the speed that the coming plan goes on from.
        self._before = arm.commanded + self._tremble
        arm.offer(np.clip(plan + self._tremble, arm.lower, arm.upper))

    def _fails(self) -> bool:
        cube, goal = self._arm.cube, self._arm.goal
        if abs(cube.y - goal[1]) > self._manners.lost or cube.x - goal[0] > 0.5 * self._manners.lost:
            return True
        left = self._left()
        if left < self._nearest - 0.004:
            self._nearest, self._since = left, 0
            return False
        self._since += 1
        return self._since * self._arm.step_s > self._manners.stuck_s

    def _left(self) -> float:
        """How much there is to do [m]: bring the tool to the cube, and the cube to the goal."""
        cube = self._arm.cube
        tool = self._arm.tool()
        return float(np.hypot(*(tool[:2] - (cube.x, cube.y)))) + 2.0 * self._arm.distance

    def _forget(self) -> None:
        self._nearest, self._since = float("inf"), 0

    def _steps(self, seconds: tuple[float, float]) -> int:
        return max(1, round(float(self._rng.uniform(*seconds)) / self._arm.step_s))

"""What the newest tick says about the arm, once it has heeded the last order."""

from __future__ import annotations

import numpy as np

from controller.collection.machine import Happened
from controller.session import NEAR_RAD, STANDING_RAD_S, TAKEN_IN
from controller.supervisor import Supervisor
from controller.watch import DRIVEN, MOVED
from episodes.records import Mode


class Sight:
    """Looks at ticks.

    Args:
        supervisor: entered.
    """

    def __init__(self, supervisor: Supervisor) -> None:
        self._run, self._watch = supervisor, supervisor.watch
        self._home = supervisor.robot.limits().home
        self._margin_ns = TAKEN_IN * supervisor.robot.control.period_ns
        self._recoveries = supervisor.recoveries
        self.ordered_ns = 0
        """When the last order was sent."""

    @property
    def heeded(self) -> bool:
        """Whether the newest tick is one after the last order was taken in."""
        tick = self._watch.tick
        return tick is not None and tick.now_ns > self.ordered_ns + self._margin_ns

    def breaks(self) -> list[Happened]:
        """What ends an episode from outside."""
        found = [Happened.INTERRUPT] if self._run.interrupted else []
        if self._run.recorder.gone:
            found.append(Happened.ERROR)
        if not self._run.driving:
            found.append(Happened.CONTROL_DIED)
        elif (self.heeded and self._watch.mode is Mode.FAULT) or self._run.recoveries != self._recoveries:
            found.append(Happened.FAULT)  # perhaps one that came and went unseen: somebody's word was quicker
        self._recoveries = self._run.recoveries
        return found

    @property
    def at_home(self) -> bool:
        """The arm holds at its start pose."""
        return self._holds and bool(np.all(np.abs(self._watch.commanded() - self._home) < NEAR_RAD))

    @property
    def astray(self) -> bool:
        """It stands somewhere else, and nothing will move it: a person had it meanwhile."""
        return self._holds and not self.at_home and self._watch.speed() < STANDING_RAD_S

    @property
    def stands(self) -> bool:
        """It is at rest, or beyond anybody's reach."""
        moving = self._watch.mode in MOVED or self._watch.speed() > STANDING_RAD_S
        return not self._run.driving or (self.heeded and not moving)

    def driven(self, *, by_hand: bool) -> bool:
        """Somebody drives; ``by_hand``: a person."""
        return self.heeded and (self._watch.human if by_hand else self._watch.mode in DRIVEN)

    @property
    def _holds(self) -> bool:
        return self.heeded and self._watch.mode is Mode.HOLD

"""A scripted person at the session of collecting: demonstrates the task, or steps in while the policy is at it."""

from __future__ import annotations

import random
import time

from cadenza.scripted_hand import STEP_S, ScriptedHand
from controller.collection.collector import Collector
from controller.collection.machine import Phase
from spec.robot import Key

_PATIENCE_S = 1.5
"""When pulling has not got it the arm by then, it presses the button [s]."""
_STEPS_IN_S, _STAYS_S = (0.7, 1.6), (0.9, 1.8)
"""After so long, and for so long, from and to [s]: the shipped policy needs about three seconds by itself."""
_CLEARS = 2
"""Faults it clears before it gives up."""


class ScriptedPerson:
    """Implements :class:`controller.collection.collector.Hand`.

    A demonstration it does to the end. Into the policy's doing it steps once an episode, at a random moment: it pulls
    at the leader until the arm is its own, brings the cube on its way for some seconds, gives the arm back, lets go.

    Args:
        hand: at the virtual leader.
        seed: of its moments.
    """

    def __init__(self, hand: ScriptedHand, seed: int) -> None:
        self._hand, self._random = hand, random.Random(seed)  # noqa: S311 (moments, not secrets)
        self._holding, self._over = False, False
        self._grab_s = self._release_s = self._due_s = 0.0
        self._planned_for: float | None = None
        self._clears = 0

    def look(self, collector: Collector) -> list[Key]:
        """What it does now, by hand and by key."""
        now_s, phase = time.monotonic(), collector.now.phase
        if phase is Phase.FAULT:
            return self._despair()
        if phase is not Phase.RUNNING:
            self._let_go()
            return []
        if collector.now.driving_s is None and not collector.plan.demonstration:
            return []
        if collector.now.since_s != self._planned_for:
            self._plan(collector, now_s)
        if self._over or now_s < max(self._grab_s, self._due_s):
            return []
        self._due_s = now_s + STEP_S
        return self._act(collector, now_s)

    def _plan(self, collector: Collector, now_s: float) -> None:
        """A new episode: when to step in, and for how long."""
        self._planned_for, self._over = collector.now.since_s, False
        self._grab_s, self._release_s = 0.0, float("inf")
        if not collector.plan.demonstration:
            self._grab_s = now_s + self._random.uniform(*_STEPS_IN_S)

    def _act(self, collector: Collector, now_s: float) -> list[Key]:
        human = collector.run.watch.human
        if not self._holding:
            if self._hand.alongside():
                self._holding = True
                self._hand.grab()
            return []
        if collector.plan.demonstration:
            if human and self._hand.step():
                self._let_go()
                self._over = True
            return []
        if human and self._release_s == float("inf"):
            self._release_s = now_s + self._random.uniform(*_STAYS_S)
        delivered = self._hand.step()
        if human and (delivered or now_s >= self._release_s):
            self._over = True
            self._let_go()
            return [Key.RELEASE]
        teleop = collector.run.robot.teleop
        patience = _PATIENCE_S if teleop is not None and teleop.force else 0.0
        return [Key.TAKE] if not human and now_s - self._grab_s > patience else []

    def _let_go(self) -> None:
        if self._holding:
            self._holding = False
            self._hand.let_go()

    def _despair(self) -> list[Key]:
        self._let_go()
        self._clears += 1
        return [Key.START_STOP if self._clears <= _CLEARS else Key.QUIT]

"""Lock-step with a perfect servo, a policy that sends a chunk every step, and a leader arm with a hand at it."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
from controller_plant import chunk, robot, sine

from controller.decide import Command, Decide
from controller.lockstep import Lockstep
from drivers.arm import BusFault
from episodes.records import Driver, Mode, Order
from spec.arrays import Bool, Float
from spec.chunk import Chunk
from spec.robot import Robot
from spec.teleop import Button, TeleopSample

HOME = 0.2
NAN = (math.nan, math.nan)
FORCE = {"position": {"j0": 0.1, "j1": 0.1}, "current": {"j0": 0.3, "j1": 0.3}, "lag_s": 0.0}
Hand = Callable[[float], float]
"""Way of every joint since the person took the arm [rad], by time since then [s]."""


def machine(teleop: dict[str, Any] | None = None, **control: Any) -> Robot:
    """A robot of two joints that a person can take by button and by force."""
    pedal = {"/dev/pedal": {"KEY_B": "dead_man"}}
    return robot(teleop={"rate_hz": 200, "takeover": FORCE, "buttons": pedal, **(teleop or {})}, **control)


class Duo:
    """Everything happens on exact ticks. The attributes are what is wrong; they last until changed.

    The leader is read every ``every`` ticks. It mirrors the command perfectly while no person drives; while one does,
    it is where their hand is, which sets out from where it took the leader.
    """

    def __init__(self, robot: Robot | None = None, every: int = 1, latency_ns: int = 0) -> None:
        self.robot = robot or machine()
        self.where = np.full(2, HOME)
        self.lockstep = Lockstep(Decide.of(self.robot), self.robot.control.rate_hz, self._plant, self.where)
        self.every, self.latency_ns = every, latency_ns
        self.sequence = self.samples = 0
        self.policy = True
        self.weights = 7
        self.curve: Callable[[float], float] = sine(0.3)
        self.hand: Hand = lambda _t: 0.0
        self.took_ns: int | None = None
        self.grip = self.where
        self.leader: Float = self.where
        self.silent = self.deaf = False
        self.frozen_ns: int | None = None
        self.broken: float | None = None
        self.hurry = 0.0
        self.stiff = False
        self.away = np.zeros(2)
        self.push = 0.0
        self.held = self.pressed = Button.NONE
        self.commands: list[Command] = []
        self.sent: list[TeleopSample | None] = []

    def _plant(self, goal: Float | None) -> tuple[Float, Float]:
        if goal is not None and not self.deaf:
            self.where = goal
        return self.where, np.zeros_like(self.where)

    def _sample(self, buttons: Button) -> TeleopSample | None:
        now = self.lockstep.now_ns
        last = self.commands[-1] if self.commands else None
        driving = last is not None and last.driver is Driver.HUMAN
        still = last is None or last.commanded is None
        velocity, goal = (0.0, 0.0) if still else last.commanded.velocity, tuple(self.where.tolist())
        if driving:
            if self.took_ns is None:
                self.took_ns, self.grip = now, self.leader
            t, d = (now - self.took_ns) * 1e-9, 1e-6
            self.leader = self.grip + self.hand(t)
            velocity = ((self.hand(t + d) - self.hand(t)) / d,) * 2
            goal = goal if self.stiff else NAN
        else:
            self.took_ns, self.leader = None, self.where.copy()
        self.pressed |= buttons
        if self.silent or len(self.commands) % self.every:
            return None
        buttons, self.pressed = self.pressed, Button.NONE
        self.samples += 1
        position = tuple((self.leader + self.away + self.push).tolist())
        if self.broken is not None:
            position = (position[0], self.broken)
        velocity = (velocity[0], velocity[1] + self.hurry)
        read_ns = now - self.latency_ns if self.frozen_ns is None else self.frozen_ns
        return TeleopSample(self.samples, read_ns, position, velocity, (0.0, 0.0), goal, int(buttons | self.held))

    def tick(
        self,
        order: Order | None = None,
        press: Button = Button.NONE,
        *,
        heard: Bool | None = None,
        fault: BusFault = BusFault.NONE,
        sent: Chunk | None = None,
    ) -> Command:
        """One tick; ``press`` are buttons held in the next sample, besides those always held."""
        if sent is None and self.policy and len(self.commands) % 20 == 0:
            sent = chunk(self.sequence, self.lockstep.now_ns, self.curve, weights=self.weights)
        if sent is not None:
            self.sequence = sent.sequence + 1
        sample = self._sample(press)
        self.sent.append(sample)
        self.commands.append(self.lockstep.step(sent, order, heard, fault, sample))
        return self.commands[-1]

    def ticks(self, count: int, **kinds: Any) -> Command:
        for _ in range(count):
            self.tick(**kinds)
        return self.commands[-1]

    def until(self, mode: Mode, within: int) -> int:
        """Ticks it took."""
        for count in range(within):
            if self.tick().mode is mode:
                return count + 1
        raise AssertionError(f"{self.commands[-1].mode.name} after {within} ticks, not {mode.name}")

    def driving(self) -> Duo:
        """Under the policy for long enough that a pull at the leader counts."""
        self.tick(Order.START)
        self.until(Mode.POLICY, 400)
        self.ticks(120)
        return self

    def taken(self) -> Duo:
        """In a person's hands, blended in."""
        self.driving().tick(press=Button.TAKE)
        self.until(Mode.HUMAN, 60)
        return self

    @property
    def positions(self) -> Float:
        """What was commanded at every tick [rad], shape (ticks, joints), NaN where nothing was."""
        return np.array([NAN if command.position is None else command.position for command in self.commands])

    @property
    def flags(self) -> np.ndarray:
        return np.array([command.flags for command in self.commands])

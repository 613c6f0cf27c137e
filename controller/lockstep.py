"""The same decision in virtual time: as fast as the machine can, with any plant at the other end.

For tests, and for trying a policy before it touches an arm. Nothing sleeps; the clock is the tick counter.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from controller.authority import Engagement
from controller.clock import TickGrid
from controller.decide import Command, Decide, Inputs, State
from drivers.arm import BusFault
from episodes.records import Order
from spec.arrays import Bool, Float
from spec.chunk import Chunk

Plant = Callable[[Float | None], tuple[Float, Float]]
"""Takes the joint targets of one tick [rad], shape (joints,), or None where nothing is sent; lets one control period
pass; returns position [rad] and velocity [rad/s]."""


class Lockstep:
    """Steps ``decide`` and a plant together, one control period at a time. The servos engage when they are asked to.

    Args:
        decide: of the robot.
        rate_hz: its control rate.
        plant: the arm.
        position: where the arm stands at the start [rad], shape (joints,).
    """

    def __init__(self, decide: Decide, rate_hz: float, plant: Plant, position: Float) -> None:
        self._decide, self._plant = decide, plant
        self._grid = TickGrid.at(rate_hz, 0)
        self._tick = 0
        self._engagement = Engagement.NONE
        self._position, self._velocity = np.array(position, dtype=np.float64), np.zeros(decide.joints)
        self._all_heard: Bool = np.ones(decide.joints, dtype=np.bool_)
        self.state: State = decide.initial()

    @property
    def now_ns(self) -> int:
        """Instant of the coming tick [ns]."""
        return self._grid.instant_ns(self._tick)

    @property
    def position(self) -> Float:
        """Joint positions as last measured [rad], shape (joints,)."""
        return self._position

    @property
    def velocity(self) -> Float:
        """Joint velocities as last measured [rad/s], shape (joints,)."""
        return self._velocity

    def step(
        self,
        chunk: Chunk | None = None,
        order: Order | None = None,
        heard: Bool | None = None,
        fault: BusFault = BusFault.NONE,
    ) -> Command:
        """One tick: decide on what was measured, then let the plant live one period.

        Args:
            heard: joints this tick's read brought, shape (joints,); None for all.
        """
        fresh = self._all_heard if heard is None else heard
        effort = np.zeros(self._decide.joints)
        inputs = Inputs(self._position, self._velocity, effort, fresh, fault, chunk, order, self._engagement)
        self.state, command = self._decide(self.state, inputs, self.now_ns)
        self._engagement = Engagement.DONE if command.engage else Engagement.NONE
        self._position, self._velocity = self._plant(None if command.position is None else np.array(command.position))
        self._tick += 1
        return command

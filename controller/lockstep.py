"""The same decision in virtual time: as fast as the machine can, with any plant at the other end.

For tests, for trying a policy before it touches an arm, and for warming up before the first tick. Nothing sleeps; the
clock is the tick counter.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from controller.authority import Engagement
from controller.clock import TickGrid
from controller.decide import Command, Decide, Inputs, State
from drivers.arm import BusFault
from episodes.records import Order
from spec.arrays import Bool, Float, frozen
from spec.chunk import Chunk
from spec.teleop import Button, TeleopSample

Plant = Callable[[Float | None], tuple[Float, Float]]
"""Takes the joint targets of one tick [rad], shape (joints,), or None where nothing is sent; lets one control period
pass; returns position [rad] and velocity [rad/s]."""


_WARM_UP_TICKS = 200
"""Under the policy, and as many under a person. Python 3.11 specialises a function's code within some ten calls; the
rest is for rare ways through it."""

_DEAD_MAN = int(Button.DEAD_MAN)


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
        human: TeleopSample | None = None,
    ) -> Command:
        """One tick: decide on what was measured, then let the plant live one period.

        Args:
            heard: joints this tick's read brought, shape (joints,); None for all.
            human: what the teleoperation device said since the last tick.
        """
        fresh = self._all_heard if heard is None else heard
        effort = np.zeros(self._decide.joints)
        inputs = Inputs(
            self._position, self._velocity, effort, fresh, fault, chunk, order, self._engagement, human=human
        )
        self.state, command = self._decide(self.state, inputs, self.now_ns)
        self._engagement = Engagement.DONE if command.engage else Engagement.NONE
        self._position, self._velocity = self._plant(None if command.position is None else np.array(command.position))
        self._tick += 1
        return command


def warm_up(decide: Decide, rate_hz: float) -> None:
    """Run the decision from start to policy and through a person's turn on an arm that only exists here, so that no
    real tick is the first."""

    def follow(target: Float | None) -> tuple[Float, Float]:
        return home if target is None else target, still

    home, still = np.array(decide.home.position), np.zeros(decide.joints)
    nothing, nowhere = (0.0,) * decide.joints, (float("nan"),) * decide.joints
    arm = Lockstep(decide, rate_hz, follow, home)
    step_ns = round(20e9 / rate_hz)
    orders = {0: Order.START, _WARM_UP_TICKS: Order.TAKE_OVER, 2 * _WARM_UP_TICKS: Order.RELEASE}
    for tick in range(2 * _WARM_UP_TICKS + 50):
        chunk = None
        if tick % 10 == 0:
            chunk = Chunk(tick, arm.now_ns, step_ns, frozen(home + 1e-3 * np.sin(np.arange(16.0) + tick)[:, None]))
        where, goal = tuple(arm.position.tolist()), nowhere if tick > _WARM_UP_TICKS else nothing
        human = TeleopSample(tick, arm.now_ns, where, nothing, nothing, goal, _DEAD_MAN) if tick % 2 == 0 else None
        arm.step(chunk, orders.get(tick), human=human)

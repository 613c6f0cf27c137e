"""What each safety check costs in a tick, as a share of deciding: ladder, envelope, workspace box, distances.

The same motion is decided with all checks and without one of them, in turns of a second of arm time, so that all see
the same machine; what a check costs is what deciding takes less without it. Ladder and envelope, without which nothing
can be decided, are timed where they are called. Processor time, six joints, temporal ensembling, lock-step.

python -m benchmarks --only safety
"""

from __future__ import annotations

import json
import math
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np

from benchmarks.rig import CHUNK, STEP_NS, apart, percentiles, virtual_robot
from controller import decide as deciding
from controller.decide import Command, Decide, Inputs, State
from controller.envelope import Envelope
from controller.lockstep import Lockstep
from episodes.records import Mode, Order
from spec.arrays import Float, frozen
from spec.chunk import Chunk
from spec.robot import Robot

MOTIONS = {"about_home": 0.1, "wide": 0.5}
"""Half the way of every joint [rad]; the wide one comes near the table, the other links, and the walls of the box."""
RATE_HZ = 200
_HZ = 0.4
_CHECKS = ("workspace", "collision")
_UNDISTURBED_NS = 1_000_000


class TimedDecide(Decide):
    """A decision that keeps what it took [ns] while the policy drives."""

    __slots__ = ("spent_ns",)
    spent_ns: list[int]

    def __call__(self, state: State, inputs: Inputs, now_ns: int) -> tuple[State, Command]:
        began_ns = time.thread_time_ns()
        decided = super().__call__(state, inputs, now_ns)
        if state.authority.mode is Mode.POLICY:
            self.spent_ns.append(time.thread_time_ns() - began_ns)
        return decided


class Timed:
    """Processor time of one function, wherever it is called from meanwhile."""

    def __init__(self, owner: Any, name: str) -> None:
        self._owner, self._name = owner, name
        self.spent_ns: list[int] = []

    @contextmanager
    def watched(self) -> Iterator[None]:
        """Within, every call is timed."""
        original: Callable[..., Any] = getattr(self._owner, self._name)

        def timed(*args: Any, **kwargs: Any) -> Any:
            began_ns = time.thread_time_ns()
            result = original(*args, **kwargs)
            self.spent_ns.append(time.thread_time_ns() - began_ns)
            return result

        setattr(self._owner, self._name, timed)
        try:
            yield
        finally:
            setattr(self._owner, self._name, original)


class Run:
    """One robot, driven to and fro in lock-step."""

    def __init__(self, robot: Robot, amplitude: float) -> None:
        decide = TimedDecide.of(robot)
        assert isinstance(decide, TimedDecide)
        self.spent_ns: list[int] = []
        """Of every decision while the policy drove [ns]."""
        decide.spent_ns = self.spent_ns
        self._home, limits = robot.limits().home, robot.limits()
        self._low, self._high = limits.lower, limits.upper
        self._amplitude, self._sequence, self._next_ns = amplitude, 0, 0
        self._steps = Lockstep(decide, RATE_HZ, self._plant, self._home)
        self._steps.step(order=Order.START)

    def second(self) -> None:
        """A second of arm time."""
        for _ in range(RATE_HZ):
            self._steps.step(self._chunk())

    def _plant(self, goal: Float | None) -> tuple[Float, Float]:
        """Is at once where it is told to be."""
        return (self._steps.position if goal is None else goal), np.zeros(len(self._home))

    def _chunk(self) -> Chunk | None:
        now_ns = self._steps.now_ns
        if now_ns < self._next_ns:
            return None
        self._next_ns = now_ns + STEP_NS
        self._sequence += 1
        due = (now_ns + STEP_NS * np.arange(1, CHUNK + 1)) * 1e-9
        wave = self._amplitude * np.sin(2.0 * math.pi * _HZ * due)
        return Chunk(
            self._sequence, now_ns, STEP_NS, frozen(np.clip(self._home + wave[:, None], self._low, self._high))
        )


def measure(seconds: float = 20.0) -> dict[str, object]:
    """By motion: processor time of deciding [µs], and that of each check, also as a share of it."""
    return {name: apart(_measure, amplitude, seconds / len(MOTIONS)) for name, amplitude in MOTIONS.items()}


def _measure(amplitude: float, seconds: float) -> dict[str, object]:
    robot = virtual_robot({"control.rate_hz": str(RATE_HZ)})
    whole, watched = Run(robot, amplitude), Run(robot, amplitude)
    without = {
        check: Run(robot.model_copy(update={check: None}), amplitude) for check in _CHECKS if getattr(robot, check)
    }
    ladder, envelope = Timed(deciding, "step"), Timed(Envelope, "follow")
    until_s = time.monotonic() + seconds
    while time.monotonic() < until_s:
        for run in (whole, *without.values()):
            run.second()
        with ladder.watched(), envelope.watched():  # in a run of its own: timing takes time, too
            watched.second()
    decide_us = _mean_us(whole.spent_ns)
    cost = {
        "ladder": _mean_us(ladder.spent_ns),
        "envelope_and_its_checks": _mean_us(envelope.spent_ns),
        **{check: decide_us - _mean_us(run.spent_ns) for check, run in without.items()},
    }
    return {
        "ticks": len(whole.spent_ns),
        "decide_us": {"mean": decide_us, **percentiles(np.array(whole.spent_ns) * 1e-3)},
        "cost_us": cost,
        "share_of_decide": {check: spent_us / decide_us for check, spent_us in cost.items()},
    }


def _mean_us(spent_ns: Sequence[int]) -> float:
    """Without those that something else took the time of: an interrupt, another guest of the machine."""
    spent = np.array(spent_ns)
    return float(spent[spent < _UNDISTURBED_NS].mean()) * 1e-3


if __name__ == "__main__":
    print(json.dumps(measure(float(sys.argv[1]) if len(sys.argv) > 1 else 20.0), indent=2))

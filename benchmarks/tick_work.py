"""What one tick costs without the wire: parse the answers, decide, encode the goals, fill the record. Six joints.

The real loop drives the virtual arm over its pseudo-terminal; each phase is measured in processor time of the loop's
thread, so that waiting for servos (and for the scheduler) does not count but every system call does. What the loop does
between two ticks (its rehearsal) is no part of a tick and shown by itself.
"""

from __future__ import annotations

import json
import sys
import time
from dataclasses import dataclass
from typing import cast

import numpy as np

from benchmarks.rig import SinePolicy, apart, percentiles, virtual_robot
from controller.clock import MonotonicClock
from controller.decide import Command, Decide, Inputs, State
from controller.loop import ControlLoop
from controller.realtime import enter_realtime
from drivers.arm import Applied, Arm, Reading
from drivers.dynamixel.arm import DynamixelArm
from drivers.virtual import VirtualRobot
from episodes.records import Mode, TickRecord
from spec.arrays import Float
from spec.robot import Realtime, Robot

PHASES = ("read", "decide", "write", "rest", "between")
"""``rest`` is the loop's own: waking, filling and publishing the record, asking the inbox."""
_READ, _DECIDE, _WRITE, _REST, _BETWEEN = range(len(PHASES))


class Stopwatch:
    """Processor time of this thread, cut into phases; one row a tick while the policy drives."""

    def __init__(self, most: int) -> None:
        self._rows = np.zeros((most, len(PHASES)))
        self._count = 0
        self._current = [0] * len(PHASES)
        self._last_ns = time.thread_time_ns()

    def lap(self, phase: int) -> None:
        """The time since the last call belongs to ``phase``."""
        now = time.thread_time_ns()
        self._current[phase] += now - self._last_ns
        self._last_ns = now

    def between(self) -> None:
        """All since the last record belongs to no tick."""
        self.lap(_BETWEEN)
        self._current[_BETWEEN] += sum(self._current[:_BETWEEN])
        self._current[:_BETWEEN] = [0] * _BETWEEN

    def __call__(self, record: TickRecord) -> None:
        """Called with the tick's record: ends the tick."""
        self.lap(_REST)
        if record.mode == Mode.POLICY and self._count < len(self._rows):
            self._rows[self._count] = self._current
            self._count += 1
        self._current = [0] * len(PHASES)

    def microseconds(self) -> Float:
        """Shape (ticks, phases) [µs]."""
        return np.asarray(self._rows[: self._count] / 1000.0)


@dataclass(slots=True)
class TimedArm:
    """An arm whose reads and writes are put on a stopwatch."""

    arm: DynamixelArm
    watch: Stopwatch

    def read(self, deadline_ns: int) -> Reading:
        self.watch.lap(_REST)
        reading = self.arm.read(deadline_ns)
        self.watch.lap(_READ)
        return reading

    def write(self, position: Float, deadline_ns: int) -> Applied:
        self.watch.lap(_REST)
        applied = self.arm.write(position, deadline_ns)
        self.watch.lap(_WRITE)
        return applied

    def hold(self) -> None:
        self.arm.hold()

    def close(self) -> None:
        self.arm.close()


class TimedDecide(Decide):
    """The decision on a stopwatch."""

    __slots__ = ("watch",)
    watch: Stopwatch

    def __call__(self, state: State, inputs: Inputs, now_ns: int) -> tuple[State, Command]:
        self.watch.lap(_REST)
        decided = super().__call__(state, inputs, now_ns)
        self.watch.lap(_DECIDE)
        return decided


class TimedClock(MonotonicClock):
    """A clock that tells the stopwatch of every sleep: up to the last one before a tick the loop was between ticks."""

    __slots__ = ("watch",)
    watch: Stopwatch

    def sleep_until_ns(self, deadline_ns: int) -> None:
        self.watch.between()
        super().sleep_until_ns(deadline_ns)


def measure(seconds: float = 20.0) -> dict[str, object]:
    """Processor time [µs] of a whole tick and of each phase, for temporal ensembling and for the latest chunk."""
    modes = ("ensemble", "latest")
    return {mode: _measure(mode, seconds / len(modes)) for mode in modes}


def _measure(mode: str, seconds: float) -> dict[str, object]:
    with VirtualRobot(virtual_robot({"control.mode": mode})) as virtual:
        times = apart(_drive, virtual.robot, seconds)
    result: dict[str, object] = {"ticks": len(times), "tick_us": percentiles(times[:, :_BETWEEN].sum(axis=1))}
    for index, phase in enumerate(PHASES):
        result[f"{phase}_us"] = percentiles(times[:, index])
    return result


def _drive(robot: Robot, seconds: float) -> Float:
    watch = Stopwatch(round(seconds * robot.control.rate_hz))
    decide = cast(TimedDecide, TimedDecide.of(robot))
    clock = TimedClock()
    decide.watch = clock.watch = watch
    with DynamixelArm(robot.follower, rate_hz=robot.control.rate_hz) as arm:
        enter_realtime(Realtime.TRY, robot.control.priority, robot.control.cpu)
        timed = cast(Arm, TimedArm(arm, watch))
        loop = ControlLoop(timed, decide, clock, robot.control.rate_hz, SinePolicy(robot), watch)
        loop.run(round((seconds + 3.0) * robot.control.rate_hz))
    return watch.microseconds()


if __name__ == "__main__":
    print(json.dumps(measure(float(sys.argv[1]) if len(sys.argv) > 1 else 20.0), indent=2))

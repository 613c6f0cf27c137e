"""What one tick costs without the wire: parse the answers, decide, encode the goals, fill the record. Six joints.

The real loop drives the virtual arm over its pseudo-terminal; each phase is measured in processor time of the loop's
thread, so that waiting for servos (and for the scheduler) does not count but every system call does. What the loop does
between two ticks (its rehearsal) is no part of a tick and shown by itself.
"""

from __future__ import annotations

import json
import math
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
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
from spec.teleop import Button, TeleopSample

PHASES = ("read", "rehearse", "decide", "write", "rest", "between")
"""``rehearse`` is done while the servos answer; ``rest`` is the loop's own: waking, filling and publishing the record,
asking the inbox."""
_READ, _REHEARSE, _DECIDE, _WRITE, _REST, _BETWEEN = range(len(PHASES))


class Stopwatch:
    """Processor time of this thread, cut into phases; one row a tick in the mode that counts."""

    def __init__(self, most: int, counts: Mode) -> None:
        self._counts = counts
        self._rows = np.zeros((most, len(PHASES)))
        self._count = 0
        self._current = [0] * len(PHASES)
        self._last_ns = time.thread_time_ns()
        self._rehearses = False

    def rehearse(self, meanwhile: Callable[[], None]) -> None:
        """What is done while the servos answer, whatever it is made of."""
        self.lap(_READ)
        self._rehearses = True
        meanwhile()
        self._rehearses = False
        self.lap(_REHEARSE)

    def lap(self, phase: int) -> None:
        """The time since the last call belongs to ``phase``."""
        if self._rehearses:
            return
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
        if record.mode == self._counts and self._count < len(self._rows):
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

    def read(self, deadline_ns: int, meanwhile: Callable[[], None] | None = None) -> Reading:
        self.watch.lap(_REST)
        reading = self.arm.read(deadline_ns, meanwhile and partial(self.watch.rehearse, meanwhile))
        self.watch.lap(_READ)
        return reading

    def write(self, position: Float, deadline_ns: int) -> Applied:
        self.watch.lap(_REST)
        applied = self.arm.write(position, deadline_ns)
        self.watch.lap(_WRITE)
        return applied

    @property
    def joints(self) -> tuple[str, ...]:
        return self.arm.joints

    def alarms(self, deadline_ns: int) -> tuple[str, ...]:
        return self.arm.alarms(deadline_ns)

    def recover(self, *, restart: bool) -> tuple[str, ...]:
        return self.arm.recover(restart=restart)

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


class Hand(SinePolicy):
    """The same policy, from which a person takes the arm as soon as it drives; the device is heard every other tick.
    Where the hand goes is of no account: that the tick has to work it out is."""

    def __init__(self, robot: Robot) -> None:
        super().__init__(robot)
        self._where, self._still = tuple(robot.limits().home.tolist()), (0.0,) * len(robot.follower.names)
        self._mirrored = (math.nan,) * len(self._still)
        self._sample = 0

    def human(self) -> TeleopSample | None:
        self._sample += 1
        if self._sample % 2:
            return None
        press = Button.TAKE if self._sample % 100 < 50 else Button.NONE
        now_ns = time.monotonic_ns()
        return TeleopSample(self._sample, now_ns, self._where, self._still, self._still, self._mirrored, int(press))


def measure(seconds: float = 20.0) -> dict[str, object]:
    """Processor time [µs] of a whole tick and of each phase, for temporal ensembling, for the latest chunk, and while a
    person drives (and the ensemble's wish is worked out for the record)."""
    shares = seconds / 3
    return {
        "ensemble": _measure("ensemble", shares, Mode.POLICY),
        "latest": _measure("latest", shares, Mode.POLICY),
        "human": _measure("ensemble", shares, Mode.HUMAN),
    }


def _measure(mode: str, seconds: float, counts: Mode) -> dict[str, object]:
    with VirtualRobot(virtual_robot({"control.mode": mode})) as virtual:
        times = apart(_drive, virtual.robot, seconds, counts)
    result: dict[str, object] = {"ticks": len(times), "tick_us": percentiles(times[:, :_BETWEEN].sum(axis=1))}
    for index, phase in enumerate(PHASES):
        result[f"{phase}_us"] = percentiles(times[:, index])
    return result


def _drive(robot: Robot, seconds: float, counts: Mode) -> Float:
    watch = Stopwatch(round(seconds * robot.control.rate_hz), counts)
    decide = cast(TimedDecide, TimedDecide.of(robot))
    clock = TimedClock()
    decide.watch = clock.watch = watch
    with DynamixelArm(robot.follower, rate_hz=robot.control.rate_hz) as arm:
        enter_realtime(Realtime.TRY, robot.control.priority, robot.control.cpu)
        timed = cast(Arm, TimedArm(arm, watch))
        inbox = Hand(robot) if counts is Mode.HUMAN else SinePolicy(robot)
        loop = ControlLoop(timed, decide, clock, robot.control.rate_hz, inbox, watch)
        loop.run(round((seconds + 3.0) * robot.control.rate_hz))
    return watch.microseconds()


if __name__ == "__main__":
    print(json.dumps(measure(float(sys.argv[1]) if len(sys.argv) > 1 else 20.0), indent=2))

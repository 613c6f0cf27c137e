"""What it brings to decide once for nothing while the servos answer: from their answer to the goals on their way.

The real loop drives the virtual arm over its pseudo-terminal, in blocks with and without it, in turns.

python -m benchmarks --only rehearsal
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable

import numpy as np

from benchmarks.rig import Ledger, SinePolicy, apart, percentiles, virtual_robot
from controller.clock import MonotonicClock
from controller.decide import Decide
from controller.loop import ControlLoop
from controller.realtime import enter_realtime
from drivers.arm import Reading
from drivers.dynamixel.arm import DynamixelArm
from drivers.virtual import VirtualRobot
from spec.arrays import Float
from spec.robot import Realtime, Robot

_BLOCK_S, _START_S = 5.0, 3.0


class IdleArm(DynamixelArm):
    """Does nothing while it waits."""

    def read(self, deadline_ns: int, _meanwhile: Callable[[], None] | None = None) -> Reading:
        return super().read(deadline_ns)


def measure(seconds: float = 20.0) -> dict[str, object]:
    """Time [µs] of reading, deciding, writing, and of deciding and writing together; and what is left of each."""
    kinds: dict[str, type[DynamixelArm]] = {"idle": IdleArm, "rehearsed": DynamixelArm}
    times: dict[str, list[Float]] = {kind: [] for kind in kinds}
    with VirtualRobot(virtual_robot({})) as virtual:
        for _ in range(max(1, round(seconds / 2 / _BLOCK_S))):
            for kind, made in kinds.items():
                times[kind].append(apart(_drive, virtual.robot, made))
    names = ("read", "decide", "write", "answer_to_goal", "tick")
    found = {kind: _phases(np.concatenate(blocks)) for kind, blocks in times.items()}
    figures = {kind: {f"{name}_us": percentiles(found[kind][name]) for name in names} for kind in kinds}
    ratio = {
        name: {
            key: value / figures["idle"][f"{name}_us"][key] for key, value in figures["rehearsed"][f"{name}_us"].items()
        }
        for name in names
    }
    return {**figures, "ratio": ratio}


def _phases(times: Float) -> dict[str, Float]:
    """From instants of waking, reading, deciding and writing [µs], shape (ticks, 4)."""
    read, decide, write = np.diff(times, axis=1).T
    return {
        "read": read,
        "decide": decide,
        "write": write,
        "answer_to_goal": decide + write,
        "tick": read + decide + write,
    }


def _drive(robot: Robot, kind: type[DynamixelArm]) -> Float:
    rate_hz = robot.control.rate_hz
    ledger = Ledger(round(_BLOCK_S * rate_hz))
    with kind(robot.follower, rate_hz=rate_hz) as arm:
        enter_realtime(Realtime.TRY, robot.control.priority, robot.control.cpu)
        loop = ControlLoop(arm, Decide.of(robot), MonotonicClock(), rate_hz, SinePolicy(robot), ledger)
        loop.run(round((_BLOCK_S + _START_S) * rate_hz))
    columns = [ledger.column(name) * 1e-3 for name in ("woke_ns", "read_ns", "decided_ns", "written_ns")]
    return np.stack(columns, axis=1)


if __name__ == "__main__":
    print(json.dumps(measure(float(sys.argv[1]) if len(sys.argv) > 1 else 20.0), indent=2))

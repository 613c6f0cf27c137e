"""The real control process with an arm that is not there: it answers after the time a bus of 4 Mbit/s would take.

A virtual arm of real bytes would need a core of its own, and that is the one being measured.
"""

from __future__ import annotations

import sys
import time
from dataclasses import dataclass
from pathlib import Path

import controller.workers.control_process as real
from benchmarks.wakeup import EchoArm
from controller.wiring.child import read_resolved, run_child
from drivers.arm import Applied, Reading
from spec.arrays import Float
from spec.robot import Arm

READ_S, WRITE_S = 450e-6, 60e-6
"""Sync read of six servos at 4 Mbit/s without return delay, and handing a sync write to the driver [s]."""


@dataclass(frozen=True)
class _NoStatistics:
    silent: int = 0
    corrupt: int = 0
    stale: int = 0


class StandInArm(EchoArm):
    """Stands where it was last told to, and takes its time to say so. The wait gives the core away, as poll() does."""

    fast_sync_read = False
    statistics = _NoStatistics()

    def read(self, deadline_ns: int) -> Reading:
        time.sleep(READ_S)
        return super().read(deadline_ns)

    def write(self, position: Float, deadline_ns: int) -> Applied:
        time.sleep(WRITE_S)
        return super().write(position, deadline_ns)


def main() -> int:
    """Entry of the process."""
    robot = read_resolved(Path(sys.argv[sys.argv.index("--robot") + 1]))

    def stand_in(_arm: Arm, rate_hz: float) -> StandInArm:
        assert rate_hz == robot.control.rate_hz
        return StandInArm(robot)

    vars(real)["DynamixelArm"] = stand_in
    return run_child("control", real.work)


if __name__ == "__main__":
    sys.exit(main())

"""The real control process with an arm that is not there: it answers after the time a bus of 4 Mbit/s would take.

A virtual arm of real bytes would need a core of its own, and that is the one being measured.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable

from benchmarks.stand_ins.echo_arm import EchoArm
from controller.wiring.child import Child, run_child
from controller.workers.control_process import work
from drivers.arm import Applied, Reading
from spec.arrays import Float
from spec.robot import Arm

READ_S, WRITE_S = 450e-6, 60e-6
"""Sync read of six servos at 4 Mbit/s without return delay, and handing a sync write to the driver [s]."""


class StandInArm(EchoArm):
    """Stands where it was last told to, and takes its time to say so. The wait gives the core away, as poll() does."""

    def read(self, deadline_ns: int, meanwhile: Callable[[], None] | None = None) -> Reading:
        answered_s = time.monotonic() + READ_S
        if meanwhile is not None:
            meanwhile()
        time.sleep(max(0.0, answered_s - time.monotonic()))
        return super().read(deadline_ns)

    def write(self, position: Float, deadline_ns: int) -> Applied:
        time.sleep(WRITE_S)
        return super().write(position, deadline_ns)


def _work(child: Child) -> None:
    robot = child.assignment.robot

    def connect(_arm: Arm, rate_hz: float) -> StandInArm:
        assert rate_hz == robot.control.rate_hz
        return StandInArm(robot)

    work(child, connect)


def main() -> int:
    """Entry of the process."""
    return run_child("control", _work)


if __name__ == "__main__":
    sys.exit(main())

"""``python -m controller.workers.teleop_process``: what a person moves the arm with, read at its own rate.

A process of its own, so that nothing on the leader's bus can ever hold up a tick of the control loop. It sees the
newest tick and says what the person wants; whether that counts is decided in the tick.
"""

from __future__ import annotations

import contextlib
import gc
import os
import sys
import time

import numpy as np

from controller.clock import Clock, MonotonicClock, TickGrid
from controller.wiring.child import Child, run_child
from controller.wiring.ipc import Publisher, Subscriber
from controller.wiring.placement import stay_off_control_core
from controller.wiring.topics import TELEOP, TICKS
from drivers.teleop import Follow, teleop_device
from drivers.teleop import Teleop as Device
from episodes.records import Driver, TeleopRecord, TickRecord
from spec.robot import Control, Realtime, Teleop
from spec.teleop import TeleopSample

PRIORITY = 20
"""SCHED_FIFO priority asked for, far below the control loop's."""
_SHARE = 0.8
"""Of a period, for the exchange with the device; the rest is for waking up and publishing."""


def be_prompt(control: Control) -> None:
    """Ask to go before everything that is not in a hurry: a leader arm that is not spoken to for 100 ms stops."""
    priority = min(PRIORITY, control.priority - 1)
    if control.realtime is not Realtime.OFF and priority >= 1:
        with contextlib.suppress(PermissionError):  # without it samples come late when the machine is busy
            os.sched_setscheduler(0, os.SCHED_FIFO, os.sched_param(priority))


class Following:
    """The newest tick as the device wants it; the last one where none came."""

    def __init__(self, ticks: Subscriber[TickRecord], joints: int) -> None:
        self._ticks, self._joints = ticks, joints
        self._newest: Follow | None = None

    def newest(self) -> Follow | None:
        record = None
        while (later := self._ticks.receive()) is not None:
            record = later
        if record is not None:
            n = self._joints
            self._newest = Follow(
                now_ns=record.now_ns,
                position=np.array(record.limited[:n]),
                velocity=np.array(record.limited_velocity[:n]),
                human=record.driver == Driver.HUMAN,
            )
        return self._newest


def fill(record: TeleopRecord, sample: TeleopSample) -> None:
    """Write one sample into the record that is published."""
    joints = len(sample.position)
    record.sequence, record.read_ns = sample.sequence, sample.read_ns
    record.joints, record.buttons = joints, sample.buttons
    record.position[:joints], record.velocity[:joints] = sample.position, sample.velocity
    record.effort[:joints], record.goal[:joints] = sample.effort, sample.goal


class Cycles:
    """Reads the device on an absolute grid and publishes what it says. Counts for the report."""

    def __init__(self, child: Child, device: Device, following: Following, samples: Publisher) -> None:
        self._child, self._device, self._following, self._samples = child, device, following, samples
        self._record = TeleopRecord()
        self._trouble = ""
        self.published = self.skipped = self.losses = 0

    def run(self, rate_hz: float, clock: Clock) -> None:
        """Until the process is told to stop."""
        grid = TickGrid.at(rate_hz, clock.now_ns())
        share_ns = round(_SHARE * 1e9 / rate_hz)
        planned = 0
        while not self._child.stopping:
            clock.sleep_until_ns(grid.instant_ns(planned))
            wake = grid.wake(planned, clock.now_ns())
            self._once(wake.instant_ns + share_ns)
            self._child.commands()  # the end of standard input ends us
            # Dropping what a person holds in mid-air helps nobody: they see the arm, can stop it, and can let it go.
            self._child.left_alone("whoever has the arm keeps it")
            self.skipped += wake.skipped
            planned = wake.tick + 1

    def _once(self, deadline_ns: int) -> None:
        sample = self._device.exchange(self._following.newest(), deadline_ns)
        fill(self._record, sample)
        self.published += self._samples.send(self._record)
        for key in self._device.pressed():
            self._child.say("key", key=key)
        if self._device.trouble != self._trouble:
            self._tell(self._device.trouble)

    def _tell(self, trouble: str) -> None:
        """Losing a device and getting it back goes on record; a reason that only changes does not."""
        if not (self._trouble and trouble):
            self._child.event(time.monotonic_ns(), "teleop_lost" if trouble else "teleop_back", trouble or "it answers")
            self.losses += bool(trouble)
        self._trouble = trouble


def work(child: Child) -> None:
    """Until told to stop."""
    robot = child.assignment.robot
    stay_off_control_core(robot.control)
    be_prompt(robot.control)
    settings, device = robot.teleop or Teleop(), teleop_device(robot)
    following = Following(child.node.subscriber(TICKS, TickRecord, depth=1), len(robot.follower.joints))
    with device:
        cycles = Cycles(child, device, following, child.node.publisher(TELEOP))
        gc.collect()
        gc.freeze()
        child.say("ready", pid=os.getpid())
        cycles.run(settings.rate_hz, MonotonicClock())
    child.say("report", samples=cycles.published, skipped=cycles.skipped, losses=cycles.losses)


def main() -> int:
    """Entry of the process."""
    return run_child("teleop", work)


if __name__ == "__main__":
    sys.exit(main())

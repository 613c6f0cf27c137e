"""A leader arm mirroring a motion with nobody at it, written down: what its residuals are when nothing is wrong."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from calibration.wander import Wander
from drivers.teleop import Follow, LeaderArm
from spec.arrays import Float
from spec.errors import DeviceError
from spec.robot import Robot

WARM_UP_S = 1.5
"""After reaching the start pose, before anything counts."""
_LOST_S = 1.0
_CATCH_UP_S = 20.0
_APART = 0.15
"""The leader mirrors once every joint is told to be this near the motion [rad]."""


@dataclass(frozen=True, slots=True, eq=False)
class Recording:
    """Samples of a mirroring leader; arrays have shape (samples, joints)."""

    joints: tuple[str, ...]
    seconds: float
    """For how long it mirrored [s]."""
    read_s: Float
    """Instants [s], shape (samples,)."""
    goal: Float
    """What it was told before it was read [rad]."""
    position: Float
    """[rad]"""
    velocity: Float
    """[rad/s]"""
    current: Float
    """[A]"""


class Mirroring:
    """Keeps a leader arm mirroring, sample by sample, until told to stop.

    Args:
        robot: its ``leader``, ``teleop`` and ``control`` count.
        leader: opened.
    """

    def __init__(self, robot: Robot, leader: LeaderArm, seed: int) -> None:
        assert robot.teleop is not None  # noqa: S101  the caller has refused robots without
        self._leader = leader
        self._period_ns, self._tick_ns = round(1e9 / robot.teleop.rate_hz), robot.control.period_ns
        start = np.array(list(leader.arm.where().values()))
        self._wander = Wander(robot, start, seed)
        self._began_ns = self._due_ns = self._heard_ns = time.monotonic_ns()
        self._rows: list[tuple[float, tuple[Float, ...]]] = []
        self._last_ns = 0

    def run(self, seconds: float, tell: Callable[[float], None]) -> Recording:
        """Mirror a wandering motion; what the warm-up brought is dropped.

        Args:
            tell: called now and then with the share that is done.

        Raises:
            DeviceError: the leader was lost, or does not come to mirror.
        """
        self._catch_up()
        first, began = len(self._rows), time.monotonic()
        while (passed := time.monotonic() - began) < seconds:
            self.step()
            tell(passed / seconds)
        return self.recording(first)

    def recording(self, first: int = 0) -> Recording:
        """What was seen since sample ``first``."""
        rows = self._rows[first:]
        times = np.array([row[0] for row in rows])
        goal, position, velocity, current = (np.array([row[1][k] for row in rows]) for k in range(4))
        seconds = float(times[-1] - times[0]) if len(rows) else 0.0
        return Recording(self._leader.joints, seconds, times, goal, position, velocity, current)

    @property
    def samples(self) -> int:
        return len(self._rows)

    def step(self) -> None:
        """One cycle of the device, as the teleoperation process runs it. Raises DeviceError when it is lost."""
        self._due_ns += self._period_ns
        wait_ns = self._due_ns - time.monotonic_ns()
        if wait_ns > 0:
            time.sleep(wait_ns * 1e-9)
        else:  # keep phase, skip what is past
            self._due_ns += -wait_ns // self._period_ns * self._period_ns
        now = time.monotonic_ns()
        tick_ns = now - (now - self._began_ns) % self._tick_ns
        position, velocity = self._wander.at((tick_ns - self._began_ns) * 1e-9)
        sample = self._leader.exchange(Follow(tick_ns, position, velocity, human=False), now + self._period_ns)
        if sample.read_ns > self._last_ns:
            self._last_ns = self._heard_ns = sample.read_ns
            if np.isfinite(sample.goal).all():
                row = tuple(np.array(x) for x in (sample.goal, sample.position, sample.velocity, sample.effort))
                self._rows.append((sample.read_ns * 1e-9, row))
        elif now - self._heard_ns > _LOST_S * 1e9:
            raise DeviceError(self._leader.trouble or "leader: silent")

    def wait(self, seconds: float) -> None:
        """Go on for so long."""
        until = self._now_s() + seconds
        while self._now_s() < until:
            self.step()

    def rest(self) -> None:
        """Bring the leader gently to the start pose; it goes on mirroring that."""
        end = self._wander.home(self._now_s())
        self.wait(end + WARM_UP_S - self._now_s())

    def _catch_up(self) -> None:
        """Until the leader is where the motion is, and has been for a moment."""
        met_s = self._now_s()
        while self._now_s() < max(met_s, self._wander.begins_s) + WARM_UP_S:
            self.step()
            target, _ = self._wander.at(self._now_s())
            if not self._rows or float(np.abs(self._rows[-1][1][0] - target).max()) > _APART:
                met_s = self._now_s()
            if self._now_s() > self._wander.begins_s + _CATCH_UP_S:
                raise DeviceError(self._leader.trouble or "leader: does not come to mirror the arm")

    def _now_s(self) -> float:
        return (time.monotonic_ns() - self._began_ns) * 1e-9

"""A recorded motion as action chunks: where the arm is to be at each instant, pauses and interruptions included. Pure.

Whatever holds for a policy holds for it: limits, authority and takeover know nothing of where a chunk came from. It
leads in slowly from wherever the arm stands, again after every interruption, and then follows the motion at its own
pace. The pace only ever changes gradually, so that a pause is a standstill and not a jerk.
"""

from __future__ import annotations

import io
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple
from zipfile import BadZipFile

import numpy as np

from episodes.records import Driver
from spec.arrays import Float, Int
from spec.errors import SpecError
from spec.files import write_atomically
from spec.robot import Limits

STEP_S = 0.025
"""Between two chunks, and between two actions of one [s]: short enough that the curve through the actions is the
recorded one to a fraction of an encoder tick."""
LENGTH = 40
"""Actions in a chunk: a second."""
RAMP_NS = 400_000_000
"""The pace changes over this time."""
SLOW = 0.2
"""Share of velocity and acceleration limits that leading in may use."""
SETTLE_NS = 300_000_000
"""From the end of the motion until it counts as played."""

PACE, FINISHED = "pace", "finished"
"""Kinds of the events that tell of it in an episode."""

_STEP_NS = round(STEP_S * 1e9)
# Peaks of the quintic between two standstills, for a way and a time of one.
_PEAK_VELOCITY, _PEAK_ACCELERATION = 1.875, 5.774


@dataclass(frozen=True, slots=True, eq=False)
class Motion:
    """A motion to play."""

    seconds: Float
    """Rising from 0 [s], shape (n,)."""
    position: Float
    """Joint targets [rad], shape (n, joints)."""
    speed: float
    """1 is as fast as it was recorded."""

    @property
    def length_s(self) -> float:
        """In time of the recording."""
        return float(self.seconds[-1])

    def at(self, seconds: Float) -> Float:
        """Joint targets [rad], shape (m, joints), linear between those recorded; beyond the ends it stands."""
        columns = [np.interp(seconds, self.seconds, column) for column in self.position.T]
        return np.stack(columns, axis=1)


def write_motion(motion: Motion, path: Path) -> Path:
    """Write it for the playback process."""
    content = io.BytesIO()
    np.savez(content, seconds=motion.seconds, position=motion.position, speed=np.array(motion.speed))
    write_atomically(path, content.getvalue())
    return path


def read_motion(path: Path) -> Motion:
    """Raises SpecError for a file that holds no motion."""
    try:
        with np.load(io.BytesIO(path.read_bytes()), allow_pickle=False) as content:
            return Motion(content["seconds"], content["position"], float(content["speed"]))
    except (OSError, ValueError, KeyError, EOFError, BadZipFile) as error:
        raise SpecError(str(path), " ".join(str(error).split()), "holds no motion") from None


class Pace(NamedTuple):
    """How the time of the recording passes from an instant on."""

    at_ns: int
    """CLOCK_MONOTONIC [ns]."""
    at_s: float
    """Time of the recording then [s]."""
    rate: float
    """Seconds of recording a second, then."""
    to: float
    """Likewise, once the change is over."""
    over_ns: int
    """Length of the change; 0: at once."""

    def seconds(self, now_ns: Float | Int) -> Float:
        """Time of the recording at instants not before ``at_ns`` [s]; the rate follows 3u² − 2u³."""
        passed = (now_ns - self.at_ns).astype(np.float64)
        change = (self.to - self.rate) * 1e-9
        if not self.over_ns:
            return np.asarray(self.at_s + self.to * 1e-9 * passed)
        u = np.clip(passed / self.over_ns, 0.0, 1.0)
        changing = self.rate * 1e-9 * passed + change * self.over_ns * (u**3 - 0.5 * u**4)
        return np.asarray(self.at_s + changing + change * np.maximum(passed - self.over_ns, 0.0))

    def rate_at(self, now_ns: int) -> float:
        """Seconds of recording a second."""
        if not self.over_ns:
            return self.to
        u = min(1.0, max(0.0, (now_ns - self.at_ns) / self.over_ns))
        return self.rate + (self.to - self.rate) * (3.0 * u * u - 2.0 * u**3)


class _Lead(NamedTuple):
    """The slow way from where the arm stands to where the motion is."""

    begin_ns: int
    end_ns: int
    begin: Float
    """[rad], shape (joints,)."""
    way: Float
    """[rad], shape (joints,)."""

    def at(self, now_ns: Float) -> Float:
        """Shape (m, joints)."""
        u = np.clip((now_ns - self.begin_ns) / max(1, self.end_ns - self.begin_ns), 0.0, 1.0)
        return np.asarray(self.begin + (u**3 * (10.0 + u * (6.0 * u - 15.0)))[:, None] * self.way)


class Playback:
    """Plays one motion once.

    Args:
        motion: that fits the limits at its speed.
        limits: of the arm.
    """

    def __init__(self, motion: Motion, limits: Limits) -> None:
        self._motion = motion
        self._velocity, self._acceleration = SLOW * limits.velocity, SLOW * limits.acceleration
        self._pace = Pace(0, 0.0, 0.0, 0.0, 0)
        self._reach_ns = 0
        self._lead: _Lead | None = None
        self._joined = False
        self._ended_ns: int | None = None
        self.standing = False
        """A person wants it to pause."""
        self.paces: list[Pace] = []
        """Changes since somebody last took them away."""

    @property
    def finished(self) -> bool:
        """The motion was played to its end, and the arm had time to arrive."""
        return self._ended_ns is not None

    def step(self, now_ns: int, driver: Driver, commanded: Float) -> Float:
        """The chunk to publish.

        Args:
            now_ns: instant of the newest tick.
            driver: whose wish the arm followed at it.
            commanded: joint targets at it [rad], shape (joints,).

        Returns:
            Joint targets [rad], shape (LENGTH, joints), the first due one step after ``now_ns``.
        """
        if driver is not Driver.POLICY:
            # The arm does something else, or stands: from there it is led in again.
            self._joined = False
            self._change(now_ns, 0.0, 0)
            goal = self._motion.at(self._pace.seconds(np.array([now_ns], dtype=np.int64)))[0]
            self._lead = self._led(now_ns, commanded, goal)
        else:
            self._joined = True
            if self._lead is not None and now_ns >= self._lead.end_ns:
                self._lead = None
            wanted = 0.0 if self.standing or self._lead is not None else self._motion.speed
            self._change(now_ns, wanted, RAMP_NS)
        self._finish(now_ns)
        self._reach_ns = now_ns + LENGTH * _STEP_NS
        due = now_ns + _STEP_NS * np.arange(1, LENGTH + 1, dtype=np.float64)
        poses = self._motion.at(self._pace.seconds(due))
        if self._lead is not None:
            led = due < self._lead.end_ns
            poses[led] = self._lead.at(due[led])
        return poses

    def _change(self, now_ns: int, to: float, over_ns: int) -> None:
        pace = self._pace
        if pace.to == to and (over_ns or pace.rate_at(now_ns) == to):
            return
        # Time stood still from the end of the last chunk on, if no other came.
        at_s = float(pace.seconds(np.array([min(now_ns, self._reach_ns)], dtype=np.int64))[0])
        self._pace = Pace(now_ns, at_s, pace.rate_at(now_ns), to, over_ns)
        self.paces.append(self._pace)

    def _led(self, now_ns: int, begin: Float, goal: Float) -> _Lead:
        way = goal - begin
        fast = float((_PEAK_VELOCITY * np.abs(way) / self._velocity).max())
        strong = float(np.sqrt(_PEAK_ACCELERATION * np.abs(way) / self._acceleration).max())
        return _Lead(now_ns, now_ns + round(max(fast, strong) * 1e9), begin.copy(), way)

    def _finish(self, now_ns: int) -> None:
        through = float(self._pace.seconds(np.array([now_ns - SETTLE_NS], dtype=np.int64))[0]) >= self._motion.length_s
        if self._ended_ns is None and self._joined and self._lead is None and through:
            self._ended_ns = now_ns

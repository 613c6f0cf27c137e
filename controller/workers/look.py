"""One look at joints and pictures: what a policy step is made of, whichever policies are asked about it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from episodes.records import FrameHeader, Mode, TickRecord
from episodes.windows import RESTING
from spec.arrays import Bytes, Float
from spec.observation import decode_jpeg
from spec.robot import Robot


@dataclass(frozen=True, slots=True)
class Refusal:
    """Why a policy step gave no chunk."""

    kind: str
    text: str


@dataclass(frozen=True, slots=True, eq=False)
class Picture:
    """A camera's picture as it came."""

    header: FrameHeader
    jpeg: bytes


@dataclass(frozen=True, slots=True, eq=False)
class Look:
    """What was seen at one policy step."""

    tick: int
    observed_ns: int
    """Instant of the joint reading, CLOCK_MONOTONIC [ns]."""
    segment: int
    """Histories stay within one segment; see :mod:`episodes.windows`."""
    position: Float
    """[rad], shape (joints,)."""
    velocity: Float
    """[rad/s], shape (joints,)."""
    reference: Float
    """The joint target that stood then [rad], shape (joints,)."""
    pictures: dict[str, Picture]
    """By camera."""
    images: dict[str, Bytes] = field(default_factory=dict)
    """The same decoded, for as long as several policies are asked; may be emptied at any time."""

    def image(self, camera: str) -> Bytes:
        """RGB, shape (height, width, 3). Raises ValueError for a picture that is none."""
        if camera not in self.images:
            self.images[camera] = decode_jpeg(self.pictures[camera].jpeg)
        return self.images[camera]


class Eyes:
    """Takes in what comes from the arm and the cameras.

    Args:
        robot: for staleness bounds and joint order.
        cameras: that are looked at.
    """

    def __init__(self, robot: Robot, cameras: Sequence[str]) -> None:
        self._names = robot.follower.names
        self._cameras = tuple(cameras)
        self._stale_ns = robot.control.stale_ticks * robot.control.period_ns
        self._camera_stale_ns = {name: robot.cameras[name].stale_ns for name in cameras}
        self._tick: TickRecord | None = None
        self._fresh_ns = [0] * len(self._names)
        self._pictures: dict[str, Picture] = {}
        self._segment = 0
        self._observed_ns = 0

    def see_ticks(self, ticks: Sequence[TickRecord]) -> None:
        """Take in the control loop's records, all of them, oldest first."""
        for tick in ticks:
            self._segment += Mode(tick.mode) in RESTING
            for joint in range(len(self._names)):
                if tick.fresh[joint]:
                    self._fresh_ns[joint] = tick.now_ns
        if ticks:
            self._tick = ticks[-1]

    def see_frame(self, camera: str, header: FrameHeader, jpeg: bytes) -> None:
        """Take in a camera's newest picture."""
        self._pictures[camera] = Picture(header, jpeg)

    def look(self, now_ns: int) -> Look | Refusal:
        """What there is to see at CLOCK_MONOTONIC ``now_ns``, every picture decoded."""
        tick = self._tick
        if (refusal := self._blind(tick, now_ns)) is not None:
            return refusal
        assert tick is not None  # noqa: S101 (_blind has refused it)
        joints = len(self._names)
        position = np.array(tick.position[:joints])
        seen = Look(
            tick.tick,
            tick.now_ns,
            self._segment,
            position,
            np.array(tick.velocity[:joints]),
            _reference(tick, position),
            {name: self._pictures[name] for name in self._cameras},
        )
        try:
            for name in self._cameras:
                seen.image(name)
        except ValueError as error:
            return Refusal("camera", str(error))
        return seen

    def used(self, look: Look) -> None:
        """A chunk was made of it: the next look must be newer."""
        self._observed_ns = look.observed_ns

    def _blind(self, tick: TickRecord | None, now_ns: int) -> Refusal | None:
        """Why there is nothing sound to look at, if so."""
        if tick is None:
            return Refusal("joints", "no reading yet")
        if tick.now_ns <= self._observed_ns:
            return Refusal("joints", "no new reading since the last step")
        for joint, name in enumerate(self._names):
            if (age := now_ns - self._fresh_ns[joint]) > self._stale_ns:
                return Refusal("joints", f"{name}: last read {age * 1e-6:.0f} ms ago")
        for name, limit in self._camera_stale_ns.items():
            picture = self._pictures.get(name)
            if picture is None:
                return Refusal("camera", f"{name}: no picture yet")
            if (age := now_ns - picture.header.captured_ns) > limit:
                return Refusal("camera", f"{name}: picture is {age * 1e-6:.0f} ms old (at most {limit * 1e-6:.0f})")
        return None


def _reference(tick: TickRecord, position: Float) -> Float:
    """The joint target that stood at the instant of observation [rad]; where none was sent, the arm's own position."""
    sent = np.array(tick.sent[: len(position)])
    return sent if np.isfinite(sent).all() else position

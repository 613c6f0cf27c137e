"""From joints and pictures to a chunk: what the inference process does at every policy step, without its plumbing."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from controller.workers.history import History, Seen
from controller.workers.policy import Policy
from episodes.records import MAX_CAMERAS, MAX_CHUNK, ChunkRecord, FrameHeader, Mode, TickRecord
from episodes.windows import RESTING
from spec.action import decode
from spec.arrays import Bytes, Float
from spec.errors import MisfitError
from spec.observation import decode_jpeg, policy_image, policy_state
from spec.robot import Robot


@dataclass(frozen=True, slots=True)
class Refusal:
    """Why a policy step gave no chunk."""

    kind: str
    text: str


@dataclass(frozen=True, slots=True, eq=False)
class _Picture:
    header: FrameHeader
    jpeg: bytes


class Inference:
    """One policy beside one arm.

    Args:
        robot: for staleness bounds and joint order.
        policy: warmed up.

    Raises:
        MisfitError: the policy's chunks or cameras exceed what a record can hold.
    """

    def __init__(self, robot: Robot, policy: Policy) -> None:
        self._policy = policy
        manifest = policy.manifest
        if manifest.action.chunk > MAX_CHUNK or len(manifest.observation.cameras) > MAX_CAMERAS:
            raise MisfitError(
                f"bundle {manifest.name}: {manifest.action.chunk} actions and {len(manifest.observation.cameras)} "
                f"cameras; at most {MAX_CHUNK} and {MAX_CAMERAS} are possible"
            )
        self._joints = len(manifest.joints)
        self._step_ns = round(manifest.action.step_s * 1e9)
        self._stale_ns = robot.control.stale_ticks * robot.control.period_ns
        self._camera_stale_ns = {
            name: round(robot.cameras[name].stale_after_ms * 1e6) for name in manifest.observation.cameras
        }
        self._history = History(
            manifest.observation.history, round(manifest.observation.step_s * 1e9), manifest.feature_dim
        )
        self._tick: TickRecord | None = None
        self._fresh_ns = [0] * self._joints
        self._pictures: dict[str, _Picture] = {}
        self._segment = 0
        self._sequence = 0
        self._observed_ns = 0

    def see_ticks(self, ticks: Sequence[TickRecord]) -> None:
        """Take in the control loop's records, all of them, oldest first."""
        for tick in ticks:
            self._segment += Mode(tick.mode) in RESTING
            for joint in range(self._joints):
                if tick.fresh[joint]:
                    self._fresh_ns[joint] = tick.now_ns
        if ticks:
            self._tick = ticks[-1]

    def see_frame(self, camera: str, header: FrameHeader, jpeg: bytes) -> None:
        """Take in a camera's newest picture."""
        self._pictures[camera] = _Picture(header, jpeg)

    def continue_from(self, sequence: int) -> None:
        """Number chunks from ``sequence`` on at the least: a restarted worker goes on where the dead one stopped."""
        self._sequence = max(self._sequence, sequence)

    def step(self, now_ns: int) -> ChunkRecord | Refusal:
        """One policy step at CLOCK_MONOTONIC ``now_ns``.

        A step that is refused leaves no trace in the history, so that a log of the chunks tells what was seen. A policy
        that says NaN is passed on as it is, for the control loop to refuse and in the end to latch a fault on; such
        a step leaves no trace in the history either.
        """
        tick = self._tick
        if (refusal := self._blind(tick, now_ns)) is not None:
            return refusal
        assert tick is not None  # noqa: S101 (_blind has refused it)
        started_ns = time.monotonic_ns()
        position = np.array(tick.position[: self._joints])
        velocity = np.array(tick.velocity[: self._joints])
        try:
            images = self._images()
        except ValueError as error:
            return Refusal("camera", str(error))
        observation, action = self._policy.manifest.observation, self._policy.manifest.action
        feature = self._policy.encode(policy_state(position, velocity, observation.state), images)
        targets = np.full((action.chunk, self._joints), np.nan)
        if np.isfinite(feature).all():
            self._history.add(Seen(tick.now_ns, self._segment, feature))
            actions = self._policy.decode(*self._history.window())
            targets = decode(action.space, actions, _reference(tick, position))
            if not np.isfinite(targets).all():
                self._history.forget_newest()
        self._observed_ns = tick.now_ns
        return self._record(tick, targets, started_ns)

    def _blind(self, tick: TickRecord | None, now_ns: int) -> Refusal | None:
        """Why there is nothing sound to look at, if so."""
        if tick is None:
            return Refusal("joints", "no reading yet")
        if tick.now_ns <= self._observed_ns:
            return Refusal("joints", "no new reading since the last step")
        for joint, name in enumerate(self._policy.manifest.joints):
            if (age := now_ns - self._fresh_ns[joint]) > self._stale_ns:
                return Refusal("joints", f"{name}: last read {age * 1e-6:.0f} ms ago")
        for name, limit in self._camera_stale_ns.items():
            picture = self._pictures.get(name)
            if picture is None:
                return Refusal("camera", f"{name}: no picture yet")
            if (age := now_ns - picture.header.captured_ns) > limit:
                return Refusal("camera", f"{name}: picture is {age * 1e-6:.0f} ms old (at most {limit * 1e-6:.0f})")
        return None

    def _images(self) -> dict[str, Bytes]:
        """The newest picture of each camera as the policy wants it. Raises ValueError for one that is none."""
        return {
            name: policy_image(decode_jpeg(self._pictures[name].jpeg), wanted)
            for name, wanted in self._policy.manifest.observation.cameras.items()
        }

    def _record(self, tick: TickRecord, targets: Float, started_ns: int) -> ChunkRecord:
        manifest = self._policy.manifest
        cameras = tuple(manifest.observation.cameras)
        record = ChunkRecord(
            sequence=self._sequence,
            observed_ns=tick.now_ns,
            step_ns=self._step_ns,
            started_ns=started_ns,
            length=len(targets),
            joints=self._joints,
            weights=manifest.weights,
            cameras=len(cameras),
            tick=tick.tick,
        )
        for index, name in enumerate(cameras):
            record.frames[index] = self._pictures[name].header.sequence
        record.targets[: targets.size] = targets.ravel().tolist()
        record.finished_ns = time.monotonic_ns()
        self._sequence += 1
        return record


def _reference(tick: TickRecord, position: Float) -> Float:
    """The joint target that stood at the instant of observation [rad]; where none was sent, the arm's own position."""
    sent = np.array(tick.sent[: len(position)])
    return sent if np.isfinite(sent).all() else position

"""From joints and pictures to a chunk: what the inference process does at every policy step, without its plumbing."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Sequence

import numpy as np

from controller.exploration import Exploration
from controller.workers.look import Eyes, Look, Refusal
from controller.workers.mind import Mind
from controller.workers.policy import Policy
from episodes.records import MAX_CAMERAS, MAX_CHUNK, ChunkRecord, FrameHeader, TickRecord
from spec.arrays import Float, Float32
from spec.errors import MisfitError
from spec.manifest import Manifest
from spec.robot import Robot

__all__ = ["Inference", "Refusal", "check_size"]


class Inference:
    """The policy that drives one arm, which may become another one between two steps.

    Args:
        robot: for staleness bounds and joint order.
        policy: warmed up.
        exploration: whichever policy drives explores so; None: every chunk is the mean one.

    Raises:
        MisfitError: the policy's chunks or cameras exceed what a record can hold.
    """

    def __init__(self, robot: Robot, policy: Policy, exploration: Exploration | None = None) -> None:
        check_size(policy.manifest)
        self.mind = Mind(policy)
        self._exploration = exploration
        self.eyes = Eyes(robot, tuple(policy.manifest.observation.cameras))
        self.newest: tuple[Look, Float] | None = None
        """The last look a chunk was made of, and that chunk's targets [rad], shape (chunk, joints)."""
        self._sequence = 0
        self._seen: deque[Look] = deque()
        self._reach_ns = _reach_ns(policy.manifest)

    @property
    def manifest(self) -> Manifest:
        """Of the policy that drives."""
        return self.mind.policy.manifest

    def see_ticks(self, ticks: Sequence[TickRecord]) -> None:
        """Take in the control loop's records, all of them, oldest first."""
        self.eyes.see_ticks(ticks)

    def see_frame(self, camera: str, header: FrameHeader, jpeg: bytes) -> None:
        """Take in a camera's newest picture."""
        self.eyes.see_frame(camera, header, jpeg)

    def continue_from(self, sequence: int) -> None:
        """Number chunks from ``sequence`` on at the least: a restarted worker goes on where the dead one stopped."""
        self._sequence = max(self._sequence, sequence)

    def step(self, now_ns: int) -> ChunkRecord | Refusal:
        """One policy step at CLOCK_MONOTONIC ``now_ns``.

        A step that is refused leaves no trace in the history, so that a log of the chunks tells what was seen. A policy
        that says NaN is passed on as it is, for the control loop to refuse and in the end to latch a fault on; such
        a step leaves no trace in the history either.
        """
        started_ns = time.monotonic_ns()
        look = self.eyes.look(now_ns)
        if isinstance(look, Refusal):
            return look
        targets = self.mind.think(look, self._noise())
        self.eyes.used(look)
        self._keep(look, targets)
        return self._record(look, targets, started_ns)

    def meant(self) -> tuple[Look, Float] | None:
        """As :attr:`newest`, but the mean chunk: policies are compared by it, explores what drives or not."""
        if self.newest is None or self._exploration is None or not np.isfinite(self.newest[1]).all():
            return self.newest
        look, _ = self.newest
        return look, self.mind.say(look)

    def change_to(self, mind: Mind) -> None:
        """Let another mind drive from the next step on."""
        self.mind = mind
        self._reach_ns = max(self._reach_ns, _reach_ns(mind.policy.manifest))

    def recalled(self, policy: Policy) -> Mind:
        """A policy that did not look along, as if it had: its history is made of the newest looks."""
        mind = Mind(policy)
        mind.remember(self._seen)
        for look in self._seen:
            look.images.clear()
        return mind

    def _noise(self) -> Float32 | None:
        """Of the next chunk."""
        manifest = self.manifest
        if self._exploration is None:
            return None
        return self._exploration.noise(self._sequence, manifest.action.chunk, len(manifest.joints))

    def _keep(self, look: Look, targets: Float) -> None:
        """Remember what leads to a usable chunk, as far back as the histories of policies that drove reach."""
        if self.newest is not None:
            self.newest[0].images.clear()
        self.newest = (look, targets)
        if not np.isfinite(targets).all():
            return
        self._seen.append(look)
        while self._seen[0].observed_ns < look.observed_ns - self._reach_ns:
            self._seen.popleft()

    def _record(self, look: Look, targets: Float, started_ns: int) -> ChunkRecord:
        manifest = self.manifest
        cameras = tuple(manifest.observation.cameras)
        record = ChunkRecord(
            sequence=self._sequence,
            observed_ns=look.observed_ns,
            step_ns=round(manifest.action.step_s * 1e9),
            started_ns=started_ns,
            length=len(targets),
            joints=targets.shape[1],
            weights=manifest.weights,
            cameras=len(cameras),
            tick=look.tick,
        )
        for index, name in enumerate(cameras):
            record.frames[index] = look.pictures[name].header.sequence
        record.targets[: targets.size] = targets.ravel().tolist()
        record.finished_ns = time.monotonic_ns()
        self._sequence += 1
        return record


def _reach_ns(manifest: Manifest) -> int:
    return round(manifest.observation.history * manifest.observation.step_s * 1e9)


def check_size(manifest: Manifest) -> None:
    """Raises MisfitError for chunks or cameras that exceed what a record can hold."""
    if manifest.action.chunk > MAX_CHUNK or len(manifest.observation.cameras) > MAX_CAMERAS:
        raise MisfitError(
            f"bundle {manifest.name}: {manifest.action.chunk} actions and {len(manifest.observation.cameras)} "
            f"cameras; at most {MAX_CHUNK} and {MAX_CAMERAS} are possible"
        )

"""Trying a policy in the virtual arm in simulated time: the live controller's decisions, the live delays, no clock."""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from controller.decide import Decide
from controller.lockstep import Lockstep
from controller.workers.history import History, Seen
from drivers.virtual.env import VirtualKochEnv
from episodes.records import Flag, Mode, Order
from episodes.windows import RESTING
from spec.action import ActionSpace, decode
from spec.arrays import Bool, Bytes, Float, Float32, frozen
from spec.chunk import Chunk
from spec.manifest import Action, Observation
from spec.observation import decode_jpeg, encode_jpeg, policy_image, policy_state
from spec.robot import Robot


class Pilot(Protocol):
    """A policy in two halves, as in a bundle: see :class:`controller.workers.policy.Policy`."""

    def encode(self, state: Float32, images: Mapping[str, Bytes]) -> Float32: ...

    def decode(self, features: Float32, mask: Bool) -> Float: ...


@dataclass(frozen=True, slots=True)
class Delays:
    """What the real loop suffers from."""

    inference_s: float = 0.05
    """From the observation until its chunk reaches the controller [s]."""
    camera_s: float = 0.05
    """From the capture of a picture until the policy can have it [s]."""


@dataclass(frozen=True, slots=True)
class Trial:
    """One episode."""

    seed: int
    success: bool
    time_s: float
    """From the first tick under the policy [s]."""
    distance: float
    """Cube to goal at the end [m]."""
    limited: float
    """Share of the policy's ticks that the safety envelope had to change."""
    held: int
    """Ticks without a chunk to follow."""


class _Eyes:
    """Pictures at the cameras' own rate, to be had only some time after their capture."""

    def __init__(self, env: VirtualKochEnv, robot: Robot, observation: Observation, delays: Delays) -> None:
        self._env, self._robot, self._observation, self._delay = env, robot, observation, delays.camera_s
        self._pending: dict[str, deque[tuple[int, Bytes]]] = {name: deque() for name in observation.cameras}
        self._next: dict[str, float] = dict.fromkeys(observation.cameras, 0.0)

    def look(self, now_s: float, wanted_s: float) -> None:
        """Take the pictures due now, if the observation at ``wanted_s`` can still use them (rendering is dear)."""
        for name, size in self._observation.cameras.items():
            camera = self._robot.cameras[name]
            if now_s + 1e-9 < self._next[name]:
                continue
            self._next[name] += 1.0 / camera.fps
            age = wanted_s - now_s
            if not self._delay - 1e-9 <= age < self._delay + 1.0 / camera.fps + 0.006 and self._pending[name]:
                continue
            jpeg = encode_jpeg(self._env.picture(name), camera.jpeg_quality)
            self._pending[name].append((round(now_s * 1e9), policy_image(decode_jpeg(jpeg), size)))

    def seen(self, now_s: float) -> dict[str, Bytes] | None:
        """The newest picture of every camera that has arrived; None while one of them has not shown any."""
        found = {}
        latest = round((now_s - self._delay) * 1e9) + 1000
        for name, pending in self._pending.items():
            while len(pending) > 1 and pending[1][0] <= latest:
                pending.popleft()
            if not pending or pending[0][0] > latest:
                return None
            found[name] = pending[0][1]
        return found


class Evaluation:
    """Runs trials of one pilot.

    Args:
        robot: robot file with a virtual arm.
        pilot: the policy.
        observation: what it sees.
        action: what it says.
        delays: emulated.
        time_limit_s: after this much time under the policy a trial has failed [s].
    """

    def __init__(
        self,
        robot: Robot,
        pilot: Pilot,
        observation: Observation,
        action: Action,
        delays: Delays,
        time_limit_s: float = 12.0,
    ) -> None:
        self._robot, self._pilot, self._observation, self._action = robot, pilot, observation, action
        self._delays, self._limit_s = delays, time_limit_s
        self._env = VirtualKochEnv(robot, cameras=(), time_limit_s=1e6)
        self._decide = Decide.of(robot)
        self._rate = robot.control.rate_hz
        self._stride = round(action.step_s * self._rate)
        self._feature_dim = len(pilot.encode(*self._blank()))

    def close(self) -> None:
        self._env.close()

    def trial(self, seed: int) -> Trial:
        """One episode: ease in to the start pose, then let the policy drive until success or the time limit."""
        self._env.reset(seed=seed)
        env, arm = self._env, Lockstep(self._decide, self._rate, self._plant, self._env.joints()[0])
        eyes = _Eyes(env, self._robot, self._observation, self._delays)
        history = History(self._observation.history, round(self._observation.step_s * 1e9), self._feature_dim)
        waiting: deque[tuple[int, Chunk]] = deque()
        latency = round(self._delays.inference_s * self._rate)
        segment = tick = driven = limited = held = sequence = 0
        mode, target = Mode.IDLE, arm.position
        while driven < self._limit_s * self._rate and not env.task.success():
            now_s = tick / self._rate
            eyes.look(now_s, (tick // self._stride + 1) * self._stride / self._rate)
            if tick % self._stride == 0 and (images := eyes.seen(now_s)) is not None:
                state = policy_state(arm.position, arm.velocity, self._observation.state)
                history.add(Seen(arm.now_ns, segment, self._pilot.encode(state, images)))
                actions = self._pilot.decode(*history.window())
                waiting.append((tick + latency, self._chunk(sequence, arm.now_ns, actions, target)))
                sequence += 1
            chunk = waiting.popleft()[1] if waiting and waiting[0][0] <= tick else None
            command = arm.step(chunk, Order.START if tick == 0 else None)
            mode = command.mode
            segment += mode in RESTING
            target = arm.position if command.position is None else np.array(command.position)
            if mode in {Mode.POLICY, Mode.HOLD}:
                driven += 1
                limited += bool(command.flags & Flag.LIMITED)
                held += mode is Mode.HOLD
            tick += 1
            if tick > 60 * self._rate:
                break
        return Trial(seed, env.task.success(), driven / self._rate, env.task.distance(), limited / max(driven, 1), held)

    def _plant(self, target: Float | None) -> tuple[Float, Float]:
        self._env.tick(self._env.joints()[0] if target is None else target)
        return self._env.joints()

    def _chunk(self, sequence: int, now_ns: int, actions: Float, target: Float) -> Chunk:
        reference = target if self._action.space is not ActionSpace.JOINT_POSITION else np.zeros(actions.shape[1])
        targets = frozen(decode(self._action.space, actions, reference))
        return Chunk(sequence, now_ns, round(self._action.step_s * 1e9), targets)

    def _blank(self) -> tuple[Float32, dict[str, Bytes]]:
        count = len(self._robot.follower.names) * len(self._observation.state)
        images = {n: np.zeros((i.height, i.width, 3), np.uint8) for n, i in self._observation.cameras.items()}
        return np.zeros(count, dtype=np.float32), images

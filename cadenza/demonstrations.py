"""Recording scripted demonstrations of the virtual arm, in simulated time, as ordinary episodes."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from drivers.virtual.env import VirtualKochEnv
from drivers.virtual.expert import PushExpert
from episodes.outcome import Outcome, Termination
from episodes.records import ChunkRecord, Driver, Flag, Mode, TickRecord
from episodes.writer import EpisodeWriter, Header
from spec.arrays import Float
from spec.errors import CadenzaError
from spec.observation import encode_jpeg
from spec.robot import Robot

PLAN_STEPS = 13
"""Actions the expert writes down at each policy step; a learner takes as many as it wants."""
_HOLD_STEPS = 8
"""Policy steps recorded after the cube is where it should be: the policy must learn to stop."""
_ATTEMPTS = 10
_STEADY = 0.7
"""Share of a step's disturbance that carries over into the next one."""
_EPOCH_NS = 1_000_000_000


@dataclass(frozen=True, slots=True)
class Settings:
    """How demonstrations are varied."""

    step_s: float = 0.1
    """Policy step [s]."""
    noise: float = 0.006
    """Disturbance of the executed target [rad], standard deviation of each step's new part. Labels stay clean
    (DART: Laskey et al. 2017), so the expert is seen correcting errors that an imitator will make."""
    wide_starts: float = 0.3
    """Share of episodes that begin far from the home pose."""
    time_limit_s: float = 12.0


@dataclass(slots=True, eq=False)
class _Step:
    """One policy step, before it is known whether the episode is worth keeping."""

    time_ns: int
    pictures: dict[str, bytes]
    plan: Float
    ticks: list[TickRecord]


class DemonstrationRecorder:
    """Records episodes in which the expert succeeds.

    Args:
        robot: robot file with a virtual arm.
        cameras: names of the cameras to record.
        settings: how to vary.
    """

    def __init__(self, robot: Robot, cameras: tuple[str, ...], settings: Settings) -> None:
        self._robot, self._cameras, self._settings = robot, cameras, settings
        self._env = VirtualKochEnv(robot, step_s=settings.step_s, cameras=())
        self._expert = PushExpert(robot, self._env.task.goal[:2], settings.step_s)
        self._ticks = round(settings.step_s * robot.control.rate_hz)

    def record(self, path: Path, seed: int, number: int) -> int:
        """Record episode ``number`` of the series ``seed``; returns its policy steps.

        The content depends on ``seed`` and ``number`` alone, whatever was recorded before.
        """
        for attempt in range(_ATTEMPTS):
            steps = self._perform(np.random.default_rng((seed, number, attempt)))
            if steps is not None:
                self._write(path, steps, {"task": "push", "source": "expert", "seed": f"{seed}/{number}/{attempt}"})
                return len(steps)
        raise CadenzaError(f"the expert failed {_ATTEMPTS} times in a row at episode {number} of seed {seed}")

    def close(self) -> None:
        self._env.close()

    def _perform(self, rng: np.random.Generator) -> list[_Step] | None:
        """One episode, or None if the cube did not arrive."""
        settings, limits = self._settings, self._robot.limits()
        spread = 0.35 if rng.random() < settings.wide_starts else 0.05
        start = limits.home + rng.uniform(-spread, spread, len(limits.home))
        _, info = self._env.reset(seed=int(rng.integers(2**31)), options={"start": start})
        target = info["target"]
        before = target
        disturbance = np.zeros(len(start))
        steps: list[_Step] = []
        held = 0
        while len(steps) < settings.time_limit_s / settings.step_s:
            steps.append(self._observe(len(steps), target, before))
            disturbance = _STEADY * disturbance + rng.normal(0.0, settings.noise, len(start))
            reached = self._execute(steps[-1], target, disturbance)
            # The disturbance moves the arm but is none of its speed: the coming plan goes on from this one's.
            before, target = reached - (steps[-1].plan[0] - target), reached
            cube = self._env.task.cube()
            held += self._expert.delivered(np.array([cube.x, cube.y]))
            if held > _HOLD_STEPS:
                return steps if self._env.task.success() else None
        return None

    def _observe(self, number: int, commanded: Float, before: Float) -> _Step:
        cube = self._env.task.cube()
        where = np.array([cube.x, cube.y])
        plan = self._expert.plan(commanded, self._env.joints()[0], where, PLAN_STEPS, before)
        pictures = {
            name: encode_jpeg(self._env.picture(name), self._robot.cameras[name].jpeg_quality) for name in self._cameras
        }
        return _Step(_EPOCH_NS + round(number * self._settings.step_s * 1e9), pictures, plan, [])

    def _execute(self, step: _Step, commanded: Float, disturbance: Float) -> Float:
        """Move to the first action of the plan, disturbed, tick by tick; returns the joint target reached."""
        limits, period_ns = self._robot.limits(), self._robot.control.period_ns
        goal: Float = np.clip(step.plan[0] + disturbance, limits.lower, limits.upper)
        for tick in range(1, self._ticks + 1):
            position, velocity = self._env.joints()
            part = tick / self._ticks
            asked, sent = (commanded + (end - commanded) * part for end in (step.plan[0], goal))
            step.ticks.append(_record(step.time_ns + (tick - 1) * period_ns, position, velocity, asked, sent))
            self._env.tick(sent)
        return goal

    def _write(self, path: Path, steps: list[_Step], labels: dict[str, str]) -> None:
        with EpisodeWriter(path, Header(self._robot, labels=labels)) as writer:
            ticks = 0
            for number, step in enumerate(steps):
                for name, jpeg in step.pictures.items():
                    writer.frame(name, jpeg, step.time_ns, number)
                writer.chunk(_chunk(number, step, ticks, len(self._cameras), self._settings.step_s))
                for record in step.ticks:
                    record.tick, record.chunk = ticks, number
                    writer.tick(record)
                    ticks += 1
            writer.close(Outcome.SUCCESS, Termination.DONE)


def _record(now_ns: int, position: Float, velocity: Float, asked: Float, sent: Float) -> TickRecord:
    joints = len(position)
    record = TickRecord(now_ns=now_ns, deadline_ns=now_ns, woke_ns=now_ns, joints=joints)
    record.read_ns = record.decided_ns = record.written_ns = now_ns
    record.mode, record.driver, record.flags = Mode.POLICY, Driver.POLICY, Flag.NONE
    for field, values in (("position", position), ("velocity", velocity), ("asked", asked), ("policy", asked)):
        getattr(record, field)[:joints] = values.tolist()
    record.limited[:joints] = record.sent[:joints] = sent.tolist()
    record.fresh[:joints] = [1] * joints
    return record


def _chunk(number: int, step: _Step, tick: int, cameras: int, step_s: float) -> ChunkRecord:
    length, joints = step.plan.shape
    record = ChunkRecord(sequence=number, observed_ns=step.time_ns, step_ns=round(step_s * 1e9), tick=tick)
    record.started_ns = record.finished_ns = step.time_ns
    record.length, record.joints, record.cameras = length, joints, cameras
    record.frames[:cameras] = [number] * cameras
    record.targets[: length * joints] = step.plan.ravel().tolist()
    return record

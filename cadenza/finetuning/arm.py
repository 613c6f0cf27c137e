"""The virtual arm in simulated time as a learner meets it: a sight, then a step of what was asked, through the live
controller's decisions and its safety envelope."""

from __future__ import annotations

import math

import mujoco
import numpy as np

from controller.decide import Decide
from controller.lockstep import Lockstep
from drivers.virtual.env import VirtualKochEnv
from drivers.virtual.scene import follower_model
from drivers.virtual.task import CubePose
from episodes.records import Flag, Mode, Order
from spec.arrays import Float, Float32, frozen
from spec.chunk import Chunk
from spec.errors import CadenzaError
from spec.robot import ChunkMode, Robot

VECTORS = {"target": 6, "tool": 3, "cube": 4, "push": 6}
"""What the policy sees beside the joints' angles: how far the joint targets are ahead of the joints [rad], the tool's
place [m], the cube's place [m] with cosine and sine of four times its yaw (a quarter turn looks the same), and how the
tool stands to the push that is due: along and across [m], height over the table [m], and the three once more in small,
where centimetres decide, each saturating a few of them away from contact."""

_EASE_IN_S = 5.0
_MIDDLE, _APART, _TURNED = np.array([0.155, 0.0]), 0.015, math.radians(15.0)
"""Where the cube may be at the start: about the middle of the push task's own area, so far to each side [m], and its
yaw [rad]. Narrower than the task itself, so that a policy can be learned in minutes."""
_STAND_OFF, _PUSH_HEIGHT = 0.035, 0.016
"""Where the tool should be before it pushes: behind the cube's centre, and over the table [m]."""
_NEAR = 0.02
"""Scale of what saturates [m]."""
_TRANSIT_SPEED, _PUSH_SPEED = 0.16, 0.07
"""Of the tool, as :mod:`drivers.virtual.expert` has it [m/s]."""


class LockstepArm:
    """One arm at one table. Between :meth:`reset` and the end of an episode call :meth:`offer` and :meth:`step`.

    Nothing is late here: a chunk is followed from the instant of its observation on.

    Args:
        robot: robot file with a virtual arm.
        step_s: length of a policy step [s].
    """

    def __init__(self, robot: Robot, step_s: float) -> None:
        control = robot.control.model_copy(update={"mode": ChunkMode.LATEST})
        self.robot = robot.model_copy(update={"control": control})
        self.step_s, self._step_ns = step_s, round(step_s * 1e9)
        self._env = VirtualKochEnv(self.robot, cameras=(), time_limit_s=math.inf)
        self._decide, self._rate = Decide.of(self.robot), control.rate_hz
        self._ticks = round(step_s * control.rate_hz)
        self._tool = _Tool(self.robot)
        limits = self.robot.limits()
        self.lower, self.upper = limits.lower, limits.upper
        self.goal = self._env.task.goal[:2]
        """Where the cube's centre shall go [m], shape (2,)."""

    def close(self) -> None:
        self._env.close()

    def reset(self, seed: int) -> None:
        """A new cube; the arm stands at its start pose and waits for a chunk."""
        rng = np.random.default_rng(seed)
        cube = (*(_MIDDLE + rng.uniform(-_APART, _APART, 2)), rng.uniform(-_TURNED, _TURNED))
        self._env.reset(options={"cube": cube})
        self._lockstep = Lockstep(self._decide, self._rate, self._plant, self._env.joints()[0])
        self._sequence = self.limited = 0
        self._chunk: Chunk | None = None
        command = self._lockstep.step(None, Order.START)
        for _ in range(round(_EASE_IN_S * self._rate)):
            if command.mode is Mode.HOLD:
                break
            command = self._lockstep.step()
        else:
            raise CadenzaError(f"the virtual arm did not get ready within {_EASE_IN_S:g} s")
        assert command.position is not None  # noqa: S101  it drives
        self.commanded: Float = np.array(command.position)
        """Joint target in force [rad], shape (joints,)."""

    @property
    def now_ns(self) -> int:
        """Instant of the coming step [ns]."""
        return self._lockstep.now_ns

    @property
    def measured(self) -> Float:
        """Joint angles [rad], shape (joints,)."""
        return self._lockstep.position

    @property
    def cube(self) -> CubePose:
        return self._env.task.cube()

    @property
    def distance(self) -> float:
        """From the cube's centre to the goal's [m]."""
        return self._env.task.distance()

    @property
    def success(self) -> bool:
        return self._env.task.success()

    def tool(self) -> Float:
        """Where the tool is [m], shape (3,)."""
        return self._tool.place(self.measured)

    def remaining_s(self) -> float:
        """About how long an expert would still need [s]: the tool to its place behind the cube, then the push."""
        cube = self.cube
        where = np.array([cube.x, cube.y])
        way = self.goal - where
        behind = where - _STAND_OFF * way / max(float(np.linalg.norm(way)), 0.02)
        reach = float(np.linalg.norm(self.tool() - (*behind, _PUSH_HEIGHT)))
        return reach / _TRANSIT_SPEED + self.distance / _PUSH_SPEED

    def sight(self) -> Float32:
        """State as the policy sees it, shape (S,): see :data:`VECTORS`."""
        cube = self.cube
        ahead = self.commanded - self.measured
        turn = 4.0 * cube.yaw
        pose = np.array([cube.x, cube.y, math.cos(turn), math.sin(turn)])
        tool = self.tool()
        way = self.goal - pose[:2]
        heading = way / max(float(np.linalg.norm(way)), 0.02)
        off = tool[:2] - pose[:2]
        push = np.array([off @ heading, off @ (-heading[1], heading[0]), tool[2]])
        near = np.tanh((push - (-_STAND_OFF, 0.0, _PUSH_HEIGHT)) / _NEAR)
        return np.concatenate([self.measured, ahead, tool, pose, push, near]).astype(np.float32)

    def offer(self, targets: Float) -> None:
        """From the coming step on follow these joint targets [rad], shape (n, joints), one a step."""
        self._chunk = Chunk(self._sequence, self.now_ns, self._step_ns, frozen(targets))
        self._sequence += 1

    def step(self) -> Float:
        """Live one policy step; returns the joint target it ends with [rad], shape (joints,)."""
        changed = False
        for _ in range(self._ticks):
            command = self._lockstep.step(self._chunk)
            self._chunk = None
            changed |= bool(command.flags & Flag.LIMITED)
        if command.position is None:
            raise CadenzaError(f"the virtual arm gave up: {command.fault.name}")
        self.limited += changed
        self.commanded = np.array(command.position)
        return self.commanded

    def _plant(self, target: Float | None) -> tuple[Float, Float]:
        self._env.tick(self._env.joints()[0] if target is None else target)
        return self._env.joints()


class _Tool:
    """Forward kinematics of the tool site."""

    def __init__(self, robot: Robot) -> None:
        self._model = follower_model(robot)
        self._data = mujoco.MjData(self._model)
        self._site = self._model.site("tool").id
        self._qpos = np.array([self._model.joint(name).qposadr[0] for name in robot.follower.names])

    def place(self, joints: Float) -> Float:
        self._data.qpos[self._qpos] = joints
        mujoco.mj_kinematics(self._model, self._data)
        return np.array(self._data.site_xpos[self._site])

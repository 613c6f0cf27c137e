"""The virtual arm in lock-step: a Gymnasium environment in simulated time, many times faster than real time.

Physics, servo controllers and control rate are those of the live virtual arm, so what works here works there; only
the bus, the clock and the camera streams are left out.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, SupportsFloat

import gymnasium
import mujoco
import numpy as np
from gymnasium import spaces

from drivers.dynamixel.tables import model as servo_model
from drivers.virtual.drives import PULSES, Drives
from drivers.virtual.motors import motor
from drivers.virtual.render import Renderer, check_cameras
from drivers.virtual.scene import follower_model, physics_step
from drivers.virtual.task import PushTask, cube_array
from spec.arrays import Bytes, Float
from spec.robot import Robot

_SETTLE_S = 0.4
"""Simulated time after a reset in which the arm sags into its servos [s]."""
_VELOCITY_UNIT = 0.229 * 2 * np.pi / 60
"""Resolution of Present Velocity [rad/s]."""

Observation = dict[str, Any]


class VirtualKochEnv(gymnasium.Env[Observation, Float]):
    """Koch follower, table, cube.

    Action: absolute joint targets [rad], shape (joints,), reached at the end of the policy step; on the way the target
    moves linearly at the control rate, as the controller interpolates a chunk.

    Observation: ``position`` [rad] and ``velocity`` [rad/s], shape (joints,), in encoder resolution, and one BGR uint8
    picture (height, width, 3) per camera asked for.

    Reward: 1 in the step in which the task is done, which ends the episode; 0 otherwise.

    ``info`` holds ``success``, ``cube`` (x, y, z, yaw), ``distance`` to the goal [m], ``target`` (the joint target
    commanded at this instant, shape (joints,)) and ``time_s``.
    """

    metadata = {"render_modes": ["rgb_array"], "render_fps": 10}  # noqa: RUF012  gymnasium's own convention

    def __init__(
        self,
        robot: Robot,
        *,
        step_s: float = 0.1,
        cameras: Sequence[str] | None = None,
        image_size: tuple[int, int] | None = None,
        time_limit_s: float = 20.0,
        render_mode: str | None = None,
    ) -> None:
        """
        Args:
            robot: robot file; its ``virtual.task`` is what stands on the table.
            step_s: time between actions [s].
            cameras: which cameras to observe; None takes all of the robot file, () none (fastest).
            image_size: (height, width) of pictures; None takes each camera's own.
            time_limit_s: simulated time after which an episode is truncated [s].
            render_mode: ``rgb_array`` or None.
        """
        self.robot, self.step_s, self.time_limit_s, self.render_mode = robot, step_s, time_limit_s, render_mode
        self._limits = robot.limits()
        self._model = follower_model(robot)
        self._data = mujoco.MjData(self._model)
        self._drives = self._powered()
        self.task = PushTask(self._model, self._data)
        self._substeps = round(1.0 / robot.control.rate_hz / physics_step(robot))
        self._ticks = max(1, round(step_s * robot.control.rate_hz))
        self._target = self._limits.home.copy()
        names = tuple(robot.cameras) if cameras is None else tuple(cameras)
        check_cameras(self._model, names)
        self._sizes = {name: image_size or (robot.cameras[name].height, robot.cameras[name].width) for name in names}
        self._renderers: dict[tuple[int, int], Renderer] = {}
        self.action_space = spaces.Box(self._limits.lower, self._limits.upper, dtype=np.float64)
        self.observation_space = self._observation_space()

    def _powered(self) -> Drives:
        """The follower's servos with factory gains, torque on."""
        joints = self.robot.follower.joints
        drives = Drives(self._model, self._data, tuple(joints), [motor(j.model) for j in joints.values()])
        for index, joint in enumerate(joints.values()):
            table = servo_model(joint.model)
            p, i, d = (table[f"position_{term}_gain"].default or 0 for term in "pid")
            drives.set_gains(index, p, i, d)
            drives.set_limits(index, 1.0, joint.current or np.inf)
            drives.set_torque(index, True)
        return drives

    def _observation_space(self) -> spaces.Dict:
        count = len(self._limits.home)
        entries: dict[str, spaces.Space[Any]] = {
            "position": spaces.Box(-np.inf, np.inf, (count,), np.float64),
            "velocity": spaces.Box(-np.inf, np.inf, (count,), np.float64),
        }
        for name, (height, width) in self._sizes.items():
            entries[name] = spaces.Box(0, 255, (height, width, 3), np.uint8)
        return spaces.Dict(entries)

    @property
    def time_s(self) -> float:
        """Simulated time since the reset [s]."""
        return float(self._data.time)

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[Observation, dict[str, Any]]:
        """New episode.

        Args:
            seed: makes the cube's place reproducible.
            options: ``start``: joint angles to begin from [rad], shape (joints,), default home; ``cube``: (x, y, yaw)
                instead of a random place.
        """
        super().reset(seed=seed)
        options = options or {}
        mujoco.mj_resetData(self._model, self._data)
        start = np.asarray(options.get("start", self._limits.home), dtype=np.float64)
        self._target = self._quantised(np.clip(start, self._limits.lower, self._limits.upper))
        self._drives.teleport(self._target)
        mujoco.mj_forward(self._model, self._data)
        if "cube" in options:
            self.task.place(*(float(v) for v in options["cube"]))
        else:
            self.task.reset(self.np_random)
        self._drives.set_goals(self._target)
        self._run(round(_SETTLE_S / self._model.opt.timestep))
        self._data.time = 0.0
        return self._observe(), self._info()

    def step(self, action: Float) -> tuple[Observation, SupportsFloat, bool, bool, dict[str, Any]]:
        """Move to the joint targets ``action`` [rad] in one policy step; targets are held within the limits."""
        goal = np.clip(np.asarray(action, dtype=np.float64), self._limits.lower, self._limits.upper)
        start = self._target
        for tick in range(1, self._ticks + 1):
            self.tick(start + (goal - start) * (tick / self._ticks))
        self._target = goal
        success = self.task.success()
        return self._observe(), float(success), success, self.time_s >= self.time_limit_s - 1e-9, self._info()

    def tick(self, target: Float) -> None:
        """One control tick: joint targets [rad], shape (joints,), in encoder resolution, then a control period."""
        self._target = np.asarray(target, dtype=np.float64)
        self._drives.set_goals(self._quantised(self._target))
        self._run(self._substeps)

    def _run(self, substeps: int) -> None:
        dt = self._model.opt.timestep
        for _ in range(substeps):
            self._drives.step(dt)
            mujoco.mj_step(self._model, self._data)
        self.task.advance(substeps * dt)

    def _quantised(self, angles: Float) -> Float:
        return np.rint(angles * PULSES) / PULSES

    def joints(self) -> tuple[Float, Float]:
        """Position [rad] and velocity [rad/s] as the encoders report them, shape (joints,)."""
        velocity = np.rint(self._drives.velocity() / _VELOCITY_UNIT) * _VELOCITY_UNIT
        return self._quantised(self._drives.position()), velocity

    def picture(self, camera: str, size: tuple[int, int] | None = None) -> Bytes:
        """BGR picture at this instant, shape (height, width, 3); ``size`` is (height, width)."""
        if size is None:
            section = self.robot.cameras[camera]
            size = self._sizes.get(camera, (section.height, section.width))
        if size not in self._renderers:
            self._renderers[size] = Renderer(self._model, *size)
        return self._renderers[size].picture(self._data, camera)

    def _observe(self) -> Observation:
        position, velocity = self.joints()
        return {"position": position, "velocity": velocity, **{name: self.picture(name) for name in self._sizes}}

    def _info(self) -> dict[str, Any]:
        return {
            "success": self.task.success(),
            "cube": cube_array(self.task.cube()),
            "distance": self.task.distance(),
            "target": self._target.copy(),
            "time_s": self.time_s,
        }

    def render(self) -> Any:
        """RGB picture of the camera ``front``, or of the first one; None unless ``render_mode`` is rgb_array."""
        if self.render_mode != "rgb_array":
            return None
        name = "front" if "front" in self.robot.cameras else next(iter(self.robot.cameras))
        return np.ascontiguousarray(self.picture(name)[:, :, ::-1])

    def close(self) -> None:
        for renderer in self._renderers.values():
            renderer.close()
        self._renderers.clear()


gymnasium.register(id="cadenza/VirtualKoch-v0", entry_point="drivers.virtual.env:VirtualKochEnv")

"""What is to be done on the table, and whether it was: the push task."""

from __future__ import annotations

import math
from dataclasses import dataclass

import mujoco
import numpy as np

from spec.arrays import Float, frozen

SETTLED_S = 0.25
"""The cube counts as delivered once it has stayed in the goal for so long [s]."""


@dataclass(frozen=True, slots=True)
class CubePose:
    """Where the cube is: centre [m] and heading [rad]; a quarter turn looks the same."""

    x: float
    y: float
    z: float
    yaw: float


class PushTask:
    """Push the cube into the goal zone. Knows the scene's cube and goal, nothing of the arm."""

    def __init__(self, model: mujoco.MjModel, data: mujoco.MjData) -> None:
        self._model, self._data = model, data
        self._qpos = int(model.joint("cube").qposadr[0])
        self._dof = int(model.joint("cube").dofadr[0])
        self._body = int(model.body("cube").id)
        self._table = int(model.geom("table").id)
        self.spawn = frozen(model.numeric("spawn").data)
        """x from, to; y from, to [m], shape (4,)."""
        self.goal = frozen(model.numeric("goal").data)
        """x, y, radius [m], shape (3,)."""
        self._half = float(model.geom("cube").size[2])
        self._inside_s = 0.0

    def reset(self, rng: np.random.Generator) -> CubePose:
        """Put the cube at a random place and heading on the table, clear of the arm as it stands."""
        for _ in range(100):
            x, y = rng.uniform(self.spawn[[0, 2]], self.spawn[[1, 3]])
            self.place(float(x), float(y), float(rng.uniform(-math.pi / 4, math.pi / 4)))
            if not self._touched():
                break
        return self.cube()

    def place(self, x: float, y: float, yaw: float) -> None:
        """Put the cube flat on the table at rest [m], [rad]."""
        pose = [x, y, self._half, math.cos(yaw / 2), 0.0, 0.0, math.sin(yaw / 2)]
        self._data.qpos[self._qpos : self._qpos + 7] = pose
        self._data.qvel[self._dof : self._dof + 6] = 0.0
        self._data.qacc_warmstart[self._dof : self._dof + 6] = 0.0
        self._inside_s = 0.0
        mujoco.mj_forward(self._model, self._data)

    def advance(self, dt: float) -> None:
        """Tell the judge that ``dt`` [s] of simulated time went by."""
        self._inside_s = self._inside_s + dt if self.distance() <= self.goal[2] else 0.0

    def success(self) -> bool:
        """The cube's centre has been inside the goal for :data:`SETTLED_S`."""
        return self._inside_s >= SETTLED_S

    def distance(self) -> float:
        """From the cube's centre to the goal's, in the plane [m]."""
        x, y = self._data.qpos[self._qpos : self._qpos + 2]
        return math.hypot(x - self.goal[0], y - self.goal[1])

    def cube(self) -> CubePose:
        x, y, z, w, i, j, k = (float(v) for v in self._data.qpos[self._qpos : self._qpos + 7])
        return CubePose(x, y, z, math.atan2(2 * (w * k + i * j), 1 - 2 * (j * j + k * k)))

    def _touched(self) -> bool:
        """True where anything but the table touches the cube."""
        for contact in self._data.contact:
            bodies = self._model.geom_bodyid[[contact.geom1, contact.geom2]]
            if self._body in bodies and self._table not in (contact.geom1, contact.geom2):
                return True
        return False


def cube_array(pose: CubePose) -> Float:
    """x, y, z [m], yaw [rad], shape (4,)."""
    return np.array([pose.x, pose.y, pose.z, pose.yaw])

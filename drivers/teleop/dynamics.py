"""What an arm's own weight and motion ask of its servos, and how far off its goal a servo must be to give that."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path

import mujoco
import numpy as np

from drivers.dynamixel.tables import Model
from spec.arrays import Float
from spec.errors import MisfitError, SpecError

_FULL_DUTY = 885
"""PWM value of 100 %, every X-series model (e-manual, PWM Limit(36))."""
_P_UNITS = 128
"""K_P = Position P Gain(84) / 128, in PWM values per encoder pulse (e-manual, Position PID Gain)."""


class Dynamics:
    """Joint torques that hold up and move the arm of an MJCF file. Holds scratch memory, no state.

    Leader and follower of a pair have the same joints and, but for the handle, the same links, so the follower's file
    serves for both.

    Raises:
        SpecError: MuJoCo cannot read the file.
        MisfitError: it has no joint of some name.
    """

    def __init__(self, model: Path, joints: Sequence[str]) -> None:
        try:
            self._model = mujoco.MjModel.from_xml_path(str(model))
        except ValueError as error:
            raise SpecError(str(model), " ".join(str(error).split())[:200], "MuJoCo cannot read the model") from None
        self._data = mujoco.MjData(self._model)
        numbers = [mujoco.mj_name2id(self._model, mujoco.mjtObj.mjOBJ_JOINT, name) for name in joints]
        if -1 in numbers:
            raise MisfitError(f"{model}: has no joint {joints[numbers.index(-1)]!r}, which the robot file names")
        self._position = self._model.jnt_qposadr[numbers]
        self._freedom = self._model.jnt_dofadr[numbers]
        self._torque = np.zeros(self._model.nv)

    def torque(self, position: Float, velocity: Float | float = 0.0, acceleration: Float | float = 0.0) -> Float:
        """What the servos must give [N·m] for this motion [rad], [rad/s], [rad/s²], shapes (joints,); friction and
        rotors apart. At rest that is what carries the weight.
        """
        data = self._data
        data.qpos[self._position] = position
        data.qvel[self._freedom] = velocity
        data.qacc[self._freedom] = acceleration
        mujoco.mj_kinematics(self._model, data)
        mujoco.mj_comPos(self._model, data)
        mujoco.mj_comVel(self._model, data)
        mujoco.mj_rne(self._model, data, 1, self._torque)
        return np.array(self._torque[self._freedom], dtype=np.float64)


def stiffness(model: Model, position_p_gain: int) -> float:
    """Torque of a servo in position mode per angle off its goal [N·m/rad].

    PWM = K_P · pulses off the goal, and torque = stall torque · PWM / 885 while the shaft hardly turns.
    """
    pulses = model.resolution / (2 * math.pi)
    return position_p_gain / _P_UNITS * pulses / _FULL_DUTY * model.stall_torque

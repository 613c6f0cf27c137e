"""What the servos and the arm allow at most: no limit is fitted beyond it. Pure."""

from __future__ import annotations

import mujoco
import numpy as np

from drivers.dynamixel.tables import model
from spec.robot import Robot

_LOADED = 0.8
"""Share of the no-load speed that a servo still reaches with a fifth of its torque."""
_POSES = 500


def widest_velocity(robot: Robot) -> dict[str, float]:
    """By joint [rad/s]. A servo comes with Velocity Limit(44) at its no-load speed (e-manual)."""
    widest = {}
    for name, joint in robot.follower.joints.items():
        register = model(joint.model)["velocity_limit"]
        widest[name] = joint.velocity if register.default is None else _LOADED * register.default * register.scale
    return widest


def widest_acceleration(robot: Robot) -> dict[str, float]:
    """By joint [rad/s²]: what half the stall torque gives after gravity, to the arm where it is heaviest to turn.

    Without a model of the arm, what the robot file has now.
    """
    if robot.model is None:
        return {name: joint.acceleration for name, joint in robot.follower.joints.items()}
    arm = mujoco.MjModel.from_xml_path(str(robot.model))
    data, rng = mujoco.MjData(arm), np.random.default_rng(0)
    places = [arm.joint(name) for name in robot.follower.names]
    inertia, weight = np.zeros(arm.nv), np.zeros(arm.nv)
    mass = np.zeros((arm.nv, arm.nv))
    for _ in range(_POSES):
        for place, joint in zip(places, robot.follower.joints.values(), strict=True):
            data.qpos[place.qposadr[0]] = rng.uniform(*joint.position)
        mujoco.mj_forward(arm, data)
        mujoco.mj_fullM(arm, data, mass)
        inertia, weight = np.maximum(inertia, mass.diagonal()), np.maximum(weight, np.abs(data.qfrc_bias))
    widest = {}
    for place, (name, joint) in zip(places, robot.follower.joints.items(), strict=True):
        at = int(place.dofadr[0])
        torque = max(0.0, 0.5 * model(joint.model).stall_torque - float(weight[at]))
        widest[name] = torque / float(inertia[at])
    return widest


def widest_current(robot: Robot) -> dict[str, float]:
    """By joint [A]: the factory's Current Limit(38); joints whose servos have none are left out."""
    registers = {
        name: model(joint.model)["current_limit"]
        for name, joint in robot.follower.joints.items()
        if model(joint.model).effort == "current"
    }
    return {name: reg.default * reg.scale for name, reg in registers.items() if reg.default is not None}

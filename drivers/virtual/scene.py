"""Building the MuJoCo models of the virtual robot from assets/koch, and settings that make rendering cheap."""

from __future__ import annotations

import math
from pathlib import Path

import mujoco

from spec.errors import MisfitError, SpecError
from spec.robot import Arm, Robot

ASSETS = Path(__file__).resolve().parents[2] / "assets" / "koch"
JOINTS = ("shoulder_pan", "shoulder_lift", "elbow_flex", "wrist_flex", "wrist_roll", "gripper")
"""Joints of the MJCF, from base to tip."""
TASKS = ("push",)
_LONGEST_STEP_S = 0.002


def physics_step(robot: Robot) -> float:
    """Physics time step [s]: a whole number of them in one control tick, 2 ms at most. Live and lock-step agree."""
    period = 1.0 / robot.control.rate_hz
    return period / math.ceil(period / _LONGEST_STEP_S - 1e-9)


def follower_model(robot: Robot) -> mujoco.MjModel:
    """The follower at the table of ``robot.virtual.task``.

    Raises:
        SpecError: no such task.
        MisfitError: the robot file describes an arm with other joints.
    """
    task = robot.virtual.task if robot.virtual else TASKS[0]
    if task not in TASKS:
        raise SpecError("virtual.task", task, "no such scene", TASKS)
    check_joints(robot.follower, robot)
    return _loaded(f"{task}.xml", robot)


def leader_model(robot: Robot) -> mujoco.MjModel:
    """The leader alone, clamped to nothing but the world."""
    if robot.leader is not None:
        check_joints(robot.leader, robot)
    return _loaded("leader.xml", robot)


def check_joints(arm: Arm, robot: Robot) -> None:
    """The virtual arm is a Koch: same joint names in any order, or it cannot stand in.

    Raises:
        MisfitError: names both lists.
    """
    if set(arm.names) != set(JOINTS):
        raise MisfitError(
            f"robot {robot.name}: arm {arm.serial} has joints {list(arm.names)}, the virtual arm has {list(JOINTS)}"
        )


def _loaded(name: str, robot: Robot) -> mujoco.MjModel:
    model = mujoco.MjModel.from_xml_path(str(ASSETS / name))
    model.opt.timestep = physics_step(robot)
    return model

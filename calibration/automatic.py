"""Calibration without a person, for the virtual arm: drive each joint gently against both of its stops.

Where the stops are as angles is known (the joint ranges of the arm's MJCF), where they are in ticks is measured through
the bus, and zero follows. Both stops are used: their distance must agree with the model's, which catches a joint that
met something else, and the mean of the two cancels how far each gives under the motor's push.

A real arm has no such stops everywhere (a wrist may turn for ever, a cable may end first), so it is calibrated by hand.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import mujoco
import numpy as np

from calibration.bench import Bench, settled
from calibration.measurement import Measured
from spec.arrays import Int
from spec.errors import DeviceError, MisfitError, SpecError
from spec.robot import Arm, Robot

SPEED = 2.0
"""[rad/s]"""
_STEP_S = 0.02
_STALL_WINDOW_S = 0.3
_STALL_TICKS = 6
"""A joint that moves less than this in the window while its goal runs away has met its stop."""
_HIGHEST_LEAD = 0.8
"""The goal never runs further ahead of the joint than this [rad]."""
_SPAN_TOLERANCE = 0.04
"""Largest difference of measured and modelled travel [rad]."""

Progress = Callable[[str], None]


@dataclass(frozen=True, slots=True)
class Stage:
    """One joint to be swept and where it waits afterwards, as a share of its travel: 0 lower stop, 1 upper stop."""

    joint: str
    park: float
    sweep: bool = True
    """False: only move to the stop that ``park`` is nearer to."""


@dataclass(frozen=True, slots=True)
class Route:
    """How to sweep an arm so that it meets nothing but its own stops, wherever it begins."""

    stages: tuple[Stage, ...]
    force: float
    """Share of full PWM: enough to lift the arm, too little to hurt it."""


FOLLOWER = Route(
    (
        Stage("elbow_flex", 0.0, sweep=False),  # forearm up: an arm that lay on the table comes free
        Stage("shoulder_pan", 1.0),  # away from whatever lies on the table, and so stays
        Stage("gripper", 1.0),
        Stage("wrist_roll", 0.5),
        Stage("wrist_flex", 1.0),  # hand up
        Stage("elbow_flex", 0.0),  # forearm up again, or the upper arm could not reach down to its stop
        Stage("shoulder_lift", 0.9),
    ),
    force=0.45,
)
LEADER = Route(
    (
        Stage("shoulder_pan", 0.5),
        Stage("gripper", 1.0),
        Stage("wrist_roll", 0.5),
        Stage("wrist_flex", 1.0),
        Stage("elbow_flex", 1.0),  # forearm hanging: its small servos cannot lift it stretched out
        Stage("shoulder_lift", 0.7),
    ),
    force=0.9,
)
"""A leader hangs free, and is too weak to hurt anything."""
_WAY_HOME = ("shoulder_lift", "elbow_flex", "wrist_flex", "wrist_roll", "gripper", "shoulder_pan")


def stops(robot: Robot, arm: Arm) -> dict[str, tuple[float, float]]:
    """Joint ranges of the robot's MJCF [rad].

    Raises:
        MisfitError: no model, or a joint it does not have.
        SpecError: MuJoCo cannot read the model.
    """
    if robot.model is None:
        raise MisfitError(f"robot {robot.name}: automatic calibration needs model: the arm's MJCF with its joint stops")
    try:
        mjcf = mujoco.MjModel.from_xml_path(str(robot.model))
    except ValueError as error:
        raise SpecError(str(robot.model), " ".join(str(error).split())[:200], "MuJoCo cannot read the model") from None
    result = {}
    for name in arm.names:
        joint = mujoco.mj_name2id(mjcf, mujoco.mjtObj.mjOBJ_JOINT, name)
        if joint < 0 or not mjcf.jnt_limited[joint]:
            raise MisfitError(f"{robot.model}: joint {name}: missing or without stops")
        result[name] = (float(mjcf.jnt_range[joint, 0]), float(mjcf.jnt_range[joint, 1]))
    return result


def measure_automatically(
    bench: Bench, route: Route, stops: Mapping[str, tuple[float, float]], tell: Progress
) -> dict[str, Measured]:
    """Sweep every joint and bring the arm to its home pose; it is left holding, with little force.

    Args:
        bench: opened with the ``force`` of the route.
        route: for this kind of arm.
        stops: joint → angles of its stops [rad].
        tell: called with what happens next.

    Raises:
        MisfitError: no route for an arm with these joints.
        DeviceError: a joint whose travel is not the model's.
    """
    if set(_WAY_HOME) != set(bench.arm.names):
        raise MisfitError(
            f"arm {bench.arm.serial}: no automatic route for joints {list(bench.arm.names)} "
            f"(known: {list(_WAY_HOME)}); calibrate by hand"
        )
    driver = _Driver(bench)
    driver.take_hold()
    measured: dict[str, Measured] = {}
    for stage in route.stages:
        tell(stage.joint)
        if stage.sweep:
            measured[stage.joint] = _sweep(driver, stage, stops[stage.joint])
        else:
            _raise(driver, stage)
    tell("home")
    for name in (joint for joint in _WAY_HOME if joint in measured):
        k, joint = bench.arm.names.index(name), bench.arm.joints[name]
        away = joint.home / driver.rad_per_tick[k] * (-1 if joint.inverted else 1)
        driver.move(k, measured[name].zero + round(away))
    return measured


def _raise(driver: _Driver, stage: Stage) -> None:
    k = driver.bench.arm.names.index(stage.joint)
    upward = stage.park > 0.5
    driver.push(k, 1 if upward != driver.bench.arm.joints[stage.joint].inverted else -1)


def _sweep(driver: _Driver, stage: Stage, stops: tuple[float, float]) -> Measured:
    bench = driver.bench
    k = bench.arm.names.index(stage.joint)
    inverted = bench.arm.joints[stage.joint].inverted
    low = driver.push(k, -1)
    high = driver.push(k, 1)
    per_tick = driver.rad_per_tick[k]
    span, expected = (high - low) * per_tick, stops[1] - stops[0]
    if abs(span - expected) > _SPAN_TOLERANCE:
        raise DeviceError(
            f"arm {bench.arm.serial}: joint {stage.joint}: {span:.3f} rad between its stops, the model says "
            f"{expected:.3f}; something is in the way"
        )
    lower, upper = (-stops[1], -stops[0]) if inverted else stops
    zero = round(((low - lower / per_tick) + (high - upper / per_tick)) / 2)
    share = 1 - stage.park if inverted else stage.park
    # Not quite at the stop: nothing should keep pushing there.
    driver.move(k, round(low + (high - low) * min(max(share, 0.02), 0.98)))
    return Measured(zero, low, high)


class _Driver:
    """Moves single joints slowly, by goals that walk ahead of them."""

    def __init__(self, bench: Bench) -> None:
        self.bench = bench
        self.rad_per_tick = 2 * math.pi / np.array([m.resolution for m in bench.models])
        self.goal: Int = bench.ticks()

    def take_hold(self) -> None:
        """Torque on where the arm stands."""
        self._send()
        self.bench.write("torque_enable", dict.fromkeys(self.bench.arm.names, 1))

    def push(self, k: int, direction: int) -> int:
        """Walk joint ``k`` up (+1) or down (-1) until it moves no more; where its encoder stands then."""
        step = SPEED * _STEP_S / self.rad_per_tick[k]
        lead = _HIGHEST_LEAD / self.rad_per_tick[k]
        recent: list[int] = []
        self.goal[k] = self.bench.ticks()[k]
        window = round(_STALL_WINDOW_S / _STEP_S)
        give_up = time.monotonic() + 4 * math.pi / SPEED + 5
        while time.monotonic() < give_up:
            here = int(self.bench.ticks()[k])
            recent.append(here)
            ahead = direction * (int(self.goal[k]) - here)
            if len(recent) > window and ahead > lead / 2 and abs(here - recent[-window - 1]) < _STALL_TICKS:
                return int(settled(self.bench, seconds=0.2)[k])
            if ahead < lead:
                self.goal[k] += round(direction * step)
                self._send()
            time.sleep(_STEP_S)
        name = self.bench.arm.names[k]
        raise DeviceError(f"arm {self.bench.arm.serial}: joint {name}: no stop found")

    def move(self, k: int, ticks: int) -> None:
        """Walk joint ``k`` to ``ticks``."""
        step = SPEED * _STEP_S / self.rad_per_tick[k]
        self.goal[k] = self.bench.ticks()[k]
        while self.goal[k] != ticks:
            left = ticks - int(self.goal[k])
            self.goal[k] += round(math.copysign(min(abs(left), step), left))
            self._send()
            time.sleep(_STEP_S)
        time.sleep(_STALL_WINDOW_S)

    def _send(self) -> None:
        self.bench.write("goal_position", dict(zip(self.bench.arm.names, self.goal.tolist(), strict=True)))

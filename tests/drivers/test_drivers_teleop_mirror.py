"""The leader's motion and what its servos are told: never faster than its limits, never outside its travel."""

from __future__ import annotations

from pathlib import Path

import mujoco
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from drivers.dynamixel.tables import model
from drivers.teleop import LeaderArm
from drivers.teleop.dynamics import Dynamics, stiffness
from drivers.teleop.mirror import CAUGHT_UP_RAD, Mirror
from spec.arrays import Float
from spec.errors import MisfitError, SpecError
from spec.robot import GiveWay, Limits, Teleop
from spec.robotfile import load_robot

ROBOT = load_robot(Path("robots/virtual.yaml"))
assert ROBOT.leader is not None
LEADER = ROBOT.leader
LIMITS = Limits.of(LEADER)
PERIOD_S = 0.02
angles = st.lists(st.floats(-2.5, 2.5), min_size=6, max_size=6).map(np.array)


@settings(deadline=None, max_examples=50)
@given(angles, st.lists(st.tuples(angles, st.integers(1, 60)), min_size=1, max_size=6))
def test_whatever_it_is_told_its_motion_keeps_the_leaders_limits(
    start: Float, targets: list[tuple[Float, int]]
) -> None:
    mirror = Mirror(LEADER)
    mirror.begin(start)
    before, speed = mirror.position, mirror.velocity
    for target, steps in targets:
        for _ in range(steps):
            mirror.step(target, np.zeros(6), PERIOD_S)
            assert (mirror.position >= LIMITS.lower).all()
            assert (mirror.position <= LIMITS.upper).all()
            assert (np.abs(mirror.velocity) <= LIMITS.velocity + 1e-6).all()
            assert (np.abs(mirror.position - before) <= LIMITS.velocity * PERIOD_S + 1e-6).all()
            inside = (mirror.position > LIMITS.lower) & (mirror.position < LIMITS.upper)  # an end stops it at once
            assert (np.abs(mirror.velocity - speed)[inside] <= (LIMITS.acceleration * PERIOD_S)[inside] + 1e-6).all()
            before, speed = mirror.position, mirror.velocity


def test_it_begins_where_it_stands_and_gently() -> None:
    mirror = Mirror(LEADER)
    mirror.begin(np.zeros(6))
    first = mirror.step(np.full(6, -0.5), np.zeros(6), PERIOD_S)
    assert np.abs(first).max() < 2e-3
    for _ in range(20):
        mirror.step(np.full(6, -0.5), np.zeros(6), PERIOD_S)
    assert (np.abs(mirror.velocity) < 0.4 * LIMITS.velocity).all()
    assert not mirror.caught_up


def test_once_it_has_caught_up_it_does_not_lag_behind_an_even_motion() -> None:
    mirror = Mirror(LEADER)
    speed = np.array([0.5, -0.3, 0.4, 0.6, -1.0, -0.2])
    start = np.array([-1.0, 0.2, -1.0, -1.0, 2.0, -0.2])
    mirror.begin(start)
    for k in range(1, 150):
        target = start + speed * k * PERIOD_S
        mirror.step(target, speed, PERIOD_S)
    assert mirror.caught_up
    assert np.abs(mirror.position - np.clip(target, LIMITS.lower, LIMITS.upper)).max() < 1e-3


def test_a_joint_that_the_follower_turns_further_stays_at_the_leaders_end() -> None:
    mirror = Mirror(LEADER)
    mirror.begin(np.zeros(6))
    for _ in range(300):
        mirror.step(LIMITS.upper + 0.3, np.ones(6), PERIOD_S)
    assert mirror.position == pytest.approx(LIMITS.upper)
    assert mirror.velocity == pytest.approx(0.0, abs=1e-9)
    assert mirror.caught_up, f"as near as it can come, within {CAUGHT_UP_RAD} rad"


def test_at_rest_the_servos_give_what_the_weight_takes() -> None:
    """Against the moments of the link weights, added up by hand from the model's own frames."""
    assert ROBOT.model is not None
    dynamics = Dynamics(ROBOT.model, LEADER.names)
    arm = mujoco.MjModel.from_xml_path(str(ROBOT.model))
    data = mujoco.MjData(arm)
    pose = np.array([0.2, -0.3, 0.2, -0.8, 0.4, -0.6])
    for name, angle in zip(LEADER.names, pose, strict=True):
        data.joint(name).qpos = angle
    mujoco.mj_forward(arm, data)
    joint = data.joint("shoulder_lift")
    moved = [arm.body(name).id for name in ("upper_arm", "forearm", "wrist", "gripper_base", "finger")]
    moment = sum(np.cross(data.xipos[b] - joint.xanchor, [0, 0, -9.81 * arm.body_mass[b]]) for b in moved)
    assert dynamics.torque(pose)[1] == pytest.approx(-float(moment @ joint.xaxis), abs=1e-6)


def test_speeding_up_takes_more() -> None:
    assert ROBOT.model is not None
    dynamics = Dynamics(ROBOT.model, LEADER.names)
    pose, rising = np.zeros(6), np.array([0.0, 5.0, 0.0, 0.0, 0.0, 0.0])
    assert dynamics.torque(pose, 0.0, rising)[1] > dynamics.torque(pose)[1] + 1e-3
    assert (dynamics.torque(pose) == dynamics.torque(pose)).all(), "it keeps no state"


def test_stiffness_is_that_of_the_e_manual() -> None:
    """P gain 400 on an XL330-M077: 3.125 PWM values a pulse, 652 pulses a radian, 885 for the whole 0.215 N·m."""
    assert stiffness(model("XL330-M077"), 400) == pytest.approx(3.125 * 4096 / (2 * np.pi) / 885 * 0.215)


def test_what_cannot_be_is_refused_before_anything_is_opened(tmp_path: Path) -> None:
    with pytest.raises(SpecError, match="no leader arm"):
        LeaderArm(ROBOT.model_copy(update={"leader": None}))
    with pytest.raises(SpecError, match=r"Bus Watchdog of 100 ms needs 20 or more"):
        LeaderArm(ROBOT.model_copy(update={"teleop": Teleop(rate_hz=15.0, stale_ms=150.0)}))
    with pytest.raises(SpecError, match="needs model"):
        LeaderArm(ROBOT.model_copy(update={"teleop": Teleop(give_way=GiveWay.LIGHT), "model": None}))
    with pytest.raises(MisfitError, match="has no joint 'knee'"):
        Dynamics(ROBOT.model or Path(), ("shoulder_pan", "knee"))
    bad = tmp_path / "bad.xml"
    bad.write_text("<mujoco><nonsense/></mujoco>")
    with pytest.raises(SpecError, match="MuJoCo cannot read"):
        Dynamics(bad, LEADER.names)

"""The scripted hand on the virtual leader: a person's force and a person's movements, against servos and without."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from drivers.virtual.live.hand import FORCE
from drivers.virtual.live.world import Leader, World
from spec.arrays import Float
from spec.errors import SpecError
from spec.robotfile import load_robot

ROBOT = load_robot(Path(__file__).parents[2] / "robots" / "virtual.yaml", {"cameras": "{}"})
NAMES = ROBOT.follower.names


@pytest.fixture
def leader() -> Leader:
    return make_leader()


def make_leader() -> Leader:
    leader = World(ROBOT, 0).leader
    assert leader is not None
    return leader


def torque_on(leader: Leader) -> None:
    for joint in range(len(NAMES)):
        leader.drives.set_gains(joint, 800, 0, 0)
        leader.drives.set_torque(joint, True)


def run(leader: Leader, seconds: float) -> tuple[Float, Float]:
    """Angles [rad] after each step, shape (steps, joints), and what the hand pulled with [N·m]."""
    angles, forces = [], []
    for _ in range(round(seconds / leader.model.opt.timestep)):
        leader.step()
        angles.append(leader.drives.position().copy())
        forces.append(list(leader.force().values()))
    return np.array(angles), np.array(forces)


@given(
    aims=st.lists(
        st.tuples(
            st.dictionaries(st.sampled_from(NAMES[:5]), st.floats(-1.2, 0.5), min_size=1),
            st.floats(0.1, 0.6),
            st.floats(0.05, 0.4),
        ),
        min_size=1,
        max_size=4,
    ),
    torque=st.booleans(),
)
@settings(max_examples=15, deadline=None)
def test_however_it_is_moved_a_hand_stays_within_its_force_and_moves_without_jerks(
    aims: list[tuple[dict[str, float], float, float]], torque: bool
) -> None:
    leader = make_leader()
    if torque:
        torque_on(leader)
    for joints, seconds, wait in aims:
        leader.hand(joints, seconds)
        angles, forces = run(leader, wait)
        assert np.abs(forces).max() <= FORCE + 1e-12
        steps = np.abs(np.diff(angles, axis=0)) / leader.model.opt.timestep
        assert steps.max() < 40  # [rad/s]; a spring without limit or a stiff one makes hundreds


def test_without_torque_the_hand_brings_the_arm_where_it_wants_and_leaves_it_there(leader: Leader) -> None:
    aim = {"shoulder_pan": 0.5, "elbow_flex": 0.7, "wrist_roll": -0.4}
    leader.hand(aim, 0.4)
    run(leader, 0.2)
    leader.hand({"elbow_flex": 0.9}, 0.3)  # turned elsewhere on the way; the others go on
    run(leader, 0.8)
    held = leader.joints()
    wanted = dict.fromkeys(NAMES, 0.0) | aim | {"elbow_flex": 0.9}
    assert held == pytest.approx(wanted, abs=0.02)
    leader.hand(None, 0.3)
    run(leader, 0.5)
    assert leader.joints() == pytest.approx(held, abs=0.005)
    assert leader.drives.velocity() == pytest.approx(np.zeros(6), abs=1e-3)


def test_the_hand_overcomes_the_servos_and_gives_the_arm_back_to_them(leader: Leader) -> None:
    torque_on(leader)
    run(leader, 0.6)
    before = leader.joints()
    leader.hand({"wrist_roll": 0.5}, 0.3)
    run(leader, 0.6)
    assert leader.joints()["wrist_roll"] > before["wrist_roll"] + 0.25
    assert abs(leader.drives.effort()[4]) <= 0.215 + 1e-9  # stall torque
    leader.hand(None, 0.3)
    run(leader, 0.8)
    assert leader.joints() == pytest.approx(before, abs=0.06)  # dry friction keeps a little


def test_a_hand_that_takes_a_moving_arm_moves_along(leader: Leader) -> None:
    torque_on(leader)
    leader.drives.set_goal(0, 1.0)
    run(leader, 0.12)
    speed = leader.drives.velocity()[0]
    assert speed > 1.0
    leader.hand({}, 0.3)
    angles, forces = run(leader, 0.02)
    assert np.diff(angles[:, 0]).min() / leader.model.opt.timestep > 0.5 * speed
    assert abs(forces[0, 0]) < 0.1


def test_a_push_ends_by_itself(leader: Leader) -> None:
    torque_on(leader)
    run(leader, 0.6)
    before = leader.joints()
    leader.push({"wrist_roll": 0.1}, 0.3)
    _, forces = run(leader, 0.25)
    assert forces[:, NAMES.index("wrist_roll")] == pytest.approx(0.1)
    assert leader.joints()["wrist_roll"] == pytest.approx(before["wrist_roll"] + 0.1, abs=0.02)
    _, forces = run(leader, 0.5)
    assert not forces[-1].any()
    assert leader.joints() == pytest.approx(before, abs=0.03)


@pytest.mark.parametrize(
    ("push", "words"),
    [({"elbow": 0.1}, "elbow.*no such joint.*elbow_flex"), ({"elbow_flex": 3.0}, "at most 0.4 N·m")],
)
def test_a_push_beyond_the_hand_is_refused_and_changes_nothing(
    leader: Leader, push: dict[str, float], words: str
) -> None:
    leader.hand({"shoulder_pan": 0.2}, 0.1)
    run(leader, 0.4)
    with pytest.raises(SpecError, match=words):
        leader.push(push, 0.3)
    with pytest.raises(SpecError, match="not an angle"):
        leader.hand({"shoulder_pan": float("nan")}, 0.3)
    run(leader, 0.3)
    assert leader.joints()["shoulder_pan"] == pytest.approx(0.2, abs=0.02)

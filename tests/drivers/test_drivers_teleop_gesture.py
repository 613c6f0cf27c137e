"""The double closing of the gripper: found where it is made, and nowhere else."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from drivers.teleop.gesture import (
    ARRIVED_NS,
    BRIEF_NS,
    CLOSED,
    OPEN,
    SQUEEZED_RAD,
    WITHIN_NS,
    DoubleClose,
    GripperGesture,
    Squeeze,
    closure,
)

MS = 1_000_000
ENDS = (-1.55, 0.02)


def seen(motion: list[tuple[int, float]], step_ns: int = 10 * MS) -> list[int]:
    """Instants at which the gesture is found in a motion of straight lines through (time [ns], closure)."""
    gesture, found = DoubleClose(), list[int]()
    for (t0, c0), (t1, c1) in pairwise(motion):
        found += [t for t in range(t0, t1, step_ns) if gesture.see(c0 + (c1 - c0) * (t - t0) / (t1 - t0), t)]
    return found


def closings(*times_ms: int, closed_ms: int = 100) -> list[tuple[int, float]]:
    """Open, and closed for ``closed_ms`` from each of ``times_ms`` on, with 50 ms on the way."""
    motion: list[tuple[int, float]] = [(0, 0.0)]
    for t in times_ms:
        motion += [
            (t * MS, 0.0),
            ((t + 50) * MS, 1.0),
            ((t + 50 + closed_ms) * MS, 1.0),
            ((t + 100 + closed_ms) * MS, 0.0),
        ]
    return [*motion, (motion[-1][0] + 1000 * MS, 0.0)]


def test_twice_within_a_second_is_the_gesture() -> None:
    assert len(seen(closings(500, 1000))) == 1
    assert seen(closings(500, 1000)) == [1040 * MS], "the moment it counts as closed again"


def test_a_third_closing_begins_anew() -> None:
    assert len(seen(closings(500, 900, 1300))) == 1
    assert len(seen(closings(500, 900, 1300, 1700))) == 2


def test_once_or_too_slowly_is_not() -> None:
    assert seen(closings(500)) == []
    assert seen(closings(500, 1600)) == []


def test_gripping_something_and_letting_go_is_not() -> None:
    assert seen(closings(500, 1100, closed_ms=450)) == []


def test_who_begins_with_a_closed_gripper_has_not_closed_it() -> None:
    assert seen([(0, 1.0), (100 * MS, 1.0), (150 * MS, 0.0), (300 * MS, 0.0), (350 * MS, 1.0), (400 * MS, 1.0)]) == []


@given(st.floats(0.0, 1.0), st.lists(st.floats(-0.04, 0.04), max_size=200))
def test_trembling_anywhere_is_not(at: float, tremor: list[float]) -> None:
    gesture = DoubleClose()
    assert not any(gesture.see(at + noise, k * 10 * MS) for k, noise in enumerate(tremor))


@given(st.lists(st.tuples(st.integers(1, 700), st.one_of(st.floats(-0.5, 1.5), st.just(float("nan")))), max_size=60))
def test_it_needs_two_closings_from_open_within_a_second_of_one_another(steps: list[tuple[int, float]]) -> None:
    gesture, now = DoubleClose(), 0
    closed: list[int] = []
    was_open = False
    for later, share in steps:
        now += later * MS
        found = gesture.see(share, now)
        if share <= OPEN:
            was_open = True
        elif share >= CLOSED and was_open:
            was_open = False
            closed.append(now)
            if found:
                assert closed[-1] - closed[-2] <= WITHIN_NS
                closed.clear()
        else:
            assert not found
    assert BRIEF_NS < WITHIN_NS


def test_closure_is_the_way_from_open_to_shut_whichever_way_the_joint_turns() -> None:
    assert closure(0.02, ENDS) == 1.0
    assert closure(-1.55, ENDS) == 0.0
    assert closure(-0.02, (-0.02, 1.55)) == 1.0
    assert closure(1.55, (-0.02, 1.55)) == 0.0


@pytest.mark.parametrize("side", [1.0, -1.0])
def test_a_mirroring_gripper_counts_by_how_far_it_is_squeezed(side: float) -> None:
    squeeze = Squeeze(ENDS if side > 0 else (-ENDS[1], -ENDS[0]))
    assert squeeze.closure(0.0, 0.0, 0) == 0.0, "closed because the follower is"
    assert squeeze.closure(side * -0.75, side * -1.0, ARRIVED_NS + 1) == 1.0
    assert squeeze.closure(side * -1.25, side * -1.0, ARRIVED_NS + 2) == -1.0


def test_nothing_told_is_nothing_squeezed() -> None:
    squeeze = Squeeze(ENDS)
    assert np.isnan(squeeze.closure(0.0, np.nan, 0))
    squeeze.closure(0.0, -1.0, 1)
    squeeze.forget()
    assert np.isnan(squeeze.closure(0.0, np.nan, 2))


@given(
    st.lists(st.tuples(st.floats(*ENDS), st.floats(0.0, 1.0)), min_size=2, max_size=100),
    st.integers(1, ARRIVED_NS // MS // 5),
)
def test_a_gripper_on_its_way_from_one_goal_to_another_is_not_squeezed(
    goals: list[tuple[float, float]], step_ms: int
) -> None:
    """However the follower's gripper snaps open and shut, and however late its mirror comes: up to five cycles."""
    gesture, squeeze = GripperGesture(ENDS), Squeeze(ENDS)
    position = goals[0][0]
    told = [goals[0][0]]
    for k, (goal, share) in enumerate(goals):
        told = [*told, goal][-5:]
        position = min(told) + share * (max(told) - min(told))
        assert not gesture.see(position, goal, k * step_ms * MS)
        assert squeeze.closure(position, goal, k * step_ms * MS) < 1e-9


def test_a_mirroring_gripper_squeezed_twice_makes_the_gesture() -> None:
    gesture, found = GripperGesture(ENDS), 0
    for t in range(0, 2000, 10):
        squeezed = SQUEEZED_RAD if 600 <= t < 700 or 900 <= t < 1000 else 0.0
        found += gesture.see(-1.0 + squeezed, -1.0, t * MS)
    assert found == 1

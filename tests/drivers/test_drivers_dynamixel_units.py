"""Ticks and radians: exact inverses, directions, limits, turns."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from drivers.dynamixel.units import LIMIT_MARGIN, Units
from spec.calibration import Calibration, JointCalibration
from spec.errors import MisfitError
from spec.robot import Arm, Joint


def arm_of(*joints: Joint) -> Arm:
    return Arm(
        serial="test", port="/dev/null", calibration=Path("x"), joints={f"j{k}": j for k, j in enumerate(joints)}
    )


def joint(number: int, *, low: float = -1.5, high: float = 1.5, inverted: bool = False, velocity: float = 3.0) -> Joint:
    return Joint(
        id=number,
        model="XL330-M288",
        inverted=inverted,
        position=(low, high),
        velocity=velocity,
        acceleration=25.0,
        jerk=600.0,
        home=(low + high) / 2,
    )


def units_of(
    arm: Arm, *zeros: int, reached: tuple[int, int] = (-(10**7), 10**7), margin: float = LIMIT_MARGIN
) -> Units:
    return Units(
        arm,
        Calibration(
            serial="test",
            joints={
                name: JointCalibration(
                    id=j.id, model=j.model, inverted=j.inverted, zero_ticks=zero, range_ticks=reached
                )
                for (name, j), zero in zip(arm.joints.items(), zeros, strict=True)
            },
        ),
        margin,
    )


@given(st.integers(1100, 2990), st.booleans(), st.data())
def test_ticks_to_radians_and_back_is_exact(zero: int, inverted: bool, data: st.DataObject) -> None:
    units = units_of(arm_of(joint(1, inverted=inverted)), zero)
    ticks = np.array([data.draw(st.integers(int(units.lower_ticks[0]), int(units.upper_ticks[0])))])
    assert units.ticks(units.position(ticks)) == ticks


@given(st.floats(-1.5, 1.5), st.booleans())
def test_rounding_is_at_most_half_a_tick(angle: float, inverted: bool) -> None:
    units = units_of(arm_of(joint(1, inverted=inverted)), 2100)
    found = units.position(units.ticks(np.array([angle])))[0]
    assert abs(found - angle) <= math.pi / 4096 + 1e-12


def test_direction_applies_to_everything() -> None:
    units = units_of(arm_of(joint(1), joint(2, inverted=True)), 2048, 2048)
    raw = np.array([2148, 2148])
    assert np.sign(units.position(raw)).tolist() == [1, -1]
    measured = units.measured((10, 10, 2148, 10, 10, 2148))
    assert np.sign(measured).tolist() == [[1, -1]] * 3
    assert measured[0].tolist() == units.position(raw).tolist()
    assert units.position(np.array([2048 + 1024, 2048 + 1024])) == pytest.approx([math.pi / 2, -math.pi / 2])


@given(st.floats(-100, 100))
def test_goals_stay_inside_servo_limits(angle: float) -> None:
    units = units_of(arm_of(joint(1)), 2048)
    ticks = units.ticks(np.array([angle]))
    assert units.lower_ticks <= ticks <= units.upper_ticks
    assert units.limits(0) == pytest.approx((-1.5 - LIMIT_MARGIN, 1.5 + LIMIT_MARGIN), abs=0.002)


def test_an_arm_that_is_told_ahead_of_its_goals_gets_wider_limits() -> None:
    units = units_of(arm_of(joint(1)), 2048, margin=0.4)
    assert units.limits(0) == pytest.approx((-1.9, 1.9), abs=0.002)
    assert units.position(units.ticks(np.array([1.8])))[0] == pytest.approx(1.8, abs=0.001)


def test_position_mode_where_travel_permits_else_extended() -> None:
    arm = arm_of(joint(1, low=-3.0, high=3.0))
    assert units_of(arm, 2048).extended == (False,)
    assert units_of(arm, 2048).lower_ticks[0] >= 0
    assert units_of(arm, 1500).extended == (True,)
    # The margin is given up before the mode is.
    tight = units_of(arm_of(joint(1, low=-3.1, high=3.1)), 2048)
    assert tight.extended == (False,)
    assert (tight.lower_ticks[0], tight.upper_ticks[0]) == (0, 4095)


@given(st.integers(-3, 3), st.floats(-2.9, 2.9))
def test_extended_joint_finds_its_turn(turns: int, angle: float) -> None:
    units = units_of(arm_of(joint(1, low=-3.0, high=3.0)), 1500)
    ticks = units.ticks(np.array([angle])) + 4096 * turns
    units.settle(ticks)
    assert units.position(ticks)[0] == pytest.approx(angle, abs=0.001)
    assert units.ticks(np.array([angle])) == ticks


def test_travel_beyond_all_turns_is_refused() -> None:
    with pytest.raises(MisfitError, match=r"joint j0.*more than XL330-M288 can reach"):
        units_of(arm_of(joint(1, low=-2000.0, high=2000.0, velocity=40.0)), 2048)


def test_a_range_beyond_the_calibrated_one_is_refused() -> None:
    reached = (2048 - 1000, 2048 + 1000)  # ±1.534 rad
    units_of(arm_of(joint(1, low=-1.5, high=1.5)), 2048, reached=reached)
    with pytest.raises(MisfitError, match=r"j0: position \[-1\.5, 2\.0\] rad reaches beyond .* \[-1\.534, 1\.534\]"):
        units_of(arm_of(joint(1, low=-1.5, high=2.0)), 2048, reached=reached)
    with pytest.raises(MisfitError, match=r"beyond the calibrated range"):
        units_of(arm_of(joint(1, low=-1.5, high=2.0, inverted=True)), 2048, reached=reached)

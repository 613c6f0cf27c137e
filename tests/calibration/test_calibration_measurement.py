"""From readings to a calibration: turns, zero, refusals."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from calibration.measurement import Measured, Sweep, angles, calibration_of, shortfalls
from spec.calibration import load_calibration, save_calibration
from spec.errors import DeviceError
from spec.robot import Arm


def arm(folder: Path = Path(), *, inverted: bool = False) -> Arm:
    joint = {
        "id": 1,
        "model": "XL330-M288",
        "inverted": inverted,
        "position": (-1.0, 0.5),
        "velocity": 1.0,
        "acceleration": 1.0,
        "jerk": 1.0,
    }
    return Arm.model_validate(
        {"serial": "a", "port": "/dev/null", "calibration": folder / "a.json", "joints": {"elbow": joint}}
    )


@given(st.integers(0, 4095), st.lists(st.integers(-2000, 2000), max_size=40))
def test_a_sweep_follows_an_encoder_over_its_seam(start: int, steps: list[int]) -> None:
    path = np.cumsum([start, *steps])
    sweep = Sweep(np.array([start]), np.array([4096]))
    for position in path[1:]:
        sweep.look(np.array([position % 4096]))
    assert sweep.now[0] == path[-1]
    assert (sweep.lowest[0], sweep.highest[0]) == (path.min(), path.max())


@given(st.integers(-3, 3), st.booleans(), st.integers(0, 4095))
def test_zero_comes_into_the_first_turn_and_the_range_with_it(turns: int, inverted: bool, zero: int) -> None:
    measured = Measured(zero + 4096 * turns, zero + 4096 * turns - 700, zero + 4096 * turns + 400)
    found = calibration_of(arm(inverted=inverted), {"elbow": measured})
    assert found.joints["elbow"].zero_ticks == zero
    low, high = angles(arm(inverted=inverted), found)["elbow"]
    per_tick = 2 * math.pi / 4096
    assert (low, high) == pytest.approx(
        (-400 * per_tick, 700 * per_tick) if inverted else (-700 * per_tick, 400 * per_tick)
    )


def test_a_joint_that_was_forgotten_is_refused() -> None:
    with pytest.raises(DeviceError, match=r"joint elbow: swept only 0.03 rad of 1.50"):
        calibration_of(arm(), {"elbow": Measured(2000, 1990, 2010)})


def test_a_zero_pose_outside_the_sweep_is_refused() -> None:
    with pytest.raises(DeviceError, match=r"joint elbow: the zero pose \(tick 3000\) lies outside the sweep"):
        calibration_of(arm(), {"elbow": Measured(3000, 1000, 2000)})


def test_a_range_not_reached_is_reported() -> None:
    found = calibration_of(arm(), {"elbow": Measured(2048, 2048 - 700, 2048 + 100)})
    (line,) = shortfalls(arm(), found)
    assert line.startswith("elbow: swept [-1.07, 0.15] rad, but position permits [-1.0, 0.5]")
    assert shortfalls(arm(), calibration_of(arm(), {"elbow": Measured(2048, 1348, 2400)})) == []


def test_what_is_saved_is_what_is_loaded(tmp_path: Path) -> None:
    found = calibration_of(arm(tmp_path), {"elbow": Measured(2048, 1348, 2400)})
    save_calibration(found, tmp_path / "a.json")
    assert load_calibration(arm(tmp_path)) == found

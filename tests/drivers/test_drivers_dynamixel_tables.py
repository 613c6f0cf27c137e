"""Control tables: facts of the e-manual, and that the data files hold together."""

from __future__ import annotations

import math
from itertools import pairwise

import pytest

from drivers.dynamixel.tables import model, model_name, models
from spec.errors import SpecError


def test_model_numbers() -> None:
    assert {name: m.number for name, m in models().items()} == {
        "XL330-M077": 1190,
        "XL330-M288": 1200,
        "XL430-W250": 1060,
        "XC430-W150": 1070,
        "XM430-W350": 1020,
        "XM540-W270": 1120,
    }
    assert model_name(1200) == "XL330-M288"
    assert model_name(7) == "model 7"


@pytest.mark.parametrize("name", models())
def test_registers_do_not_overlap_and_defaults_are_permitted(name: str) -> None:
    m = model(name)
    registers = list(m.registers.values())
    for first, second in pairwise(registers):
        assert first.end <= second.address, (first.name, second.name)
    for register in registers:
        assert register.size in {1, 2, 4}
        if register.default is not None:
            register.encode(register.default)
            bounds = register.bounds(lambda other: m[other].default or 0)
            assert bounds is None or bounds[0] <= register.default <= bounds[1], register


@pytest.mark.parametrize("name", models())
def test_the_tick_reads_ten_contiguous_bytes(name: str) -> None:
    m = model(name)
    block = (m.effort_register, m["present_velocity"], m["present_position"])
    assert [(r.address, r.size) for r in block] == [(126, 2), (128, 4), (132, 4)]
    assert all(r.signed for r in block)


def test_current_and_load() -> None:
    assert model("XL430-W250").effort_register.name == "present_load"
    assert "current_limit" not in model("XL430-W250").registers
    assert model("XL430-W250").effort_register.scale == pytest.approx(0.001)
    assert model("XL330-M288").effort_register.scale == pytest.approx(0.001)
    assert model("XM430-W350").effort_register.scale == pytest.approx(0.00269)


def test_units_are_si() -> None:
    m = model("XL330-M288")
    assert m["present_velocity"].scale == pytest.approx(0.229 * 2 * math.pi / 60)
    assert m["profile_acceleration"].scale == pytest.approx(214.577 * 2 * math.pi / 3600)
    assert m["return_delay_time"].scale == pytest.approx(2e-6)
    assert m["bus_watchdog"].scale == pytest.approx(0.020)
    assert m["goal_pwm"].scale == pytest.approx(0.00113)


def test_limits_kept_in_other_registers() -> None:
    table = model("XL330-M288")
    values = {"pwm_limit": 500, "min_position_limit": 10, "max_position_limit": 4000}
    assert table["goal_pwm"].bounds(values.__getitem__) == (-500, 500)
    assert table["goal_position"].bounds(values.__getitem__) == (10, 4000)
    assert table["present_position"].bounds(values.__getitem__) is None


def test_indirect_registers_point_at_their_own_windows() -> None:
    small, large = model("XL330-M288"), model("XL430-W250")
    assert small["indirect_address_1"].default == 208
    assert small["indirect_address_20"].address == 206
    assert "indirect_address_21" not in small.registers
    assert large["indirect_address_29"].address == 578
    assert large["indirect_address_29"].default == 634
    assert large["indirect_data_56"].address == 661


def test_unknown_model_names_the_known_ones() -> None:
    with pytest.raises(SpecError, match=r"'XL999'.*XL330-M077"):
        model("XL999")

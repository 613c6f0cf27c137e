"""Executed actions are what reached the servos."""

from __future__ import annotations

import math

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from episodes.executed import executed_targets
from episodes.records import Flag

JOINTS = 2


@given(
    st.lists(
        st.tuples(st.sampled_from(["sent", "nothing", "failed", "half"]), st.floats(-3, 3), st.floats(-3, 3)),
        min_size=1,
        max_size=30,
    )
)
def test_executed_equals_a_plain_loop(told: list[tuple[str, float, float]]) -> None:
    ticks = np.zeros(len(told), dtype=[("sent", "<f8", (JOINTS,)), ("flags", "<u4")])
    held = [math.nan] * JOINTS
    expected = []
    for row, (what, first, second) in zip(ticks, told, strict=True):
        row["sent"] = [math.nan] * JOINTS if what == "nothing" else [first, math.nan if what == "half" else second]
        row["flags"] = int(Flag.WRITE_FAILED | Flag.LATE) if what == "failed" else int(Flag.LATE)
        if what == "sent":
            held = [first, second]
        expected.append(held)
    assert np.array_equal(executed_targets(ticks), np.array(expected), equal_nan=True)


def test_no_ticks_no_targets() -> None:
    assert executed_targets(np.zeros(0, dtype=[("sent", "<f8", (6,)), ("flags", "<u4")])).shape == (0, 6)

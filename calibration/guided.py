"""Calibration by a person's hands: zero pose, then every joint from stop to stop."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np

from calibration.bench import Bench, settled
from calibration.measurement import Measured, Sweep

Confirm = Callable[[str], None]
"""Shows a text and returns when the person has done it."""
Watch = Callable[[Mapping[str, tuple[int, int, int]]], bool]
"""Shows joint → (lowest, now, highest) [ticks]; False once the person is done."""


def measure_by_hand(bench: Bench, confirm: Confirm, watch: Watch) -> dict[str, Measured]:
    """Guide a person through homing and sweep; torque is off throughout."""
    confirm(
        "Torque is off: support the arm. Put it in its zero pose, all joints at angle 0 as drawn in the robot's model, "
        "and hold it still."
    )
    zero = settled(bench)
    sweep = Sweep(zero, np.array([m.resolution for m in bench.models]))
    names = bench.arm.names
    while watch(
        {name: (int(sweep.lowest[k]), int(sweep.now[k]), int(sweep.highest[k])) for k, name in enumerate(names)}
    ):
        sweep.look(bench.ticks())
    return {name: Measured(int(zero[k]), int(sweep.lowest[k]), int(sweep.highest[k])) for k, name in enumerate(names)}

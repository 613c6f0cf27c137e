"""Registers <-> SI units for all joints of one arm at once. The only place that knows encoder ticks."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from drivers.dynamixel.tables import Model, model
from spec.arrays import Float, Int, frozen
from spec.calibration import Calibration
from spec.errors import MisfitError
from spec.robot import Arm

EXTENDED_REACH = 1_048_575
"""Goal Position in extended position mode reaches ± this many ticks (256 turns), e-manual X series, Goal Position."""
MEASURED_MARGIN = 0.05
"""The robot file may permit this much more than the calibration's sweep reached [rad]: no sweep is perfect."""
LIMIT_MARGIN = 0.05
"""Servo-side position limits stand this far outside the robot file's [rad]: an arm held at its limit sags a little."""


class Units:
    """Conversions of one arm; arrays have shape (joints,).

        angle = ±(ticks − zero_ticks) · 2π / resolution        (minus where the joint is inverted)

    Args:
        arm: its joints and their permitted ranges.
        calibration: where each encoder stands at joint angle zero.
        margin: how far outside the permitted range the servo-side limits stand [rad].
    """

    def __init__(self, arm: Arm, calibration: Calibration, margin: float = LIMIT_MARGIN) -> None:
        self.models: tuple[Model, ...] = tuple(model(joint.model) for joint in arm.joints.values())
        self.sign = frozen([-1.0 if joint.inverted else 1.0 for joint in arm.joints.values()])
        self.zero = np.array([calibration.joints[name].zero_ticks for name in arm.joints], dtype=np.int64)
        self._rad_per_tick = frozen(self.sign * [2 * math.pi / m.resolution for m in self.models])
        self._rad_s_per_unit = (self.sign * [m["present_velocity"].scale for m in self.models]).tolist()
        self._effort_per_unit = (self.sign * [m.effort_register.scale for m in self.models]).tolist()
        self._check_range(arm, calibration)
        self.lower_ticks, self.upper_ticks, self.extended = self._travel(arm, margin)
        self._know_goals()

    def position(self, ticks: Int) -> Float:
        """[rad]"""
        return (ticks - self.zero) * self._rad_per_tick

    def measured(self, registers: Sequence[int]) -> Float:
        """Position [rad], velocity [rad/s] and effort ([A], or load as a fraction; positive drives the joint angle up):
        shape (3, joints).

        Args:
            registers: effort, velocity and position of the first joint, of the second, and so on, as they lie side by
                side in the control table.
        """
        # Plain numbers, here and below: for half a dozen joints every numpy call costs more than the whole line.
        effort, velocity, position = registers[::3], registers[1::3], registers[2::3]
        values = [(ticks - zero) * size for ticks, (size, zero, _, _) in zip(position, self._goals, strict=True)]
        values += [speed * size for speed, size in zip(velocity, self._rad_s_per_unit, strict=True)]
        values += [pull * size for pull, size in zip(effort, self._effort_per_unit, strict=True)]
        return np.array(values).reshape(3, -1)

    def ticks(self, position: Float) -> Int:
        """Nearest encoder position for finite joint angles [rad], kept inside the servo-side limits."""
        wanted = zip(position.tolist(), self._goals, strict=True)
        return np.array([min(max(round(q / size) + zero, low), high) for q, (size, zero, low, high) in wanted])

    def limits(self, joint: int) -> tuple[float, float]:
        """Servo-side limits of one joint as angles [rad], lower first."""
        ends = (np.array([self.lower_ticks[joint], self.upper_ticks[joint]]) - self.zero[joint]) * self._rad_per_tick[
            joint
        ]
        return float(ends.min()), float(ends.max())

    def settle(self, ticks: Int) -> None:
        """Find the turn each extended-position joint woke up in, from where it stands, shape (joints,).

        Such a servo forgets whole turns without power. Up to one turn of travel the turn is certain; beyond that the
        one nearest to the middle of the permitted range is taken.
        """
        for k, is_extended in enumerate(self.extended):
            if is_extended:
                turn = self.models[k].resolution
                shift = round((int(ticks[k]) - (self.lower_ticks[k] + self.upper_ticks[k]) / 2) / turn) * turn
                for array in (self.zero, self.lower_ticks, self.upper_ticks):
                    array[k] += shift
        self._know_goals()

    def _know_goals(self) -> None:
        columns = self._rad_per_tick, self.zero, self.lower_ticks, self.upper_ticks
        self._goals = tuple(zip(*(column.tolist() for column in columns), strict=True))

    def _check_range(self, arm: Arm, calibration: Calibration) -> None:
        """Refuse a permitted range that reaches beyond what the calibration found the joint to have."""
        for k, (name, joint) in enumerate(arm.joints.items()):
            ends = [(end - int(self.zero[k])) * self._rad_per_tick[k] for end in calibration.joints[name].range_ticks]
            low, high = min(ends), max(ends)
            if joint.position[0] < low - MEASURED_MARGIN or joint.position[1] > high + MEASURED_MARGIN:
                raise MisfitError(
                    f"{arm.serial}: joint {name}: position {list(joint.position)} rad reaches beyond the calibrated "
                    f"range [{low:.3f}, {high:.3f}]; narrow it, or calibrate again"
                )

    def _travel(self, arm: Arm, margin_rad: float) -> tuple[Int, Int, tuple[bool, ...]]:
        """Servo-side limits [ticks] and which joints need extended position mode to reach them."""
        lower, upper, extended = [], [], []
        for k, (name, joint) in enumerate(arm.joints.items()):
            resolution = self.models[k].resolution
            margin = margin_rad * resolution / (2 * math.pi)
            ends = [int(self.zero[k]) + angle / self._rad_per_tick[k] for angle in joint.position]
            low, high = min(ends), max(ends)
            # The margin gives way before the mode does: position mode has the servo's own limits.
            fits = low >= 0 and high <= resolution - 1
            low, high = math.floor(low - margin), math.ceil(high + margin)
            if fits:
                low, high = max(low, 0), min(high, resolution - 1)
            elif max(-low, high) > EXTENDED_REACH or 4 not in self.models[k].modes:
                raise MisfitError(
                    f"joint {name}: position {list(joint.position)} is [{low}, {high}] encoder ticks, "
                    f"more than {self.models[k].name} can reach"
                )
            lower.append(low)
            upper.append(high)
            extended.append(not fits)
        return np.array(lower, dtype=np.int64), np.array(upper, dtype=np.int64), tuple(extended)

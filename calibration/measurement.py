"""From encoder readings to a calibration. Pure."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from drivers.dynamixel.tables import model
from spec.arrays import Int
from spec.calibration import Calibration, JointCalibration
from spec.errors import DeviceError
from spec.robot import Arm, Joint

SMALLEST_SWEEP = 0.25
"""A joint swept over less than this share of its permitted travel was forgotten [fraction]."""


@dataclass(frozen=True, slots=True)
class Measured:
    """Encoder readings of one joint, continuous over turns [ticks]."""

    zero: int
    lowest: int
    highest: int


class Sweep:
    """Follows encoders through whole turns and keeps the extremes; arrays have shape (joints,).

    A servo in position mode reports one turn only and jumps by a whole one at its seam; half a turn between two looks
    cannot be a movement.
    """

    def __init__(self, first: Int, resolution: Int) -> None:
        self._resolution = resolution
        self.now: Int = np.array(first, dtype=np.int64)
        self.lowest, self.highest = self.now.copy(), self.now.copy()

    def look(self, ticks: Int) -> None:
        """Take in one more reading."""
        step = ticks - self.now
        step = step - np.rint(step / self._resolution).astype(np.int64) * self._resolution
        self.now = self.now + step
        self.lowest, self.highest = np.minimum(self.lowest, self.now), np.maximum(self.highest, self.now)


def calibration_of(arm: Arm, measured: Mapping[str, Measured]) -> Calibration:
    """The calibration that ``measured`` amounts to, with zero brought into the encoder's first turn.

    Raises:
        DeviceError: a joint that was hardly moved, or whose zero lies outside its sweep.
    """
    joints: dict[str, JointCalibration] = {}
    for name, joint in arm.joints.items():
        m, resolution = measured[name], model(joint.model).resolution
        _check_sweep(arm, name, joint, m, resolution)
        turns = m.zero // resolution * resolution
        joints[name] = JointCalibration(
            id=joint.id,
            model=joint.model,
            inverted=joint.inverted,
            zero_ticks=m.zero - turns,
            range_ticks=(m.lowest - turns, m.highest - turns),
        )
    return Calibration(serial=arm.serial, joints=joints)


def angles(arm: Arm, calibration: Calibration) -> dict[str, tuple[float, float]]:
    """Swept range of every joint as angles [rad], lower first."""
    result = {}
    for name, measured in calibration.joints.items():
        scale = 2 * math.pi / model(measured.model).resolution * (-1 if arm.joints[name].inverted else 1)
        ends = sorted((t - measured.zero_ticks) * scale for t in measured.range_ticks)
        result[name] = (ends[0], ends[1])
    return result


def shortfalls(arm: Arm, calibration: Calibration, tolerance: float = 0.05) -> list[str]:
    """One line for each joint whose permitted range was not reached in the sweep (``tolerance`` in rad)."""
    lines = []
    for name, (lower, upper) in angles(arm, calibration).items():
        allowed = arm.joints[name].position
        if lower > allowed[0] + tolerance or upper < allowed[1] - tolerance:
            lines.append(
                f"{name}: swept [{lower:.2f}, {upper:.2f}] rad, but position permits [{allowed[0]}, {allowed[1]}]; "
                "narrow it in the robot file unless the joint really goes there"
            )
    return lines


def _check_sweep(arm: Arm, name: str, joint: Joint, measured: Measured, resolution: int) -> None:
    swept = (measured.highest - measured.lowest) * 2 * math.pi / resolution
    permitted = joint.position[1] - joint.position[0]
    if swept < SMALLEST_SWEEP * permitted:
        raise DeviceError(
            f"arm {arm.serial}: joint {name}: swept only {swept:.2f} rad of {permitted:.2f}; move it from stop to stop"
        )
    margin = resolution // 32  # a zero pose is set by eye
    if not measured.lowest - margin <= measured.zero <= measured.highest + margin:
        raise DeviceError(
            f"arm {arm.serial}: joint {name}: the zero pose (tick {measured.zero}) lies outside the sweep "
            f"[{measured.lowest}, {measured.highest}]; was the arm in its zero pose?"
        )

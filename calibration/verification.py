"""Reading a fresh calibration back through the very path the controller will use."""

from __future__ import annotations

import math

from calibration.measurement import angles
from drivers.dynamixel import DynamixelArm
from spec.calibration import Calibration, load_calibration
from spec.errors import DeviceError
from spec.robot import Arm

_TOLERANCE = 0.03
"""[rad] that a resting joint may read outside its sweep."""


def verify(arm: Arm, calibration: Calibration, *, hold: bool) -> None:
    """Load the saved file, open the arm with it, and check every joint stands inside its sweep.

    Opening programs the servos for work again: operating mode, limits, profile.

    Args:
        hold: let servos that hold torque go for the moment their EEPROM needs, and leave the arm held.

    Raises:
        DeviceError: the file does not say what was measured, or the arm reads otherwise.
    """
    if load_calibration(arm).digest() != calibration.digest():
        raise DeviceError(f"{arm.calibration}: reads back other than written")
    with DynamixelArm(arm, may_relax=hold) as opened:
        for joint, angle in opened.where().items():
            lower, upper = angles(arm, calibration)[joint]
            if not lower - _TOLERANCE <= angle <= upper + _TOLERANCE:
                raise DeviceError(
                    f"arm {arm.serial}: joint {joint}: stands at {math.degrees(angle):.1f} deg, outside its sweep "
                    f"[{math.degrees(lower):.1f}, {math.degrees(upper):.1f}]; calibrate again"
                )
        if hold:
            opened.hold()

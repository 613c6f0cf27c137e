"""What moves inside the virtual servos: motor, gear and battery figures of each Dynamixel model.

The control tables (drivers.dynamixel.tables) say how a servo talks, this says how it turns. Stall torque and no-load
speed are the e-manual's at the stated voltage; rotor inertia and friction are estimates of the usual size, since no
one publishes them.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import pi

from spec.errors import SpecError

FULL_PWM = 885
"""Goal PWM of 100 % duty, every X-series model (e-manual, PWM Limit)."""


@dataclass(frozen=True, slots=True)
class Motor:
    """One servo model as a DC motor behind a gear, seen at the output shaft."""

    voltage: float
    """[V]"""
    stall_torque: float
    """[N·m]"""
    no_load_rpm: float
    """[rev/min]"""
    stall_current: float
    """[A]"""
    armature: float
    """Rotor inertia times gear ratio squared [kg·m²]."""
    friction: float
    """Dry friction of the gear [N·m]."""

    @property
    def damping(self) -> float:
        """Back-EMF while the bridge is on [N·m·s/rad]: the torque-speed line from stall to no-load."""
        return self.stall_torque / (self.no_load_rpm * 2 * pi / 60)

    @property
    def torque_constant(self) -> float:
        """[N·m/A]"""
        return self.stall_torque / self.stall_current


_MOTORS = {
    "XL330-M077": Motor(5.0, 0.215, 383.0, 1.47, 6e-5, 0.006),
    "XL330-M288": Motor(5.0, 0.52, 103.0, 1.47, 5e-4, 0.015),
    "XL430-W250": Motor(11.1, 1.4, 57.0, 1.3, 1e-3, 0.03),
    "XC430-W150": Motor(11.1, 1.6, 102.0, 1.4, 8e-4, 0.03),
    "XM430-W350": Motor(12.0, 4.1, 46.0, 2.3, 2e-3, 0.06),
    "XM540-W270": Motor(12.0, 10.6, 30.0, 4.4, 6e-3, 0.12),
}

GEAR_DRAG = 0.004
"""Viscous drag that is left when torque is off [N·m·s/rad]; grease, not the motor."""


def motor(name: str) -> Motor:
    """Figures of a servo model, e.g. ``XL330-M288``; SpecError with the known names otherwise."""
    try:
        return _MOTORS[name]
    except KeyError:
        raise SpecError("virtual arm: servo model", name, "no motor figures for it", _MOTORS) from None

"""What is programmed into every servo before it may move, and read back: the last rung of safety, in the servo itself.

These registers hold even when the control process is dead. Sources: e-manual of the X series, register pages.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

from drivers.dynamixel.bus import Bus
from drivers.dynamixel.tables import EEPROM_END, Model
from spec.errors import DeviceError, MisfitError
from spec.robot import Arm, Joint

POSITION_MODE = 3
EXTENDED_POSITION_MODE = 4
STATUS_RETURN_ALL = 2
PROFILE_VELOCITY_FACTOR = 1.25
PROFILE_ACCELERATION_FACTOR = 4.0
"""The servo's own profile stands this far above the envelope: clean commands never touch it, wild ones are tamed.
Following a ramp at speed v, a profile with acceleration a lags by v²/2a, so a tight one would cost tracking."""
_FIRST_EEPROM = 9  # Return Delay Time; id and baud rate are never touched
WATCHDOG_UNIT_MS = 20

HARDWARE_ERRORS = {
    0: "input voltage",
    2: "overheating",
    3: "motor encoder",
    4: "electrical shock",
    5: "overload",
}
"""Bits of Hardware Error Status(70)."""


@dataclass(frozen=True, slots=True)
class Programming:
    """Register values of one servo, by register name."""

    eeprom: Mapping[str, int]
    ram: Mapping[str, int]


def hardware_errors(status: int) -> tuple[str, ...]:
    """Names of the bits set in Hardware Error Status(70)."""
    return tuple(HARDWARE_ERRORS.get(bit, f"bit {bit}") for bit in range(8) if status >> bit & 1)


def programming(arm: Arm, name: str, model: Model, lower_ticks: int, upper_ticks: int, extended: bool) -> Programming:
    """What joint ``name`` gets.

    Direction and zero stay in the calibration (drive mode normal, homing offset 0), so that a servo swapped or reset
    cannot silently turn a joint around. Limits in ticks apply in position mode only; extended position mode has none.

    Raises:
        MisfitError: the robot file asks for something this model does not have.
    """
    joint = arm.joints[name]
    eeprom = {
        "return_delay_time": round(arm.return_delay_us * 1e-6 / model["return_delay_time"].scale),
        "drive_mode": 0,
        "operating_mode": EXTENDED_POSITION_MODE if extended else POSITION_MODE,
        "homing_offset": 0,
        "pwm_limit": _factory(model, "pwm_limit"),
        "shutdown": _factory(model, "shutdown"),
    }
    if joint.current is not None:
        eeprom["current_limit"] = _current_limit(name, joint, model)
    if not extended:
        eeprom |= {"max_position_limit": upper_ticks, "min_position_limit": lower_ticks}
    speed = math.ceil(PROFILE_VELOCITY_FACTOR * joint.velocity / model["profile_velocity"].scale)
    acceleration = math.ceil(PROFILE_ACCELERATION_FACTOR * joint.acceleration / model["profile_acceleration"].scale)
    ram = {
        "status_return_level": STATUS_RETURN_ALL,
        "profile_acceleration": min(acceleration, 32767),
        "profile_velocity": min(speed, _factory(model, "velocity_limit")),
    }
    return Programming(eeprom, ram)


def watchdog_units(arm: Arm) -> int:
    """Bus Watchdog(98) value: 20 ms units, 0 for none."""
    return 0 if arm.bus_watchdog_ms is None else arm.bus_watchdog_ms // WATCHDOG_UNIT_MS


def program(bus: Bus, servo: int, model: Model, wanted: Programming, *, may_relax: bool) -> None:
    """Bring one servo to ``wanted``, touching EEPROM only where it differs, and read everything back.

    A servo that holds torque keeps it: where EEPROM would have to change, which needs torque off, it is refused unless
    ``may_relax``; then it lets go for some milliseconds and holds again where it stands.

    Raises:
        DeviceError: torque in the way, or a register that did not take its value.
    """
    differing = {name: value for name, (_, value) in changed(bus, servo, model, wanted).items()}
    if differing:
        holding = bus.read(servo, model["torque_enable"])
        if holding:
            if not may_relax:
                name, value = next(iter(differing.items()))
                raise DeviceError(
                    f"{bus.port.device}: {bus.name(servo)}: holds torque, and {name} must become {value}, which needs "
                    "torque off; support the arm and switch its power off and on"
                )
            _check_it_can_hold_again(bus, servo, model, wanted)
            bus.write(servo, model["torque_enable"], 0)
        for name, value in _limits_last(differing).items():
            bus.write(servo, model[name], value)
        if holding:
            bus.write(servo, model["goal_position"], bus.read(servo, model["present_position"]))
            bus.write(servo, model["torque_enable"], 1)
    for name, value in wanted.ram.items():
        bus.write(servo, model[name], value)
    found = _eeprom(bus, servo, model) | {name: bus.read(servo, model[name]) for name in wanted.ram}
    for name, value in {**wanted.eeprom, **wanted.ram}.items():
        if found[name] != value:
            raise DeviceError(
                f"{bus.port.device}: {bus.name(servo)}: {name}({model[name].address}) reads {found[name]} after "
                f"{value} was written; the servo is not safe to use"
            )


def changed(bus: Bus, servo: int, model: Model, wanted: Programming) -> dict[str, tuple[int, int]]:
    """EEPROM registers that differ from ``wanted``: what they read and what they should."""
    present = _eeprom(bus, servo, model)
    return {name: (present[name], value) for name, value in wanted.eeprom.items() if present[name] != value}


def _check_it_can_hold_again(bus: Bus, servo: int, model: Model, wanted: Programming) -> None:
    """A servo refuses a goal outside its new limits: it would be let go and stay limp."""
    limits = wanted.eeprom.get("min_position_limit"), wanted.eeprom.get("max_position_limit")
    here = bus.read(servo, model["present_position"]) % model.resolution  # position mode knows one turn only
    if limits[0] is not None and limits[1] is not None and not limits[0] <= here <= limits[1]:
        raise DeviceError(
            f"{bus.port.device}: {bus.name(servo)}: holds torque at tick {here}, outside its limits {list(limits)}, "
            "where it could not be held again; support the arm, switch its power off and on and move it inside"
        )


def _eeprom(bus: Bus, servo: int, model: Model) -> dict[str, int]:
    """Every EEPROM register from the return delay on, in one transaction."""
    data = bus.read_bytes(servo, _FIRST_EEPROM, EEPROM_END - _FIRST_EEPROM)
    return {
        r.name: r.decode(data[r.address - _FIRST_EEPROM : r.end - _FIRST_EEPROM])
        for r in model.registers.values()
        if _FIRST_EEPROM <= r.address < EEPROM_END
    }


def _limits_last(values: Mapping[str, int]) -> dict[str, int]:
    """A change of operating mode resets limits on some firmware, so the mode goes first."""
    return dict(sorted(values.items(), key=lambda item: item[0] != "operating_mode"))


def _factory(model: Model, register: str) -> int:
    value = model[register].default
    if value is None:
        raise MisfitError(f"{model.name}: register {register} has no factory value")
    return value


def _current_limit(name: str, joint: Joint, model: Model) -> int:
    if model.effort != "current":
        raise MisfitError(
            f"joint {name}: current {joint.current}: {model.name} measures no current and has no current limit; "
            "remove the field"
        )
    register = model["current_limit"]
    highest = _factory(model, "current_limit")
    if joint.current is None or round(joint.current / register.scale) > highest:
        raise MisfitError(
            f"joint {name}: current {joint.current}: {model.name} allows {highest * register.scale:.2f} A"
        )
    return round(joint.current / register.scale)

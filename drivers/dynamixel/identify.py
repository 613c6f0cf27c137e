"""Are the servos of the robot file the ones on the bus?"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from drivers.dynamixel.bus import Bus
from drivers.dynamixel.safety import hardware_errors
from drivers.dynamixel.tables import Model, model_name
from spec.errors import DeviceError, MisfitError
from spec.robot import Arm


def identify(bus: Bus, arm: Arm, models: Sequence[Model]) -> None:
    """Check presence, model and firmware of every servo.

    Raises:
        DeviceError: nobody answers (and at which baud they would), or one is missing (and who answers).
        MisfitError: another model than the robot file says, or firmware without what the robot file asks for.
    """
    found = {servo: bus.ping(servo) for servo in (joint.id for joint in arm.joints.values())}
    present = {servo: number for servo, number in found.items() if number is not None}
    if len(present) < len(found):
        raise _missing(bus, arm, [servo for servo in found if servo not in present])
    for joint, table in zip(arm.joints.values(), models, strict=True):
        where = f"{arm.port}: {bus.name(joint.id)}"
        if present[joint.id] != table.number:
            raise MisfitError(f"{where}: is {model_name(present[joint.id])}, the robot file says {joint.model}")
        firmware = bus.read(joint.id, table["firmware_version"])
        if arm.bus_watchdog_ms is not None and firmware < table.watchdog_firmware:
            raise MisfitError(
                f"{where}: firmware {firmware} has no Bus Watchdog ({table.watchdog_firmware} has); flash it, "
                "or put bus_watchdog_ms: null"
            )


def check_health(bus: Bus, arm: Arm, models: Sequence[Model]) -> None:
    """Refuse servos with a hardware error. Raises DeviceError."""
    for joint, table in zip(arm.joints.values(), models, strict=True):
        if errors := hardware_errors(bus.read(joint.id, table["hardware_error_status"])):
            raise DeviceError(
                f"{arm.port}: {bus.name(joint.id)}: hardware error: {', '.join(errors)}; remove the cause, then switch "
                "the arm off and on"
            )


def _missing(bus: Bus, arm: Arm, missing: Sequence[int]) -> DeviceError:
    """What to tell about servos that do not answer."""
    others = bus.scan()
    names = ", ".join(bus.name(servo) for servo in missing)
    if others:
        return DeviceError(f"{arm.port}: {names}: no answer at {arm.baud} baud; on the bus: {_listed(others)}")
    baud = bus.find_baud(joint.id for joint in arm.joints.values())
    if baud is not None:
        return DeviceError(
            f"{arm.port}: no servo answers at {arm.baud} baud, but they do at {baud}; put baud: {baud}, "
            "or change theirs"
        )
    ids = ", ".join(str(joint.id) for joint in arm.joints.values())
    return DeviceError(
        f"{arm.port}: no servo answers at any baud (looked for ids {ids}); is the arm powered and its cable in?"
    )


def _listed(servos: Mapping[int, int]) -> str:
    return ", ".join(f"{servo} ({model_name(number)})" for servo, number in servos.items())

"""What is looked at before an arm that was lost may be held again: are these the servos that were there before?

What servos can tell: model and firmware; the EEPROM that was programmed into them, whose position limits come from this
very arm's calibration; and, while they hold, that they stand where they were left. What they cannot tell: where an arm
without torque was moved meanwhile (it is where it is, and eases in from there), and whole turns of a joint that travels
further than one turn, after its power was gone (see Units.settle).
"""

from __future__ import annotations

import math
from collections.abc import Sequence

from drivers.dynamixel.bus import Bus
from drivers.dynamixel.safety import Programming, changed, hardware_errors
from drivers.dynamixel.tables import Model
from spec.arrays import Int
from spec.errors import DeviceError, MisfitError

STRAYED_RAD = 0.35
"""A joint that held all the time stands within this of where it last was or was last sent [rad]. A proportional servo
gives way some 0.25 rad under a push (KEEP_GOAL_TICKS of drivers/dynamixel/torque.py); a horn slips by whole teeth."""


def check_memory(bus: Bus, servos: Sequence[int], models: Sequence[Model], wanted: Sequence[Programming]) -> None:
    """Refuse a servo whose EEPROM is not what was programmed: another one, or reset. Raises MisfitError."""
    for servo, table, values in zip(servos, models, wanted, strict=True):
        for name, (found, value) in changed(bus, servo, table, values).items():
            raise MisfitError(
                f"{bus.port.device}: {bus.name(servo)}: {name} reads {found}, not the {value} it had before: another "
                "servo or another arm; end this run and start it anew"
            )


def check_stand(bus: Bus, servos: Sequence[int], models: Sequence[Model], last: Int, sent: Int) -> None:
    """Refuse a joint that holds and yet stands elsewhere than it was left.

    Args:
        last: where each joint was last heard to stand [ticks], shape (joints,).
        sent: its last goal [ticks], shape (joints,).

    Raises:
        MisfitError: names the joint and both places.
    """
    for k, (servo, table) in enumerate(zip(servos, models, strict=True)):
        if not bus.read(servo, table["torque_enable"]):
            continue
        here, ends = bus.read(servo, table["present_position"]), sorted((int(last[k]), int(sent[k])))
        strayed = max(ends[0] - here, here - ends[1], 0) * 2 * math.pi / table.resolution
        if strayed > STRAYED_RAD:
            raise MisfitError(
                f"{bus.port.device}: {bus.name(servo)}: holds at tick {here}, {strayed:.2f} rad from where it was left "
                f"(tick {int(last[k])}): a slipped horn or another arm; look at it, then end this run and calibrate"
            )


def restartable(bus: Bus, servos: Sequence[int], models: Sequence[Model]) -> dict[int, tuple[str, ...]]:
    """Servos without torque that have a hardware error, with their errors: restarting them lets nothing go.

    It had them switch themselves off; or they never held, such as an XL430 whose supply sagged while the arm was idle.

    Raises:
        DeviceError: one has an error that its Shutdown(63) does not name (XL430: input voltage), so it still holds, and
            a restart would let it go.
    """
    found = {}
    for servo, table in zip(servos, models, strict=True):
        errors = hardware_errors(bus.read(servo, table["hardware_error_status"]))
        if errors and bus.read(servo, table["torque_enable"]):
            raise DeviceError(
                f"{bus.port.device}: {bus.name(servo)}: hardware error: {', '.join(errors)}; it still holds, and "
                "only a restart clears it: support the arm, switch its power off and on, then try again"
            )
        if errors:
            found[servo] = errors
    return found

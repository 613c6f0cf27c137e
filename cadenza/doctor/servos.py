"""Every servo on a bus: who answers, at which baud, in which state. Reads only: no torque, no EEPROM, no goal."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from dynamixel_sdk import COMM_RX_CORRUPT, COMM_SUCCESS, Protocol2PacketHandler

from cadenza.doctor.finding import Finding, failure, warning, well
from drivers.dynamixel.bus import Bus, ServoError
from drivers.dynamixel.port import Port
from drivers.dynamixel.safety import hardware_errors
from drivers.dynamixel.tables import Model, model_name, models
from spec.calibration import load_calibration
from spec.errors import CadenzaError, DeviceError
from spec.robot import Arm, Joint

_PINGS = 8
_GARBLED = 2
"""So many garbled answers of eight are no chance: two servos answer at once, or the cable is bad."""
_VOLTAGE_MARGIN_V = 0.3
"""Nearer than this to its limits a servo's supply is remarked upon [V]: a fast motion costs as much."""
_WARM_C = 10
"""Degrees below the shutdown temperature at which it is remarked upon."""


@dataclass(frozen=True, slots=True)
class ServoState:
    """What one servo says about itself."""

    model: int
    firmware: int
    voltage_v: float
    voltage_range_v: tuple[float, float]
    temperature_c: int
    temperature_limit_c: int
    errors: tuple[str, ...]
    shutdown: tuple[str, ...]
    """Errors at which it switches itself off, Shutdown(63)."""
    torque: bool


@dataclass(frozen=True, slots=True)
class Scan:
    """What was found on one bus."""

    found: Mapping[int, Mapping[int, int]]
    """Baud → id → model number; bauds with nobody left out."""
    states: Mapping[int, ServoState | str]
    """By id, of the servos of the robot file that answer at its baud; else why they could not be read."""
    garbled: frozenset[int] = frozenset()
    """Ids whose answers collide."""


def scan(arm: Arm, told: Callable[[str], None]) -> Scan:
    """Look for servos, at the baud of the robot file first, and where one is missing at all others.

    Args:
        arm: whose bus.
        told: takes what is being done.

    Raises:
        DeviceError: the port cannot be opened; another program has it, for one.
    """
    port = Port(arm.port, arm.baud)
    port.open()
    try:
        bus = Bus(port, {joint.id: name for name, joint in arm.joints.items()})
        told(f"{arm.serial}: who answers at {arm.baud} baud")
        wanted = {joint.id for joint in arm.joints.values()}
        here = dict(bus.scan())
        here |= {servo: number for servo in wanted - here.keys() if (number := bus.ping(servo)) is not None}
        garbled = frozenset(servo for servo in sorted(wanted) if _is_garbled(port, servo))
        states: dict[int, ServoState | str] = {}
        for servo in sorted(wanted & here.keys()):
            told(f"{arm.serial}: {bus.name(servo)}")
            states[servo] = _state(bus, servo, here[servo])
        found = {arm.baud: here} if here else {}
        if wanted - here.keys():
            found |= _elsewhere(bus, arm.baud, told)
        return Scan(found, states, garbled)
    finally:
        port.close()


def _elsewhere(bus: Bus, configured: int, told: Callable[[str], None]) -> dict[int, dict[int, int]]:
    found: dict[int, dict[int, int]] = {}
    for baud in sorted({rate for model in models().values() for rate in model.baud} - {configured}):
        told(f"{bus.port.device}: who answers at {baud} baud")
        try:
            bus.port.set_baud(baud)
        except (OSError, ValueError):
            continue  # not a rate of this adapter
        if others := bus.scan():
            found[baud] = others
    bus.port.set_baud(configured)
    return found


def _is_garbled(port: Port, servo: int) -> bool:
    packets, bad = Protocol2PacketHandler(), 0
    for _ in range(_PINGS):
        port.is_using = False
        _, result, _ = packets.ping(port, servo)
        bad += result == COMM_RX_CORRUPT
        if result == COMM_SUCCESS and not bad:
            return False  # a healthy servo answers at once
    return bad >= _GARBLED


def _state(bus: Bus, servo: int, number: int) -> ServoState | str:
    table = next((model for model in models().values() if model.number == number), None)
    if table is None:
        return f"{model_name(number)}: no control table of it here"
    try:
        return _read_state(bus, servo, table)
    except ServoError as error:
        return str(error)


def _read_state(bus: Bus, servo: int, table: Model) -> ServoState:
    def volts(name: str) -> float:
        return bus.read(servo, table[name]) * table[name].scale

    return ServoState(
        table.number,
        bus.read(servo, table["firmware_version"]),
        volts("present_input_voltage"),
        (volts("min_voltage_limit"), volts("max_voltage_limit")),
        bus.read(servo, table["present_temperature"]),
        bus.read(servo, table["temperature_limit"]),
        hardware_errors(bus.read(servo, table["hardware_error_status"])),
        hardware_errors(bus.read(servo, table["shutdown"])),
        bool(bus.read(servo, table["torque_enable"])),
    )


def check_arm(part: str, arm: Arm, told: Callable[[str], None]) -> list[Finding]:
    """Bus, servos and calibration of one arm. Of a port that is not there the ports have told."""
    if not Path(arm.port).exists():
        return [check_calibration(part, arm)]
    try:
        result = scan(arm, told)
    except DeviceError as error:
        return [failure(f"{part} bus", "not scanned", str(error)), check_calibration(part, arm)]
    return [*check_scan(part, arm, result), check_calibration(part, arm)]


def check_scan(part: str, arm: Arm, result: Scan) -> list[Finding]:
    """What a scan says, against the robot file."""
    here = result.found.get(arm.baud, {})
    missing = {name: joint for name, joint in arm.joints.items() if joint.id not in here}
    findings = []
    if missing:
        findings += list(_missing(part, arm, missing, result))
    else:
        findings.append(well(f"{part} bus", f"{len(arm.joints)} servos answer at {arm.baud} baud"))
    findings += [
        failure(
            f"{part} {name}",
            f"id {joint.id} answers garbled",
            "two servos with one id, or a bad cable",
            "take the servos off one by one; give each an id of its own (DYNAMIXEL Wizard)",
        )
        for name, joint in arm.joints.items()
        if joint.id in result.garbled
    ]
    strangers = sorted(here.keys() - {joint.id for joint in arm.joints.values()})
    if strangers:
        listed = ", ".join(f"{servo} ({model_name(here[servo])})" for servo in strangers)
        why = "on the bus, not in the robot file: nobody commands them"
        findings.append(warning(f"{part} others", listed, why, f"put them under {part}.joints, or take them off"))
    for name, joint in arm.joints.items():
        if joint.id in result.states:
            findings.append(_check_servo(f"{part} {name}", arm, joint, result.states[joint.id]))
    return findings


def _missing(part: str, arm: Arm, missing: Mapping[str, Joint], result: Scan) -> Iterator[Finding]:
    elsewhere = {
        name: next((baud for baud, found in result.found.items() if baud != arm.baud and joint.id in found), None)
        for name, joint in missing.items()
    }
    for name, baud in elsewhere.items():
        servo = arm.joints[name].id
        if baud is not None:
            fix = f"put {part}.baud: {baud}, or set theirs to {arm.baud} (DYNAMIXEL Wizard, register Baud Rate(8))"
            value = f"id {servo} answers at {baud} baud, not at {arm.baud}"
            yield failure(f"{part} {name}", value, "all servos of a bus must talk at one speed", fix)
        else:
            fix = "is it powered, is its cable in, has it this id? A servo from the factory: id 1, 57600 baud"
            yield failure(f"{part} {name}", f"id {servo} answers at no baud", "its joint cannot be moved", fix)


def _check_servo(name: str, arm: Arm, joint: Joint, state: ServoState | str) -> Finding:
    """The worst that can be said about one servo, else how it is."""
    if isinstance(state, str):
        return failure(name, "cannot be read", state, "check its cable; more than one servo: the power of the bus")
    value = (
        f"{model_name(state.model)}, firmware {state.firmware}, {state.voltage_v:.1f} V, {state.temperature_c} °C, "
        f"torque {'on' if state.torque else 'off'}"
    )
    return next(_complaints(name, value, arm, joint, state), well(name, value))


def _complaints(name: str, value: str, arm: Arm, joint: Joint, state: ServoState) -> Iterator[Finding]:
    """Worst first."""
    table, (low, high) = models().get(joint.model), state.voltage_range_v
    if table is None or state.model != table.number:
        yield failure(name, value, f"the robot file says {joint.model}", "correct the robot file, or swap the servo")
        return
    if state.errors:
        why = f"hardware error: {', '.join(state.errors)}; {_consequence(state)}"
        yield failure(name, value, why, "remove the cause, support the arm, switch its power off and on")
    if not low <= state.voltage_v <= high:
        heeded = "switches itself off" if "input voltage" in state.shutdown else "only reports an error"
        why = f"supply outside {low:g} to {high:g} V: it {heeded}"
        yield failure(name, value, why, "check the supply and its cable (XL330: 5 V, XL430: 12 V)")
    if arm.bus_watchdog_ms is not None and state.firmware < table.watchdog_firmware:
        why = f"no Bus Watchdog below firmware {table.watchdog_firmware}: it would go on when the PC is gone"
        yield failure(name, value, why, "update it (DYNAMIXEL Wizard), or put bus_watchdog_ms: null")
    if min(state.voltage_v - low, high - state.voltage_v) < _VOLTAGE_MARGIN_V:
        yield warning(name, value, f"supply close to its limits, {low:g} to {high:g} V", "a stronger supply")
    if state.temperature_c > state.temperature_limit_c - _WARM_C:
        yield warning(name, value, f"it switches itself off at {state.temperature_limit_c} °C", "let it rest")


def _consequence(state: ServoState) -> str:
    """Of its errors. An XL430 goes on holding at a wrong voltage, where an XL330 lets go."""
    if state.torque:
        return "it still holds, and only a restart clears it"
    if set(state.errors) & set(state.shutdown):
        return "it has switched itself off"
    return "only a restart clears it"


def check_calibration(part: str, arm: Arm) -> Finding:
    """Whether there is one, and whether it is this arm's."""
    try:
        load_calibration(arm)
    except CadenzaError as error:
        fix = f"cadenza calibrate joints --config ROBOT_FILE --arm {part}"
        return failure(f"{part} calibration", "none that fits", str(error), fix)
    return well(f"{part} calibration", str(arm.calibration))

"""One X-series servo: what its registers do to the motor, and what the motor does to its registers.

Sources: the e-manual page of each model (control table descriptions), and the Protocol 2.0 page for instructions.
"""

from __future__ import annotations

from enum import IntFlag

from drivers.dynamixel.tables import Model, Register
from drivers.virtual.drives import OperatingMode
from drivers.virtual.motors import Motor
from drivers.virtual.servos.coupling import Coupling
from drivers.virtual.servos.memory import Memory
from drivers.virtual.servos.packet import ALERT, Error
from drivers.virtual.servos.shaft import Shaft

BOOT_NS = 250_000_000
"""Silence after a reboot [ns]."""
FIRMWARE = 46
_OVERLOAD_DUTY, _OVERLOAD_NS = 0.95, 1_500_000_000
"""Full duty without turning for so long is an overload; the real threshold is not published."""
_STANDSTILL = 0.05
_TORQUE_BY_GOAL = 8
"""Bit of Drive Mode(10)."""


class HardwareError(IntFlag):
    """Hardware Error Status(70) and Shutdown(63)."""

    VOLTAGE = 1
    OVERHEATING = 4
    ENCODER = 8
    SHOCK = 16
    OVERLOAD = 32


class Servo:
    """State of one servo; lives on while clients come and go, as a powered servo does."""

    def __init__(self, model: Model, servo_id: int, baud: int, shaft: Shaft, motor: Motor) -> None:
        """A servo fresh from its box but for id and baud rate."""
        self.model, self._shaft = model, shaft
        self.memory = Memory(model)
        self.memory["firmware_version"] = FIRMWARE
        self.memory["id"] = servo_id
        self.memory["baud_rate"] = model.baud.index(baud)
        self._coupling = Coupling(model, self.memory, shaft, motor)
        self._registered: tuple[int, bytes] | None = None
        self._backup: dict[str, int] | None = None
        self._powered, self._boots_until_ns = True, 0
        self._last_heard_ns = 0
        self._strained_since_ns: int | None = None
        self._start()

    # Identity and answers

    @property
    def id(self) -> int:
        return self.memory["id"]

    @property
    def baud(self) -> int:
        """[bit/s]"""
        return self.model.baud[self.memory["baud_rate"]]

    @property
    def return_delay_ns(self) -> int:
        return self.memory["return_delay_time"] * 2_000

    @property
    def torque(self) -> bool:
        return self.memory["torque_enable"] == 1

    @property
    def alert(self) -> int:
        """What is added to the error field of every status packet."""
        return ALERT if self.memory["hardware_error_status"] else 0

    def awake(self, now_ns: int) -> bool:
        return self._powered and now_ns >= self._boots_until_ns

    def heard(self, now_ns: int) -> None:
        """Any instruction packet on the bus restarts the Bus Watchdog."""
        self._last_heard_ns = now_ns

    def answers(self, *, reading: bool) -> bool:
        """Status Return Level(68): 0 only pings, 1 pings and reads, 2 everything."""
        level = self.memory["status_return_level"]
        return level == 2 or (level == 1 and reading)

    # Instructions

    def read(self, address: int, length: int, now_ns: int) -> bytes | Error:
        """Read; measured registers are brought up to ``now_ns`` first."""
        self._coupling.measure(now_ns)
        return self.memory.read(address, length)

    def write(self, address: int, data: bytes, now_ns: int) -> Error:
        """Write all of ``data`` or nothing."""
        checked = self.memory.check(address, data, torque=self.torque)
        if isinstance(checked, Error):
            return checked
        for register, value in checked:
            error = self._write_register(register, value, now_ns)
            if error:
                return error
        return Error.NONE

    def register_write(self, address: int, data: bytes) -> Error:
        """Reg Write: check now, execute at Action."""
        checked = self.memory.check(address, data, torque=self.torque)
        if isinstance(checked, Error):
            return checked
        self._registered = (address, data)
        self.memory["registered_instruction"] = 1
        return Error.NONE

    def action(self, now_ns: int) -> Error:
        if self._registered is None:
            return Error.INSTRUCTION
        (address, data), self._registered = self._registered, None
        self.memory["registered_instruction"] = 0
        return self.write(address, data, now_ns)

    def reboot(self, now_ns: int) -> None:
        """Power cycle of the controller: RAM to defaults, torque off, hardware errors gone, silent for a while."""
        self.memory.restore_defaults(self.memory.volatile())
        self._start()
        self._boots_until_ns = now_ns + BOOT_NS

    def power(self, on: bool, now_ns: int) -> None:
        """The supply goes or comes back. Without it: limp, silent, RAM and whole turns forgotten; EEPROM stays."""
        if on != self._powered:
            self.reboot(now_ns)
            if not on:
                self._write_torque(0)  # whatever Startup Configuration(60) says
            self._powered = on

    def factory_reset(self, option: int, now_ns: int) -> Error:
        """0xFF everything, 1 all but the id, 2 all but id and baud rate. Refused while torque is on."""
        kept = {0xFF: (), 1: ("id",), 2: ("id", "baud_rate")}.get(option)
        if kept is None:
            return Error.DATA_RANGE
        if self.torque:
            return Error.RESULT_FAIL
        values = {name: self.memory[name] for name in (*kept, "firmware_version")}
        self.memory.restore_defaults(self.model.registers)
        for name, value in values.items():
            self.memory[name] = value
        self.reboot(now_ns)
        return Error.NONE

    def clear(self, parameters: bytes) -> Error:
        """Clear multi-turn: Present Position back into one turn. Refused while the shaft turns."""
        if parameters != b"\x01\x44\x58\x4c\x22":
            return Error.DATA_RANGE
        if abs(self._shaft.drives.state().velocity[self._shaft.joint]) > _STANDSTILL:
            return Error.RESULT_FAIL
        self._coupling.turns = -int(self._coupling.encoder() // 4096)
        self._present_is_goal()
        return Error.NONE

    def backup(self, parameters: bytes, now_ns: int) -> Error:
        """Control table backup: 1 stores, 2 restores; refused while torque is on."""
        if parameters[1:] != b"CTRL" or parameters[0] not in {1, 2}:
            return Error.DATA_RANGE
        if self.torque or (parameters[0] == 2 and self._backup is None):
            return Error.RESULT_FAIL
        if parameters[0] == 1:
            self._backup = self.memory.snapshot()
            self.memory["backup_ready"] = 1
        elif self._backup is not None:
            self.memory.restore(self._backup)
            self.reboot(now_ns)
        return Error.NONE

    # What registers do

    def _start(self) -> None:
        """Bring the motor into the state the registers describe, as after power-up."""
        memory = self.memory
        self._registered = None
        self._strained_since_ns = None
        self._coupling.turns = 0
        for goal, limit in (("goal_pwm", "pwm_limit"), ("goal_current", "current_limit")):
            if goal in memory:
                memory[goal] = memory[limit]
        memory["goal_velocity"] = memory["velocity_limit"]
        if memory["startup_configuration"] & 1:
            memory["torque_enable"] = 1
        drives, joint = self._shaft.drives, self._shaft.joint
        drives.set_mode(joint, OperatingMode(memory["operating_mode"]))
        drives.set_torque(joint, self.torque)
        self._coupling.apply_gains()
        self._coupling.apply_limits()
        self._coupling.apply_profile()
        self._present_is_goal()

    def _present_is_goal(self) -> None:
        self.memory["goal_position"] = self._coupling.position()

    def _write_register(self, register: Register, value: int, now_ns: int) -> Error:
        name, memory = register.name, self.memory
        if name == "operating_mode" and value not in self.model.modes:
            return Error.DATA_RANGE
        if name == "baud_rate" and value >= len(self.model.baud):
            return Error.DATA_RANGE
        if name == "torque_enable":
            return self._write_torque(value)
        if name == "bus_watchdog":
            self._last_heard_ns = now_ns
        memory[name] = value
        if name == "operating_mode":
            self._change_mode()
        elif name.startswith("goal_"):
            if memory["drive_mode"] & _TORQUE_BY_GOAL and not self.torque:
                self._write_torque(1)
            if name in {"goal_pwm", "goal_current"}:
                self._coupling.apply_limits()
            self._coupling.apply_goal()
        elif name.startswith("profile_"):
            self._coupling.apply_profile()
        elif name.endswith("_gain"):
            self._coupling.apply_gains()
        elif name.endswith("_limit"):
            self._coupling.apply_limits()
        elif name in {"homing_offset", "drive_mode"}:
            self._present_is_goal()
        return Error.NONE

    def _write_torque(self, value: int) -> Error:
        memory = self.memory
        if value and memory["hardware_error_status"] & memory["shutdown"]:
            return Error.RESULT_FAIL  # only a reboot clears a shutdown
        if value == memory["torque_enable"]:
            return Error.NONE
        memory["torque_enable"] = value
        self._shaft.drives.set_torque(self._shaft.joint, bool(value))
        if value:
            # The goal register is not moved to the present position: a stale goal makes the servo jump, as real ones
            # do, and a driver must write the goal first.
            self._coupling.apply_limits()
            self._coupling.apply_goal()
        return Error.NONE

    def _change_mode(self) -> None:
        """A new operating mode resets goals, gains and profile (e-manual, Operating Mode)."""
        memory = self.memory
        memory.restore_defaults(
            name for name in self.model.registers if name.endswith("_gain") or name.startswith("profile_")
        )
        memory["goal_pwm"] = memory["pwm_limit"]
        if "goal_current" in memory:
            memory["goal_current"] = memory["current_limit"]
        self._shaft.drives.set_mode(self._shaft.joint, OperatingMode(memory["operating_mode"]))
        self._present_is_goal()
        self._coupling.apply_gains()
        self._coupling.apply_limits()
        self._coupling.apply_profile()

    # What the motor does to the registers

    def supervise(self, now_ns: int) -> None:
        """Bus Watchdog and what the servo protects itself from; called every few milliseconds."""
        if not self.awake(now_ns):
            return
        memory, joint = self.memory, self._shaft.joint
        limit = memory["bus_watchdog"]
        if limit > 0 and self.torque and now_ns - self._last_heard_ns > limit * 20_000_000:
            self._trip_watchdog()
        state = self._shaft.drives.state()
        duty, turning = abs(state.duty[joint]), abs(state.velocity[joint])
        if self.torque and duty >= _OVERLOAD_DUTY and turning < _STANDSTILL:
            if self._strained_since_ns is None:
                self._strained_since_ns = now_ns
            if now_ns - self._strained_since_ns >= _OVERLOAD_NS:
                self.fail(HardwareError.OVERLOAD)
        else:
            self._strained_since_ns = None
        self._coupling.heat += 0.002 * (duty * duty * 30.0 - self._coupling.heat)
        if self._coupling.temperature() > memory["temperature_limit"]:
            self.fail(HardwareError.OVERHEATING)
        voltage = 10 * self._coupling.voltage(duty)
        if not memory["min_voltage_limit"] <= voltage <= memory["max_voltage_limit"]:
            self.fail(HardwareError.VOLTAGE)

    def _trip_watchdog(self) -> None:
        """Stop where the shaft is, keep torque, lock the goals (e-manual, Bus Watchdog)."""
        self.memory["bus_watchdog"] = -1
        self._present_is_goal()
        self._shaft.drives.rest(self._shaft.joint)
        self._shaft.drives.set_goal_speed(self._shaft.joint, 0.0)
        self._shaft.drives.set_goal_effort(self._shaft.joint, 0.0)

    def set_room(self, celsius: float) -> None:
        """Temperature around the motor [°C]."""
        self._coupling.room = celsius

    def set_supply(self, share: float) -> None:
        """Supply voltage as a share of the model's usual one."""
        self._coupling.supply = share

    def fail(self, error: HardwareError) -> None:
        """Raise a hardware error. It stays until a reboot; those named in Shutdown(63) clear Torque Enable(64) too, and
        keep it so (e-manual X series, Shutdown and Hardware Error Status). As delivered that is overload, electrical
        shock and overheating, and input voltage on the XL330 only: an XL430 with too little voltage goes on holding.
        """
        memory = self.memory
        memory["hardware_error_status"] = memory["hardware_error_status"] | error
        if error & memory["shutdown"]:
            self._write_torque(0)

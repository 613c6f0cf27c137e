"""Between a servo's registers and its motor: units, directions, which register acts in which operating mode."""

from __future__ import annotations

import struct

from drivers.dynamixel.tables import Model
from drivers.virtual.drives import POSITION_MODES, OperatingMode
from drivers.virtual.motors import FULL_PWM, Motor
from drivers.virtual.servos.memory import Memory
from drivers.virtual.servos.shaft import Shaft

_PRESENT = struct.Struct("<HBBhhiiiiHB")
"""Realtime Tick(120) to Present Temperature(146), which lie side by side in every X-series table."""
_PRESENT_ADDRESS = 120
_REVERSE, _TIME_BASED = 1, 4
"""Bits of Drive Mode(10)."""


ROOM = 32.0
"""Temperature inside a servo at rest [°C]."""


class Coupling:
    """Carries register values to the motor and measurements back."""

    def __init__(self, model: Model, memory: Memory, shaft: Shaft, motor: Motor) -> None:
        self.model, self.memory, self.shaft, self.motor = model, memory, shaft, motor
        self.turns = 0
        """Whole turns added to the position shown, until Clear or a reboot."""
        self.heat = 0.0
        """Above the surroundings' temperature [K]."""
        self.room, self.supply = ROOM, 1.0
        """Temperature of the surroundings [°C]; supply voltage as a share of the usual one."""
        self._unit_speed = model["present_velocity"].scale

    @property
    def mode(self) -> OperatingMode:
        return OperatingMode(self.memory["operating_mode"])

    def apply_gains(self) -> None:
        memory, drives, joint = self.memory, self.shaft.drives, self.shaft.joint
        drives.set_gains(joint, memory["position_p_gain"], memory["position_i_gain"], memory["position_d_gain"])
        drives.set_speed_gains(joint, memory["velocity_p_gain"], memory["velocity_i_gain"])

    def apply_limits(self) -> None:
        memory = self.memory
        pwm = (
            memory["pwm_limit"] if self.mode is OperatingMode.PWM else min(memory["pwm_limit"], abs(memory["goal_pwm"]))
        )
        current = float("inf")
        if "current_limit" in memory:
            units = memory["current_limit"]
            if self.mode is OperatingMode.CURRENT_BASED_POSITION:
                units = min(units, abs(memory["goal_current"]))
            current = units * self.model["current_limit"].scale
        self.shaft.drives.set_limits(self.shaft.joint, pwm / FULL_PWM, current)

    def apply_profile(self) -> None:
        memory, drives, joint = self.memory, self.shaft.drives, self.shaft.joint
        speed, acceleration = memory["profile_velocity"], memory["profile_acceleration"]
        if memory["drive_mode"] & _TIME_BASED:
            # Registers hold times [ms]: the whole move, and its acceleration.
            distance = abs(self._goal_angle() - drives.reference[joint])
            cruise = max(speed - acceleration, 1) * 1e-3
            rate = distance / cruise if speed else 0.0
            drives.set_profile(joint, rate, rate / (acceleration * 1e-3) if acceleration else 0.0)
            return
        drives.set_profile(joint, speed * self._unit_speed, acceleration * self.model["profile_acceleration"].scale)

    def apply_goal(self) -> None:
        """Hand the goal of the present mode to the motor."""
        memory, drives, joint, sign = self.memory, self.shaft.drives, self.shaft.joint, self.sign
        mode = self.mode
        if mode in POSITION_MODES:
            if memory["drive_mode"] & _TIME_BASED:
                self.apply_profile()
            drives.set_goal(joint, self._goal_angle())
        elif mode is OperatingMode.VELOCITY:
            drives.set_goal_speed(joint, sign * memory["goal_velocity"] * self._unit_speed)
        elif mode is OperatingMode.PWM:
            drives.set_goal_effort(joint, sign * memory["goal_pwm"] / FULL_PWM * self.motor.stall_torque)
        else:
            current = memory["goal_current"] * self.model["goal_current"].scale
            drives.set_goal_effort(joint, sign * current * self.motor.torque_constant)

    # Pulses as the registers show them: reverse mode, then homing offset, then whole turns

    @property
    def sign(self) -> int:
        """Register direction against joint angle."""
        return -self.shaft.sign if self.memory["drive_mode"] & _REVERSE else self.shaft.sign

    def encoder(self) -> float:
        return self._facing(self.shaft.pulses(self.shaft.drives.state().position[self.shaft.joint]))

    def _facing(self, pulses: float) -> float:
        """Mirror pulses in reverse mode, within the same turn; its own inverse."""
        return 4095 - pulses if self.memory["drive_mode"] & _REVERSE else pulses

    def position(self, pulses: float | None = None) -> int:
        """Present Position(132)."""
        encoder = self.encoder() if pulses is None else pulses
        return round(encoder) + 4096 * self.turns + self.memory["homing_offset"]

    def _goal_angle(self) -> float:
        """Goal Position(116) as a joint angle [rad]."""
        pulses = self.memory["goal_position"] - self.memory["homing_offset"] - 4096 * self.turns
        return self.shaft.angle(self._facing(pulses))

    # What the motor does to its registers

    def measure(self, now_ns: int) -> None:
        """Bring Realtime Tick(120) to Present Temperature(146) up to date."""
        memory, shaft = self.memory, self.shaft
        drives, joint, sign = shaft.drives, shaft.joint, self.sign
        state = drives.state()
        duty, speed = sign * state.duty[joint], sign * state.velocity[joint]
        pulses = self._facing(shaft.pulses(state.position[joint]))
        reference = self._facing(shaft.pulses(state.reference[joint]))
        effort = (
            sign * state.current[joint] / self.model["present_current"].scale
            if self.model.effort == "current"
            else sign * state.load[joint] * 1000
        )
        speed_units = round(speed / self._unit_speed)
        moving = abs(speed_units) > memory["moving_threshold"]
        arrived = abs(pulses - reference) < 8
        memory.store(
            _PRESENT_ADDRESS,
            _PRESENT.pack(
                now_ns // 1_000_000 % 32768,
                moving,
                arrived | moving << 1,
                round(duty * FULL_PWM),
                round(effort),
                speed_units,
                self.position(pulses),
                round(sign * state.rate[joint] / self._unit_speed),
                self.position(reference),
                round(10 * self.voltage(abs(duty))),
                round(self.temperature()),
            ),
        )

    def temperature(self) -> float:
        """Of the motor [°C]."""
        return self.room + self.heat

    def voltage(self, duty: float) -> float:
        """At the motor's input [V], while it draws what ``duty`` (0 to 1) asks for."""
        return self.motor.voltage * self.supply - 0.3 * duty

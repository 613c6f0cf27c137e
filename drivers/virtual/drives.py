"""The controllers inside six servos, turning MuJoCo joints: one class for the live arm and for lock-step.

A servo in a position mode is P control of the PWM duty with back-EMF braking, so it maps onto a MuJoCo actuator:

    torque = clip(kp·(reference − q) + kd·(reference′ − q′) + integral, ±limit) − damping·q′

with kp, kd from the gain registers (e-manual: KPP = P/128, KPD = D/16, KPI = I/65536, PWM units per encoder pulse and
millisecond), limit from PWM and current limit, damping from the motor. The feedback part lives in the actuator, where
MuJoCo integrates it implicitly; this module moves the reference and switches modes.
"""

from __future__ import annotations

from collections.abc import Sequence
from enum import IntEnum
from math import pi
from typing import NamedTuple

import mujoco
import numpy as np

from drivers.virtual.motors import FULL_PWM, GEAR_DRAG, Motor
from spec.arrays import Bool, Float

PULSES = 4096 / (2 * pi)
"""Encoder pulses in one radian."""
_REFERENCE_RATE_TAU = 0.008
"""Smoothing of the reference's own speed, which feeds the D part [s]."""


class OperatingMode(IntEnum):
    """Operating Mode(11)."""

    CURRENT = 0
    VELOCITY = 1
    POSITION = 3
    EXTENDED_POSITION = 4
    CURRENT_BASED_POSITION = 5
    PWM = 16


POSITION_MODES = frozenset(
    {OperatingMode.POSITION, OperatingMode.EXTENDED_POSITION, OperatingMode.CURRENT_BASED_POSITION}
)


class DriveState(NamedTuple):
    """What all servos measure at one instant, as plain numbers: per joint, in joint direction."""

    position: list[float]
    """[rad]"""
    velocity: list[float]
    """[rad/s]"""
    reference: list[float]
    """Where the profile stands [rad]."""
    rate: list[float]
    """Its speed [rad/s]."""
    duty: list[float]
    """PWM duty, -1 to 1."""
    current: list[float]
    """[A]"""
    load: list[float]
    """Torque as a fraction of stall torque."""


class Drives:
    """All servos of one arm. Angles are joint angles [rad]; arrays have shape (joints,)."""

    def __init__(
        self, model: mujoco.MjModel, data: mujoco.MjData, joints: Sequence[str], motors: Sequence[Motor]
    ) -> None:
        """Takes over the joints and actuators named ``joints`` in ``model`` and fills in the motors' figures."""
        count = len(joints)
        self._model, self._data = model, data
        self.joints, self.motors = tuple(joints), tuple(motors)
        self._qpos = np.array([model.joint(name).qposadr[0] for name in joints])
        self._dof = np.array([model.joint(name).dofadr[0] for name in joints])
        self._actuator = np.array([model.actuator(name).id for name in joints])
        self.stall = np.array([m.stall_torque for m in motors])
        self._damping = np.array([m.damping for m in motors])
        self._torque_constant = np.array([m.torque_constant for m in motors])
        self.mode = [OperatingMode.POSITION] * count
        self._torque: Bool = np.zeros(count, dtype=np.bool_)
        self._kp, self._kd, self._ki = np.zeros(count), np.zeros(count), np.zeros(count)
        self._speed_p, self._speed_i = np.zeros(count), np.zeros(count)
        self._pwm_limit, self._current_limit = np.ones(count), np.full(count, np.inf)
        self.goal = self.position()
        self.reference = self.goal.copy()
        self.reference_rate = np.zeros(count)
        self._goal_speed, self._goal_effort = np.zeros(count), np.zeros(count)
        self._profile_speed, self._profile_acceleration = np.zeros(count), np.zeros(count)
        self._integral = np.zeros(count)
        self._trajectory, self._speed = np.zeros(count), np.zeros(count)
        self._is_velocity: Bool = np.zeros(count, dtype=np.bool_)
        self._positional: Bool = np.ones(count, dtype=np.bool_)
        self._any_profile = self._any_integral = self._any_other_mode = False
        self._safe_kp = np.ones(count)
        self._state: DriveState | None = None
        model.dof_armature[self._dof] = [m.armature for m in motors]
        model.dof_frictionloss[self._dof] = [m.friction for m in motors]
        model.actuator_biastype[self._actuator] = mujoco.mjtBias.mjBIAS_AFFINE
        model.actuator_forcelimited[self._actuator] = 1
        for joint in range(count):
            self._configure(joint)

    # What registers say

    def set_gains(self, joint: int, p: int, i: int, d: int) -> None:
        """Position gains as in the registers 84, 82, 80."""
        per_pulse = self.stall[joint] / FULL_PWM * PULSES
        self._kp[joint] = p / 128 * per_pulse
        self._kd[joint] = d / 16 * 1e-3 * per_pulse
        self._ki[joint] = i / 65536 * 1e3 * per_pulse
        self._configure(joint)

    def set_speed_gains(self, joint: int, p: int, i: int) -> None:
        """Velocity gains as in the registers 78, 76; the unit of velocity is 0.229 rev/min."""
        per_unit = self.stall[joint] / FULL_PWM / (0.229 * 2 * pi / 60)
        self._speed_p[joint] = p / 128 * per_unit
        self._speed_i[joint] = i / 65536 * 1e3 * per_unit
        self._configure(joint)

    def set_limits(self, joint: int, pwm: float, current: float) -> None:
        """Largest duty (0 to 1) and largest current [A]."""
        self._pwm_limit[joint], self._current_limit[joint] = pwm, current
        self._configure(joint)

    def set_profile(self, joint: int, speed: float, acceleration: float) -> None:
        """Profile Velocity and Profile Acceleration [rad/s], [rad/s²]; 0 means without limit."""
        self._profile_speed[joint], self._profile_acceleration[joint] = speed, acceleration
        self._any_profile = bool(np.any(self._profile_speed > 0))

    def set_mode(self, joint: int, mode: OperatingMode) -> None:
        self.mode[joint] = mode
        self._positional[joint] = mode in POSITION_MODES
        self._is_velocity[joint] = mode is OperatingMode.VELOCITY
        self._any_other_mode = not bool(np.all(self._positional))
        self._goal_speed[joint] = self._goal_effort[joint] = 0.0
        self.rest(joint)
        self._configure(joint)

    def set_torque(self, joint: int, on: bool) -> None:
        """Bridge on or off. Either way the reference starts from where the joint stands."""
        self._torque[joint] = on
        self.rest(joint)
        self._configure(joint)

    def set_goal(self, joint: int, angle: float) -> None:
        """Goal Position as a joint angle [rad]."""
        self.goal[joint] = angle

    def set_goals(self, angles: Float) -> None:
        """Goal Position of every joint [rad], shape (joints,)."""
        self.goal[:] = angles

    def set_goal_speed(self, joint: int, speed: float) -> None:
        """Goal Velocity [rad/s], for velocity mode."""
        self._goal_speed[joint] = speed

    def set_goal_effort(self, joint: int, torque: float) -> None:
        """Goal PWM or Goal Current as the torque they make at standstill [N·m]."""
        self._goal_effort[joint] = torque

    def rest(self, joint: int) -> None:
        """Goal and reference := where the joint stands, at speed zero."""
        here = float(self._data.qpos[self._qpos[joint]])
        self.goal[joint] = self.reference[joint] = here
        self._state = None
        self.reference_rate[joint] = self._integral[joint] = 0.0
        self._trajectory[joint] = self._speed[joint] = 0.0

    def teleport(self, angles: Float) -> None:
        """Put the joints there at rest, goals included. Lock-step only: no real arm does that."""
        self._put(angles, np.ones(len(self.joints), dtype=np.bool_))

    def place(self, angles: Float) -> None:
        """Likewise those alone whose servos do not hold: where a hand puts them."""
        self._put(angles, ~self._torque)

    def carry(self) -> None:
        """Take the weight off the joints whose servos do not hold, for one step: whoever holds one carries it."""
        self._data.qfrc_applied[self._dof] = self._data.qfrc_bias[self._dof] * ~self._torque

    def _put(self, angles: Float, which: Bool) -> None:
        self._data.qpos[self._qpos[which]] = angles[which]
        self._data.qvel[self._dof[which]] = 0.0
        for joint in np.flatnonzero(which):
            self.rest(int(joint))

    def _configure(self, joint: int) -> None:
        """Write one servo's mode, gains and limits into its actuator."""
        actuator, on, stall = self._actuator[joint], self._torque[joint], self.stall[joint]
        gain, bias = 0.0, (0.0, 0.0, 0.0)
        if on and self._positional[joint]:
            gain, bias = self._kp[joint], (0.0, -self._kp[joint], -self._kd[joint])
        elif on and self.mode[joint] is OperatingMode.VELOCITY:
            gain, bias = self._speed_p[joint], (0.0, 0.0, -self._speed_p[joint])
        elif on:
            gain = 1.0
        limit = min(stall * self._pwm_limit[joint], self._torque_constant[joint] * self._current_limit[joint])
        self._model.actuator_gainprm[actuator, 0] = gain
        self._model.actuator_biasprm[actuator, :3] = bias
        self._model.actuator_forcerange[actuator] = (-limit, limit) if on else (0.0, 0.0)
        self._model.dof_damping[self._dof[joint]] = GEAR_DRAG + (self._damping[joint] if on else 0.0)
        self._safe_kp[joint] = gain or 1.0
        integral = np.where(self._positional, self._ki, self._speed_i)
        self._any_integral = bool(np.any(integral[self._torque] > 0)) if self._torque.any() else False

    # What moves

    def step(self, dt: float) -> None:
        """Advance references by ``dt`` [s] and load the actuators; the caller then steps the physics once."""
        self._state = None
        previous = self.reference
        if self._any_profile:
            self.reference = self._profiled(dt)
        else:
            self.reference = self.goal.copy()
        rate = (self.reference - previous) / dt
        self.reference_rate += (rate - self.reference_rate) * (dt / (dt + _REFERENCE_RATE_TAU))
        control = self.reference + self._kd * self.reference_rate / self._safe_kp
        if self._any_other_mode:
            control = np.where(self._positional, control, self._other_control(dt))
        if self._any_integral:
            control += self._integrate(dt) / self._safe_kp
        self._data.ctrl[self._actuator] = control

    def _profiled(self, dt: float) -> Float:
        """Trapezoid towards the goal, started from wherever the reference is (e-manual, Profile)."""
        limit, acceleration = self._profile_speed, self._profile_acceleration
        error = self.goal - self.reference
        distance = np.abs(error)
        # Discrete braking law: this speed can still be shed at `acceleration` in whole steps of dt.
        braking = acceleration * dt * (np.sqrt(0.25 + 2 * distance / np.maximum(acceleration, 1e-9) / dt**2) - 0.5)
        speed = np.minimum(np.where(acceleration > 0, np.minimum(limit, braking), limit), distance / dt)
        wanted = np.copysign(speed, error)
        change = np.where(acceleration > 0, acceleration * dt, np.inf)
        ramped = self._trajectory + np.clip(wanted - self._trajectory, -change, change)
        self._trajectory = np.where(limit > 0, ramped, 0.0)
        return np.where(limit > 0, self.reference + self._trajectory * dt, self.goal)

    def _other_control(self, dt: float) -> Float:
        """Control of the joints in velocity mode [rad/s] and in current or PWM mode [N·m]."""
        acceleration = self._profile_acceleration
        change = np.where(acceleration > 0, acceleration * dt, np.inf)
        self._speed += np.clip(self._goal_speed - self._speed, -change, change)
        return np.where(self._is_velocity, self._speed, self._goal_effort)

    def _integrate(self, dt: float) -> Float:
        """Integral part of position and velocity control [N·m]; held within the stall torque."""
        error = np.where(self._positional, self.reference - self.position(), self._speed - self.velocity())
        gain = np.where(self._positional, self._ki, self._speed_i) * (self._positional | self._is_velocity)
        self._integral += np.where(self._torque, gain * error * dt, 0.0)
        np.clip(self._integral, -self.stall, self.stall, out=self._integral)
        return self._integral

    # What is measured

    def state(self) -> DriveState:
        """Everything measured, computed once per physics step."""
        if self._state is None:
            self._state = DriveState(
                self.position().tolist(),
                self.velocity().tolist(),
                self.reference.tolist(),
                self.trajectory_speed.tolist(),
                self.duty().tolist(),
                self.current().tolist(),
                (self.effort() / self.stall).tolist(),
            )
        return self._state

    def position(self) -> Float:
        """[rad]"""
        return np.asarray(self._data.qpos[self._qpos])

    def velocity(self) -> Float:
        """[rad/s]"""
        return np.asarray(self._data.qvel[self._dof])

    def effort(self) -> Float:
        """Motor torque before the gear's losses [N·m]: what the servo believes it delivers."""
        return np.asarray(self._data.actuator_force[self._actuator])

    def current(self) -> Float:
        """[A]"""
        return np.asarray(self.effort() / self._torque_constant)

    def duty(self) -> Float:
        """PWM duty, -1 to 1: torque plus the back-EMF it has to overcome."""
        voltage = self.effort() + self._damping * self.velocity() * self._torque
        return np.asarray(np.clip(voltage / self.stall, -1.0, 1.0))

    @property
    def torque(self) -> Bool:
        """True where the bridge is on."""
        return self._torque.copy()

    @property
    def trajectory_speed(self) -> Float:
        """Speed of the reference [rad/s]: what Velocity Trajectory(136) shows."""
        return np.where(self._positional, self.reference_rate, self._speed)

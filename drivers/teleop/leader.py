"""A leader arm on a bus of its own: mirrors the follower under torque, and gives way to the person who takes it."""

from __future__ import annotations

import time
from collections.abc import Callable
from enum import Enum
from types import TracebackType
from typing import Self

import numpy as np

from drivers.arm import BusFault, Reading
from drivers.dynamixel.arm import DynamixelArm
from drivers.dynamixel.safety import hardware_errors
from drivers.dynamixel.tables import model
from drivers.teleop.contract import Follow
from drivers.teleop.dynamics import Dynamics, stiffness
from drivers.teleop.gesture import DoubleClose
from drivers.teleop.mirror import Mirror
from drivers.teleop.presses import Pulse
from spec.arrays import Float
from spec.calibration import Calibration
from spec.errors import CadenzaError, DeviceError, SpecError
from spec.robot import GiveWay, Robot, Teleop
from spec.teleop import Button, TeleopSample

CARRIED = 0.9
"""Share of its weight the leader carries where it is to be light: all of it, and a model error would lift it."""
GRIPPER = "gripper"
"""Joint whose double closing is a gesture."""
SILENT_NS = 300_000_000
"""A joint unheard for so long is lost; a few lost packets are nothing."""
_WRITE_NS = 1_500_000
"""Kept of a cycle for the write."""
_FRESH_TICK_NS = 50_000_000
"""The follower's motion is not carried on further than this from its last tick."""
_LONGEST_STEP_S = 0.1
_SOFTEST = 0.05
"""Less stiff than this, a servo holds nothing and its goal is left alone [N·m/rad]."""
_FIRST_RETRY_NS, _LONGEST_RETRY_NS = 500_000_000, 5_000_000_000
_LEARNING_S, _MOST_LEARNT_RAD = 0.5, 0.4
"""Time in which an error that stays is taken for weight the model does not know, and the most of that: against a
person who holds on, the leader presses no harder than that times its stiffness."""
_SQUEEZED_RAD = 0.25
"""So far past its goal, a mirroring gripper is being squeezed shut."""


class Hands(Enum):
    """What the leader does."""

    UNTOUCHED = "untouched"
    """As it was found: the arm is not commanded yet."""
    MIRRORING = "mirroring"
    YIELDING = "yielding"
    LOST = "lost"


class LeaderArm:
    """A leader arm of Dynamixel servos behind the contract of :class:`drivers.teleop.Teleop`.

    Changing hands is a handful of acknowledged writes, about 4 ms to let go and 9 ms to hold at 1 Mbps; the cycle it
    happens in is longer by that. Coming back after a loss (unplugged, no power, an overloaded servo that has to be
    restarted) is tried with growing pauses and takes up to a second at a time; nothing is read meanwhile, and nothing
    could be.

    Args:
        robot: its ``leader``, ``teleop`` and ``model`` count.
        calibration: None reads the file the robot file names.

    Raises:
        SpecError: no leader, or it would be spoken to too rarely for its Bus Watchdog.
    """

    def __init__(self, robot: Robot, *, calibration: Calibration | None = None) -> None:
        if robot.leader is None:
            raise SpecError("leader", None, "the robot file has no leader arm")
        settings = robot.teleop or Teleop()
        watchdog_ms = robot.leader.bus_watchdog_ms
        if watchdog_ms is not None and 2e3 / settings.rate_hz > watchdog_ms:
            raise SpecError(
                "teleop.rate_hz",
                settings.rate_hz,
                f"the leader's Bus Watchdog of {watchdog_ms} ms needs {2e3 / watchdog_ms:.0f} or more",
            )
        self.arm = DynamixelArm(robot.leader, rate_hz=settings.rate_hz, calibration=calibration)
        self.spec = robot.leader
        self._tables = [model(joint.model) for joint in robot.leader.joints.values()]
        self._period_s = 1.0 / settings.rate_hz
        self._light = settings.give_way is GiveWay.LIGHT
        self._mirror = Mirror(robot.leader)
        self._dynamics = None if robot.model is None else Dynamics(robot.model, robot.leader.names)
        if self._light and self._dynamics is None:
            raise SpecError("teleop.give_way", "light", "needs model: the arm's MJCF file, to know its weight")
        self._gestures = DoubleClose() if settings.gestures and GRIPPER in robot.leader.names else None
        self._toggle = Pulse()
        self.hands = Hands.UNTOUCHED
        self.trouble = ""
        nothing = np.zeros(len(robot.leader.names))
        self._position, self._velocity, self._effort = np.full_like(nothing, np.nan), nothing, nothing
        self._no_goal = np.full_like(nothing, np.nan)
        self._goal = self._told = self._no_goal
        self._lift = nothing
        self._sequence = 0
        self._heard_ns = self._moved_ns = self._retry_ns = 0
        self._pause_ns = _FIRST_RETRY_NS

    @property
    def joints(self) -> tuple[str, ...]:
        return self.spec.names

    def open(self) -> None:
        self.arm.open()
        self._know_gains()
        self._heard_ns = time.monotonic_ns()

    def exchange(self, follow: Follow | None, deadline_ns: int) -> TeleopSample:
        now = time.monotonic_ns()
        if self.hands is Hands.LOST and now >= self._retry_ns:
            self._attempt(self._come_back)
        if self.hands is not Hands.LOST and follow is not None:
            self._change_hands(follow, now)
        if self.hands is not Hands.LOST:
            self._cycle(follow, deadline_ns)
        return self._sample()

    def pressed(self) -> tuple[str, ...]:
        return ()

    def close(self) -> None:
        """Leave the arm standing where it is, held, and free the port. A person who has it in hand feels it stiffen."""
        if self.hands is Hands.YIELDING:
            self._attempt(self.arm.hold)
        self.arm.close()

    def __enter__(self) -> Self:
        self.open()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    # -- whose the arm is

    def _change_hands(self, follow: Follow, now: int) -> None:
        """Hold, or let go, as the arm's driver has it. A refusal to hold is tried again after a pause."""
        if follow.human:
            if self.hands is not Hands.YIELDING:
                self._attempt(self._give_way)
        elif self.hands is not Hands.MIRRORING and now >= self._retry_ns and bool(np.isfinite(follow.position).all()):
            self._attempt(self._take_hold)

    def _give_way(self) -> None:
        if not self._light:
            self.arm.relax()
        elif self.hands is not Hands.MIRRORING:
            self._hold()
        self._now_do(Hands.YIELDING)

    def _take_hold(self) -> None:
        if not (self._light and self.hands is Hands.YIELDING):
            self._hold()
        self._mirror.begin(np.array(list(self.arm.where().values())))
        self._now_do(Hands.MIRRORING)

    def _hold(self) -> None:
        """Torque on where it stands. The servos' integral gain goes: a leader told to give way must not insist, and
        one that mirrors knows its weight."""
        register = self._tables[0]["position_i_gain"]
        self.arm.bus.write_all(register, {joint.id: 0 for joint in self.spec.joints.values()})
        self.arm.hold()

    def _now_do(self, hands: Hands) -> None:
        self.hands, self._told, self._goal = hands, self._no_goal, self._no_goal
        self._moved_ns, self._pause_ns, self.trouble = 0, _FIRST_RETRY_NS, ""
        if self._gestures is not None:
            self._gestures.forget()

    # -- one cycle

    def _cycle(self, follow: Follow | None, deadline_ns: int) -> None:
        reading = self.arm.read(deadline_ns - _WRITE_NS)
        self._take_in(reading)
        if reading.fault & (BusFault.DISCONNECTED | BusFault.SERVO):
            self._lose("the port is gone" if reading.fault & BusFault.DISCONNECTED else "a servo raised its alert")
        elif reading.finished_ns - self._heard_ns > SILENT_NS:
            silent = [name for name, fresh in zip(self.joints, reading.fresh.tolist(), strict=True) if not fresh]
            self._lose(f"no answer from {', '.join(silent)}")
        elif self.hands is Hands.MIRRORING and follow is not None:
            self._follow(follow, deadline_ns)
        elif self.hands is Hands.YIELDING and self._light:
            self.arm.write(self._position + CARRIED * self._ahead(self._torque(self._position)), deadline_ns)

    def _take_in(self, reading: Reading) -> None:
        self._goal = self._told
        self._position, self._velocity, self._effort = reading.position, reading.velocity, reading.effort
        if reading.fresh.all():
            self._heard_ns = reading.finished_ns
            self._look_for_gesture()

    def _follow(self, follow: Follow, deadline_ns: int) -> None:
        """Tell the servos where the follower is about to be."""
        now = time.monotonic_ns()
        seconds = min((now - self._moved_ns) * 1e-9, _LONGEST_STEP_S) if self._moved_ns else 0.0
        self._moved_ns = now
        if np.isfinite(follow.position).all():
            age_ns = now - follow.now_ns
            moving = follow.velocity if 0 <= age_ns < _FRESH_TICK_NS else np.zeros_like(follow.velocity)
            moving = np.nan_to_num(moving)
            # Where the follower will be when this goal is due, which is when the next one comes.
            goal = self._mirror.step(follow.position + moving * (age_ns * 1e-9 + self._period_s), moving, seconds)
        else:
            goal = self._mirror.position
        if np.isfinite(self._goal).all():
            short = self._lift + (self._goal - self._position) * (seconds / _LEARNING_S)
            self._lift = np.clip(short, -_MOST_LEARNT_RAD, _MOST_LEARNT_RAD)
        mirror = self._mirror
        ahead = self._ahead(self._torque(goal, mirror.velocity, mirror.acceleration))
        if not self.arm.write(goal + ahead, deadline_ns).fault:
            self._told = goal

    def _torque(self, position: Float, velocity: Float | float = 0.0, acceleration: Float | float = 0.0) -> Float:
        """What this motion takes, as far as it is known [N·m], shape (joints,)."""
        if self._dynamics is None:
            return np.zeros_like(position)
        return self._dynamics.torque(position, velocity, acceleration)

    def _ahead(self, torque: Float) -> Float:
        """How far ahead of its goal each servo must be told to be to give ``torque`` [rad], shape (joints,): what its
        stiffness says, and what mirroring has shown to be missing."""
        return np.asarray(torque / self._stiffness + self._lift)

    def _look_for_gesture(self) -> None:
        if self._gestures is None:
            return
        k = self.joints.index(GRIPPER)
        low, high = self.spec.joints[GRIPPER].position
        shut, opened = (high, low) if abs(high) < abs(low) else (low, high)  # grippers are shut at zero
        closure = float((self._position[k] - opened) / (shut - opened))
        if self.hands is Hands.MIRRORING:
            closure = float((self._position[k] - self._goal[k]) / np.copysign(_SQUEEZED_RAD, shut - opened))
        if self._gestures.see(closure, self._heard_ns):
            self._toggle.press(self._heard_ns)

    def _sample(self) -> TeleopSample:
        self._sequence += 1
        return TeleopSample(
            self._sequence,
            self._heard_ns,
            tuple(self._position.tolist()),
            tuple(self._velocity.tolist()),
            tuple(self._effort.tolist()),
            tuple(self._goal.tolist()),
            int(Button.TOGGLE) if self._toggle.down(time.monotonic_ns()) else 0,
        )

    # -- losing it and getting it back

    def _attempt(self, action: Callable[[], None]) -> None:
        """Do something slow; where that fails the arm is lost if it does not answer, and is as it was if it refuses."""
        try:
            action()
        except CadenzaError as error:
            self._lose(str(error)) if self._unreachable() else self._refused(str(error))

    def _unreachable(self) -> bool:
        if self.hands is Hands.LOST or not self.arm.port.is_open:
            return True
        try:
            self.arm.where()
        except DeviceError:
            return True
        return False

    def _refused(self, why: str) -> None:
        self.trouble = why
        self._pause(time.monotonic_ns())

    def _lose(self, why: str) -> None:
        self.hands, self._told, self._goal = Hands.LOST, self._no_goal, self._no_goal
        self.trouble = why if self.spec.port in why else f"{self.spec.port}: leader: {why}"
        self._pause(time.monotonic_ns())

    def _pause(self, now: int) -> None:
        self._retry_ns = now + self._pause_ns
        self._pause_ns = min(2 * self._pause_ns, _LONGEST_RETRY_NS)

    def _come_back(self) -> None:
        """Find the arm again, restart servos that shut down for overload, and check everything as at the start."""
        self.arm.port.close()
        self.arm.port.open()
        for name, joint in self.spec.joints.items():
            # One look each: an arm without power must not cost seconds.
            if self.arm.bus.ping(joint.id, attempts=2) is None:
                raise DeviceError(f"{self.spec.port}: joint {name} (id {joint.id}): does not answer")
        for name, joint in self.spec.joints.items():
            status = self.arm.bus.read(joint.id, self._tables[0]["hardware_error_status"])
            if hardware_errors(status) == ("overload",):
                self.arm.reboot(name)
        self.arm.reconnect()
        self._know_gains()
        self._heard_ns = time.monotonic_ns()
        self._now_do(Hands.UNTOUCHED)

    def _know_gains(self) -> None:
        joints = zip(self.spec.joints.values(), self._tables, strict=True)
        gains = [(table, self.arm.bus.read(joint.id, table["position_p_gain"])) for joint, table in joints]
        self._stiffness = np.maximum([stiffness(table, gain) for table, gain in gains], _SOFTEST)

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
from drivers.teleop.contract import Follow
from drivers.teleop.gesture import GripperGesture
from drivers.teleop.grip import DAMPING, Grip
from drivers.teleop.mirror import Mirror
from drivers.teleop.presses import Pulse
from spec.arrays import Float
from spec.calibration import Calibration
from spec.errors import CadenzaError, SpecError
from spec.robot import GiveWay, Robot, Teleop
from spec.teleop import Button, TeleopSample

GRIPPER = "gripper"
"""Joint whose double closing is a gesture."""
SILENT_S = 0.3
"""A joint that gives no answer for so long is lost; a few lost packets are nothing."""
_WRITE_NS = 1_500_000
"""Kept of a cycle for the write."""
_FRESH_TICK_NS = 50_000_000
"""The follower's motion is not carried on further than this from its last tick."""
_LONGEST_STEP_S = 0.1
_FIRST_RETRY_NS, _LONGEST_RETRY_NS = 500_000_000, 5_000_000_000


class Hands(Enum):
    """What the leader does."""

    UNTOUCHED = "untouched"
    """As it was found: the arm is not commanded yet."""
    MIRRORING = "mirroring"
    YIELDING = "yielding"
    LOST = "lost"


class LeaderArm:
    """A leader arm of Dynamixel servos behind the contract of :class:`drivers.teleop.Teleop`.

    Changing hands is a handful of acknowledged writes, about 5 ms to let go and 30 ms to hold at 1 Mbps; the cycle it
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
        self._light = settings.give_way is GiveWay.LIGHT
        if self._light and robot.model is None:
            raise SpecError("teleop.give_way", "light", "needs model: the arm's MJCF file, to know its weight")
        self.spec = robot.leader
        self.grip = Grip(robot, settings.rate_hz, calibration)
        self._period_s = 1.0 / settings.rate_hz
        self._mirror = Mirror(robot.leader)
        gripper = robot.leader.joints.get(GRIPPER)
        self._gestures = GripperGesture(gripper.position) if settings.gestures and gripper is not None else None
        self._toggle = Pulse()
        self.hands = Hands.UNTOUCHED
        self.trouble = ""
        nothing = np.zeros(len(robot.leader.names))
        self._position, self._velocity, self._effort = np.full_like(nothing, np.nan), nothing, nothing
        self._no_goal = np.full_like(nothing, np.nan)
        self._goal = self._told = self._no_goal
        self._sequence = self._misses = 0
        self._heard_ns = self._moved_ns = self._retry_ns = 0
        self._pause_ns = _FIRST_RETRY_NS

    @property
    def joints(self) -> tuple[str, ...]:
        return self.spec.names

    @property
    def arm(self) -> DynamixelArm:
        """For tools; not while it is exchanged with."""
        return self.grip.arm

    def open(self) -> None:
        self.grip.open()
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
            self._attempt(lambda: self._now_do(Hands.MIRRORING, self.grip.hold()))
        self.grip.close()

    def __enter__(self) -> Self:
        self.open()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    # -- whose the arm is

    def _change_hands(self, follow: Follow, now: int) -> None:
        """Hold, or let go, as the arm's driver has it. What a servo refuses is tried again after a pause."""
        if now < self._retry_ns:
            return
        if follow.human:
            if self.hands is not Hands.YIELDING:
                self._attempt(self._give_way)
        elif self.hands is not Hands.MIRRORING and bool(np.isfinite(follow.position).all()):
            self._attempt(self._take_hold)

    def _give_way(self) -> None:
        if self._light:
            if self.hands is not Hands.MIRRORING:
                self.grip.hold()
            self.grip.damp(0)
        else:
            self.grip.let_go()
        self._now_do(Hands.YIELDING)

    def _take_hold(self) -> None:
        if self._light and self.hands is Hands.YIELDING and np.isfinite(self._position).all():
            self.grip.damp(DAMPING)
            self._now_do(Hands.MIRRORING, self._position)
        else:
            self._now_do(Hands.MIRRORING, self.grip.hold())

    def _now_do(self, hands: Hands, position: Float | None = None) -> None:
        if position is not None:
            self._mirror.begin(position)
        self.hands, self._told, self._goal = hands, self._no_goal, self._no_goal
        self._moved_ns = self._retry_ns = self._misses = 0
        self._pause_ns, self.trouble = _FIRST_RETRY_NS, ""
        if self._gestures is not None:
            self._gestures.forget()

    # -- one cycle

    def _cycle(self, follow: Follow | None, deadline_ns: int) -> None:
        reading = self.grip.read(deadline_ns - _WRITE_NS)
        self._take_in(reading)
        if reading.fault & BusFault.DISCONNECTED:
            self._lose("the port is gone")
        elif reading.fault & BusFault.SERVO:
            self._attempt(self._look_into_alert)
        elif self._misses * self._period_s > SILENT_S:
            silent = [name for name, fresh in zip(self.joints, reading.fresh.tolist(), strict=True) if not fresh]
            self._lose(f"no answer from {', '.join(silent)}")
        elif self.hands is Hands.MIRRORING and follow is not None:
            self._follow(follow, deadline_ns)
        elif self.hands is Hands.YIELDING and self._light:
            self.grip.carry(self._position, deadline_ns)

    def _take_in(self, reading: Reading) -> None:
        self._goal = self._told
        self._position, self._velocity, self._effort = reading.position, reading.velocity, reading.effort
        self._misses += not reading.fault & BusFault.SKIPPED  # whoever was not asked is not silent
        if reading.fresh.all():
            self._heard_ns, self._misses = reading.finished_ns, 0
            self._look_for_gesture()

    def _follow(self, follow: Follow, deadline_ns: int) -> None:
        """Tell the servos where the follower is about to be."""
        now = time.monotonic_ns()
        seconds = min((now - self._moved_ns) * 1e-9, _LONGEST_STEP_S) if self._moved_ns else 0.0
        self._moved_ns = now
        self.grip.learn(self._goal - self._position, seconds)
        mirror = self._mirror
        if np.isfinite(follow.position).all():
            age_ns = now - follow.now_ns
            moving = np.nan_to_num(follow.velocity) if 0 <= age_ns < _FRESH_TICK_NS else np.zeros_like(self._no_goal)
            # Where the follower will be when this goal is due, which is when the next one comes.
            mirror.step(follow.position + moving * (age_ns * 1e-9 + self._period_s), moving, seconds)
        if self.grip.move(mirror.position, mirror.velocity, mirror.acceleration, deadline_ns):
            self._told = mirror.position

    def _look_for_gesture(self) -> None:
        if self._gestures is None:
            return
        k = self.joints.index(GRIPPER)
        goal = float(self._goal[k]) if self.hands is Hands.MIRRORING else None
        if self._gestures.see(float(self._position[k]), goal, self._heard_ns):
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
        """Do something slow. Where it fails, the arm is lost if it does not answer, and goes on as it was if it does:
        a joint outside its limits is moved inside by hand.
        """
        try:
            action()
        except CadenzaError as error:
            if self.hands is Hands.LOST or not self.grip.answers():
                self._lose(str(error))
            else:
                self.trouble = str(error)
                self._pause()

    def _lose(self, why: str) -> None:
        self.hands, self._told, self._goal = Hands.LOST, self._no_goal, self._no_goal
        self.trouble = why if self.spec.port in why else f"{self.spec.port}: leader: {why}"
        self._pause()

    def _pause(self) -> None:
        self._retry_ns = time.monotonic_ns() + self._pause_ns
        self._pause_ns = min(2 * self._pause_ns, _LONGEST_RETRY_NS)

    def _look_into_alert(self) -> None:
        """A servo that shut down is lost. Else their watchdog fired while we were kept from speaking to them: they
        stand where they stood, and are taken hold of anew in the next cycle."""
        if errors := self.grip.errors():
            self._lose(errors)
        else:
            self._now_do(Hands.UNTOUCHED)

    def _come_back(self) -> None:
        self.grip.reconnect()
        self._heard_ns = time.monotonic_ns()
        self._now_do(Hands.UNTOUCHED)

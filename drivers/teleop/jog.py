"""Gamepad and keyboard: each axis or pair of keys turns one joint, at a speed of so many radians a second."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from types import TracebackType
from typing import Self

import numpy as np

from drivers.teleop.contract import Follow
from drivers.teleop.inputs import EV_ABS, InputEvent, input_devices
from drivers.teleop.keys import ABS_HAT0X, ABS_HAT0Y, ABS_RX, ABS_RY, ABS_RZ, ABS_X, ABS_Y, ABS_Z, CODES
from drivers.teleop.presses import Panel
from spec.arrays import Float
from spec.errors import SpecError
from spec.robot import Key, Limits, Robot, Teleop, TeleopDevice
from spec.teleop import TeleopSample

DEAD_ZONE = 0.12
"""Share of an axis around its middle that counts as the middle; worn sticks rest that far off."""
LEASH_S = 0.25
"""The target runs ahead of the arm by no more than the joint's speed times this, so that an arm held back (by its
limits, the workspace, a stop) does not set off late after a target far away."""
_LONGEST_STEP_NS = 100_000_000


@dataclass(frozen=True, slots=True)
class Layout:
    """What moves which joint, in joint order, and what the other keys mean."""

    kind: str
    """As input_devices knows it."""
    axes: Sequence[tuple[tuple[int, float], ...]]
    """Per joint: axes and their signs, added up."""
    keys: Sequence[tuple[str, str]]
    """Per joint: the key that turns it down and the one that turns it up."""
    meaning: Mapping[str, Key]
    grabbed: bool


GAMEPAD = Layout(
    kind="joystick",
    axes=(
        ((ABS_X, 1.0),),
        ((ABS_Y, -1.0),),
        ((ABS_RY, -1.0),),
        ((ABS_RX, 1.0),),
        ((ABS_HAT0X, 1.0),),
        ((ABS_RZ, 1.0), (ABS_Z, -1.0)),  # the triggers; each rests at its lower end
        ((ABS_HAT0Y, -1.0),),
    ),
    keys=(),
    meaning={
        "BTN_SOUTH": Key.TOGGLE,
        "BTN_TL": Key.DEAD_MAN,
        "BTN_TR": Key.HIGHLIGHT,
        "BTN_START": Key.START_STOP,
        "BTN_NORTH": Key.SUCCESS,
        "BTN_EAST": Key.FAIL,
        "BTN_WEST": Key.REDO,
        "BTN_SELECT": Key.DISCARD,
    },
    grabbed=True,
)
KEYBOARD = Layout(
    kind="kbd",
    axes=(),
    keys=tuple((f"KEY_{down}", f"KEY_{up}") for down, up in zip("ASDFGHJK", "QWERTYUI", strict=True)),
    meaning={"KEY_PAUSE": Key.TOGGLE, "KEY_F12": Key.TOGGLE, "KEY_ESC": Key.RELEASE, "KEY_SPACE": Key.DEAD_MAN},
    grabbed=False,  # only while a person drives by it: see Jog
)
_TRIGGERS = {ABS_Z, ABS_RZ}


class Jog:
    """A device that turns joints while a stick is out of the middle or a key is down.

    While nobody drives by it its target is where the arm is. A keyboard is kept from other programs while a person
    drives by it, and theirs again afterwards; KEY_ESC gives the arm back.

    Args:
        robot: its ``teleop`` and ``follower`` count.
        layout: of the keys and axes.

    Raises:
        SpecError: no device named and not exactly one there.
    """

    def __init__(self, robot: Robot, layout: Layout) -> None:
        settings = robot.teleop or Teleop(device=TeleopDevice.KEYBOARD)
        self.joints = robot.follower.names
        limits = Limits.of(robot.follower)
        self._lower, self._upper = limits.lower, limits.upper
        self._speed = np.minimum(settings.speed, limits.velocity)
        self._layout = layout
        path = settings.input or _only(layout.kind)
        meaning = {**layout.meaning, **settings.buttons.get(path, {})}
        self.panel = Panel(path, meaning, grabbed=layout.grabbed)
        self._pairs = [(CODES[down], CODES[up]) for down, up in layout.keys]
        self._axis: dict[int, float] = {}
        self._ranges: dict[int, tuple[int, int]] = {}
        self._target: Float = np.full(len(self.joints), np.nan)
        self._still = np.zeros(len(self.joints))
        self._sequence = self._heard_ns = self._stepped_ns = 0

    @property
    def trouble(self) -> str:
        return self.panel.trouble

    def open(self) -> None:
        self.panel.open()
        self._ranges = {
            axis: self.panel.device.axis_range(axis) for joint in self._layout.axes for axis, _sign in joint
        }

    def exchange(self, follow: Follow | None, deadline_ns: int) -> TeleopSample:  # noqa: ARG002  nothing here waits
        now = time.monotonic_ns()
        self._hear(now)
        velocity = self._moved(follow, now)
        self._stepped_ns = now
        self._sequence += 1
        nothing = (0.0,) * len(self.joints)
        return TeleopSample(
            self._sequence,
            self._heard_ns,
            tuple(self._target.tolist()),
            tuple(velocity.tolist()),
            nothing,
            (float("nan"),) * len(self.joints),
            int(self.panel.presses.buttons(now)),
        )

    def pressed(self) -> tuple[str, ...]:
        return self.panel.presses.pressed()

    def close(self) -> None:
        self.panel.close()

    def __enter__(self) -> Self:
        self.open()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _hear(self, now: int) -> None:
        events = self.panel.read(now)
        if events is None:
            self._axis.clear()
        for event in events or ():
            self._see(event)
        if self.panel.device.present:
            self._heard_ns = now

    def _see(self, event: InputEvent) -> None:
        if event.kind != EV_ABS or event.code not in self._ranges:
            return
        low, high = self._ranges[event.code]
        if event.code in _TRIGGERS and low < 0:
            low = 0
        share = (event.value - low) / (high - low)
        out = share if event.code in _TRIGGERS else 2.0 * share - 1.0
        beyond = max(0.0, abs(out) - DEAD_ZONE) / (1.0 - DEAD_ZONE)
        self._axis[event.code] = float(np.copysign(min(beyond, 1.0), out))

    def _moved(self, follow: Follow | None, now: int) -> Float:
        """Take the target on to ``now``; returns how fast it moves [rad/s]."""
        if follow is None or not np.isfinite(follow.position).all():
            return self._still
        self._grab(follow.human)
        if not follow.human or not np.isfinite(self._target).all():
            self._target = follow.position.copy()
            return self._still
        seconds = min(now - self._stepped_ns, _LONGEST_STEP_NS) * 1e-9
        leash = LEASH_S * self._speed
        low = np.maximum(self._lower, follow.position - leash)
        high = np.minimum(self._upper, follow.position + leash)
        wanted = self._target + self._deflection() * self._speed * seconds
        self._target = np.minimum(np.maximum(wanted, low), high)
        return np.where(self._target == wanted, self._deflection() * self._speed, 0.0)

    def _deflection(self) -> Float:
        """How far each joint is asked to turn, -1 to 1, shape (joints,)."""
        out = np.zeros(len(self.joints))
        for k, axes in enumerate(self._layout.axes[: len(out)]):
            out[k] += sum(sign * self._axis.get(axis, 0.0) for axis, sign in axes)
        held = self.panel.presses.held
        for k, (down, up) in enumerate(self._pairs[: len(out)]):
            out[k] += (up in held) - (down in held)
        return np.clip(out, -1.0, 1.0)

    def _grab(self, human: bool) -> None:
        """A key that is down when its keyboard changes hands would stay down for whoever saw it go down."""
        if not self._layout.grabbed and not self.panel.presses.held:
            self.panel.device.grab(human)


def _only(kind: str) -> str:
    """The one device of a kind, where there is one only."""
    found = input_devices(kind)
    if len(found) != 1:
        raise SpecError("teleop.input", None, "say which input device", found or ["none found under /dev/input/by-id"])
    return found[0]

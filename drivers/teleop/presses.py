"""What buttons, pedals and gestures mean: levels of Button for the tick, session keys for whoever runs the session."""

from __future__ import annotations

from spec.robot import Key
from spec.teleop import Button

SHOWN_NS = 100_000_000
"""A short press is shown for so long: the control loop takes the newest sample only, and must not miss it."""

_BUTTONS = {
    Key.TAKE: Button.TAKE,
    Key.RELEASE: Button.RELEASE,
    Key.TOGGLE: Button.TOGGLE,
    Key.DEAD_MAN: Button.DEAD_MAN,
}


class Pulse:
    """Something momentary, shown for :data:`SHOWN_NS`."""

    def __init__(self) -> None:
        self._until_ns = 0

    def press(self, now_ns: int) -> None:
        self._until_ns = now_ns + SHOWN_NS

    def down(self, now_ns: int) -> bool:
        return now_ns < self._until_ns

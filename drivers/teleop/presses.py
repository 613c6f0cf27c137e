"""What buttons, pedals and gestures mean: levels of Button for the tick, session keys for whoever runs the session."""

from __future__ import annotations

from collections.abc import Mapping

from drivers.teleop.inputs import EV_KEY, InputDevice, InputEvent
from drivers.teleop.keys import CODES, key_code
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
_CTRL = {CODES["KEY_LEFTCTRL"], CODES["KEY_RIGHTCTRL"]}


class Pulse:
    """Something momentary, shown for :data:`SHOWN_NS`."""

    def __init__(self) -> None:
        self._until_ns = 0

    def press(self, now_ns: int) -> None:
        self._until_ns = now_ns + SHOWN_NS

    def down(self, now_ns: int) -> bool:
        return now_ns < self._until_ns


class Presses:
    """Keys of one device that mean something.

    Args:
        meaning: key number → meaning.
    """

    def __init__(self, meaning: Mapping[int, Key]) -> None:
        self.meaning = meaning
        self.held: set[int] = set()
        """Every key that is down, with a meaning or without."""
        self._shown = {key: Pulse() for key in _BUTTONS if key is not Key.DEAD_MAN}
        self._keys: list[Key] = []

    def see(self, event: InputEvent, now_ns: int) -> None:
        """Take in that a key went down or up; a held key that repeats is no news."""
        if event.kind != EV_KEY:
            return
        if event.value == 0:
            self.held.discard(event.code)
        elif event.value == 1:
            self.held.add(event.code)
            key = self.meaning.get(event.code)
            if key in self._shown:
                self._shown[key].press(now_ns)
            elif key is not None and key is not Key.DEAD_MAN:
                self._keys.append(key)
            elif event.code == CODES["KEY_C"] and self.held & _CTRL:
                self._keys.append(Key.QUIT)  # a grabbed keyboard cannot say so to the terminal

    def release_all(self) -> None:
        """The device is gone: nothing is held any more."""
        self.held.clear()

    def buttons(self, now_ns: int) -> Button:
        """Levels. A dead man's switch counts only while it is really held."""
        found = Button.NONE
        for code in self.held:
            key = self.meaning.get(code)
            found |= Button.NONE if key is None else _BUTTONS.get(key, Button.NONE)
        for shown, pulse in self._shown.items():
            if pulse.down(now_ns):
                found |= _BUTTONS[shown]
        return found

    def pressed(self) -> tuple[str, ...]:
        """Session keys that went down since the last call."""
        gone, self._keys = tuple(key.value for key in self._keys), []
        return gone


class Panel:
    """An input device with the meaning of its keys.

    Args:
        path: of the device.
        meaning: key name → meaning.
        grabbed: its keys are for nobody else.
    """

    def __init__(self, path: str, meaning: Mapping[str, Key], *, grabbed: bool = True) -> None:
        self.device = InputDevice(path)
        self._meaning = meaning
        self._grabbed = grabbed
        self.presses = Presses({})

    def open(self) -> None:
        """Raises DeviceError or SpecError: no such device, no such key."""
        for name in self._meaning:  # bad names are refused before anything is opened
            key_code(name, self._where)
        self.device.open()
        self.device.grab(self._grabbed)
        self.presses = Presses({key_code(n, self._where, self.device.keys): key for n, key in self._meaning.items()})

    @property
    def _where(self) -> str:
        return f"teleop.buttons.{self.device.path}"

    @property
    def trouble(self) -> str:
        return "" if self.device.present else f"{self.device.path}: the input device is gone; plug it in again"

    def read(self, now_ns: int) -> list[InputEvent] | None:
        """Take in what came; returns it for whoever looks at the axes. None: all keys count as up."""
        events = self.device.read(now_ns)
        if events is None:
            self.presses.release_all()
            return None
        for event in events:
            self.presses.see(event, now_ns)
        return events

    def close(self) -> None:
        self.device.close()

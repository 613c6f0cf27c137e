"""Numbers of keys, buttons and axes as Linux input devices send them, by the names evtest shows.

Source: linux/input-event-codes.h, which is part of the kernel's stable interface. What keyboards, foot pedals, button
boxes and gamepads have; any other key goes by its number.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable

from spec.errors import SpecError

_RUNS = (
    ("KEY_", 1, "ESC 1 2 3 4 5 6 7 8 9 0 MINUS EQUAL BACKSPACE TAB Q W E R T Y U I O P LEFTBRACE RIGHTBRACE ENTER"),
    ("KEY_", 29, "LEFTCTRL A S D F G H J K L SEMICOLON APOSTROPHE GRAVE LEFTSHIFT BACKSLASH Z X C V B N M COMMA DOT"),
    (
        "KEY_",
        53,
        "SLASH RIGHTSHIFT KPASTERISK LEFTALT SPACE CAPSLOCK F1 F2 F3 F4 F5 F6 F7 F8 F9 F10 NUMLOCK SCROLLLOCK",
    ),
    ("KEY_", 71, "KP7 KP8 KP9 KPMINUS KP4 KP5 KP6 KPPLUS KP1 KP2 KP3 KP0 KPDOT"),
    ("KEY_", 86, "102ND F11 F12"),
    (
        "KEY_",
        96,
        "KPENTER RIGHTCTRL KPSLASH SYSRQ RIGHTALT LINEFEED HOME UP PAGEUP LEFT RIGHT END DOWN PAGEDOWN INSERT",
    ),
    ("KEY_", 111, "DELETE MACRO MUTE VOLUMEDOWN VOLUMEUP POWER KPEQUAL KPPLUSMINUS PAUSE"),
    ("KEY_", 125, "LEFTMETA RIGHTMETA COMPOSE"),
    ("KEY_", 163, "NEXTSONG PLAYPAUSE PREVIOUSSONG STOPCD RECORD REWIND"),
    ("KEY_", 183, "F13 F14 F15 F16 F17 F18 F19 F20 F21 F22 F23 F24"),
    ("BTN_", 0x100, "0 1 2 3 4 5 6 7 8 9"),
    ("BTN_", 0x110, "LEFT RIGHT MIDDLE SIDE EXTRA FORWARD BACK TASK"),
    ("BTN_", 0x120, "TRIGGER THUMB THUMB2 TOP TOP2 PINKIE BASE BASE2 BASE3 BASE4 BASE5 BASE6"),
    ("BTN_", 0x130, "SOUTH EAST C NORTH WEST Z TL TR TL2 TR2 SELECT START MODE THUMBL THUMBR"),
    ("BTN_", 0x220, "DPAD_UP DPAD_DOWN DPAD_LEFT DPAD_RIGHT"),
)
CODES: dict[str, int] = {
    prefix + name: first + k for prefix, first, names in _RUNS for k, name in enumerate(names.split())
}
NAMES: dict[int, str] = {code: name for name, code in CODES.items()}

ABS_X, ABS_Y, ABS_Z, ABS_RX, ABS_RY, ABS_RZ = range(6)
ABS_HAT0X, ABS_HAT0Y = 0x10, 0x11


def key_code(name: str, where: str, has: Iterable[int] | None = None) -> int:
    """Number of a key by its name, or by its number as text.

    Args:
        where: for the message.
        has: the keys the device has, where it says so.

    Raises:
        SpecError: no such key, or not on this device; with those that come near, or those it has.
    """
    codes = None if has is None else set(has)
    code = CODES.get(name, int(name) if name.isdecimal() else None)
    if code is None:
        near = difflib.get_close_matches(name, CODES, n=6, cutoff=0.5) or ["KEY_A", "KEY_SPACE", "BTN_SOUTH"]
        raise SpecError(where, name, "no such key; evtest shows the names", [*near, "or a number"])
    if codes is not None and code not in codes:
        raise SpecError(where, name, "this device has no such key", [NAMES.get(c, str(c)) for c in sorted(codes)[:40]])
    return code

"""Keys of this terminal: single ones from a terminal, words from anything else."""

from __future__ import annotations

import contextlib
import math
import os
import re
import select
import termios
import time
import tty
from collections import deque
from types import TracebackType
from typing import Any, Self, TextIO

from controller.collection.collector import Collector, Reward
from controller.collection.machine import Phase, accepts
from spec.robot import Key

KEYS: dict[str, Key] = {
    " ": Key.START_STOP,
    "s": Key.SUCCESS,
    "f": Key.FAIL,
    "d": Key.DISCARD,
    "r": Key.REDO,
    "t": Key.TOGGLE,
    "h": Key.HIGHLIGHT,
    "q": Key.QUIT,
}
"""Digits are rewards."""
HELP = (
    ("space", "start / stop"),
    ("s", "success"),
    ("f", "fail"),
    ("d", "discard"),
    ("r", "redo"),
    ("t", "take / give back"),
    ("0-9", "reward"),
    ("h", "highlight"),
    ("q", "quit"),
)
_WORDS = {
    **{key.value: key for key in Key if key is not Key.DEAD_MAN},
    "start": Key.START_STOP,
    "stop": Key.START_STOP,
    "clear": Key.START_STOP,
}
VALID = (*_WORDS, "reward X", "wait SECONDS")
_SEQUENCE = re.compile(r"\x1b(?:\[[0-9;?]*[A-Za-z~]|O.|.)?")
"""What arrows and function keys send."""


class TerminalKeys:
    """Reads single keys, unechoed, and gives the terminal back as it was, whatever happens.

    Ctrl-C stays what it is. Ctrl-Z does nothing meanwhile: a stopped program cannot watch a moving arm.
    """

    def __init__(self, terminal: TextIO) -> None:
        self._descriptor = terminal.fileno()
        self._before: list[Any] | None = None

    def __enter__(self) -> Self:
        before = termios.tcgetattr(self._descriptor)
        try:
            self._before = before
            tty.setcbreak(self._descriptor, termios.TCSADRAIN)
            changed = termios.tcgetattr(self._descriptor)
            changed[6][termios.VSUSP] = b"\0"
            termios.tcsetattr(self._descriptor, termios.TCSADRAIN, changed)
        except BaseException:
            self._restore()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._restore()

    def pressed(self, _collector: Collector) -> list[Key | Reward]:
        """Keys since the last call."""
        found: list[Key | Reward] = []
        for character in self.typed():
            if character in KEYS:
                found.append(KEYS[character])
            elif character in "0123456789":
                found.append(Reward(float(character)))
        return found

    def typed(self) -> str:
        """Characters since the last call, without arrows and function keys."""
        return _SEQUENCE.sub("", _read(self._descriptor).decode(errors="replace")).lower()

    def _restore(self) -> None:
        if self._before is not None:
            with contextlib.suppress(termios.error):  # it is gone, and takes its settings along
                termios.tcsetattr(self._descriptor, termios.TCSADRAIN, self._before)
            self._before = None


class LineKeys:
    """Reads one word a line, for scripts. A word waits until the session can do something with it.

    The end of the lines is the end of the session, unless none ever came: a service has /dev/null there.

    Args:
        lines: standard input, or another file with a descriptor.
        ends: whether the end of the lines is the end of the session.
    """

    def __init__(self, lines: TextIO, *, ends: bool) -> None:
        self._descriptor, self._ends = lines.fileno(), ends
        self._text = b""
        self._waiting: deque[str] = deque()
        self._open, self._came = True, False
        self._until_s = 0.0

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        return None

    def pressed(self, collector: Collector) -> list[Key | Reward]:
        """The next word, if its time has come."""
        self._take_in()
        if not self._waiting or time.monotonic() < self._until_s:
            return []
        word, _, value = self._waiting[0].partition(" ")
        if word in {"wait", "reward"}:
            return self._valued(word, value, collector)
        key = _WORDS.get(word)
        if key is None:
            self._waiting.popleft()
            collector.run.say(f"{word!r}: no such key (valid: {', '.join(VALID)})")
            return []
        if not accepts(collector.plan, collector.now, key):
            return []
        self._waiting.popleft()
        return [key]

    def _valued(self, word: str, value: str, collector: Collector) -> list[Key | Reward]:
        try:
            number = float(value)
        except ValueError:
            number = math.nan
        if not math.isfinite(number):
            self._waiting.popleft()
            collector.run.say(f"{word} {value!r}: not a number")
            return []
        if word == "reward" and collector.now.phase is not Phase.RUNNING:
            return []
        self._waiting.popleft()
        if word == "reward":
            return [Reward(number)]
        self._until_s = time.monotonic() + number
        return []

    def _take_in(self) -> None:
        if not self._open:
            return
        ready = bool(select.select([self._descriptor], [], [], 0)[0])
        data = os.read(self._descriptor, 4096) if ready else b""
        self._open = bool(data) or not ready
        self._came = self._came or bool(data)
        self._text += data
        *lines, self._text = self._text.split(b"\n")
        if not self._open:
            lines.append(self._text)
        self._waiting += [word for line in lines if (word := line.decode(errors="replace").strip().lower())]
        if not self._open and self._came and self._ends:
            self._waiting.append(Key.QUIT.value)


def keys_of(stdin: TextIO, *, ends: bool) -> TerminalKeys | LineKeys:
    """What can be pressed at ``stdin``."""
    return TerminalKeys(stdin) if stdin.isatty() else LineKeys(stdin, ends=ends)


def _read(descriptor: int) -> bytes:
    """What waits there; nothing where the terminal is gone."""
    try:
        return os.read(descriptor, 256) if select.select([descriptor], [], [], 0)[0] else b""
    except OSError:
        return b""

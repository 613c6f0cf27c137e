"""What the operator hears: a word where there is a voice, else a tone, else the terminal's bell."""

from __future__ import annotations

import array
import contextlib
import math
import shutil
import subprocess
import sys
import tempfile
import wave
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType
from typing import Protocol, Self, TextIO

TONES: dict[str, tuple[float, ...]] = {
    "reset": (440.0,),
    "ready": (660.0, 880.0),
    "recording": (880.0,),
    "saved": (880.0, 1175.0),
    "discarded": (440.0, 330.0),
    "you have it": (990.0,),
    "policy has it": (660.0,),
    "fault": (220.0, 220.0, 220.0),
    "done": (880.0, 660.0, 440.0),
}
"""What is said, and the tones for it [Hz]."""
_RATE, _TONE_S = 22050, 0.11
_VOICES: tuple[tuple[str, tuple[str, ...]], ...] = (
    ("spd-say", ("--wait",)),
    ("espeak-ng", ("-s", "190")),
    ("espeak", ("-s", "190")),
)
_PLAYERS: tuple[tuple[str, tuple[str, ...]], ...] = (("paplay", ()), ("pw-play", ()), ("aplay", ("-q",)))


class Cues(Protocol):
    """Gives a cue and returns at once."""

    def give(self, cue: str) -> None: ...

    def close(self) -> None: ...


class Silence:
    """For those who asked for it."""

    def give(self, cue: str) -> None:
        """Nothing."""

    def close(self) -> None:
        """Nothing."""


class Bell:
    """The terminal's own."""

    def __init__(self, terminal: TextIO) -> None:
        self._terminal = terminal

    def give(self, cue: str) -> None:
        """As often as the cue has tones."""
        if self._terminal.isatty():
            self._terminal.write("\a" * len(TONES.get(cue, (0.0,))))
            self._terminal.flush()

    def close(self) -> None:
        """Nothing."""


class Program:
    """Another program that speaks or plays. A new cue cuts the last one short, so that none comes late.

    Args:
        command: takes the word, or the file with the tones, as its last argument.
        folder: with a file for every cue; None where the program speaks.
    """

    def __init__(self, command: Sequence[str], folder: tempfile.TemporaryDirectory[str] | None = None) -> None:
        self._command, self._folder = tuple(command), folder
        self._child: subprocess.Popen[bytes] | None = None

    def give(self, cue: str) -> None:
        """Start it; a program that cannot be started is silent."""
        self._end()
        what = cue if self._folder is None else str(Path(self._folder.name) / _file_name(cue))
        with contextlib.suppress(OSError):
            self._child = subprocess.Popen(
                [*self._command, what],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
                start_new_session=True,
            )

    def close(self) -> None:
        """Let the last one finish, for a moment."""
        if self._child is not None:
            with contextlib.suppress(subprocess.TimeoutExpired):
                self._child.wait(1.5)
        self._end()
        if self._folder is not None:
            self._folder.cleanup()

    def _end(self) -> None:
        if self._child is not None and self._child.poll() is None:
            self._child.kill()
            self._child.wait()
        self._child = None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def cues(*, quiet: bool) -> Cues:
    """The best this machine has."""
    if quiet:
        return Silence()
    for name, options in _VOICES:
        if (found := shutil.which(name)) is not None:
            return Program((found, *options))
    for name, options in _PLAYERS:
        if (found := shutil.which(name)) is not None:
            return Program((found, *options), _tone_files())
    return Bell(sys.stderr)


def _tone_files() -> tempfile.TemporaryDirectory[str]:
    folder = tempfile.TemporaryDirectory(prefix="cadenza-cues-")
    for cue, tones in TONES.items():
        write_tones(Path(folder.name) / _file_name(cue), tones)
    return folder


def write_tones(path: Path, tones: Sequence[float]) -> None:
    """One after the other, each fading in and out so that it does not click [Hz]."""
    count = round(_RATE * _TONE_S)
    samples = array.array("h")
    for tone in tones:
        samples.extend(
            round(9000 * math.sin(math.pi * k / count) * math.sin(2 * math.pi * tone * k / _RATE)) for k in range(count)
        )
        samples.extend([0] * (count // 4))
    with wave.open(str(path), "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(_RATE)
        file.writeframes(samples.tobytes())


def _file_name(cue: str) -> str:
    return f"{cue.replace(' ', '-')}.wav"

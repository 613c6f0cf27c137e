"""``python -m cadenza.soaking.housekeeper ROBOT KEEP``: looks through closed episodes, and keeps only the newest.

On standard input a JSON line an episode, ``[path, keep]``; what became of it, a JSON line each, on standard output. A
process of its own, so that reading whole episodes neither disturbs the run nor counts as its memory.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections import deque
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from cadenza.background import give_way
from controller.wiring.child import read_resolved
from controller.wiring.placement import stay_off_control_core
from episodes.check import check
from episodes.reader import read_episode
from spec.errors import CadenzaError

_END_S = 120.0
_KEPT_BROKEN = 20
"""Episodes in which something went wrong are kept, but no more than so many."""


class Housekeeper:
    """The process, seen by the soak.

    Args:
        robot: resolved robot file of the run.
        keep: so many of the newest episodes stay.
    """

    def __init__(self, robot: Path, keep: int) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-m", "cadenza.soaking.housekeeper", str(robot), str(keep)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            start_new_session=True,  # ends with its input, after it has looked through everything
        )
        assert self._process.stdin is not None and self._process.stdout is not None  # noqa: S101, PT018 (pipes)
        self._input, self._output = self._process.stdin, self._process.stdout
        os.set_blocking(self._output.fileno(), False)
        self._heard = b""

    @property
    def pid(self) -> int:
        return self._process.pid

    def take(self, path: Path, *, keep: bool = False) -> None:
        """Hand over a closed episode; ``keep``: there is something to be seen in it."""
        try:
            self._input.write(json.dumps([str(path), keep]).encode() + b"\n")
            self._input.flush()
        except BrokenPipeError:
            raise CadenzaError("housekeeper: the process that looks through the episodes is gone") from None

    def found(self) -> list[dict[str, Any]]:
        """What became of episodes since the last call; never blocks."""
        while data := self._read():
            self._heard += data
        *lines, self._heard = self._heard.split(b"\n")
        return [json.loads(line) for line in lines]

    def _read(self) -> bytes:
        try:
            return os.read(self._output.fileno(), 65536)
        except BlockingIOError:
            return b""

    def end(self) -> list[dict[str, Any]]:
        """Wait until it has looked through all; returns what it found."""
        self._input.close()
        os.set_blocking(self._output.fileno(), True)
        try:
            self._process.wait(_END_S)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        found = self.found()
        self._output.close()
        return found


@dataclass(slots=True)
class Shelf:
    """Which files stay."""

    keep: int
    _sound: deque[Path] = field(default_factory=deque)
    _broken: int = 0

    def add(self, path: Path, *, sound: bool) -> None:
        """One more; the oldest sound one goes if there are too many."""
        if not sound:
            self._broken += 1
        if sound or self._broken > _KEPT_BROKEN:
            self._sound.append(path)
        while len(self._sound) > self.keep:
            self._sound.popleft().unlink(missing_ok=True)


def examined(path: Path) -> dict[str, Any]:
    """What is in an episode, and what is wrong with it. JSON-able."""
    wrong = check(path)
    facts: dict[str, Any] = {"path": path.name, "wrong": wrong}
    try:
        episode = read_episode(path, cameras=())
        facts["bytes"] = path.stat().st_size
        facts["ticks"] = len(episode.ticks)
        facts["frames"] = {name: len(frames) for name, frames in episode.frames.items()}
        facts["seconds"] = float(episode.ticks["now_ns"][-1] - episode.ticks["now_ns"][0]) * 1e-9
    except (CadenzaError, OSError, IndexError) as error:
        facts["wrong"] = wrong or [str(error)]
    return facts


def main(argv: list[str]) -> int:
    """Look through what is named until the input ends."""
    give_way(19)
    stay_off_control_core(read_resolved(Path(argv[0])).control)
    shelf = Shelf(int(argv[1]))
    for line in sys.stdin:
        name, keep = json.loads(line)
        facts = examined(Path(name))
        shelf.add(Path(name), sound=not facts["wrong"] and not keep)
        print(json.dumps(facts), flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

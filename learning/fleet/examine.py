"""Is a file that came over the network an episode? It is read in a process of its own, with bounded memory and time:
what a file says about itself must not take down the server.

``python -m learning.fleet.examine`` reads one JSON line after the other, ``[file, most bytes]``, and answers each with
a JSON line: what is wrong with the file, ``""`` for a sound one.
"""

from __future__ import annotations

import contextlib
import json
import os
import resource
import select
import subprocess
import sys
import threading
from pathlib import Path

from episodes.reader import read_episode
from learning.fleet.names import one_line
from spec.errors import CadenzaError

_TIME_S = 300.0
_MEMORY = 1 << 29
"""Bytes beside what the file itself takes; the interpreter and its libraries reserve less than half of it."""
_COPIES = 6
"""How often a reader may hold the file's content: as read, taken apart, and as arrays."""


class Examiner:
    """The process that reads, and starts another when it is lost. One file at a time, so that memory stays bounded.

    Args:
        memory: that reading may take, beside some copies of the file [bytes].
        time_s: for one file.
    """

    def __init__(self, memory: int = _MEMORY, time_s: float = _TIME_S) -> None:
        self._memory, self._time_s = memory, time_s
        self._process: subprocess.Popen[bytes] | None = None
        self._one = threading.Lock()

    def __call__(self, path: Path) -> str:
        """What is wrong with a file, one line; empty for a sound episode."""
        question = json.dumps([str(path), self._memory + _COPIES * path.stat().st_size])
        with self._one:
            for _ in range(2):  # a reader that has read others before may be short of memory through no fault of this
                fresh = self._process is None
                with contextlib.suppress(TimeoutError, OSError, ValueError):
                    return self._ask(self._running(), question)
                self._end()
                if fresh:
                    break
        return "not an episode that can be read in bounded memory and time"

    def start(self) -> None:
        """Start the process; else the first file does."""
        with self._one:
            self._running()

    def close(self) -> None:
        """End the process."""
        with self._one:
            self._end()

    def _running(self) -> subprocess.Popen[bytes]:
        if self._process is None:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "learning.fleet.examine"],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.DEVNULL,
                env={**os.environ, "OPENBLAS_NUM_THREADS": "1"},  # each thread of it reserves memory
                start_new_session=True,  # Ctrl-C is for the server, which then ends this
            )
        return self._process

    def _ask(self, reader: subprocess.Popen[bytes], question: str) -> str:
        if reader.stdin is None or reader.stdout is None:
            raise OSError("no pipes")
        reader.stdin.write(question.encode() + b"\n")
        reader.stdin.flush()
        if not select.select([reader.stdout], [], [], self._time_s)[0]:
            raise TimeoutError
        return str(json.loads(reader.stdout.readline()))

    def _end(self) -> None:
        if self._process is not None:
            self._process.kill()
            self._process.communicate()
            self._process = None


def complaint(path: Path) -> str:
    """What is wrong with a file, read in this process."""
    try:
        episode = read_episode(path, cameras=())
        robot = episode.robot()
        episode.bundle()
        _ = episode.rewards, episode.outcome, episode.termination, episode.ending
    except CadenzaError as error:
        return str(error).removeprefix(f"{path}: ")
    except ValueError as error:
        return f"not a sound episode: {error}"
    if episode.damage:
        return f"damaged: {episode.damage}"
    if not episode.result:
        return "not closed: it does not say how it ended"
    if robot.follower.names != episode.joints:
        return f"joints {list(episode.joints)} are not those of its robot file"
    return "" if len(episode.ticks) else "no ticks"


def main() -> None:
    """Answer until the server ends; whatever is beyond a limit ends this process instead."""
    _, hard = resource.getrlimit(resource.RLIMIT_AS)
    for line in sys.stdin:
        path, most = json.loads(line)
        resource.setrlimit(resource.RLIMIT_AS, (most, hard))
        print(json.dumps(one_line(complaint(Path(path)))), flush=True)


if __name__ == "__main__":
    main()

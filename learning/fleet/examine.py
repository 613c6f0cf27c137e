"""Is a file that came over the network an episode? It is read in a process of its own, with bounded memory and time:
what a file says about itself must not take down the server.

``python -m learning.fleet.examine FILE BYTES`` prints what is wrong with it, nothing for a sound one.
"""

from __future__ import annotations

import os
import resource
import subprocess
import sys
from pathlib import Path

from episodes.reader import read_episode
from spec.errors import CadenzaError

_TIME_S = 300.0
_MEMORY = 1 << 29
"""Bytes beside what the file itself takes; the interpreter and its libraries reserve less than half of it."""
_COPIES = 6
"""How often a reader may hold the file's content: as read, taken apart, and as arrays."""


def examine(path: Path, memory: int = _MEMORY) -> str:
    """What is wrong with a file, one line; empty for a sound episode.

    Args:
        memory: that reading it may take, beside some copies of it [bytes].
    """
    most = memory + _COPIES * path.stat().st_size
    command = [sys.executable, "-m", "learning.fleet.examine", str(path), str(most)]
    quiet = {**os.environ, "OPENBLAS_NUM_THREADS": "1"}  # each thread of it reserves memory
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=_TIME_S, check=False, env=quiet)
    except subprocess.TimeoutExpired:
        return f"not an episode that can be read within {_TIME_S:g} s"
    if done.returncode != 0:
        return "not an episode that can be read in bounded memory"
    return done.stdout.strip()


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
    path, most = Path(sys.argv[1]), int(sys.argv[2])
    resource.setrlimit(resource.RLIMIT_AS, (most, most))
    resource.setrlimit(resource.RLIMIT_CPU, (int(_TIME_S), int(_TIME_S)))
    print(" ".join(complaint(path).split())[:500])


if __name__ == "__main__":
    main()

"""What the tests of the whole set of processes share."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable, Mapping

from controller.session import EpisodeResult, Judge, Session
from controller.supervisor import Supervisor
from controller.wiring.process import Process


class Script:
    """A judge that does something while the policy drives, and then says whether that was success."""

    def __init__(self, act: Callable[[int], bool | None]) -> None:
        self._act, self._asked = act, 0

    def prepare(self, episode: int) -> Mapping[str, str]:
        return {"episode": str(episode)}

    def success(self) -> bool | None:
        self._asked += 1
        return self._act(self._asked)


def run_one(supervisor: Supervisor, judge: Judge, seconds: float = 20.0) -> EpisodeResult:
    return Session(supervisor, judge, seconds).episode(0)


def kill(process: Process) -> None:
    assert process.pid is not None
    os.kill(process.pid, signal.SIGKILL)


def stop(process: Process) -> None:
    """It lives on but does nothing any more, as one that hangs."""
    assert process.pid is not None
    os.kill(process.pid, signal.SIGSTOP)


def eventually(done: Callable[[], bool], seconds: float = 30.0) -> bool:
    deadline = time.monotonic() + seconds
    while not done() and time.monotonic() < deadline:
        time.sleep(0.05)
    return done()

"""The conversation with the recorder: what was asked of it, and what has become of that."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from enum import Enum, auto
from functools import partial
from pathlib import Path
from typing import Any

from controller.collection.machine import Happened
from controller.session import ANSWER_S
from controller.supervisor import Supervisor
from controller.wiring.vigil import READY_S
from episodes.outcome import Outcome, Termination
from episodes.records import Order


class Spool(Enum):
    """What the tape is doing."""

    IDLE = auto()
    OPENING = auto()
    OPEN = auto()
    CLOSING = auto()
    BROKEN = auto()
    """The recorder died or gave up with a file open."""


class Tape:
    """One recording at a time.

    Args:
        supervisor: entered.
    """

    def __init__(self, supervisor: Supervisor) -> None:
        self._run = supervisor
        self.spool = Spool.IDLE
        self.files: list[Path] = []
        """Of the newest recording, as far as they are closed."""
        self.dropped: dict[str, int] = {}
        """Records that never reached the recorder in it, by topic."""
        self._path = Path()
        self._since_s = 0.0
        self._opening: Callable[[], bool] | None = None
        """What the recorder is still to be asked, once it is there."""

    def open(
        self, path: Path, labels: Mapping[str, str], *, from_ns: int | None = None, rotate_mb: float | None = None
    ) -> bool:
        """Ask for a new recording; False where the disk has no room for one."""
        self._path, self.files, self.dropped = path, [], {}
        asking = partial(self._run.recorder.open, path, labels, from_ns=from_ns, rotate_mb=rotate_mb)
        if not self._run.recorder.ready:
            # It has just died, and will be back; what was asked of the dead one is lost.
            self._opening = asking
            self._at(Spool.OPENING)
            return True
        self._opening = None
        fits = asking()
        self._at(Spool.OPENING if fits else Spool.IDLE)
        return fits

    def close(self, outcome: Outcome, termination: Termination, facts: Mapping[str, str], reward: float | None) -> None:
        """Ask for the end of the recording."""
        if self.spool is Spool.OPENING and self._opening is not None:
            self._opening = None  # nobody was told yet
            self._at(Spool.IDLE)
        elif self.spool in {Spool.OPENING, Spool.OPEN}:
            self._run.recorder.close(outcome, termination, dict(facts), reward)
            self._at(Spool.CLOSING)

    def forget(self) -> None:
        """What was closed so far is somebody else's."""
        self.files, self.dropped = [], {}

    def hear(self, said: list[dict[str, Any]]) -> Happened | None:
        """Take in the recorder's answers; returns what they come to."""
        heard = None
        for answer in said:
            heard = self._hear(answer) or heard
        if self.spool is Spool.OPENING and self._opening is not None and self._run.recorder.ready:
            asking, self._opening = self._opening, None
            self._at(Spool.OPENING)
            if not asking():
                self._at(Spool.IDLE)
                return Happened.DISK_FULL
        asked, waiting = self._opening is None, self.spool in {Spool.OPENING, Spool.CLOSING}
        if waiting and time.monotonic() - self._since_s > (ANSWER_S if asked else READY_S):
            if asked:
                self._run.recorder.replace()
            self._at(Spool.BROKEN)
            return Happened.LOST
        return heard

    def salvage(self) -> None:
        """After a break: recover what is on disk."""
        self._run.recorder.recover()
        self.files += [path for path in (self._path,) if path.exists() and path not in self.files]
        self._at(Spool.IDLE)

    def _hear(self, answer: dict[str, Any]) -> Happened | None:
        """What one answer comes to. Answers about a recording that was given up before mean nothing."""
        if answer.get("path") not in {None, str(self._path)}:
            return None
        match answer["kind"]:
            case "opened" if self.spool is Spool.OPENING:
                self._at(Spool.OPEN)
                self._run.order(Order.MARK)
                return Happened.OPENED
            case "rotated":
                self.files.append(Path(answer["closed"]))
                self._run.order(Order.MARK)
            case "closed" if self.spool is Spool.CLOSING:
                self.files = [Path(file) for file in answer.get("files", [answer["path"]])]
                self.dropped = answer["dropped"]
                self._at(Spool.IDLE)
                return Happened.CLOSED
            case "failed" | "died" if self.spool is not Spool.IDLE and self._opening is None:
                self._at(Spool.BROKEN)
                return Happened.DISK_FULL if answer.get("full") else Happened.LOST
            case _:
                pass
        return None

    def _at(self, spool: Spool) -> None:
        self.spool, self._since_s = spool, time.monotonic()

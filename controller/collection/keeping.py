"""What is kept of a session, in terms of the recorder."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Any, NamedTuple

from controller.collection.ledger import episode_name
from controller.collection.machine import Happened, Verdict
from controller.collection.tape import Spool, Tape
from controller.supervisor import Supervisor
from episodes.outcome import Outcome, Termination

_END_S = 10.0
"""Longest time to wait for the recorder at the end of a session [s]."""


class Record(StrEnum):
    """Recording policy."""

    EPISODES = "episodes"
    """One file an episode."""
    CORRECTIONS = "corrections"
    """Only while a person drives, with some seconds before and after."""
    CONTINUOUS = "continuous"
    """Everything from the beginning of the session to its end; a new file whenever one is large enough."""
    HIGHLIGHT = "highlight"
    """The last seconds, kept whenever somebody presses the key for it."""


@dataclass(frozen=True, slots=True)
class Keep:
    """Settings."""

    record: Record = Record.EPISODES
    before_s: float = 5.0
    """Of a correction, before the takeover [s]."""
    after_s: float = 2.0
    """Of a correction, after the release [s]."""
    highlight_s: float = 30.0
    rotate_mb: float = 500.0


class Look(NamedTuple):
    """What is known at one look."""

    said: list[dict[str, Any]]
    """By the recorder."""
    heard: Happened | None
    """What that came to."""
    taken_ns: int | None
    """Instant at which the person who drives took the arm [ns]; None: none does."""
    now_s: float


class Keeper:
    """One file an episode. The other policies differ in what they do at its beginning, at its end, and in between.

    Args:
        supervisor: entered.
        keep: settings.
        labels: of the session.
    """

    def __init__(self, supervisor: Supervisor, keep: Keep, labels: Mapping[str, str]) -> None:
        self._run, self._keep, self._tape = supervisor, keep, Tape(supervisor)
        self._number, self._labels = 0, dict(labels)
        self._closing = False
        self.files: list[Path] = []
        """Closed recordings of the episode that runs or ran last."""
        self.dropped: dict[str, int] = {}
        """Records that never reached the recorder in it, by topic."""

    @property
    def recording(self) -> bool:
        """Whether what happens now goes to disk."""
        return self._tape.spool is Spool.OPEN

    def open(self, number: int, labels: Mapping[str, str]) -> list[Happened]:
        """An episode begins. OPENED, from here or from :meth:`look`, says that it may."""
        self._number, self._labels, self.files, self.dropped = number, dict(labels), [], {}
        self._tape.forget()
        return self._begin()

    def close(self, verdict: Verdict, facts: Mapping[str, str], reward: float | None) -> None:
        """An episode is over. CLOSED, from :meth:`look`, says that all of it is on disk."""
        self._closing = True
        self._finish(verdict, facts, reward)

    def look(self, said: list[dict[str, Any]], taken_ns: int | None, now_s: float) -> list[Happened]:
        """Let time pass.

        Args:
            said: by the recorder.
            taken_ns: instant at which the person who drives took the arm [ns]; None: none does.
            now_s: instant [s].
        """
        heard = self._tape.hear(said)
        self._take_files()
        happened = self._between(Look(said, heard, taken_ns, now_s))
        if self._closing and self._tape.spool is Spool.BROKEN:
            self._tape.salvage()
            self._take_files()
        if self._closing and self._closed:
            self._closing = False
            happened.append(Happened.CLOSED)
        return happened

    def highlight(self) -> bool:
        """Keep the last seconds; False where no past is kept in memory."""
        return False

    def end(self) -> None:
        """The session is over: finish whatever is open."""
        self._tape.close(Outcome.UNLABELLED, Termination.OPERATOR, {}, None)
        deadline = time.monotonic() + _END_S
        while not self._ended and time.monotonic() < deadline:
            self._tape.hear(self._listen())
            if self._tape.spool is Spool.BROKEN:
                self._tape.salvage()
            self._take_files()

    # -- what the policies do differently

    def _begin(self) -> list[Happened]:
        fits = self._tape.open(self._run.episodes_folder / episode_name(self._number), self._labels)
        return [] if fits else [Happened.DISK_FULL]

    def _finish(self, verdict: Verdict, facts: Mapping[str, str], reward: float | None) -> None:
        self._tape.close(verdict.outcome, verdict.termination, facts, reward)

    def _between(self, look: Look) -> list[Happened]:
        return [] if look.heard is None or look.heard is Happened.CLOSED else [look.heard]

    @property
    def _closed(self) -> bool:
        return self._tape.spool is Spool.IDLE

    @property
    def _ended(self) -> bool:
        return self._tape.spool is Spool.IDLE

    def _listen(self) -> list[dict[str, Any]]:
        return self._run.poll()

    def _take_files(self) -> None:
        self.files += [path for path in self._tape.files if path not in self.files]
        self.dropped = self._tape.dropped

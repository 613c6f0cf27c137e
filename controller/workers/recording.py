"""One recording: a backlog of messages that goes to disk in slices, into one file or a series of them."""

from __future__ import annotations

import glob
from collections import deque
from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import Future
from dataclasses import dataclass, replace
from pathlib import Path

from episodes.messages import Carried, LogMessage, size_of
from episodes.outcome import Outcome, Termination
from episodes.writer import PART, EpisodeWriter, Header
from spec.errors import CadenzaError

SLICE_BYTES = 4_000_000
"""Most that is written at once. The seconds before a recording come to many times that, and while a slow disk takes
them the queues of the topics fill."""


@dataclass(frozen=True, slots=True)
class Series:
    """Names of the files of one recording."""

    path: Path
    rotate_bytes: int | None = None
    """The size at which the next file begins; None: there is only one."""

    def file(self, number: int) -> Path:
        """Its file of this number, from 0."""
        if self.rotate_bytes is None:
            return self.path
        return self.path.with_name(f"{self.path.stem}-{number:06d}{self.path.suffix}")

    def full(self, size: int) -> bool:
        """Whether a file of ``size`` bytes takes no more."""
        return self.rotate_bytes is not None and size >= self.rotate_bytes

    def check_free(self) -> None:
        """Refuse a name of which some file exists already.

        Raises:
            CadenzaError: says which.
        """
        if self.rotate_bytes is not None:
            for taken in sorted(self.path.parent.glob(f"{glob.escape(self.path.stem)}-*{self.path.suffix}*")):
                number = taken.name.removesuffix(PART).removesuffix(self.path.suffix).removeprefix(f"{self.path.stem}-")
                if number.isdigit():
                    raise CadenzaError(f"{taken}: exists already; choose another name for this recording")


@dataclass(frozen=True, slots=True)
class Turn:
    """A recording went on in its next file."""

    closed: Path
    """Has this name as soon as the disk has taken it."""
    file: Path


class Recording:
    """An open recording. Every message put in is written once, in order, whatever file it falls into.

    Args:
        series: names of its files.
        header: of each of them; a series adds the number of the file to the labels.
        facts: asked for at the end of each file: what there is to tell about it.

    Raises:
        CadenzaError, OSError: from any method, as :class:`EpisodeWriter`.
    """

    def __init__(self, series: Series, header: Header, facts: Callable[[], Mapping[str, str]]) -> None:
        series.check_free()
        self.series = series
        self._header, self._facts = header, facts
        self._number = 0
        self._backlog: deque[LogMessage] = deque()
        self._carried = Carried(header.carried)
        self._turns: list[Turn] = []
        self._ending: deque[Future[Path]] = deque()
        self._counts: dict[str, int] = {}
        self._writer = self._opened()
        self.files = [self._writer.path]

    @property
    def path(self) -> Path:
        """The name it was given; its files may be called otherwise."""
        return self.series.path

    @property
    def waiting(self) -> bool:
        """Whether some of it is not written yet."""
        return bool(self._backlog)

    @property
    def counts(self) -> dict[str, int]:
        """Messages written so far, by topic."""
        topics = {**self._counts, **self._writer.counts}
        return {topic: self._counts.get(topic, 0) + self._writer.counts.get(topic, 0) for topic in topics}

    def put(self, messages: Iterable[LogMessage]) -> None:
        """Take messages in; :meth:`advance` writes them."""
        self._backlog.extend(messages)

    def advance(self, most_bytes: int = SLICE_BYTES) -> None:
        """Write at most about so many bytes of what waits."""
        while self._backlog and most_bytes > 0:
            batch, most_bytes = self._batch(most_bytes)
            self._writer.write(batch)
            self._carried.see(batch)
            if self.series.full(self._writer.size):
                self._turn()
        self._writer.service()
        while self._ending and self._ending[0].done():
            self._ending.popleft().result()

    def turns(self) -> list[Turn]:
        """Changes of file since the last call."""
        turns, self._turns = self._turns, []
        return turns

    def sync(self) -> None:
        """Have the disk take what has been written; does not wait for it."""
        self._writer.sync()

    @property
    def syncing(self) -> bool:
        """Whether the disk is at it."""
        return self._writer.syncing

    def close(self, outcome: Outcome, termination: Termination, facts: Mapping[str, str], reward: float | None) -> None:
        """Write all that waits and finish the file."""
        self.end(outcome, termination, facts, reward).result()

    def end(
        self, outcome: Outcome, termination: Termination, facts: Mapping[str, str], reward: float | None
    ) -> Future[Path]:
        """As :meth:`close`, but does not wait for the disk."""
        while self._backlog:
            self.advance()
        ended = self._writer.end(outcome, termination, {**self._facts(), **facts}, reward)
        while self._ending:
            self._ending.popleft().result()
        return ended

    def abandon(self) -> None:
        """Leave the open file as it is for recovery."""
        self._writer.abandon()

    def _batch(self, most_bytes: int) -> tuple[list[LogMessage], int]:
        """The next messages, up to the end of the slice or of the file; and what is left of the slice."""
        room = most_bytes
        if self.series.rotate_bytes is not None:
            room = min(room, max(1, self.series.rotate_bytes - self._writer.size))
        batch: list[LogMessage] = []
        taken = 0
        while self._backlog and taken < room:
            message = self._backlog.popleft()
            batch.append(message)
            taken += size_of((message,))
        return batch, most_bytes - taken

    def _turn(self) -> None:
        closed = self._writer
        self._ending.append(closed.end(Outcome.UNLABELLED, Termination.ROTATED, self._facts()))
        self._counts = self.counts
        self._number += 1
        self._header = replace(self._header, carried=self._carried.messages())
        self._writer = self._opened()
        self.files.append(self._writer.path)
        self._turns.append(Turn(closed.path, self._writer.path))

    def _opened(self) -> EpisodeWriter:
        header = self._header
        if self.series.rotate_bytes is not None:
            labels = {**header.labels, "session": self.path.stem, "segment": str(self._number)}
            header = replace(header, labels=labels)
        return EpisodeWriter(self.series.file(self._number), header)

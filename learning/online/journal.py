"""Which episodes the learner took in, and after how many updates: written down before it counts.

One JSON line an episode. State and stores may be older than the journal: what it says beyond them is taken in again at
the very same updates, so that a run that was killed ends where it would have ended. A journal alone, without a state,
is a run to be done again from the beginning.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Self

from pydantic import NonNegativeInt

from episodes.writer import sync_folder
from learning.replay.cut import Source
from spec.errors import SpecError
from spec.files import parsed_json
from spec.robot import Section
from spec.robotfile import validated

JOURNAL_FILE = "journal.jsonl"


class Facts(Section):
    """How an episode went, as far as its log says."""

    seconds: float
    rows: NonNegativeInt
    """With an action: what the learner may make updates for."""
    reward: float
    """Sum over the episode."""
    outcome: str
    intervention: float
    """Share of the driven ticks in which a person drove."""
    weights: tuple[int, ...]
    """Weight versions that drove; empty where no policy did."""


class Entry(Section):
    """One line."""

    update: NonNegativeInt
    """Updates made when it was taken in."""
    source: Source
    path: str
    size: NonNegativeInt
    mtime_ns: int
    sha256: str
    facts: Facts | None = None
    """None where it was refused."""
    refused: str = ""
    """Why; empty where it was taken in."""


class Journal:
    """The lines so far, and the file they stand in.

    A line that a crash cut off was never acted on, and is dropped.

    Raises:
        SpecError: a line in it is none of ours.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        path.parent.mkdir(parents=True, exist_ok=True)
        self.entries: list[Entry] = []
        self.taken: dict[str, Entry] = {}
        """By sha256; refused ones are not in it."""
        for entry in _read(path):
            self._count(entry)
        self._file = path.open("ab", buffering=0)
        try:
            sync_folder(path.parent)
        except BaseException:
            self._file.close()
            raise

    def __len__(self) -> int:
        return len(self.entries)

    def append(self, entry: Entry) -> None:
        """Write one line and see it on the disk.

        Raises:
            OSError: as the file system says; the line does not count, and what there is of it is taken back.
        """
        whole, line = self._file.tell(), (entry.model_dump_json() + "\n").encode()
        try:
            written = self._file.write(line)
            os.fsync(self._file.fileno())
        except OSError as error:
            self._file.truncate(whole)
            raise OSError(error.errno, error.strerror, str(self.path)) from None
        if written != len(line):
            self._file.truncate(whole)
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(self.path))
        self._count(entry)

    def refused(self) -> Iterator[Entry]:
        """The episodes that were refused."""
        return (entry for entry in self.entries if entry.refused)

    def close(self) -> None:
        self._file.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _count(self, entry: Entry) -> None:
        self.entries.append(entry)
        if not entry.refused:
            self.taken[entry.sha256] = entry


def read_journal(path: Path) -> list[Entry]:
    """Its lines, the cut-off one left out. Raises SpecError."""
    return list(_read(path, repair=False))


def _read(path: Path, repair: bool = True) -> Iterator[Entry]:
    try:
        content = path.read_bytes()
    except FileNotFoundError:
        return
    whole = content[: content.rfind(b"\n") + 1]
    if repair and len(whole) < len(content):
        os.truncate(path, len(whole))
    for number, line in enumerate(whole.splitlines(), 1):
        where = f"{path}: line {number}"
        try:
            yield validated(Entry, _document(line, where), where)
        except SpecError as error:
            remedy = (
                f"put the line back from a copy of the file, or begin another run from the newest policy: "
                f"--checkpoint {path.parent / 'checkpoint'} --out ANOTHER"
            )
            raise SpecError(error.where, error.value, f"{error.reason}; {remedy}", error.valid) from None


def _document(line: bytes, where: str) -> Any:
    try:
        return parsed_json(line)
    except ValueError as error:
        raise SpecError(where, line[:40].decode(errors="replace"), f"not valid JSON: {error}") from None

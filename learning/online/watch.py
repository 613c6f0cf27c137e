"""Folders that episodes come into, looked through again and again."""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from episodes.pruning import DISCARDED
from learning.online.journal import Entry
from learning.replay.cut import Source

_SUFFIX = ".mcap"
_SHARE = 0.05
"""Of the time that may go into looking: a folder of a hundred thousand files is looked through less often."""
_LEAST_S = 0.5


@dataclass(frozen=True, slots=True)
class Found:
    """A file that was not there before, or not like this."""

    source: Source
    path: Path
    size: int
    mtime_ns: int


class Watch:
    """Tells of each file once; of one that changed, once more.

    Args:
        folders: with what their episodes are, folders below them included.
        entries: files that were dealt with already.
        clock: seconds, monotonic.
    """

    def __init__(
        self,
        folders: Mapping[Path, Source],
        entries: Iterable[Entry] = (),
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._folders = {folder.resolve(): source for folder, source in folders.items()}
        self._known = {entry.path: (entry.size, entry.mtime_ns) for entry in entries}
        self._clock = clock
        self._next_s = -float("inf")

    def look(self, at_once: bool = False) -> list[Found]:
        """What is new, demonstrations first, then by path. Nothing where it has just been looked.

        What is told here is told again until :meth:`settle` is called for it.
        """
        begun_s = self._clock()
        if begun_s < self._next_s and not at_once:
            return []
        found = [
            Found(source, Path(path), facts.st_size, facts.st_mtime_ns)
            for folder, source in self._folders.items()
            for path, facts in _files(folder)
            if self._known.get(path) != (facts.st_size, facts.st_mtime_ns)
        ]
        ended_s = self._clock()
        self._next_s = ended_s + max(_LEAST_S, (ended_s - begun_s) / _SHARE)
        return sorted(found, key=lambda item: (item.source is not Source.DEMONSTRATION, item.path))

    def settle(self, found: Found) -> None:
        """Do not tell of it again unless it changes."""
        self._known[str(found.path)] = (found.size, found.mtime_ns)


def _files(folder: Path) -> Iterable[tuple[str, os.stat_result]]:
    """Closed episodes in a folder and below, but for what the operator threw away.

    The folder may not be there yet, and files may go while it is looked through.
    """
    with contextlib.suppress(OSError), os.scandir(folder) as entries:
        for entry in entries:
            with contextlib.suppress(OSError):
                if entry.name.startswith(".") or entry.name == DISCARDED:
                    continue
                if entry.is_dir(follow_symlinks=False):
                    yield from _files(Path(entry.path))
                elif entry.name.endswith(_SUFFIX) and entry.is_file():
                    yield entry.path, entry.stat()

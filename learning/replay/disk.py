"""A store's columns on disk: more rows than memory holds, and none lost that a saved state counts on.

Rows lie in segments, files of equally many rows. A segment is only ever added to, and removed as a whole once no saved
state can need it any more; so going back after a crash is a matter of counting. Files are read and written by offset,
not mapped: a full disk is then an error instead of a signal, and what is read counts as the system's cache instead of
as this process's memory.
"""

from __future__ import annotations

import errno
import json
import os
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from learning.network.config import ActorConfig
from learning.replay.columns import Values
from learning.replay.layout import columns_of, reach, row_bytes
from spec.arrays import Int
from spec.errors import CadenzaError, MisfitError, SpecError
from spec.files import write_atomically

HEADER_FILE, HEAD_FILE = "store.json", "head.json"
KIND = "replay/1"
_SEGMENTS = 64
"""Files in a full store. It is this coarse that it forgets."""
_BETWEEN = 6
"""Segments' worth of rows that may come between two calls of sync."""


class Disk:
    """Columns in a folder.

    Args:
        folder: made where it is missing; taken up where it is not.
        config: of the actor.
        max_bytes: what the folder may grow to.

    Raises:
        MisfitError: it holds rows for another actor, or was made for another size.
        SpecError: it is damaged, or ``max_bytes`` is too small.
        CadenzaError: the disk cannot be written.
    """

    def __init__(self, folder: Path, config: ActorConfig, max_bytes: int) -> None:
        self._folder = folder
        self._columns = columns_of(config)
        self._rows = max_bytes // _SEGMENTS // row_bytes(config)
        self.capacity = (_SEGMENTS - 2 - 2 * _BETWEEN) * self._rows - reach(config)
        """Rows that are always kept for windows to begin at."""
        if self.capacity < 1:
            least = _SEGMENTS * (reach(config) // (_SEGMENTS - 2 - 2 * _BETWEEN) + 1) * row_bytes(config)
            raise SpecError(str(folder), max_bytes, f"too few bytes for a store of this actor; give it {least} or more")
        self._offsets, end = {}, 0
        for name, column in self._columns.items():
            self._offsets[name] = end
            end += self._rows * column.row_bytes
        self._kept = self.capacity + reach(config)
        self._files: dict[int, int] = {}
        self._dirty: set[int] = set()
        self._head = self._synced = self._before = 0
        try:
            self._open(config)
        except OSError as error:
            raise _of_disk(folder, error) from None

    @property
    def head(self) -> int:
        return self._head

    @property
    def slack(self) -> int:
        return max(0, self._synced + _BETWEEN * self._rows - self._head)

    def append(self, values: Mapping[str, Values]) -> None:
        """Take in rows, all or none.

        Raises:
            CadenzaError: more than ``slack``, or the disk is full.
        """
        count = len(next(iter(values.values())))
        if count > self.slack:
            raise CadenzaError(
                f"{self._folder}: {count} rows at once, room for {self.slack} before the next save (at most "
                f"{_BETWEEN * self._rows}); give the store more disk"
            )
        try:
            done = 0
            while done < count:
                segment, slot = divmod(self._head + done, self._rows)
                part = min(count - done, self._rows - slot)
                file = self._file(segment, make=True)
                self._dirty.add(segment)
                for name, column in values.items():
                    content = np.ascontiguousarray(column[done : done + part], dtype=self._columns[name].dtype)
                    offset = self._offsets[name] + slot * self._columns[name].row_bytes
                    _write(file, content.view(np.uint8).reshape(-1).data, offset)
                done += part
        except OSError as error:
            raise _of_disk(self._folder, error) from None
        self._head += count

    def read(self, name: str, rows: Int) -> Values:
        """A column's entries, one read for each run of consecutive rows."""
        column, width = self._columns[name], self._columns[name].row_bytes
        out = np.empty((len(rows), *column.shape), column.dtype)
        view = out.view(np.uint8).reshape(-1).data
        segment, slot = np.divmod(rows, self._rows)
        begins = np.append(np.flatnonzero((np.diff(rows, prepend=-2) != 1) | (slot == 0)), len(rows))
        places = (begins * width).tolist()
        offsets = (self._offsets[name] + slot[begins[:-1]] * width).tolist()
        for number, offset, begin, end in zip(
            segment[begins[:-1]].tolist(), offsets, places[:-1], places[1:], strict=True
        ):
            self._fill(number, offset, view[begin:end])
        return out

    def sync(self) -> None:
        """Everything to the disk; then remove what the state saved after the last call of this cannot need."""
        try:
            for segment in sorted(self._dirty):
                os.fdatasync(self._file(segment))
            _sync_folder(self._folder)
            self._write_head(self._head, self._synced)
            self._dirty.clear()
            self._remove(range(max(0, self._before - self._kept) // self._rows))
        except OSError as error:
            raise _of_disk(self._folder, error) from None

    def truncate(self, head: int) -> None:
        """Forget rows from ``head`` on.

        Raises:
            CadenzaError: they are not all there that were kept when ``head`` rows had come.
        """
        oldest = max(0, head - self._kept) // self._rows
        wanted = range(oldest, -(-head // self._rows))
        if not 0 <= head <= self._head or any(not self._path(segment).exists() for segment in wanted):
            raise CadenzaError(
                f"{self._folder}: cannot go back to row {head} of {self._head}: the store is another's{self._remedy}"
            )
        try:
            self._write_head(head, min(self._before, head))
            self._remove(range(wanted.stop, sys.maxsize))
        except OSError as error:
            raise _of_disk(self._folder, error) from None

    def _open(self, config: ActorConfig) -> None:
        self._folder.mkdir(parents=True, exist_ok=True)
        header = {"kind": KIND, **_meaning(config), "segment_rows": self._rows}
        path = self._folder / HEADER_FILE
        if not path.exists():
            if any(self._folder.glob("*.rows")):
                raise SpecError(str(path), "missing", f"rows without their header{self._remedy}")
            write_atomically(path, json.dumps(header, indent=2).encode())
        found = self._document(path)
        for name, value in json.loads(json.dumps(header)).items():
            if found.get(name) != value:
                raise MisfitError(f"{path}: {name} is {found.get(name)!r}, wanted is {value!r}; choose another folder")
        if (self._folder / HEAD_FILE).exists():
            said = self._document(self._folder / HEAD_FILE)
            try:
                head, before = int(said["head"]), int(said["before"])
            except (KeyError, TypeError, ValueError):
                reason = f"does not say how many rows there are{self._remedy}"
                raise SpecError(str(self._folder / HEAD_FILE), said, reason) from None
            self._head, self._synced, self._before = head, head, before
        for segment in range(max(0, self._head - self._kept) // self._rows, -(-self._head // self._rows)):
            if not self._path(segment).exists():
                raise SpecError(str(self._path(segment)), "missing", f"the store is damaged{self._remedy}")

    @property
    def _remedy(self) -> str:
        return f"; remove {self._folder}, and a learner fills it again from the episodes"

    def _document(self, path: Path) -> dict[str, Any]:
        try:
            document = json.loads(path.read_bytes())
        except (ValueError, RecursionError):
            document = None
        if not isinstance(document, dict):
            raise SpecError(str(path), "...", f"not a store's, or damaged{self._remedy}")
        return document

    def _path(self, segment: int) -> Path:
        return self._folder / f"{segment:08d}.rows"

    def _file(self, segment: int, make: bool = False) -> int:
        if (file := self._files.get(segment)) is None:
            file = os.open(self._path(segment), os.O_RDWR | (os.O_CREAT if make else 0), 0o644)
            os.posix_fadvise(file, 0, 0, os.POSIX_FADV_RANDOM)
            self._files[segment] = file
        return file

    def _fill(self, segment: int, offset: int, view: memoryview) -> None:
        try:
            read = os.preadv(self._file(segment), [view], offset)
            while read < len(view):
                if not (more := os.preadv(self._file(segment), [view[read:]], offset + read)):
                    raise SpecError(str(self._path(segment)), "cut short", f"the store is damaged{self._remedy}")
                read += more
        except OSError as error:
            raise _of_disk(self._path(segment), error) from None

    def _write_head(self, head: int, before: int) -> None:
        write_atomically(self._folder / HEAD_FILE, json.dumps({"head": head, "before": before}).encode())
        self._head, self._synced, self._before = head, head, before

    def _remove(self, segments: range) -> None:
        for path in self._folder.glob("*.rows"):
            if path.stem.isdecimal() and int(path.stem) in segments:
                self._dirty.discard(int(path.stem))
                if (file := self._files.pop(int(path.stem), None)) is not None:
                    os.close(file)
                path.unlink()

    def __del__(self) -> None:
        for file in getattr(self, "_files", {}).values():
            os.close(file)


def _meaning(config: ActorConfig) -> dict[str, Any]:
    """What rows depend on."""
    return {
        "joints": list(config.joints),
        "observation": config.observation().model_dump(mode="json"),
        "action": config.action().model_dump(mode="json"),
    }


def _write(file: int, view: memoryview, offset: int) -> None:
    while view:
        written = os.pwrite(file, view, offset)
        view, offset = view[written:], offset + written


def _sync_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _of_disk(path: Path, error: OSError) -> CadenzaError:
    if error.errno in {errno.ENOSPC, errno.EDQUOT}:
        return CadenzaError(f"{path}: the disk is full; nothing that was saved is lost: make room and go on")
    return CadenzaError(f"{path}: {error.strerror or error}")

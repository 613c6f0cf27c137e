"""Where a store's columns lie. In memory here; on disk in :mod:`learning.replay.disk`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from learning.replay.layout import Column
from spec.arrays import Int
from spec.errors import CadenzaError

Values = npt.NDArray[Any]


class Columns(Protocol):
    """Rows by number, from 0 on in the order they came; old ones are gone."""

    @property
    def head(self) -> int:
        """Rows ever taken in: the number of the next one."""

    @property
    def slack(self) -> int:
        """Rows that may be appended before :meth:`sync`."""

    def append(self, values: Mapping[str, Values]) -> None:
        """Take in rows, all or none. A column that is not given holds anything there."""

    def read(self, name: str, rows: Int) -> Values:
        """A column's entries of these rows, shape (len(rows), ...)."""

    def sync(self) -> None:
        """From here on nothing that was taken in is lost in a crash."""

    def truncate(self, head: int) -> None:
        """Forget rows from ``head`` on."""


class Memory:
    """A ring in memory. Pages are taken as rows come, so a capacity that is never reached costs nothing."""

    def __init__(self, columns: Mapping[str, Column], slots: int) -> None:
        self._slots = slots
        self._arrays = {name: np.empty((slots, *column.shape), column.dtype) for name, column in columns.items()}
        self._head = self._highest = 0

    @property
    def head(self) -> int:
        return self._head

    @property
    def slack(self) -> int:
        return self._slots

    def append(self, values: Mapping[str, Values]) -> None:
        count = len(next(iter(values.values())))
        kept = min(count, self._slots)
        slots = np.arange(self._head + count - kept, self._head + count) % self._slots
        for name, column in values.items():
            self._arrays[name][slots] = column[count - kept :]
        self._head += count
        self._highest = max(self._highest, self._head)

    def read(self, name: str, rows: Int) -> Values:
        return np.take(self._arrays[name], rows % self._slots, axis=0)

    def sync(self) -> None:
        """There is nothing that would outlast a crash."""

    def truncate(self, head: int) -> None:
        # What a full ring kept when it ended at ``head``, but for one row, must not have been written over since.
        if not 0 <= head <= self._head or max(0, head - self._slots + 1) < self._highest - self._slots:
            raise CadenzaError(f"store in memory: cannot go back to row {head} of {self._head}")
        self._head = head

"""Which rows a window may begin at, as stretches of consecutive ones: a few numbers an episode, whatever its length."""

from __future__ import annotations

from array import array

import numpy as np

from spec.arrays import Bool, Int


class Stretches:
    """A set of row numbers that grows at its end."""

    def __init__(self) -> None:
        self._begin, self._end = array("q"), array("q")
        self._arrays: tuple[Int, Int] | None = None

    def add(self, first: int, flags: Bool) -> None:
        """Take in those of the rows ``first``, ``first + 1``, ... that are flagged."""
        edges = np.flatnonzero(np.diff(np.concatenate([[0], flags.astype(np.int8), [0]])))
        for begin, end in (edges.reshape(-1, 2) + first).tolist():
            if self._end and self._end[-1] == begin:
                self._end[-1] = end
            else:
                self._begin.append(begin)
                self._end.append(end)
        self._arrays = None

    def forget(self, tail: int) -> None:
        """Forget stretches that end before ``tail``."""
        gone = sum(end <= tail for end in self._end[:64])
        while gone:
            del self._begin[:gone], self._end[:gone]
            self._arrays = None
            gone = sum(end <= tail for end in self._end[:64])

    def count(self, tail: int) -> int:
        """How many rows there are from ``tail`` on."""
        begin, end = self._from(tail)
        return int((end - begin).sum())

    def pick(self, order: Int, tail: int) -> Int:
        """The rows with these places in the order of those from ``tail`` on, counted from zero."""
        begin, end = self._from(tail)
        before = np.cumsum(end - begin)
        stretch = np.searchsorted(before, order, side="right")
        return np.asarray(end[stretch] - (before[stretch] - order), dtype=np.int64)

    def _from(self, tail: int) -> tuple[Int, Int]:
        if self._arrays is None:
            self._arrays = np.array(self._begin, dtype=np.int64), np.array(self._end, dtype=np.int64)
        begin, end = self._arrays
        first = int(np.searchsorted(end, tail, side="right"))
        begin, end = begin[first:].copy(), end[first:]
        if len(begin):
            begin[0] = max(begin[0], tail)
        return begin, end

"""Output that nobody needs to read: whatever becomes of the reader, or of the disk behind it, a run goes on.

``cadenza run | tee log`` ended by Ctrl-C loses tee first, and has a report to write yet.
"""

from __future__ import annotations

import errno
import io
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, TextIO

if TYPE_CHECKING:
    from _typeshed import ReadableBuffer


_NOBODY_READS = {errno.EPIPE, errno.EIO}
"""The other side of a pipe, or the terminal, is gone."""


class _Enduring(io.FileIO):
    """Leads nowhere from the first failure on.

    Args:
        descriptor: of the stream.
        lost: takes that failure, unless it is that nobody reads any more.
    """

    def __init__(self, descriptor: int, lost: list[OSError]) -> None:
        super().__init__(descriptor, "wb", closefd=False)
        self._lost = lost

    def write(self, data: ReadableBuffer, /) -> int:
        try:
            written = super().write(data)
        except OSError as error:
            if error.errno not in _NOBODY_READS:
                self._lost.append(error)
            nowhere = os.open(os.devnull, os.O_WRONLY)
            os.dup2(nowhere, self.fileno())
            os.close(nowhere)
            written = None
        return memoryview(data).nbytes if written is None else written  # None, too: full, and not to be waited for


@contextmanager
def never_mind_the_reader() -> Iterator[list[OSError]]:
    """Meanwhile nothing that is printed can fail. Yields what keeps standard output from being whole, empty at first;
    that nobody reads it does not count."""
    before, lost = (sys.stdout, sys.stderr), list[OSError]()
    sys.stdout, sys.stderr = ours = _enduring(sys.stdout, lost), _enduring(sys.stderr, [])
    try:
        yield lost
    finally:
        for stream in ours:
            if stream is not None:
                stream.flush()
        sys.stdout, sys.stderr = before


def _enduring(stream: TextIO, lost: list[OSError]) -> TextIO:
    try:
        raw = _Enduring(stream.fileno(), lost)
    except (OSError, AttributeError):  # a test's; or none, where the caller had it closed
        return stream
    return io.TextIOWrapper(io.BufferedWriter(raw), stream.encoding, stream.errors, line_buffering=True)

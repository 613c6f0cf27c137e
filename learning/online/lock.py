"""One learner for one folder: the kernel keeps the lock, and drops it with the process that holds it."""

from __future__ import annotations

import contextlib
import fcntl
import os
from collections.abc import Iterator
from pathlib import Path

from spec.errors import CadenzaError

_LOCK_FILE = "learner.lock"


@contextlib.contextmanager
def only_learner(folder: Path) -> Iterator[None]:
    """Hold ``folder`` for this process.

    Raises:
        CadenzaError: another learner has it.
    """
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / _LOCK_FILE).open("a+", encoding="utf-8") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            file.seek(0)
            holder = file.read().strip() or "unknown"
            raise CadenzaError(f"{folder}: another learner (process {holder}) is at work here") from None
        file.truncate(0)
        file.write(str(os.getpid()))
        file.flush()
        yield

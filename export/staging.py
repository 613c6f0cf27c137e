"""Folders in the making, beside their place: whoever writes one holds the folder around it, and the kernel lets go with
the process. So where nobody holds it, what is half-made is of writers that were killed."""

from __future__ import annotations

import contextlib
import fcntl
import os
import shutil
from collections.abc import Iterator
from pathlib import Path

_OLDER = ".older"


@contextlib.contextmanager
def holding(parent: Path) -> Iterator[None]:
    """What is half-made in ``parent`` is left alone meanwhile. Any number of writers may hold it."""
    with _locked(parent, fcntl.LOCK_SH):
        yield


def aside(staging: Path) -> Path:
    """Where the older folder goes that ``staging`` takes the place of."""
    return staging.with_name(f"{staging.name}{_OLDER}")


def sweep(parent: Path, half_made: str) -> None:
    """Remove what writers that were killed have left; does nothing while somebody writes there.

    Args:
        half_made: glob of their names: a dot, the name of the place, a dot, and whatever else.
    """
    with _locked(parent, fcntl.LOCK_EX | fcntl.LOCK_NB) as alone:
        for left in sorted(parent.glob(half_made)) if alone else ():
            with contextlib.suppress(OSError):
                _remove(left)


def _remove(left: Path) -> None:
    place = left.with_name(left.name[1:].partition(".")[0])
    if not left.is_dir():
        left.unlink()
    elif left.name.endswith(_OLDER) and not place.exists():
        left.rename(place)  # the kill came before the new one stood
    else:
        shutil.rmtree(left)


@contextlib.contextmanager
def _locked(parent: Path, how: int) -> Iterator[bool]:
    """Whether it is; not every file system has locks."""
    descriptor = os.open(parent, os.O_RDONLY | os.O_DIRECTORY)
    try:
        try:
            fcntl.flock(descriptor, how)
        except OSError:
            yield False
        else:
            yield True
    finally:
        os.close(descriptor)

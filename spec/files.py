"""Writing files so that a crash leaves the old one or the new one, never half of either."""

from __future__ import annotations

import errno
import hashlib
import json
import os
import stat
import tempfile
from pathlib import Path
from typing import Any


def write_atomically(path: Path, content: bytes) -> None:
    """Write, fsync, rename. Makes the folder when it is missing.

    A link stays one, and what it leads to is written; a file that is there keeps its mode.

    Raises:
        OSError: as the file system says, or a device or pipe is there; ``path`` is then what it was.
    """
    place = place_of(path)
    if place.exists() and not (place.is_file() or place.is_dir()):
        raise OSError(errno.EINVAL, "is no regular file", str(path))
    place.parent.mkdir(parents=True, exist_ok=True)
    descriptor, temporary = tempfile.mkstemp(dir=place.parent, prefix=f".{place.name}.")
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        Path(temporary).chmod(stat.S_IMODE(place.stat().st_mode) if place.exists() else 0o644)
        Path(temporary).replace(place)
    except OSError as error:  # a full disk says no name
        Path(temporary).unlink(missing_ok=True)
        raise OSError(error.errno, error.strerror, str(path)) from None
    except BaseException:
        Path(temporary).unlink(missing_ok=True)
        raise


def place_of(path: Path) -> Path:
    """Where a file really stands. Raises OSError: its link leads round in a circle."""
    try:
        return path.resolve()
    except RuntimeError:
        raise OSError(errno.ELOOP, os.strerror(errno.ELOOP), str(path)) from None


def content_of(path: Path, most: int) -> bytes:
    """Of a regular file of a sane size: a pipe would be waited for, and a device may have no end.

    Args:
        most: that it may have [bytes].

    Raises:
        OSError: as the file system says.
        ValueError: it is no regular file, or too large.
    """
    with open(path, "rb", opener=lambda name, flags: os.open(name, flags | os.O_NONBLOCK)) as file:
        if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
            raise ValueError("not a regular file")
        content = file.read(most + 1)
    if len(content) > most:
        raise ValueError(f"more than {most} bytes")
    return content


def parsed_json(content: bytes) -> Any:
    """A JSON document whose every text can be written down again, in a log or a record.

    Raises:
        ValueError: it is none.
    """
    try:
        document = json.loads(content)
        json.dumps(document, ensure_ascii=False).encode()
    except RecursionError:
        raise ValueError("nested too deeply") from None
    return document


def sha256_of(path: Path) -> str:
    """Hex digest of a file's content."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()

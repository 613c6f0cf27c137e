"""A file is the old one or the new one, whatever the disk does."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import pytest

from spec.files import write_atomically


def test_a_full_disk_leaves_the_old_file_and_is_said_by_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The operating system names no file then, and commands that say a line for each named one gave a traceback."""
    path = tmp_path / "model"
    write_atomically(path, b"old")

    def full(_: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr("spec.files.os.fsync", full)
    with pytest.raises(OSError, match="No space left") as raised:
        write_atomically(path, b"new")
    assert raised.value.filename == str(path)
    assert path.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [path]

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


def test_a_link_stays_one_and_the_file_behind_it_is_written(tmp_path: Path) -> None:
    """The link became a file of its own, and the one it led to kept what it had."""
    real, link = tmp_path / "elsewhere" / "robot.yaml", tmp_path / "robot.yaml"
    write_atomically(real, b"old")
    link.symlink_to(real)
    write_atomically(link, b"new")
    assert link.is_symlink()
    assert real.read_bytes() == b"new"
    assert list(tmp_path.iterdir()) in ([real.parent, link], [link, real.parent])


def test_a_file_that_was_there_keeps_its_mode(tmp_path: Path) -> None:
    """Was made readable to everybody."""
    path = tmp_path / "robot.yaml"
    write_atomically(path, b"old")
    assert path.stat().st_mode & 0o7777 == 0o644
    path.chmod(0o600)
    write_atomically(path, b"new")
    assert path.stat().st_mode & 0o7777 == 0o600


def test_a_device_or_pipe_is_not_replaced(tmp_path: Path) -> None:
    """Through a link to /dev/null, which is how systemd masks a unit, root replaced the device by a file."""
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "link").symlink_to("pipe")
    for path in (tmp_path / "pipe", tmp_path / "link"):
        with pytest.raises(OSError, match="is no regular file") as refused:
            write_atomically(path, b"new")
        assert refused.value.filename == str(path)
    assert (tmp_path / "pipe").is_fifo()


def test_a_link_that_leads_to_itself_is_refused(tmp_path: Path) -> None:
    (tmp_path / "loop").symlink_to("loop")
    with pytest.raises(OSError, match="symbolic links"):
        write_atomically(tmp_path / "loop", b"new")

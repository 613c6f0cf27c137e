"""What is read is a file that has an end."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from spec.files import content_of


def test_what_has_no_end_or_no_writer_is_not_read(tmp_path: Path) -> None:
    """A command that was given such a file as its robot file had not ended after a minute."""
    os.mkfifo(tmp_path / "pipe")
    for path in (tmp_path / "pipe", Path("/dev/zero")):
        with pytest.raises(ValueError, match="not a regular file"):
            content_of(path, 100)
    (tmp_path / "file").write_bytes(bytes(100))
    assert content_of(tmp_path / "file", 100) == bytes(100)
    with pytest.raises(ValueError, match="more than 99 bytes"):
        content_of(tmp_path / "file", 99)

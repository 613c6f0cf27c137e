"""What writers that were killed leave on a shelf, and writers that were not."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from hollow_bundle import hollow_bundle

from export.bundle import Bundle
from export.shelf import NEWEST_FILE, bundle_name, clear_half_made, offer, open_newest, read_newest
from spec.errors import SpecError
from spec.files import write_atomically

_HOLDS = """
import sys, time
from pathlib import Path
from export.staging import holding
with holding(Path(sys.argv[1])):
    print(flush=True)
    time.sleep(600)
"""


def put(shelf: Path, weights: int) -> Bundle:
    bundle = hollow_bundle(shelf / bundle_name(weights), weights)
    offer(shelf, bundle)
    return bundle


def _names(shelf: Path) -> list[str]:
    return sorted(path.name for path in shelf.iterdir())


def _left_by_a_kill(shelf: Path) -> None:
    for name in (".weights-000002.abcd", ".weights-000001.abcd.older"):
        (shelf / name).mkdir()
        (shelf / name / "encoder.onnx").write_bytes(b"half")
    (shelf / f".{NEWEST_FILE}.abcd").write_bytes(b"{")


def test_what_a_killed_writer_left_goes_and_nothing_else(tmp_path: Path) -> None:
    """It stayed for ever, a bundle's size each time."""
    put(tmp_path, 1)
    for name in (".incoming-1", "mine", ".weights-mine.abcd"):
        (tmp_path / name).mkdir()
    before = _names(tmp_path)
    _left_by_a_kill(tmp_path)
    clear_half_made(tmp_path)
    assert _names(tmp_path) == before


def test_a_bundle_that_a_kill_left_beside_its_place_goes_back(tmp_path: Path) -> None:
    bundle = put(tmp_path, 3)
    bundle.folder.rename(tmp_path / ".weights-000003.abcd.older")
    clear_half_made(tmp_path)
    newest = read_newest(tmp_path)
    assert newest is not None
    assert open_newest(tmp_path, newest).weights == 3


def test_who_writes_is_left_alone_until_it_is_killed(tmp_path: Path) -> None:
    _left_by_a_kill(tmp_path)
    before = _names(tmp_path)
    with subprocess.Popen([sys.executable, "-c", _HOLDS, str(tmp_path)], stdout=subprocess.PIPE) as writer:
        try:
            assert writer.stdout is not None
            writer.stdout.readline()
            clear_half_made(tmp_path)
            assert _names(tmp_path) == before
        finally:
            writer.kill()
    clear_half_made(tmp_path)
    assert _names(tmp_path) == ["weights-000001"]


def test_a_bundle_is_whole_whoever_clears_meanwhile(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    written = []

    def interrupted(path: Path, content: bytes) -> None:
        write_atomically(path, content)
        clear_half_made(tmp_path)
        written.append(path.name)

    monkeypatch.setattr("export.bundle.write_atomically", interrupted)
    put(tmp_path, 1)
    put(tmp_path, 1)  # in the place of the older one
    assert len(written) == 6
    assert _names(tmp_path) == [NEWEST_FILE, "weights-000001"]


def test_a_damaged_offer_says_what_to_do(tmp_path: Path) -> None:
    bundle = put(tmp_path, 1)
    path = tmp_path / NEWEST_FILE
    for damaged in (b"{", b"[]", b'{"weights": -1}', b'{"weights": 1, "bundle": "../x", "sha256": ""}'):
        path.write_bytes(damaged)
        with pytest.raises(SpecError) as refused:
            read_newest(tmp_path)
        line = str(refused.value)
        assert line.startswith(f"{path}: ")
        assert f"remove {path}, then offer a bundle again: cadenza learn offer --bundles {tmp_path}" in line
    path.unlink()
    assert offer(tmp_path, bundle) == read_newest(tmp_path)

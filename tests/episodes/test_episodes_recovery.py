"""Unfinished and damaged files: whatever was on the disk is saved, and nothing that is not sound is let through."""

from __future__ import annotations

import os
import signal
import struct
import subprocess
import sys
import zlib
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from mcap.opcode import Opcode

import episodes.recovery
from episodes.check import check
from episodes.mcapfile import MAGIC
from episodes.outcome import Outcome, Termination
from episodes.reader import read_episode
from episodes.records import TickRecord
from episodes.recovery import _locked, being_written, mend, recover, recover_folder
from episodes.writer import EpisodeWriter, Header
from spec.errors import CadenzaError
from spec.robotfile import load_robot

ROOT = Path(__file__).parents[2]
ROBOT = ROOT / "robots" / "virtual.yaml"


@pytest.fixture(scope="module")
def part(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    """An unfinished file with 400 ticks in many chunks."""
    path = tmp_path_factory.mktemp("part") / "a.mcap"
    writer = EpisodeWriter(path, Header(load_robot(ROBOT)))
    record = TickRecord(joints=6)
    for number in range(400):
        record.tick, record.now_ns = number, 1000 + number
        writer.tick(record)
        if number % 50 == 0:
            writer._mcap.flush()
    writer._mcap.flush()
    writer.abandon()
    return writer.part.read_bytes()


def test_kill_9_loses_at_most_a_few_flush_periods(tmp_path: Path) -> None:
    path = tmp_path / "a.mcap"
    child = subprocess.Popen(
        [sys.executable, str(Path(__file__).with_name("episode_writer_process.py")), str(path), str(ROBOT)],
        stdout=subprocess.PIPE,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
    )
    assert child.stdout is not None
    number = 0
    while number < 600:
        number, written_ns = map(int, child.stdout.readline().split())
    part = tmp_path / "a.mcap.part"
    assert being_written(part)
    with pytest.raises(CadenzaError, match="being written"):
        recover(part)
    child.send_signal(signal.SIGKILL)
    child.wait()
    child.stdout.close()

    (found,) = recover_folder(tmp_path)
    assert found.episode == path
    assert not part.exists()
    episode = read_episode(path)
    assert episode.termination is Termination.RECOVERED
    assert episode.outcome is Outcome.ABORTED
    assert np.array_equal(episode.ticks["tick"], np.arange(len(episode.ticks)))
    # Data time, not test time: what the writer itself stamped before the last line it printed.
    assert episode.ticks["now_ns"][-1] >= written_ns - 150_000_000
    assert check(path) == []
    assert recover_folder(tmp_path) == []


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_any_cut_gives_a_sound_episode_of_the_beginning(part: bytes, tmp_path: Path, data: st.DataObject) -> None:
    cut = data.draw(st.integers(min_value=0, max_value=len(part)))
    path = tmp_path / "cut.mcap.part"
    path.write_bytes(part[:cut])
    found = recover(path)
    assert found is not None
    if found.episode is None:
        (tmp_path / "cut.mcap.part.unreadable").unlink()
        return
    try:
        episode = read_episode(found.episode)
    except CadenzaError:
        assert cut < 2000  # not even the facts that begin every episode
    else:
        assert episode.damage == ""
        assert episode.ticks["tick"].tolist() == list(range(len(episode.ticks)))
    finally:
        found.episode.unlink()


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_a_flipped_byte_is_noticed(part: bytes, tmp_path: Path, data: st.DataObject) -> None:
    path = tmp_path / "bad.mcap"
    path.write_bytes(part)
    written = read_episode(path).ticks
    position = data.draw(st.integers(min_value=8, max_value=len(part) - 1))
    damaged = bytearray(part)
    damaged[position] ^= data.draw(st.integers(min_value=1, max_value=255))
    path.write_bytes(damaged)
    try:
        episode = read_episode(path)
    except CadenzaError as error:
        assert "\n" not in str(error)  # noqa: PT017 (either is right)
    else:
        # Chunks carry checksums: a tick is either what was written or missing.
        assert set(episode.ticks["tick"].tolist()) <= set(range(400))
        assert episode.ticks.tobytes() == written[episode.ticks["tick"].astype(int)].tobytes()
    path.unlink()


def test_recovery_can_be_interrupted_and_repeated(part: bytes, tmp_path: Path) -> None:
    path = tmp_path / "a.mcap.part"
    path.write_bytes(part)
    (tmp_path / ".a.mcap.recovering").write_bytes(b"half a recovery")
    found = recover(path)
    assert found is not None
    assert found.messages == 400
    assert sorted(item.name for item in tmp_path.iterdir()) == ["a.mcap"]


def test_a_whole_file_that_was_not_renamed_keeps_its_verdict(tmp_path: Path) -> None:
    path = tmp_path / "a.mcap"
    with EpisodeWriter(path, Header(load_robot(ROBOT))) as writer:
        writer.tick(TickRecord(joints=6))
        writer.close(Outcome.SUCCESS, Termination.DONE)
    path.rename(writer.part)
    recover(writer.part)
    assert read_episode(path).outcome is Outcome.SUCCESS


def test_a_taken_name_is_not_overwritten(part: bytes, tmp_path: Path) -> None:
    (tmp_path / "a.mcap").write_bytes(b"precious")
    (tmp_path / "a.mcap.part").write_bytes(part)
    with pytest.raises(CadenzaError, match="exists already"):
        recover(tmp_path / "a.mcap.part")
    assert (tmp_path / "a.mcap").read_bytes() == b"precious"


def test_a_recovery_cut_off_at_any_step_starts_over(
    part: bytes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Cut off between naming the whole file and removing the part, it refused for ever: both names were taken."""

    class CutError(Exception):
        pass

    def cut(*_: object) -> None:
        raise CutError

    path = tmp_path / "a.mcap.part"
    for step in ("replace", "rename"):
        path.write_bytes(part)
        for place, name in ((Path, step), (episodes.recovery, "sync_folder")):
            with monkeypatch.context() as patch:
                patch.setattr(place, name, cut)
                with pytest.raises(CutError):
                    recover(path)
        (left,) = [item.name for item in tmp_path.iterdir()]
        assert left == "a.mcap"
        assert len(read_episode(tmp_path / left).ticks) == 400
        (tmp_path / left).unlink()


def test_two_recoveries_of_one_file_do_not_meet(part: bytes, tmp_path: Path) -> None:
    path = tmp_path / "a.mcap.part"
    path.write_bytes(part)
    with _locked(path), pytest.raises(CadenzaError, match="being written"):
        recover(path)
    assert path.read_bytes() == part


def test_a_damaged_episode_is_cut_to_what_is_whole_and_kept(part: bytes, tmp_path: Path) -> None:
    """Nothing could be saved of it: its name was taken, by itself."""
    path = tmp_path / "a.mcap"
    path.write_bytes(part)
    found = mend(path)
    assert found.episode == path
    assert found.messages == 400
    episode = read_episode(path)
    assert (episode.damage, episode.termination) == ("", Termination.RECOVERED)
    assert len(episode.ticks) == 400
    assert (tmp_path / "a.mcap.damaged").read_bytes() == part
    assert sorted(item.name for item in tmp_path.iterdir()) == ["a.mcap", "a.mcap.damaged"]
    whole = path.read_bytes()
    assert mend(path).damage == "is whole"
    assert path.read_bytes() == whole


@pytest.mark.parametrize("step", ["link", "replace", "sync"])
def test_mending_cut_off_at_any_step_starts_over(
    part: bytes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, step: str
) -> None:
    class CutError(Exception):
        pass

    def cut(*_: object) -> None:
        raise CutError

    place, name = {"link": (os, "link"), "replace": (Path, "replace"), "sync": (episodes.recovery, "sync_folder")}[step]
    path = tmp_path / "a.mcap"
    path.write_bytes(part)
    with monkeypatch.context() as patch:
        patch.setattr(place, name, cut)
        with pytest.raises(CutError):
            mend(path)
    assert len(read_episode(path).ticks) == 400
    mend(path)
    assert read_episode(path).damage == ""
    assert (tmp_path / "a.mcap.damaged").read_bytes() == part


def test_an_original_kept_before_is_not_overwritten(part: bytes, tmp_path: Path) -> None:
    path, kept = tmp_path / "a.mcap", tmp_path / "a.mcap.damaged"
    path.write_bytes(part)
    kept.write_bytes(b"precious")
    with pytest.raises(CadenzaError, match=r"a\.mcap\.damaged: exists already"):
        mend(path)
    assert (path.read_bytes(), kept.read_bytes()) == (part, b"precious")


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_a_flipped_byte_is_mended_or_refused(part: bytes, tmp_path: Path, data: st.DataObject) -> None:
    damaged = bytearray(part)
    damaged[data.draw(st.integers(0, len(part) - 1))] ^= data.draw(st.integers(1, 255))
    path = tmp_path / "a.mcap"
    path.write_bytes(damaged)
    try:
        mend(path)
    except CadenzaError as error:
        assert "\n" not in str(error)  # noqa: PT017 (either is right)
        assert path.read_bytes() == damaged
    else:
        assert read_episode(path).damage == ""
        assert (tmp_path / "a.mcap.damaged").read_bytes() == damaged
    for file in tmp_path.iterdir():
        file.unlink()


def test_one_that_cannot_be_recovered_stops_no_other(part: bytes, tmp_path: Path) -> None:
    (tmp_path / "a.mcap").write_bytes(b"precious")
    for name in ("a", "b"):
        (tmp_path / f"{name}.mcap.part").write_bytes(part)
    taken, other = recover_folder(tmp_path)
    assert taken.episode is None
    assert "exists already" in taken.damage
    assert other.episode == tmp_path / "b.mcap"


def test_check_names_what_is_wrong(part: bytes, tmp_path: Path) -> None:
    path = tmp_path / "a.mcap"
    path.write_bytes(part)
    assert any("unfinished" in line for line in check(path))
    path.write_bytes(b"nonsense")
    assert check(path) == ["not an MCAP file"]


def _records(content: bytes) -> list[tuple[int, bytes]]:
    """(opcode, body) of each record of an unfinished file (https://mcap.dev/spec)."""
    found, at = [], len(MAGIC)
    while at < len(content):
        opcode, size = struct.unpack_from("<BQ", content, at)
        at += 9 + size
        found.append((opcode, content[at - size : at]))
    return found


def _file_of(records: list[tuple[int, bytes]]) -> bytes:
    return MAGIC + b"".join(struct.pack("<BQ", opcode, len(body)) + body for opcode, body in records)


@pytest.mark.parametrize("opcode", [Opcode.SCHEMA, Opcode.CHANNEL])
def test_what_travelled_without_its_schema_or_channel_costs_only_itself(
    part: bytes, tmp_path: Path, opcode: Opcode
) -> None:
    """Was a KeyError, and left half a file behind."""
    path = tmp_path / "a.mcap.part"
    records = _records(part)
    missing = next(record for record in records if record[0] == opcode)
    path.write_bytes(_file_of([record for record in records if record != missing]))
    found = recover(path)
    assert found is not None
    assert found.episode == tmp_path / "a.mcap"
    assert list(tmp_path.iterdir()) == [found.episode]
    if opcode == Opcode.SCHEMA:
        assert len(read_episode(found.episode).ticks) == 400


def test_a_chunk_that_claims_more_than_there_is_is_damage(part: bytes, tmp_path: Path) -> None:
    """Was an OverflowError: a record in it with a length beyond every index."""
    path = tmp_path / "a.mcap.part"
    inner = struct.pack("<BQ", Opcode.MESSAGE, 2**63)
    chunk = struct.pack("<QQQIIQ", 0, 0, len(inner), zlib.crc32(inner), 0, len(inner)) + inner
    path.write_bytes(_file_of([*_records(part), (Opcode.CHUNK, chunk)]))
    found = recover(path)
    assert found is not None
    assert found.damage
    assert len(read_episode(tmp_path / "a.mcap").ticks) == 400

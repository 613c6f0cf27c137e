"""The fuzzers: that they find, and that of what they found nothing is left in the first thousands of cases."""

from __future__ import annotations

import struct
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from cadenza.bench_ending import refuse_unwritable
from cadenza.cli import main
from cadenza.fuzzing.campaign import Campaign
from cadenza.fuzzing.dice import Dice
from cadenza.fuzzing.documents import Rewriter
from cadenza.fuzzing.hunt import arm, hunt
from cadenza.fuzzing.mutation import Mutator
from cadenza.fuzzing.parsers.episodes import _other_records
from cadenza.fuzzing.target import BrokenError, Layer, Target, accepted, as_they_are
from cadenza.fuzzing.targets import TARGETS
from episodes.mcapfile import MAGIC
from spec.errors import CadenzaError, SpecError

# No more of the slow ones: what they find, hours of `cadenza bench fuzz` find.
CASES = {"text": 60, "overrides": 60, "recovery": 60, "episode": 60}


@pytest.fixture(autouse=True)
def bell() -> None:
    arm()


@pytest.mark.parametrize("name", TARGETS)
def test_a_parser_stands_a_few_hundred_cases_of_each_layer(name: str) -> None:
    target = TARGETS[name]
    with target.open() as layers:
        for layer in layers:
            haul = hunt(target, [layer], 11, 0, CASES.get(layer.name, 250))
            assert {crash.error: crash.data for crash in haul.crashes.values()} == {}
            assert haul.cases == CASES.get(layer.name, 250)


@pytest.mark.parametrize("name", TARGETS)
def test_a_sound_input_is_taken_by_each_parser(name: str) -> None:
    """Else every case would be refused at the door."""
    target = TARGETS[name]
    with target.open() as layers:
        assert any(hunt(target, [layer], 11, 1, 60).taken for layer in layers)


def _fragile(corpus: bytes, feed: Callable[[bytes], None]) -> Target:
    layer = Layer("all", 1, Mutator([corpus], [b"!", b"?"]).case, feed)
    return Target("fragile", "", lambda: as_they_are([layer]))


def test_a_crash_is_found_and_made_small() -> None:
    def feed(data: bytes) -> None:
        if b"!" in data and b"?" in data:
            raise KeyError("both")
        raise CadenzaError("refused")

    target = _fragile(b"a longer text, with some ! in it", feed)
    with target.open() as layers:
        haul = hunt(target, layers, 0, 0, 400)
    (crash,) = haul.crashes.values()
    assert sorted(crash.data) == sorted(b"!?")
    assert crash.error.startswith("KeyError in")


def test_a_hang_is_cut_off_and_ends_the_batch(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("cadenza.fuzzing.hunt.SLOWEST_S", 0.05)

    def feed(_data: bytes) -> None:
        while True:
            time.sleep(0.01)

    target = _fragile(b"anything", feed)
    with target.open() as layers:
        haul = hunt(target, layers, 0, 0, 400)
    assert haul.hung
    assert any("HangError" in error for error in haul.crashes)


def test_a_refusal_of_more_than_a_line_is_a_finding() -> None:
    class TalkativeError(CadenzaError):
        def __str__(self) -> str:
            return "two\nlines"

    def feed(_data: bytes) -> None:
        raise TalkativeError

    with pytest.raises(BrokenError):
        accepted(feed, b"")


def test_the_same_seed_makes_the_same_cases() -> None:
    mutator, rewriter = Mutator([b"some text 12", b"other"]), Rewriter([{"a": [1, {"b": None}]}])

    def cases(seed: int) -> list[bytes]:
        dice = Dice(seed, 1)
        return [make(dice) for make in (mutator.case, rewriter.case) for _ in range(50)]

    assert cases(1) == cases(1)
    assert cases(1) != cases(2)


@pytest.mark.parametrize("inside", [b"", b"too short for a chunk", bytes(40)], ids=["nothing", "short", "no records"])
def test_records_are_changed_whatever_is_in_a_chunk(inside: bytes) -> None:
    """The maker itself ended the worker where a record had only the opcode of a chunk."""
    content = MAGIC + struct.pack("<BQ", 6, len(inside)) + inside + MAGIC
    for number in range(200):
        assert _other_records(content, Dice(number)).startswith(MAGIC)


@pytest.mark.daemon
def test_a_worker_that_dies_is_a_finding_and_the_rest_goes_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its end is put before its second batch, as a crash of the interpreter would come."""
    (tmp_path / "sitecustomize.py").write_text(
        "import os, sys\n"
        "if 'cadenza.fuzzing.worker' in ' '.join(sys.orig_argv) and sys.orig_argv[-2] == '0':\n"
        "    os.kill(os.getpid(), 11)\n"
    )
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    outcome = Campaign("packets", 0, 1000).run(lambda _so_far: None)
    assert [crash.error for crash in outcome.crashes.values()] == ["in batch 0 the process died of SIGSEGV"]
    assert outcome.cases == 500
    assert not outcome.held


@pytest.mark.daemon
def test_what_a_worker_said_last_is_told_with_its_end(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its status alone says nothing about where to look."""
    (tmp_path / "sitecustomize.py").write_text(
        "import os, sys\n"
        "if 'cadenza.fuzzing.worker' in ' '.join(sys.orig_argv):\n"
        "    sys.stderr.write('Traceback\\n  somewhere\\nValueError: half\\n')\n"
        "    sys.stderr.flush()\n"
        "    os._exit(1)\n"
    )
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    outcome = Campaign("packets", 0, 500).run(lambda _so_far: None)
    assert list(outcome.crashes) == ["in batch 0 the process ended with status 1: ValueError: half"]


def test_without_its_samples_the_bench_is_refused_in_a_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """In another folder than Cadenza's it found that every parser was broken."""
    monkeypatch.chdir(tmp_path)
    assert main(["bench", "fuzz", "--cases", "1"]) == 2
    captured = capsys.readouterr()
    assert captured.err.startswith("cadenza bench: robots/virtual.yaml: no such file; ")
    assert captured.err.count("\n") == 1
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("bench", ["faults", "fuzz", "soak"])
def test_where_nothing_can_be_written_no_bench_begins(
    bench: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """All cases were played first, and then there was no room for what they had shown."""

    def begin(*_: object, **__: object) -> None:
        raise AssertionError("begun")

    for name in ("bench_faults.draw_case", "bench_fuzz.Campaign", "bench_soak.perform"):
        monkeypatch.setattr(f"cadenza.commands.{name}", begin)
    assert main(["bench", bench, "--out", "/proc/x/y"]) == 2
    assert capsys.readouterr().err.startswith("cadenza bench: --out: '/proc/x/y': nothing can be written there: ")


def test_a_folder_that_is_there_may_yet_take_nothing() -> None:
    """A read-only disk, and root is let into it; here one that takes no new file from anybody."""
    with pytest.raises(SpecError, match="nothing can be written there"):
        refuse_unwritable(Path("/proc/self"))


def test_trying_to_write_leaves_nothing_behind(tmp_path: Path) -> None:
    there = tmp_path / "there"
    there.mkdir()
    refuse_unwritable(there)
    refuse_unwritable(tmp_path / "a" / "b")
    assert list(tmp_path.rglob("*")) == [there]


def test_more_cases_than_anybody_waits_for_are_refused(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["bench", "fuzz", "--cases", str(10**21)]) == 2
    assert "--cases: 1000000000000000000000: from 1 to 1000000000" in capsys.readouterr().err

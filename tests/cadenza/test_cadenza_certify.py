"""Certifying: what counts as late and missed, the bar, and what is refused before anything moves."""

from __future__ import annotations

import contextlib
import io
import os
import signal
import stat
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any, Self

import numpy as np
import pytest

from cadenza.certifying import cyclictest as reference
from cadenza.certifying.blocks import LoopBlock, ReferenceBlock, loop_block
from cadenza.certifying.findings import Condition, bounds, conditions, spread
from cadenza.certifying.measuring import Measured, Setting, measure, plan
from cadenza.certifying.picture import draw_certificate
from cadenza.certifying.programs import CYCLICTEST, STRESS_NG, find_program
from cadenza.certifying.stress import stress
from cadenza.certifying.sway import AMPLITUDE_RAD, sway
from cadenza.commands import certify
from cadenza.picture import save
from controller.spent import Spent
from controller.wiring.vigil import CONTROL
from controller.workers.playback import SLOW
from episodes.layout import TICK_RECORD
from episodes.records import Driver, Flag, TickRecord
from spec.arrays import Float
from spec.errors import CadenzaError, SpecError
from spec.robotfile import load_robot

PROJECT = Path(__file__).parents[2]
RATE_HZ, PERIOD_NS = 200.0, 5_000_000


def ticks_of(count: int, late_us: float = 30.0) -> np.ndarray:
    ticks = np.zeros(count, dtype=TICK_RECORD)
    ticks["deadline_ns"] = PERIOD_NS * np.arange(1, count + 1)
    ticks["woke_ns"] = ticks["deadline_ns"] + round(late_us * 1e3)
    for earlier, later, took_us in (
        ("woke_ns", "read_ns", 900),
        ("read_ns", "decided_ns", 90),
        ("decided_ns", "written_ns", 60),
    ):
        ticks[later] = ticks[earlier] + took_us * 1000
    ticks["driver"] = Driver.POLICY
    return ticks


def condition(loop_us: Float, reference_us: Float, missed: int = 0, driven: int = 1300) -> Condition:
    block = LoopBlock(True, len(loop_us), np.arange(len(loop_us)) / RATE_HZ, loop_us, {}, missed, 0, driven, 0)
    return Condition("stress", (block,), (ReferenceBlock(True, 0.0, 10.0, reference_us),), 1e6 / RATE_HZ)


def missed_bounds(found: Condition, *, still: bool = False) -> list[str]:
    return [bound.name for bound in bounds(found, still=still) if not bound.held]


def test_a_block_knows_what_was_late_missed_and_lost() -> None:
    ticks = ticks_of(100)
    ticks["skipped"][[10, 20]] = 7, 3
    ticks["flags"][20] = int(Flag.LATE)
    ticks["flags"][10] = int(Flag.ENGAGED)
    ticks["flags"][[30, 31]] = int(Flag.STALE_JOINT), int(Flag.WRITE_FAILED)
    block = loop_block(ticks, {"publish": np.array([80.0])}, 0, stressed=False)
    assert block.missed == 3  # the periods in which the servos were engaged were missed on purpose
    assert (block.reengaged, block.lost, block.driven) == (1, 2, 100)
    assert spread(block.lateness_us)["p99_99"] == pytest.approx(30.0)
    assert {name: float(values[0]) for name, values in block.phases_us.items()} == {
        "read": 900.0,
        "decide": 90.0,
        "write": 60.0,
        "publish": 80.0,
    }


@pytest.mark.parametrize(("late_us", "held"), [(119.0, True), (121.0, False)])
def test_the_bar_of_lateness_is_a_multiple_of_cyclictests(late_us: float, held: bool) -> None:
    found = condition(np.full(2000, late_us), np.full(2000, 100.0))
    assert missed_bounds(found) == ([] if held else ["wake-up lateness p99.9"])


@pytest.mark.parametrize(("missed", "held"), [(0, True), (3, True), (4, False)])
def test_a_wake_up_of_cyclictest_misses_as_many_periods_as_a_tick_would(missed: int, held: bool) -> None:
    theirs = np.full(2000, 50.0)
    theirs[:2] = 6_000.0, 12_000.0  # one period and two
    found = condition(np.full(2000, 50.0), theirs, missed)
    assert found.reference_missed_share == pytest.approx(3 / 2003)
    assert bounds(found)[1].held is held


def test_nothing_measured_and_nothing_driven_is_not_certified() -> None:
    """The bar used to be kept by no ticks at all, and by a policy that never made a chunk."""
    quiet = np.full(2000, 50.0)
    assert missed_bounds(Condition("stress", (), (), 1e6 / RATE_HZ)) == ["measured", "driven"]
    assert missed_bounds(condition(quiet[:1800], quiet, missed=0)) == ["measured"]
    assert "measured" not in missed_bounds(condition(quiet[:1800], quiet, missed=200))  # missed is not unknown
    assert missed_bounds(condition(quiet, quiet[:1800])) == ["measured"]
    assert missed_bounds(condition(quiet, quiet, driven=1100)) == ["driven"]
    assert missed_bounds(condition(quiet, quiet, driven=0), still=True) == []


def test_a_tick_that_had_no_time_to_sleep_did_not_wake_late() -> None:
    ticks = ticks_of(100)
    ticks["written_ns"][40] = ticks["deadline_ns"][41] + 1_000_000  # it ran over,
    ticks["woke_ns"][41] = ticks["deadline_ns"][41] + 1_100_000  # and so the next one began late
    ticks["woke_ns"][70] += 2_000_000  # this one was woken late
    block = loop_block(ticks, {}, 0, stressed=True)
    assert (block.ticks, len(block.lateness_us)) == (100, 99)
    assert block.lateness_us.max() == pytest.approx(2030.0)
    assert Condition("stress", (block,), (), 5000.0).overrun == 1


def test_blocks_are_of_one_length_and_come_to_the_minutes() -> None:
    for minutes in (0.5, 5.0, 30.0):
        count, seconds = plan(minutes)
        assert count >= 2
        assert seconds <= 30.0
        assert 2 * count * seconds == pytest.approx(60.0 * minutes)


def test_swaying_is_slow_and_stays_away_from_the_ends() -> None:
    limits = load_robot(PROJECT / "robots/virtual.yaml").limits()
    motion, widest = sway(limits, 20.0)
    speed = np.abs(np.diff(motion.position, axis=0) / np.diff(motion.seconds)[:, None])
    assert 0.0 < widest <= AMPLITUDE_RAD
    assert np.all(speed <= 1.01 * SLOW * limits.velocity)
    assert np.all(motion.position > limits.lower)
    assert np.all(motion.position < limits.upper)
    assert np.allclose(motion.position[0], limits.home)


def test_what_publishing_took_is_counted_by_microseconds() -> None:
    spent = Spent()
    record = TickRecord(woke_ns=1_000, written_ns=1_001_000)
    for _ in range(3):
        spent.add(record, 1_085_999)
    spent.add(record, 10**12)
    assert spent.as_dict() == {"publish": {84: 3, 50_000: 1}, "tick": {1084: 3, 50_000: 1}}


def _program(folder: Path, name: str, script: str) -> None:
    path = folder / name
    path.write_text(f"#!/bin/sh\n{script}\n")
    path.chmod(path.stat().st_mode | stat.S_IXUSR)


def test_cyclictest_is_read_whole_with_what_lies_beyond_its_histogram(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    said = '{"thread": {"0": {"histogram": {"12": 1, "3": 2}, "cycles": 5, "max": 250000}}}'
    _program(
        tmp_path,
        "cyclictest",
        f"echo '# stopped'; for word; do case $word in --json=*) echo '{said}' >\"${{word#--json=}}\";; esac; done",
    )
    monkeypatch.setenv("PATH", f"{tmp_path}:/bin:/usr/bin")
    with reference.cyclictest(200.0, 80, 0, 0.1) as collect:
        assert collect().tolist() == [3.0, 3.0, 12.0, 250000.0, 250000.0]


@pytest.mark.parametrize(("tick_ns", "offset"), [(None, ""), (7_002_500_000, "2550"), (3_999_960_000, "10")])
def test_cyclictest_wakes_in_step_with_the_ticks_once_they_have_begun(
    tick_ns: int | None, offset: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    _program(tmp_path, "cyclictest", f'echo "$@" >{tmp_path}/words; exit 1')
    monkeypatch.setenv("PATH", f"{tmp_path}:/bin:/usr/bin")
    with reference.cyclictest(200.0, 80, 0, 0.1, tick_ns) as collect, pytest.raises(CadenzaError):
        collect()
    words = (tmp_path / "words").read_text().split()
    assert [word for word in words if "aligned" in word] == ([f"--secaligned={offset}"] if offset else [])


def test_cyclictest_that_is_not_needed_any_more_tidies_up(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It used to be killed, and left a file in shared memory each time."""
    tidy = "trap 'touch tidy; exit' TERM; touch begun; while :; do sleep 0.01; done"
    _program(tmp_path, "cyclictest", f"cd {tmp_path}; {tidy}")
    monkeypatch.setenv("PATH", f"{tmp_path}:/bin:/usr/bin")
    with reference.cyclictest(200.0, 80, 0, 100.0):
        while not (tmp_path / "begun").exists():
            time.sleep(0.01)
    assert (tmp_path / "tidy").exists()


class ShortDaemon:
    """A daemon whose block is over at once."""

    interrupted = False
    watch, processes = SimpleNamespace(tick=None), {CONTROL: SimpleNamespace(report={})}

    def __init__(self, *_: object, **__: object) -> None: ...

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None: ...

    def block(self, _seconds: float, begin: Callable[[], None]) -> list[object]:
        begin()
        return []


def test_an_end_that_is_asked_for_while_cyclictest_ends_is_heeded(monkeypatch: pytest.MonkeyPatch) -> None:
    """All the other blocks used to be measured first, and a certificate was written."""

    @contextlib.contextmanager
    def cyclictest(*_: object) -> Iterator[Callable[[], Any]]:
        def collect() -> Any:
            monkeypatch.setattr(ShortDaemon, "interrupted", True)
            return np.zeros(1)

        yield collect

    monkeypatch.setattr("cadenza.certifying.measuring.CertifiedDaemon", ShortDaemon)
    monkeypatch.setattr("cadenza.certifying.measuring.cyclictest", cyclictest)
    setting = Setting(load_robot(PROJECT / "robots/virtual.yaml"), None, None, Path("nowhere"), lambda _: None)
    with pytest.raises(KeyboardInterrupt):
        measure(setting, 1.0, lambda _: None)


def test_cyclictest_says_why_it_cannot(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    _program(tmp_path, "cyclictest", "echo 'unable to change scheduling policy!' >&2; exit 1")
    monkeypatch.setenv("PATH", str(tmp_path))
    with reference.cyclictest(200.0, 80, 0, 0.1) as collect, pytest.raises(CadenzaError, match="scheduling policy"):
        collect()


@pytest.mark.parametrize(("there", "package"), [((), "rt-tests"), (("cyclictest",), "stress-ng")])
def test_a_missing_program_is_named_with_its_package(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, there: tuple[str, ...], package: str
) -> None:
    for name in there:
        _program(tmp_path, name, "true")
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(CadenzaError, match=f"apt-get install {package}"):
        certify.main(["--out", str(tmp_path / "out"), "--minutes", "1"])


@pytest.mark.parametrize(
    ("words", "why"),
    [
        (("--minutes", "0.01"), "one wake-up in a thousand"),
        (("--minutes", "nan"), "one wake-up in a thousand"),
        (("--still", "--bundle", "runs/bundle"), "follows no --bundle"),
        (("--config", "robots/koch.yaml"), "somebody at a terminal"),
        (("--config", "robots/koch.yaml", "--still", "--robot.control.priority", "99"), "at most 98: cyclictest"),
    ],
)
def test_refused_before_anything_moves(words: tuple[str, ...], why: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.stdin", io.StringIO())
    with pytest.raises(SpecError, match=why):
        certify.main(words)


def test_the_picture_shows_both_loads(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    loop, there = [], []
    for stressed in (False, True):
        ticks = ticks_of(600)
        ticks["woke_ns"] += rng.integers(0, 200_000 if stressed else 20_000, 600)
        loop.append(loop_block(ticks, {"publish": np.zeros(0), "tick": np.zeros(0)}, 0, stressed=stressed))
        there.append(ReferenceBlock(stressed, 3.0, 6.0, np.sort(rng.uniform(5, 100, 600))))
    plain, stressful = conditions(Measured(tuple(loop), tuple(there)), RATE_HZ)
    assert plain.figures()["ratio"]["p99_9"] < stressful.figures()["ratio"]["p99_9"]
    picture = tmp_path / "certificate.png"
    save(draw_certificate("a robot", (plain, stressful)), picture)
    assert picture.stat().st_size > 20_000


@pytest.mark.parametrize(("program", "package"), [(CYCLICTEST, "rt-tests"), (STRESS_NG, "stress-ng")])
def test_a_program_that_is_not_there_is_named_with_its_package(
    program: str, package: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(CadenzaError, match=f"^{program} is not installed: sudo apt-get install {package}$"):
        find_program(program)
    (tmp_path / program).touch(0o755)
    assert find_program(program) == str(tmp_path / program)


_LOADED = """
import pathlib, signal, sys, time
from cadenza.certifying.cyclictest import cyclictest
from cadenza.certifying.stress import stress
signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell has its jobs in the background ignore it
with stress(pathlib.Path(sys.argv[1])), cyclictest(200.0, 80, 0, 100.0):
    try:
        print("loaded", flush=True)
        time.sleep(100.0)
    except KeyboardInterrupt:
        print("interrupted", flush=True)
"""
"""Beyond this nothing of cyclictest and stress-ng matters but that they go on."""


def _children(process: int) -> list[int]:
    return [int(word) for word in Path(f"/proc/{process}/task/{process}/children").read_text().split()]


def _is_on(process: int) -> bool:
    try:
        return Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[0] not in "ZX"
    except (FileNotFoundError, ProcessLookupError):
        return False


def _wait_until_over(processes: Sequence[int]) -> None:
    while any(map(_is_on, processes)):
        time.sleep(0.01)


@pytest.fixture
def loaded(tmp_path: Path) -> Iterator[subprocess.Popen[str]]:
    """A process that has loaded the machine, first of a group of its own."""
    for name in ("cyclictest", "stress-ng"):
        _program(tmp_path, name, "exec sleep 100")
    environment = {**os.environ, "PATH": f"{tmp_path}:{os.environ['PATH']}"}
    words = [sys.executable, "-c", _LOADED, str(tmp_path / "out")]
    pipe = subprocess.PIPE
    with subprocess.Popen(
        words, stdout=pipe, stderr=pipe, text=True, env=environment, start_new_session=True
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "loaded\n"
        load = _children(process.pid)
        try:
            yield process
        finally:
            process.kill()
            for one in load:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(one, signal.SIGKILL)


def test_a_killed_process_leaves_no_load_behind(loaded: subprocess.Popen[str], tmp_path: Path) -> None:
    """Two interpreters, stress-ng and its folder used to outlive it for ever."""
    load = _children(loaded.pid)
    assert len(load) >= 3
    loaded.kill()
    _wait_until_over(load)
    assert not list((tmp_path / "out").iterdir())


def test_an_interrupted_terminal_hears_nothing_of_the_load(loaded: subprocess.Popen[str]) -> None:
    """Ctrl-C reaches the whole group: every busy interpreter used to print a traceback."""
    os.killpg(loaded.pid, signal.SIGINT)
    assert loaded.communicate() == ("interrupted\n", "")


def test_stress_that_ends_early_is_no_stress(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    _program(tmp_path, "stress-ng", f"while [ ! -e {tmp_path}/enough ]; do sleep 0.01; done; exit 3")
    monkeypatch.setenv("PATH", f"{tmp_path}:/bin:/usr/bin")
    before = _children(os.getpid())

    def loaded_for_a_while() -> None:
        with stress(tmp_path / "out"):
            load = set(_children(os.getpid())) - set(before)
            (tmp_path / "enough").touch()
            while all(map(_is_on, load)):
                time.sleep(0.01)

    with pytest.raises(CadenzaError, match="before the block did, with status 3"):
        loaded_for_a_while()


def test_stress_ng_ends_by_itself_and_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    _program(
        tmp_path, "stress-ng", f'echo "$@" >{tmp_path}/words; mkdir {tmp_path}/out/tmp-stress-ng-hdd-1; exec sleep 100'
    )
    monkeypatch.setenv("PATH", f"{tmp_path}:/bin:/usr/bin")
    with stress(tmp_path / "out"):
        while not list((tmp_path / "out").iterdir()):
            time.sleep(0.01)
    assert "--timeout 1200" in (tmp_path / "words").read_text()
    assert not list((tmp_path / "out").iterdir())


def test_what_cannot_be_kept_is_refused_before_anything_starts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """It used to be known after all minutes."""

    def too_far(*_: object) -> None:
        raise AssertionError

    monkeypatch.setenv("XDG_STATE_HOME", "/proc/x")
    monkeypatch.setattr(certify, "granted_privileges", lambda _: ())
    monkeypatch.setattr(certify, "_perform", too_far)
    with pytest.raises(SpecError, match="no certificate can be kept there"):
        certify.main(["--out", str(tmp_path / "out"), "--minutes", "1"])
    assert capsys.readouterr() == ("", "")
    assert not (tmp_path / "out").exists()
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    monkeypatch.setattr("controller.dictation.LEAST_FREE_BYTES", 1 << 62)
    with pytest.raises(CadenzaError, match="needed to record"):
        certify.main(["--out", str(tmp_path / "out"), "--minutes", "1"])
    assert capsys.readouterr() == ("", "")

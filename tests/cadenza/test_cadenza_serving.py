"""A service and the mark it leaves for the next one, without the processes of a run."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest

from cadenza.running import Wanted
from cadenza.service.lines import Lines
from cadenza.service.serving import serve
from controller.notify import Notify
from controller.session import EpisodeResult
from episodes.outcome import Outcome, Termination
from episodes.records import Mode
from export.bundle import Bundle
from spec.robotfile import load_robot

ROBOT = load_robot(Path("robots/virtual.yaml"))


class Run:
    """Stands in for supervisor and session: episodes that end as they are told to, and a person, or none.

    Args:
        endings: of its episodes; then it is told to end.
        person: says to go on whenever the run holds.
        interrupted: it does not end in order.
    """

    def __init__(self, *endings: Termination, person: bool, interrupted: bool = False) -> None:
        self.word, self.interrupted = SimpleNamespace(ends=interrupted, sequel=""), interrupted
        self.episodes, self.held = 0, 0
        self._endings, self._person = list(endings), person

    def episode(self, _number: int) -> EpisodeResult:
        ended = self._endings.pop(0)
        self.episodes += 1
        self.word.ends = not self._endings
        outcome = Outcome.SUCCESS if ended is Termination.DONE else Outcome.ABORTED
        return EpisodeResult(None, outcome, ended, 1.0, {})

    def wait_for_recovery(self) -> bool:
        self.held += 1
        return self._person

    def report(self) -> dict[str, Any]:
        return {}

    def close(self) -> None: ...


@pytest.fixture
def said(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    lines: list[str] = []
    monkeypatch.setattr(Lines, "say", lambda _self, line: lines.append(line))
    return lines


def served(run: Run, out: Path, monkeypatch: pytest.MonkeyPatch, notify: Notify | None = None) -> bool:
    @contextmanager
    def started(*_: object, **__: object) -> Iterator[tuple[Run, Run]]:
        yield run, run

    monkeypatch.setattr("cadenza.service.serving.started", started)
    wanted = Wanted(ROBOT, cast("Bundle", SimpleNamespace()), out, 1.0)
    return serve(wanted, None, notify or Notify(), Lines(None, {}))


def marks(folder: Path) -> list[str]:
    return [mark.read_text().strip() for mark in folder.glob(".*.unfinished")]


def test_an_orderly_end_leaves_no_mark(tmp_path: Path, said: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    run = Run(Termination.DONE, Termination.FAULT, Termination.DONE, person=True)
    assert served(run, tmp_path / "a", monkeypatch)
    assert (run.episodes, run.held, marks(tmp_path)) == (3, 1, [])


def test_a_fault_outlives_the_end_of_its_service(
    tmp_path: Path, said: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A machine that was shut down while a run held for a person had the next one move by itself."""
    assert served(Run(Termination.FAULT, person=False), tmp_path / "a", monkeypatch)
    (mark,) = marks(tmp_path)
    assert mark == f"the run before, {tmp_path / 'a'}, ended while it held for a person"
    waiting = Run(Termination.DONE, person=False)
    assert served(waiting, tmp_path / "b", monkeypatch)
    assert (waiting.episodes, waiting.held) == (0, 1)
    assert f"holding: {mark}; to go on: cadenza recover {tmp_path / 'b'}" in said
    assert served(Run(Termination.DONE, person=True), tmp_path / "c", monkeypatch)
    assert marks(tmp_path) == []


def test_to_ask_again_while_it_ends_leaves_nothing_undone(
    tmp_path: Path, said: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A second SIGTERM after the arm was at rest left the mark, and no report: the next run moved nothing."""

    class Hurried(Run):
        def close(self) -> None:
            os.kill(os.getpid(), signal.SIGTERM)

    def end(*_: object) -> None:
        raise SystemExit(143)

    before = signal.signal(signal.SIGTERM, end)
    try:
        assert served(Hurried(Termination.DONE, person=True), tmp_path / "a", monkeypatch)
        assert signal.getsignal(signal.SIGTERM) is end
    finally:
        signal.signal(signal.SIGTERM, before)
    assert marks(tmp_path) == []
    assert (tmp_path / "a" / "report.json").exists()


def test_a_run_that_was_cut_short_leaves_its_mark(
    tmp_path: Path, said: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    assert not served(Run(person=True, interrupted=True), tmp_path / "a", monkeypatch)
    assert marks(tmp_path) == [f"the run before, {tmp_path / 'a'}, did not end in order"]


class Watched(Run):
    """Polled five times a second through episodes of five seconds, in the course of which its loop dies."""

    def __init__(self, notify: Notify, monkeypatch: pytest.MonkeyPatch) -> None:
        super().__init__(Termination.DONE, Termination.FAULT, person=False)
        self.watch = SimpleNamespace(mode=None, recent_rate_hz=lambda _now_ns: self._rate_hz)
        self._notify, self._rate_hz, self._now_s = notify, 0.0, 1000.0
        monkeypatch.setattr("controller.notify.time.monotonic", lambda: self._now_s)

    def episode(self, number: int) -> EpisodeResult:
        for step in range(25):
            self._now_s += 0.2
            self.watch.mode = Mode.EASE_IN if step < 10 else Mode.POLICY
            self._rate_hz = 0.0 if number and step >= 10 else 99.6
            self._notify.beat(ticks=1)
        return super().episode(number)

    def wait_for_recovery(self) -> bool:
        for _ in range(25):
            self._now_s += 0.2
            self._notify.beat(ticks=1)
        return super().wait_for_recovery()


def test_the_manager_hears_every_two_seconds_how_an_episode_is(
    tmp_path: Path, said: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """It heard once, at the beginning of each, and nothing of what the arm did."""
    heard: list[str] = []
    monkeypatch.setattr(Notify, "_send", lambda _self, message: heard.append(message))
    notify = Notify("@somebody")
    served(Watched(notify, monkeypatch), tmp_path / "a", monkeypatch, notify)
    assert heard == [
        "READY=1",
        "STATUS=episode 0: EASE_IN, 100 Hz; the first",
        "STATUS=episode 0: POLICY, 100 Hz; the first",
        "STATUS=episode 1: EASE_IN, 100 Hz; 1 success",
        "STATUS=episode 1: the loop does not tick; 1 success",
        f"STATUS=holding: fault; to go on: cadenza recover {tmp_path / 'a'}",
    ]

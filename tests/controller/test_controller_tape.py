"""How long the conversation with the recorder waits, and for what."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest

from controller.collection.machine import Happened
from controller.collection.tape import Spool, Tape
from controller.session import ANSWER_S
from controller.supervisor import Supervisor
from controller.wiring.vigil import READY_S


class Recorder:
    """Takes what is asked of it, and says nothing by itself."""

    def __init__(self) -> None:
        self.ready, self.asked, self.replaced = False, 0, 0

    def open(self, *_: Any, **__: Any) -> bool:
        self.asked += 1
        return True

    def replace(self) -> None:
        self.replaced += 1


class Clock:
    """Stands in for the module ``time``."""

    now_s = 0.0

    def monotonic(self) -> float:
        return self.now_s


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr("controller.collection.tape.time", clock)
    return clock


def opening(recorder: Recorder) -> Tape:
    tape = Tape(cast("Supervisor", SimpleNamespace(recorder=recorder, order=lambda _: None)))
    assert tape.open(Path("a.mcap"), {})
    assert tape.spool is Spool.OPENING
    return tape


def test_a_recorder_that_is_coming_back_is_waited_for_and_left_alone(clock: Clock) -> None:
    """Where starting one took longer than an answer may, each was replaced before it was there."""
    recorder = Recorder()
    tape = opening(recorder)
    clock.now_s = READY_S - 1.0
    assert tape.hear([]) is None
    recorder.ready = True
    assert tape.hear([]) is None
    clock.now_s += ANSWER_S - 1.0
    assert tape.hear([{"kind": "opened", "path": "a.mcap"}]) is Happened.OPENED
    assert (recorder.asked, recorder.replaced) == (1, 0)


def test_a_recorder_that_does_not_come_back_costs_the_recording(clock: Clock) -> None:
    recorder = Recorder()
    tape = opening(recorder)
    clock.now_s = READY_S + 1.0
    assert tape.hear([]) is Happened.LOST
    assert (tape.spool, recorder.replaced) == (Spool.BROKEN, 0)  # hung or not is for the vigil to say


def test_a_recorder_that_does_not_answer_is_replaced(clock: Clock) -> None:
    recorder = Recorder()
    recorder.ready = True
    tape = opening(recorder)
    clock.now_s = ANSWER_S + 1.0
    assert tape.hear([]) is Happened.LOST
    assert (tape.spool, recorder.replaced) == (Spool.BROKEN, 1)

"""What a session asks of the recorder, and what it makes of the answers, without either's process."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest

from controller.collection import tape as tapes
from controller.collection.keeping import Keep, Keeper, Record
from controller.collection.machine import Happened, Verdict
from controller.collection.policies import KEEPERS
from controller.supervisor import Supervisor
from episodes.outcome import Outcome, Termination
from episodes.records import Order


class Desk:
    """A supervisor that is its own recorder and does what the test says. Stands in for :class:`Supervisor`."""

    def __init__(self, folder: Path) -> None:
        self.episodes_folder = folder
        self.asked: list[tuple[str, Path | None]] = []
        self.options: dict[str, Any] = {}
        self.kept_s = 0.0
        self.ready = self.has_room = True
        self.recorder = self

    def open(self, path: Path, _labels: Mapping[str, str], **options: Any) -> bool:
        self.options = options
        if self.has_room:
            self.asked.append(("open", path))
        return self.has_room

    def close(self, *_verdict: object) -> None:
        self.asked.append(("close", None))

    def replace(self) -> None:
        self.asked.append(("replace", None))

    def save(self, path: Path, _labels: Mapping[str, str]) -> bool:
        self.asked.append(("save", path))
        return True

    def keep(self, seconds: float) -> None:
        self.kept_s = seconds

    def order(self, _order: Order) -> int:
        return 0

    def recover(self) -> list[Any]:
        return []

    def say(self, _line: str) -> None: ...


@pytest.fixture
def desk(tmp_path: Path) -> Desk:
    return Desk(tmp_path)


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Iterator[SimpleNamespace]:
    """The tape's, standing still."""
    now = SimpleNamespace(s=100.0)
    monkeypatch.setattr(tapes, "time", SimpleNamespace(monotonic=lambda: now.s))
    return now


def keeper(desk: Desk, record: Record) -> Keeper:
    return KEEPERS[record](cast("Supervisor", desk), Keep(record), {})


def test_a_recorder_that_opens_too_late_does_not_go_on_recording(desk: Desk, clock: SimpleNamespace) -> None:
    """It would refuse every episode after this one."""
    kept = keeper(desk, Record.EPISODES)
    assert kept.open(0, {}) == []
    clock.s += tapes.ANSWER_S + 1
    assert kept.look([], taken_ns=None, now_s=0.0) == [Happened.LOST]
    kept.close(Verdict(Outcome.ABORTED, Termination.RECORDER_DIED), {}, None)
    assert kept.look([], taken_ns=None, now_s=0.1) == [Happened.CLOSED]
    late = {"kind": "opened", "path": str(desk.asked[0][1])}
    assert kept.look([late], taken_ns=None, now_s=0.2) == []
    assert [what for what, _ in desk.asked] == ["open", "replace"]


def test_a_correction_begins_before_the_takeover_however_late_that_is_heard(desk: Desk) -> None:
    kept = keeper(desk, Record.CORRECTIONS)
    kept.open(0, {})
    kept.look([], taken_ns=None, now_s=17.0)
    assert desk.kept_s > Keep().before_s
    kept.look([], taken_ns=17_100_000_000, now_s=18.3)
    assert desk.options == {"from_ns": 12_100_000_000, "rotate_mb": None}


def test_a_correction_that_the_disk_has_no_room_for_ends_the_session(desk: Desk) -> None:
    kept = keeper(desk, Record.CORRECTIONS)
    assert kept.open(0, {}) == [Happened.OPENED]
    assert kept.look([], taken_ns=None, now_s=0.0) == []
    desk.has_room = False
    assert kept.look([], taken_ns=50_000_000, now_s=0.1) == [Happened.DISK_FULL]


def test_a_highlight_that_is_never_written_does_not_hold_the_session_up(desk: Desk) -> None:
    kept = keeper(desk, Record.HIGHLIGHT)
    kept.open(0, {})
    assert kept.look([], taken_ns=None, now_s=0.0) == []
    kept.highlight()
    kept.close(Verdict(Outcome.UNLABELLED, Termination.TIME_LIMIT), {}, None)
    assert kept.look([], taken_ns=None, now_s=50.0) == []
    assert [what for what, _ in desk.asked] == ["save"]
    assert kept.look([], taken_ns=None, now_s=61.0) == []
    assert [what for what, _ in desk.asked] == ["save", "replace"]
    assert kept.look([{"kind": "died"}], taken_ns=None, now_s=61.1) == [Happened.CLOSED]


def test_no_two_highlights_have_one_name(desk: Desk) -> None:
    """The key is pressed before the first episode as well, twice before the recorder has answered, and days later."""
    (desk.episodes_folder / "episode-000001-highlight-00.mcap").touch()
    kept = keeper(desk, Record.HIGHLIGHT)
    kept.highlight()
    kept.open(0, {})
    kept.highlight()
    kept.highlight()
    kept.open(1, {})
    kept.highlight()
    names = [path.name for _, path in desk.asked if path is not None]
    assert names == [
        f"episode-{number:06d}-highlight-{part:02d}.mcap" for number, part in ((0, 0), (0, 1), (0, 2), (1, 1))
    ]

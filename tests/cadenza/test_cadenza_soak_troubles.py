"""A soak whose recordings do not all begin: what goes wrong with one ends that one only."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest

from cadenza.soaking.housekeeper import Housekeeper
from cadenza.soaking.journal import JOURNAL_FILE, Journal
from cadenza.soaking.soak import Soak
from cadenza.takeover_bench import TakeoverBench
from controller.supervisor import Supervisor
from drivers.virtual import SimClient
from episodes.records import Mode
from spec.robotfile import load_robot

LASTS_S = 0.3
"""A sound recording takes longer, one that does not begin takes no time."""


class Run:
    """Stands in for a supervisor whose arm is where it should be, and whose recorder says what it is told to.

    Args:
        folder: of the episodes.
        answers: of the recorder, one for each time it is to open or close something.
    """

    def __init__(self, folder: Path, *answers: str) -> None:
        self.episodes_folder, self.out, self.robot = folder, folder, load_robot(Path("robots/virtual.yaml"))
        self.watch = SimpleNamespace(mode=Mode.HOLD, speed=lambda: 0.0, human=False)
        self.interrupted, self.driving, self.recorder = False, True, self
        self.asked: list[str] = []
        self._answers, self._said = list(answers), list[dict[str, Any]]()

    def open(self, path: Path, _labels: dict[str, str]) -> bool:
        return self._ask(f"open {path.stem}")

    def close(self, *_: object) -> None:
        self._ask("close")

    def _ask(self, what: str) -> bool:
        self.asked.append(what)
        self._said.append({"kind": self._answers.pop(0)})
        return True

    def poll(self) -> list[dict[str, Any]]:
        said, self._said = self._said, []
        return said

    def order(self, _order: object) -> int:
        return 0

    def follow(self, _following: bool) -> None: ...

    def note(self, _kind: str, _text: str) -> None: ...


@pytest.fixture
def pedal(tmp_path: Path) -> Path:
    os.mkfifo(tmp_path / "pedal")
    return tmp_path / "pedal"


def soaked(run: Run, pedal: Path, monkeypatch: pytest.MonkeyPatch) -> tuple[list[tuple[str, bool]], list[str]]:
    """Names of the recordings that were looked through, whether they are kept, and what is on record."""
    taken: list[tuple[str, bool]] = []
    client = SimpleNamespace(hand=lambda *_: None, reset=lambda _: None)
    bench = TakeoverBench(cast("Supervisor", run), cast("SimClient", client), pedal, 0)
    housekeeper = cast(
        "Housekeeper", SimpleNamespace(take=lambda path, keep: taken.append((path.stem, keep)), found=list)
    )
    journal = Journal(run.out)
    soak = Soak(cast("Supervisor", run), bench, (), housekeeper, journal, 0)

    def nobody() -> Iterator[Any]:
        yield from ()

    monkeypatch.setattr(soak, "_chosen", nobody)
    try:
        soak.perform(LASTS_S)
    finally:
        bench.close()
        journal.close()
    notes = [json.loads(line) for line in (run.out / JOURNAL_FILE).read_text().splitlines()]
    return taken, [note["text"] for note in notes if "text" in note]


def test_a_recording_that_does_not_begin_is_looked_through_as_itself(
    tmp_path: Path, pedal: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The one before was given away a second time, or there was none and the soak broke off; and its name was used
    again for the next, although a recorder that only failed to say so may have written it."""
    run = Run(tmp_path, "failed", "closed", "opened", "closed")
    taken, troubles = soaked(run, pedal, monkeypatch)
    assert troubles == ["recorder: did not say opened"]
    assert run.asked == ["open episode-000000", "close", "open episode-000001", "close"]
    assert taken == [("episode-000000", True), ("episode-000001", False)]


def test_without_room_no_recording_is_given_up(tmp_path: Path, pedal: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """There is none to close, and none to look through."""
    run = Run(tmp_path, "opened", "closed")
    rooms = iter((False, True))
    opens = run.open
    monkeypatch.setattr(run, "open", lambda *wanted: next(rooms) and opens(*wanted))
    taken, troubles = soaked(run, pedal, monkeypatch)
    assert troubles == [f"{tmp_path}: no room to record"]
    assert run.asked == ["open episode-000000", "close"]
    assert taken == [("episode-000000", False)]

"""``cadenza weights`` at the desk of a run, and what ``--follow`` begins with."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hollow_bundle import hollow_bundle

from cadenza.cli import main
from cadenza.commands.run import chosen_bundle, weights_told
from controller.reception import Reception
from controller.weights.office import Office
from export.shelf import bundle_name, offer
from spec.errors import SpecError


class Run:
    """A run whose inference process takes what is even, and refuses what is odd."""

    def __init__(self, folder: Path) -> None:
        folder.mkdir()
        shelf = folder / "shelf"
        shelf.mkdir()
        self.office = Office(hollow_bundle(folder / "first", 2), shelf, self._tell)
        self.reception = Reception(folder, self.office, dict, lambda: None, lambda: None)
        self._told: list[dict[str, Any]] = []
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._poll)
        self._thread.start()

    def _tell(self, **command: Any) -> bool:
        self._told.append(command)
        return True

    def _poll(self) -> None:
        while not self._over.is_set():
            self.reception.look()
            self.office.look(time.monotonic(), ready=True)
            for command in self._told:
                kind = "swap_refused" if command["weights"] % 2 else "rollback" if command["back"] else "swap"
                for said in ("swap_trial", kind):
                    answer = {"request": command["request"], "text": f"{said} {command['weights']}", "distance": {}}
                    self.office.rollout.heard(said, answer)
            self._told.clear()
            time.sleep(0.005)
        self.reception.look()
        self.reception.close()
        self.office.close()

    def end(self) -> None:
        self._over.set()
        self._thread.join()


@pytest.fixture
def run(tmp_path: Path) -> Iterator[Path]:
    running = Run(tmp_path / "run")
    yield tmp_path / "run"
    running.end()


def test_the_operator_looks_swaps_and_goes_back(run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["weights", str(run)]) == 0
    assert "weights 2 drive" in capsys.readouterr().out
    assert main(["weights", str(run), "swap", str(hollow_bundle(tmp_path / "good", 4).folder)]) == 0
    assert capsys.readouterr().out == "trial: swap_trial 4\nswap: swap 4\n"
    assert main(["weights", str(run), "swap", str(hollow_bundle(tmp_path / "bad", 5).folder)]) == 1
    assert "refused: swap_refused 5" in capsys.readouterr().out
    assert main(["weights", str(run), "rollback", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["kind"] == "rollback"
    assert main(["weights", str(run), "rollback"]) == 1
    assert "nothing to go back to" in capsys.readouterr().out
    assert main(["weights", str(run), "follow", "off", "--json"]) == 0
    status = json.loads(capsys.readouterr().out)
    assert (status["driving"], status["following"], status["previous"]) == (2, False, None)


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["/nowhere"], "no such folder"),
        (["tests"], "no run is on there"),
        (["tests", "swap"], "say which bundle"),
        (["tests", "follow", "maybe"], "on or off"),
        (["tests", "rollback", "3"], "takes nothing more"),
    ],
)
def test_refusals_are_one_line(words: list[str], says: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["weights", *words]) == 2
    captured = capsys.readouterr()
    assert says in captured.err
    assert captured.err.count("\n") == 1
    assert captured.out == ""


def test_a_run_that_ends_before_it_answers(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    running = Run(tmp_path / "run")
    running.office.rollout.heard = lambda *_: None  # type: ignore[method-assign]
    threading.Timer(0.5, running.end).start()
    assert main(["weights", str(tmp_path / "run"), "swap", str(hollow_bundle(tmp_path / "good", 4).folder)]) == 2
    assert "the run ended before it answered" in capsys.readouterr().err


def test_what_a_run_that_follows_begins_with(tmp_path: Path) -> None:
    shelf, named = tmp_path / "shelf", hollow_bundle(tmp_path / "named", 1)
    with pytest.raises(SpecError, match="no such folder"):
        chosen_bundle(named.folder, shelf)
    shelf.mkdir()
    with pytest.raises(SpecError, match="say what drives"):
        chosen_bundle(None, None)
    with pytest.raises(SpecError, match="nothing there yet"):
        chosen_bundle(None, shelf)
    offer(shelf, hollow_bundle(shelf / bundle_name(3), 3))
    assert chosen_bundle(None, shelf).manifest.weights == 3
    assert chosen_bundle(named.folder, shelf).manifest.weights == 1


def test_the_report_tells_of_changes_only() -> None:
    drove = [{"weights": 1}, {"weights": 4}]
    assert weights_told({"weights": {"drove": drove[:1], "refused": []}}) == ""
    assert weights_told({"weights": {"drove": drove, "refused": ["x"]}}) == "weights: 1 -> 4, once refused"
    assert weights_told({}) == ""

"""``cadenza status`` and ``cadenza recover``: which run is meant, and what is said of it."""

from __future__ import annotations

import json
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from cadenza.cli import main
from cadenza.commands.status import span, told
from cadenza.runs import answering
from controller.reception import Reception
from spec.errors import CadenzaError


def _process(**changed: Any) -> dict[str, Any]:
    well = {"pid": 8, "alive": True, "ready": True, "restarts": 0, "memory_mb": 80.0, "silent_s": 0.0, "refusal": None}
    return {**well, **changed}


SEEN: dict[str, Any] = {
    "run": "/runs/a",
    "robot": "koch",
    "pid": 7,
    "up_s": 3725.0,
    "mode": "FAULT",
    "since_s": 61.0,
    "driver": "nobody",
    "lacking": None,
    "fault": {"name": "PORT_GONE", "cause": "PORT_GONE: /dev/x", "words": "the port of the arm is gone", "remedy": "p"},
    "waiting": True,
    "finishing": False,
    "timing": {"rate_hz": 200.0, "measured_hz": 199.9, "lateness_us": None, "seconds": 5.0, "certificate": "none"},
    "ticks": 10,
    "missed_ticks": 1,
    "bus_errors": 2,
    "processes": {
        "control": _process(restarts=1),
        "camera top": _process(silent_s=3.2),
        "recorder": _process(alive=False, ready=False, refusal="no disk"),
    },
    "cameras": {"top": 3200.0, "front": None},
    "weights": None,
    "recording": None,
    "disk_free_bytes": 5_000_000_000,
    "next": "plug it in; then: cadenza recover /runs/a",
}
WELL = {**SEEN, "mode": "POLICY", "fault": None, "waiting": False, "next": None}


Begin = Callable[[str, dict[str, Any]], Path]


@pytest.fixture
def begin(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Begin]:
    """Runs under runs/, in a folder of their own, that answer as they are told to."""
    monkeypatch.chdir(tmp_path)
    over = threading.Event()
    threads: list[threading.Thread] = []

    def serve(reception: Reception) -> None:
        while not over.wait(0.005):
            reception.look()
        reception.close()

    def started(name: str, seen: dict[str, Any]) -> Path:
        folder = Path("runs") / name
        folder.mkdir(parents=True)
        refusal = None if seen["fault"] else "there is no fault to recover from"
        reception = Reception(folder, None, lambda: seen, lambda: refusal, lambda: (name == "a", "so it went"))
        threads.append(threading.Thread(target=serve, args=(reception,)))
        threads[-1].start()
        return folder

    yield started
    over.set()
    for thread in threads:
        thread.join()


def test_the_only_run_needs_no_name(begin: Begin, capsys: pytest.CaptureFixture[str]) -> None:
    begin("a", SEEN)
    assert main(["status"]) == 1
    assert "fault      the port of the arm is gone: PORT_GONE: /dev/x" in capsys.readouterr().out
    assert main(["status", "--json"]) == 1
    assert json.loads(capsys.readouterr().out)["fault"]["name"] == "PORT_GONE"
    assert main(["recover"]) == 0
    assert capsys.readouterr().out == "recovered: so it went\n"


def test_which_arm_is_started_again_is_never_guessed(begin: Begin, capsys: pytest.CaptureFixture[str]) -> None:
    begin("a", WELL)
    begin("b", SEEN)
    assert main(["recover"]) == 2
    assert "say which run; on are: " in capsys.readouterr().err
    assert main(["recover", "runs/b", "--json"]) == 1
    assert json.loads(capsys.readouterr().out)["kind"] == "not_recovered"
    assert main(["recover", "runs/a"]) == 2
    assert "there is no fault to recover from" in capsys.readouterr().err
    assert main(["status", "runs/a"]) == 0
    Path("runs/c").mkdir()
    capsys.readouterr()
    assert main(["status", "runs/c"]) == 2
    assert "no run is on there; on are: runs/" in capsys.readouterr().err
    assert main(["weights", "runs/a"]) == 2
    assert "no policy drives this run" in capsys.readouterr().err


def test_nobody_is_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.chdir(tmp_path)
    for command in ("status", "recover"):
        assert main([command]) == 2
        assert "no run is on under runs/" in capsys.readouterr().err
        assert main([command, "nowhere"]) == 2
        assert "no such folder" in capsys.readouterr().err


def test_an_empty_name_is_no_folder(
    begin: Begin, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """An unset variable of a shell: it was taken for the folder one stands in, which may well be another run."""
    monkeypatch.chdir(begin("a", SEEN))
    for command in ("status", "recover", "weights"):
        assert main([command, ""]) == 2
        assert "RUN: '': no such folder" in capsys.readouterr().err


class Stopped:
    """A run that looks at its desk when it is told to."""

    def __init__(self, folder: Path) -> None:
        self.words = 0
        self.outcome: tuple[bool, str] | None = None
        self.reception = Reception(folder, None, dict, self._begin, lambda: self.outcome)

    def _begin(self) -> None:
        self.words += 1


def test_a_run_that_does_not_hear_the_word_is_said_soon_and_never_acts_on_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """A stopped one was waited for a minute without a line; continued later, it moved the arm with nobody there."""
    monkeypatch.setattr("cadenza.commands.recover.HEARD_S", 0.05)
    run = Stopped(tmp_path)
    assert main(["recover", str(tmp_path)]) == 2
    assert "the run has not answered for 0.05 s" in capsys.readouterr().err
    run.reception.look()
    assert run.words == 0
    run.reception.close()


@pytest.mark.parametrize("heard", [False, True])
def test_who_no_longer_waits_for_a_recovery_hears_what_becomes_of_the_word(
    heard: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Ctrl-C said "interrupted", and three seconds later the arm drove."""

    def said(*_: object, **__: object) -> Iterator[dict[str, Any]]:
        if heard:
            yield {"kind": "recovering"}
        raise KeyboardInterrupt

    monkeypatch.setattr("cadenza.commands.recover.answers", said)
    monkeypatch.setattr("cadenza.commands.recover.the_run", lambda _: tmp_path)
    assert main(["recover", str(tmp_path)]) == 130
    words = "the word is given: the run recovers by itself" if heard else "if it has heard the word by now"
    assert words in capsys.readouterr().err


def test_a_word_that_is_heard_is_confirmed_before_anything_comes_of_it(tmp_path: Path) -> None:
    run = Stopped(tmp_path)
    with socket.socket(socket.AF_UNIX) as link:
        link.connect(str(tmp_path / "run.sock"))
        link.sendall(b'{"do": "recover"}\n')
        run.reception.look()
        assert (run.words, json.loads(link.recv(1024))) == (1, {"kind": "recovering"})
        run.outcome = (True, "it rests")
        run.reception.look()
        assert json.loads(link.recv(1024)) == {"kind": "recovered", "text": "it rests"}
    run.reception.close()


def test_a_run_that_lets_nobody_in_is_on_and_hangs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """With eight waiting at the door of a stopped run, the ninth used to wait for ever."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("controller.desk._DOOR_S", 0.02)
    folder = Path("runs/stopped")
    folder.mkdir(parents=True)
    with ExitStack() as stack:
        stopped = stack.enter_context(socket.socket(socket.AF_UNIX))
        stopped.bind(str(folder / "run.sock"))
        stopped.listen(1)
        for _ in range(2):
            stack.enter_context(socket.socket(socket.AF_UNIX)).connect(str(folder / "run.sock"))
        assert answering() == [folder]
        assert main(["status"]) == 2
        assert "lets nobody in" in capsys.readouterr().err
    assert answering() == []


@pytest.mark.parametrize("json_too", [False, True])
@pytest.mark.parametrize(("newest", "ended"), [(WELL, 0), (SEEN, 1)])
def test_who_watches_a_run_that_ends_leaves_with_the_last_look(
    newest: dict[str, Any],
    ended: int,
    json_too: bool,
    begin: Begin,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    run = begin("a", newest)
    monkeypatch.setattr("cadenza.commands.status._REFRESH_S", 0.01)
    monkeypatch.setattr("cadenza.commands.status.is_there", lambda _: False)
    answers = iter([newest, newest])
    monkeypatch.setattr("cadenza.commands.status.answer", lambda *_: _next(answers))
    assert main(["status", str(run), "--watch", *["--json"] * json_too]) == ended
    out = capsys.readouterr().out
    if json_too:
        assert [json.loads(line) for line in out.splitlines()] == [newest, newest]
    else:
        assert out.splitlines()[-1] == "runs/a: the run ended"


@pytest.mark.parametrize("json_too", [False, True])
def test_a_run_that_hangs_while_it_is_watched_is_asked_again(
    json_too: bool, begin: Begin, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    run = begin("a", WELL)
    monkeypatch.setattr("cadenza.commands.status._REFRESH_S", 0.01)
    there = iter([True, False])
    monkeypatch.setattr("cadenza.commands.status.is_there", lambda _: next(there))
    answers = iter([WELL])
    monkeypatch.setattr("cadenza.commands.status.answer", lambda *_: _next(answers))
    assert main(["status", str(run), "--watch", *["--json"] * json_too]) == 0
    out = capsys.readouterr().out
    if json_too:
        assert [json.loads(line) for line in out.splitlines()] == [
            WELL,
            {"kind": "silent", "text": "it does not answer"},
        ]
    else:
        assert "silent     it does not answer" in out


def _next(answers: Iterator[dict[str, Any]]) -> dict[str, Any]:
    try:
        return next(answers)
    except StopIteration:
        raise CadenzaError("it does not answer") from None


def test_a_loop_that_is_no_more_does_not_look_alive() -> None:
    dead = {**SEEN, "mode": None, "since_s": None, "timing": {**SEEN["timing"], "measured_hz": 0.0}}
    lines = list(told(dead))
    assert lines[1] == "mode       none, nobody ticks, waits for a person"
    assert "timing     0 of 200 Hz" in lines
    assert list(told({**dead, "fault": None, "waiting": False}))[1] == "mode       starting"


def test_an_arm_that_holds_for_want_of_chunks_says_so() -> None:
    """It held for five seconds, driven by nobody, and nothing said why."""
    dry = {**WELL, "mode": "HOLD", "since_s": 2.3, "lacking": "no chunk from inference for 3.0 s"}
    assert list(told(dry))[1] == "mode       hold for 2 s, driven by nobody: no chunk from inference for 3.0 s"


def test_what_matters_most_comes_first() -> None:
    lines = list(told(SEEN))
    assert lines[0] == "koch: /runs/a, process 7, up 1 h 2 min"
    assert lines[1] == "mode       fault for 1 min 1 s, driven by nobody, waits for a person"
    assert lines[3] == "next       plug it in; then: cadenza recover /runs/a"
    text = "\n".join(lines)
    for words in ("started again once", "silent for 3 s", "gone: no disk", "top 3200 ms old, front none yet"):
        assert words in text
    assert span(59.9) == "59 s"

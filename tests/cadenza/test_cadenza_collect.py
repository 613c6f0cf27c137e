"""``cadenza collect`` as an operator meets it: refusals, keys, sounds, screen; and the whole of it."""

from __future__ import annotations

import contextlib
import fcntl
import io
import json
import os
import pty
import select
import shutil
import signal
import struct
import subprocess
import sys
import termios
import time
import wave
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest
from rich.console import Console

from cadenza.cli import main
from cadenza.collecting import cues
from cadenza.collecting.keys import KEYS, LineKeys, TerminalKeys
from cadenza.collecting.view import View, render
from controller.collection.collector import Collector, Reward
from controller.collection.ledger import SESSION_FILE
from controller.collection.machine import Collection, Phase, Plan
from episodes.check import check
from episodes.outcome import Outcome, Termination
from episodes.reader import read_episode
from episodes.records import Driver, Mode
from spec.robot import Key

COLLECT = ["collect", "--out", "/nowhere/at/all", "--task", "push"]
VIEW = View(
    title="koch · push",
    phase=Phase.RUNNING,
    recording=True,
    number=7,
    saved=6,
    target=20,
    seconds=12.4,
    limit_s=60.0,
    countdown_s=None,
    mode=Mode.BLEND,
    driver=Driver.HUMAN,
    alpha=0.62,
    takeovers=2,
    human_s=3.4,
    rewards=(1.0,),
    rate_hz=100.0,
    late_p50_us=30.0,
    late_p99_us=160.0,
    missed=1,
    bus_errors=0,
    device_ms=12.0,
    free_gb=41.0,
    fault="",
    lines=("one", "two"),
    tally="5 success",
)


@pytest.mark.parametrize(
    ("options", "says"),
    [
        (["--episodes", "0"], "--episodes: 0: at least 1"),
        (["--episode-seconds", "nan"], "must be above 0"),
        (["--reset-seconds", "-1"], "--reset-seconds: -1.0: zero or more"),
        (["--task", " "], "say what is done"),
        (["--bundle", "/nowhere"], "not a bundle"),
        (["--out", "README.md"], "is a file, not a folder"),
        (["--robot.teleop", "null"], "collecting needs a device"),
        (["--rotate-mb", "0"], "at least 1"),
        (["--rotate-mb", "inf"], "at least 1"),
        (["--before-seconds", "inf"], "--before-seconds: inf: zero or more"),
        (["--config", "robots/koch.yaml", "--seed", "3"], "--seed: 3: scenes are the virtual arm's"),
        (["--config", "robots/koch.yaml", "--hand", "scripted"], "scripted person at a virtual leader arm only"),
    ],
)
def test_refusals_are_one_line(options: list[str], says: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([*COLLECT, *options]) == 2
    captured = capsys.readouterr()
    assert says in captured.err
    assert captured.err.count("\n") == 1
    assert captured.out == ""


# -- keys


@pytest.fixture
def terminal() -> Iterator[tuple[int, io.TextIOWrapper]]:
    """Both ends of a terminal: the person's, and the program's."""
    master, slave = pty.openpty()
    with open(slave, closefd=True) as side:  # noqa: PTH123 (a descriptor has no path)
        yield master, side
    os.close(master)


def typed(terminal: tuple[int, io.TextIOWrapper], data: bytes) -> list[Key | Reward]:
    master, side = terminal
    with TerminalKeys(side) as keys:
        os.write(master, data)
        assert select.select([side], [], [], 5.0)[0]
        return keys.pressed(cast("Collector", None))


def test_single_keys_need_no_enter_and_arrows_mean_nothing(terminal: tuple[int, io.TextIOWrapper]) -> None:
    assert typed(terminal, b" S\x1b[Ax7\x1bOPf") == [Key.START_STOP, Key.SUCCESS, Reward(7.0), Key.FAIL]


@pytest.mark.parametrize("error", [None, RuntimeError, KeyboardInterrupt, SystemExit])
def test_the_terminal_is_given_back_as_it_was(
    terminal: tuple[int, io.TextIOWrapper], error: type[BaseException] | None
) -> None:
    _, side = terminal
    before = termios.tcgetattr(side)
    with contextlib.suppress(RuntimeError, KeyboardInterrupt, SystemExit), TerminalKeys(side):
        assert not termios.tcgetattr(side)[3] & (termios.ECHO | termios.ICANON)
        assert termios.tcgetattr(side)[3] & termios.ISIG
        if error is not None:
            raise error
    assert termios.tcgetattr(side) == before


def test_a_terminal_that_is_gone_needs_nothing_back(tmp_path: Path) -> None:
    """Its session could not end in order."""
    master, slave = pty.openpty()
    with open(slave) as side, TerminalKeys(side) as keys:  # noqa: PTH123 (a descriptor has no path)
        os.close(master)
        assert keys.pressed(cast("Collector", None)) == []


def test_every_session_key_has_one_in_the_terminal_but_those_of_a_device() -> None:
    assert set(Key) - set(KEYS.values()) == {Key.TAKE, Key.RELEASE, Key.DEAD_MAN}


def lines(tmp_path: Path, text: str, phase: Phase, *, ends: bool = True) -> tuple[list[Key | Reward], list[str]]:
    """What ten looks at these lines bring, and what is said about them."""
    path = tmp_path / "lines"
    path.write_text(text)
    said: list[str] = []
    collector = cast(
        "Collector",
        SimpleNamespace(
            plan=Plan(target=1, reset_s=0, limit_s=1),
            now=Collection(0, phase=phase, last=None),
            run=SimpleNamespace(say=said.append),
        ),
    )
    with path.open() as file, LineKeys(file, ends=ends) as keys:
        return [key for _ in range(10) for key in keys.pressed(collector)], said


def test_a_word_waits_until_it_means_something(tmp_path: Path) -> None:
    assert lines(tmp_path, "success\nstart\n", Phase.READY) == ([], [])
    assert lines(tmp_path, "reward -0.5\nsuccess\n", Phase.RUNNING)[0][:2] == [Reward(-0.5), Key.SUCCESS]


def test_a_word_that_is_none_is_said_and_passed_over(tmp_path: Path) -> None:
    found, said = lines(tmp_path, "jump\nreward much\nreward nan\nwait inf\ndead_man\nstart\n", Phase.READY)
    assert found[:1] == [Key.START_STOP]
    assert "'jump': no such key (valid: " in said[0]
    assert all("not a number" in line for line in said[1:4])
    assert "'dead_man': no such key" in said[4]


def test_the_end_of_the_lines_is_the_end_of_the_session_unless_there_never_were_any(tmp_path: Path) -> None:
    assert Key.QUIT in lines(tmp_path, "start", Phase.READY)[0]
    assert Key.QUIT not in lines(tmp_path, "start", Phase.READY, ends=False)[0]
    assert Key.QUIT not in lines(tmp_path, "", Phase.READY)[0]


# -- sounds and screen


def test_a_cue_never_waits_and_a_missing_voice_is_silence(tmp_path: Path) -> None:
    """The player sleeps longer than this test may take."""
    player = cues.Program(("/bin/sh", "-c", "sleep 600"))
    for _ in range(5):
        player.give("ready")
    children = Path(f"/proc/self/task/{os.getpid()}/children").read_text().split()
    assert len(children) <= 1 + int("multiprocessing" in sys.modules)
    player._end()
    cues.Program((str(tmp_path / "nothing"),)).give("ready")


def test_without_a_voice_there_are_tones_and_without_a_player_the_bell(monkeypatch: pytest.MonkeyPatch) -> None:
    def only(*names: str) -> None:
        monkeypatch.setattr(shutil, "which", lambda name: f"/bin/{name}" if name in names else None)

    only("espeak-ng", "aplay")
    spoken = cues.cues(quiet=False)
    assert isinstance(spoken, cues.Program)
    assert spoken._folder is None
    only("aplay")
    played = cues.cues(quiet=False)
    assert isinstance(played, cues.Program)
    assert played._folder is not None
    with wave.open(f"{played._folder.name}/policy-has-it.wav") as sound:
        assert sound.getnframes() > 1000
    played.close()
    only()
    assert isinstance(cues.cues(quiet=False), cues.Bell)
    assert isinstance(cues.cues(quiet=True), cues.Silence)


@pytest.mark.parametrize("phase", Phase)
def test_the_screen_fits_eighty_columns_in_every_phase(phase: Phase) -> None:
    shown = io.StringIO()
    console = Console(file=shown, width=80)
    fault = "HUMAN -> FAULT (STALE_JOINT)" if phase is Phase.FAULT else ""
    console.print(render(replace(VIEW, phase=phase, fault=fault, lines=("x" * 200,)), 80))
    text = shown.getvalue()
    assert {len(line) for line in text.splitlines()} == {80}
    assert len(text.splitlines()) <= 24
    assert "6 of 20 saved" in text
    assert fault in text


# -- the whole


def collect(out: Path, *options: str, **keywords: Any) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "cadenza", "collect", "--out", str(out), "--task", "push", "--quiet"]
    rest = ["--reset-seconds", "0", "--robot.control.realtime", "off", *options]
    keywords = {"stdin": subprocess.DEVNULL, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE, **keywords}
    return subprocess.Popen([*command, *rest], text=True, start_new_session=True, **keywords)


def eventually(done: Any, seconds: float = 60.0) -> bool:
    deadline = time.monotonic() + seconds
    while not done() and time.monotonic() < deadline:
        time.sleep(0.05)
    return bool(done())


def saved(out: Path) -> int:
    try:
        return int(json.loads((out / SESSION_FILE).read_text())["saved"])
    except FileNotFoundError:
        return 0


@pytest.mark.daemon
def test_a_session_that_is_killed_twice_loses_no_closed_episode_and_ends_as_asked(tmp_path: Path) -> None:
    """Killed once in the middle of an episode, and once right after one was saved."""
    out, wanted = tmp_path / "session", ("--episodes", "3", "--hand", "scripted")
    killed = collect(out, *wanted)
    # On a busy machine the arm may fault, and an episode be aborted: which one is the first that counts is not said.
    assert eventually(lambda: saved(out) >= 1 and _half_recorded(out))
    os.killpg(killed.pid, signal.SIGKILL)
    killed.communicate()
    closed = saved(out)
    assert 1 <= closed < 3
    assert eventually(lambda: not _living(out))

    killed = collect(out, *wanted)
    assert eventually(lambda: saved(out) > closed)
    os.killpg(killed.pid, signal.SIGKILL)
    killed.communicate()
    assert eventually(lambda: not _living(out))

    again = collect(out, *wanted, "--json")
    output, complaints = again.communicate(timeout=90)
    assert again.returncode == 0, complaints
    report = json.loads(output)
    assert (report["saved"], report["ended"]) == (3, "complete")
    files = sorted((out / "episodes").glob("*.mcap*"))
    assert [path.suffix for path in files] == [".mcap"] * len(files)
    assert [check(path) for path in files] == [[] for _ in files]
    whole = [read_episode(path, cameras=()) for path in files]
    assert sum(episode.outcome is Outcome.SUCCESS for episode in whole) == 3
    assert {episode.labels["session"] for episode in whole} == {report["session"]}
    assert {episode.labels["operator"] for episode in whole} == {"scripted hand"}
    assert all((episode.ticks["driver"] == Driver.HUMAN).any() for episode in whole if episode.outcome == "success")

    other = collect(out, *wanted, "--task", "pull")
    _, complaints = other.communicate(timeout=60)
    assert (other.returncode, complaints.count("\n")) == (2, 1)
    assert "the session there has 'push'" in complaints


def _half_recorded(out: Path) -> bool:
    with contextlib.suppress(FileNotFoundError):  # it was closed meanwhile
        return any(part.stat().st_size > 150_000 for part in (out / "episodes").glob("*.mcap.part"))
    return False


def _living(out: Path) -> list[str]:
    """Processes of a session that are still there."""
    found = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            words = path.read_bytes().decode(errors="replace")
        except OSError:
            continue
        if str(out) in words:
            found.append(words)
    return found


@pytest.mark.daemon
def test_a_script_on_standard_input_runs_a_session(tmp_path: Path) -> None:
    words = "start\nreward 0.25\nwait 1\nsuccess\nstart\nwait 0.5\nredo\nstart\nwait 0.5\nfail\nquit\n"
    out = tmp_path / "session"
    child = collect(out, "--episodes", "5", "--operator", "ada", stdin=subprocess.PIPE)
    said, complaints = child.communicate(words, timeout=90)
    assert child.returncode == 0, complaints
    assert "the same command goes on with it" in said
    first, second = (read_episode(out / "episodes" / f"episode-00000{k}.mcap", cameras=()) for k in (0, 1))
    assert (first.outcome, second.outcome) == (Outcome.SUCCESS, Outcome.FAIL)
    assert [value for _, value in first.rewards] == [0.25]
    assert (first.labels["operator"], first.labels["source"], first.labels["task"]) == ("ada", "teleop", "push")
    assert [path.name for path in (out / "discarded").iterdir()] == ["episode-000001.mcap"]


@pytest.mark.daemon
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupted_session_closes_its_file_and_gives_the_terminal_back(
    tmp_path: Path, number: signal.Signals
) -> None:
    out = tmp_path / "session"
    master, slave = pty.openpty()
    fcntl.ioctl(slave, termios.TIOCSWINSZ, struct.pack("HHHH", 40, 100, 0, 0))
    before = termios.tcgetattr(slave)
    child = collect(out, "--episodes", "1", stdin=slave, stdout=slave, stderr=slave)
    shown = b""
    part, sent = out / "episodes" / "episode-000000.mcap.part", False
    deadline = time.monotonic() + 60
    while child.poll() is None and time.monotonic() < deadline:
        if select.select([master], [], [], 0.1)[0]:
            shown += os.read(master, 65536)
        if b"READY" in shown and not part.exists():
            os.write(master, b" ")
            time.sleep(0.3)
        if not sent and part.exists() and part.stat().st_size > 150_000:
            child.send_signal(number)
            sent = True
    assert child.wait(20) == 130
    while select.select([master], [], [], 0.0)[0]:  # what it said last is still on the line when it has gone
        shown += os.read(master, 65536)
    assert termios.tcgetattr(slave) == before
    assert b"\x1b[?25h" in shown.rpartition(b"\x1b[?25l")[2], "the cursor is still hidden"
    os.close(master)
    os.close(slave)
    episode = read_episode(out / "episodes" / "episode-000000.mcap", cameras=())
    assert (episode.outcome, episode.termination) == (Outcome.ABORTED, Termination.OPERATOR)
    assert episode.damage == ""

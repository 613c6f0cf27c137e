"""Who asks for the end, by which signal."""

from __future__ import annotations

import os
import pty
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from controller.word import Word

WAITS = """
import sys, time
from pathlib import Path
from controller.word import Word
word = Word(Path("."), False, print, lambda kind, text: None)
with word.by_signal():
    print("READY", flush=True)
    while not word.ends:
        time.sleep(0.01)
    print("something is still to be said", flush=True)
    sys.stdin.read()
Path(sys.argv[1]).write_text(str(word.interrupts))
"""


def _word(folder: Path, *, patient: bool = False) -> Word:
    return Word(folder, patient, lambda _: None, lambda *_: None)


@pytest.mark.usefixtures("hears_hangups")
def test_a_closed_terminal_asks_for_the_end_and_stands_in_nobodys_way(tmp_path: Path) -> None:
    """The run was gone within 0.1 s: no report, its socket and shared memory left behind."""
    out = tmp_path / "ended"
    terminal, side = pty.openpty()
    child = subprocess.Popen(
        ["setsid", "--ctty", sys.executable, "-c", WAITS, str(out)], stdin=side, stdout=side, stderr=side
    )
    os.close(side)
    shown = b""
    while b"READY" not in shown:
        shown += os.read(terminal, 1024)
    os.close(terminal)
    assert child.wait(20) == 0
    assert out.read_text() == "1"


@pytest.mark.usefixtures("hears_hangups")
@pytest.mark.parametrize("patient", [False, True])
def test_however_often_a_terminal_says_that_it_is_gone_it_counts_once(tmp_path: Path, patient: bool) -> None:
    """The kernel says so, and the shell once more; a service would not finish its episode."""
    word = _word(tmp_path, patient=patient)
    with word.by_signal():
        for _ in range(2):
            os.kill(os.getpid(), signal.SIGHUP)
        assert (word.finishing, word.interrupts) == ((True, 0) if patient else (False, 1))


def test_who_is_to_outlive_the_terminal_does(tmp_path: Path) -> None:
    """As under nohup."""
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        word = _word(tmp_path)
        with word.by_signal():
            os.kill(os.getpid(), signal.SIGHUP)
            assert not word.ends
        assert signal.getsignal(signal.SIGHUP) is signal.SIG_IGN
    finally:
        signal.signal(signal.SIGHUP, before)

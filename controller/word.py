"""The operator's word: that a run is to end, and that the cause of a fault is gone.

The first comes by signal. The second comes from another terminal, or from whoever drives the run
(:meth:`controller.supervisor.Supervisor.recover`); :mod:`controller.recovery` carries it out.
"""

from __future__ import annotations

import os
import select
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType

from controller.recovery import RESTS, Recovery
from controller.wiring.vigil import CONTROL

ENDING = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
"""Ask for the end; the last where nobody had it ignored (nohup): the terminal was closed."""


class Word:
    """Of one run: what was asked for, and what those who asked are told.

    Args:
        out: folder of the run.
        patient: the first SIGTERM asks for the end after this episode only (``finishing``); SIGINT and a second
            SIGTERM interrupt, as any does where this is False. SIGHUP counts as one SIGTERM, however often it comes:
            the kernel sends it, and the shell once more.
        say: takes one line for the person watching.
        record: puts something on record: its kind, and a text.
    """

    def __init__(
        self, out: Path, patient: bool, say: Callable[[str], None], record: Callable[[str, str], None]
    ) -> None:
        self._out, self._patient, self._say, self._record = out, patient, say, record
        self.interrupts = 0
        """How often somebody asked for the end."""
        self.finishing = False
        """Whether the run is to end after this episode."""
        self.waiting = False
        """Whether the session holds until somebody says that it may go on."""
        self.sequel = RESTS
        """What the session does once the arm was recovered, in words for whoever asks for that."""
        self.recovery: Recovery | None = None
        """Of the arm; None until the run has started."""

    # -- the end

    @contextmanager
    def by_signal(self) -> Iterator[None]:
        """These signals ask for the end meanwhile, unless somebody else takes them over. From the main thread."""
        heeded = [n for n in ENDING if n != signal.SIGHUP or signal.getsignal(n) != signal.SIG_IGN]
        before = {number: signal.signal(number, self._interrupt) for number in heeded}
        try:
            yield
        finally:
            for number, handler in before.items():
                if signal.getsignal(number) == self._interrupt:
                    signal.signal(number, handler)

    @property
    def ends(self) -> bool:
        """Whether the end was asked for, at once or after this episode."""
        return self.interrupts > 0 or self.finishing

    def _interrupt(self, number: int, _frame: FrameType | None) -> None:
        if number == signal.SIGHUP:
            _let_go_of_terminal()
            if self.ends:
                return
        if self._patient and number != signal.SIGINT and not self.finishing:
            self.finishing = True
        else:
            self.interrupts += 1

    # -- a fault whose cause is gone

    @property
    def recoveries(self) -> int:
        """How often the arm was recovered."""
        return 0 if self.recovery is None else self.recovery.succeeded

    def recover(self, turn: Callable[[], None], timeout_s: float) -> str | None:
        """Have the arm follow orders again, from where it stands, and wait for the outcome.

        A control process that died or hangs is started again first. Nothing moves: the arm rests until it is started.

        Args:
            turn: lets a moment of the run pass.
            timeout_s: longest wait [s].

        Returns:
            None once it rests; else why it does not.
        """
        if (recovery := self.recovery) is None:
            return self._starting
        self._begin(recovery)
        until = time.monotonic() + timeout_s
        while recovery.active:
            if self.interrupts or time.monotonic() > until:
                return "interrupted" if self.interrupts else f"not done within {timeout_s:g} s"
            turn()
        return recovery.refusal

    def asked_to_recover(self) -> str | None:
        """Somebody asks for it at the desk: begin, unless there is nothing to recover from; returns why not."""
        if (recovery := self.recovery) is None:
            return self._starting
        if not (self.waiting or recovery.needed):
            return f"{self._out}: there is no fault to recover from; the arm is in {recovery.mode.name}"
        self._record("recovery", "asked for at the desk")
        self._begin(recovery)
        return None

    def look(self, now_s: float) -> None:
        """Let time pass [s]; tell what has become of a recovery once that is known."""
        if (recovery := self.recovery) is None or not recovery.look(now_s):
            return
        refusal = recovery.refusal
        text = f"recovered: {self._follows}" if refusal is None else f"not recovered: {refusal}"
        if not recovery.said_by_loop:
            self._say(text)
        self._record("recovery", text)

    def outcome(self) -> tuple[bool, str] | None:
        """Of the newest attempt, for whoever waits for it: whether it succeeded, and what follows, or else why not."""
        if (recovery := self.recovery) is None or recovery.active:
            return None
        return recovery.refusal is None, recovery.refusal or self._follows

    @property
    def _starting(self) -> str:
        return f"{self._out}: the run is starting; there is nothing to recover from yet"

    @property
    def _follows(self) -> str:
        return RESTS if self.ends else self.sequel

    def _begin(self, recovery: Recovery) -> None:
        if recovery.begin(time.monotonic()):
            self._record("restarted", f"{CONTROL}: on somebody's word")


def _let_go_of_terminal() -> None:
    """Nobody reads at a terminal that is gone, and whoever writes there fails: an orderly end has things to say yet."""
    for descriptor in (0, 1, 2):
        poll = select.poll()
        poll.register(descriptor, 0)
        if any(state & select.POLLHUP for _, state in poll.poll(0)):
            nowhere = os.open(os.devnull, os.O_RDWR)
            os.dup2(nowhere, descriptor)
            os.close(nowhere)

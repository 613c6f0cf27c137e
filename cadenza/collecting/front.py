"""The operator's side of a session: keys in, screen and cues out."""

from __future__ import annotations

import time
from collections import deque
from contextlib import ExitStack
from types import TracebackType
from typing import Protocol, Self

from rich.console import Console
from rich.live import Live

from cadenza.collecting.cues import Cues
from cadenza.collecting.keys import LineKeys, TerminalKeys
from cadenza.collecting.view import render, times, view_of
from controller.collection.collector import Collector, Reward
from controller.collection.machine import Phase
from spec.robot import Key

_LINES, _WIDEST = 5, 96
_EVERY_S = 0.15
"""A screen takes some milliseconds to draw; the process that draws it also watches the others."""
_CUES = {
    Phase.RESET: "reset",
    Phase.READY: "ready",
    Phase.RUNNING: "recording",
    Phase.FAULT: "fault",
    Phase.DONE: "done",
}


class Display(Protocol):
    """Where it is shown."""

    def say(self, line: str) -> None: ...

    def show(self, collector: Collector, *, at_once: bool) -> None: ...

    def __enter__(self) -> Self: ...

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None: ...


class Screen:
    """A live one, for a terminal."""

    def __init__(self, console: Console, title: str) -> None:
        self._console, self._title = console, title
        self._lines: deque[str] = deque(maxlen=_LINES)
        self._live = Live(console=console, auto_refresh=False, transient=False)
        self._due_s = 0.0
        self._shown = False

    def __enter__(self) -> Self:
        self._live.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._live.stop()
        self._shown = False

    def say(self, line: str) -> None:
        """Before there is a session to show, and after it, lines are simply printed."""
        self._lines.append(f"{time.strftime('%H:%M:%S')}  {line}")
        if not self._shown:
            self._console.print(line, markup=False, highlight=False, soft_wrap=True)

    def show(self, collector: Collector, *, at_once: bool) -> None:
        """Draw, if it is time."""
        now_s = time.monotonic()
        if at_once or now_s >= self._due_s:
            self._due_s, self._shown = now_s + _EVERY_S, True
            view = view_of(collector, self._title, self._lines)
            self._live.update(render(view, min(self._console.width, _WIDEST)), refresh=True)


class Lines:
    """One line after the other, for anything that is no terminal."""

    def __init__(self, console: Console) -> None:
        self._console = console

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        return None

    def say(self, line: str) -> None:
        self._console.print(line, markup=False, highlight=False, soft_wrap=True)

    def show(self, collector: Collector, *, at_once: bool) -> None:
        """Only changes are worth a line."""
        if at_once and collector.now.phase in {Phase.READY, Phase.RUNNING, Phase.FAULT}:
            self.say(f"episode {collector.now.number}: {collector.now.phase}")


class Operator:
    """Implements :class:`controller.collection.collector.Front`.

    Args:
        keys: of this terminal.
        cues: what is heard.
        display: what is seen.
    """

    def __init__(self, keys: TerminalKeys | LineKeys, cues: Cues, display: Display) -> None:
        self._keys, self._cues, self._display = keys, cues, display
        self._stack = ExitStack()
        self._phase: Phase | None = None
        self._saved: tuple[int, int] | None = None
        self._human = False

    def __enter__(self) -> Self:
        with ExitStack() as stack:
            stack.enter_context(self._keys)
            stack.enter_context(self._display)
            stack.callback(self._cues.close)
            self._stack = stack.pop_all()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stack.close()

    def pressed(self, collector: Collector) -> list[Key | Reward]:
        return self._keys.pressed(collector)

    def say(self, line: str) -> None:
        self._display.say(line)

    def show(self, collector: Collector) -> None:
        """Screen always; sounds and lines when something changed."""
        phase, changed = collector.now.phase, collector.now.phase is not self._phase
        if changed:
            if self._phase is Phase.SAVING:
                self._tell_result(collector)
            if phase in _CUES:
                self._cues.give(_CUES[phase])
            self._phase = phase
        human = collector.run.watch.human
        if human is not self._human and phase is Phase.RUNNING and not collector.plan.demonstration:
            self._cues.give("you have it" if human else "policy has it")
        self._human = human
        self._display.show(collector, at_once=changed)

    def _tell_result(self, collector: Collector) -> None:
        line, kept = collector.ended
        what = f"{line.outcome} by {line.termination}, {line.seconds:.1f} s"
        hands = f", taken over {times(line.interventions)} for {line.human_seconds:.1f} s" if line.interventions else ""
        files = "".join(f"; {path.name}" for path in collector.keeper.files)
        if lost := sum(collector.keeper.dropped.values()):
            files += f"; {lost} records never reached the recorder"
        self.say(f"episode {line.number}: {what}{hands}{files if kept else '; discarded'}")
        if collector.now.phase is not Phase.DONE:
            self._cues.give("saved" if kept else "discarded")

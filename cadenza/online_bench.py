"""A robot at work and a learner beside it, each a command of its own, and somebody who watches both with a stopwatch.

The robot's session records episodes; the bench hands them to the learner by a second name in another folder. In turns
it hands them over at once or keeps them back until later, so that one run shows the control loop with the learner at
work and new weights coming, and without.
"""

from __future__ import annotations

import json
import os
import queue
import signal
import subprocess
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from cadenza.commanded import words
from controller.desk import answer
from export.shelf import read_newest
from learning.checkpoint import CONFIG_FILE
from learning.online.learner import BUNDLES, CHECKPOINT
from spec.errors import CadenzaError

_LOOK_S = 0.05
_ASK_S = 0.1
"""How often the run is asked which weights drive [s]."""
_ANSWER_S = 0.5
_STOP_S = 90.0
"""Longest time for a child to end in order; the learner saves, the arm comes to rest."""
_START_S = 300.0
"""For the learner to have traced its graphs and taken its demonstrations in, where it is not alone."""
QUIET, LEARNING = "quiet", "learning"


@dataclass(slots=True)
class Witness:
    """What was seen, all times CLOCK_MONOTONIC [ns]; JSON-able."""

    closed: dict[str, int] = field(default_factory=dict)
    """When each episode's recording was closed, by file name."""
    phases: list[tuple[int, str]] = field(default_factory=list)
    """When each phase began, :data:`QUIET` or :data:`LEARNING`."""
    learner: list[tuple[int, dict[str, Any]]] = field(default_factory=list)
    """What the learner said, and when."""
    saved: dict[int, int] = field(default_factory=dict)
    """When the checkpoint of each weight version was written: its updates were made then."""
    offered: dict[int, int] = field(default_factory=dict)
    """When the shelf offered it."""
    tried: dict[int, int] = field(default_factory=dict)
    """When it began to run in shadow."""
    swapped: dict[int, int] = field(default_factory=dict)
    """When it began to drive."""
    report: dict[str, Any] = field(default_factory=dict)
    """Of the robot's session."""
    status: dict[str, int] = field(default_factory=dict)
    """Exit status of each command."""


class Spoken:
    """A command, and the lines it writes on standard output, each with its time.

    Args:
        name: for messages and for its log.
        command: as typed after ``cadenza``.
        log: file that takes its standard error.
    """

    def __init__(self, name: str, command: Sequence[str], log: Path) -> None:
        self.name, self._log = name, log
        self._said: queue.SimpleQueue[tuple[int, str]] = queue.SimpleQueue()
        log.parent.mkdir(parents=True, exist_ok=True)
        with log.open("wb") as errors:
            self.process = subprocess.Popen(
                words(*command),
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=errors,
                text=True,
                start_new_session=True,  # Ctrl-C is for the bench: it ends both in order
                env={**os.environ, "OMP_NUM_THREADS": "1", "PYTHONUNBUFFERED": "1"},
            )
        self._reader = threading.Thread(target=self._read, name=name, daemon=True)
        self._reader.start()

    @property
    def alive(self) -> bool:
        return self.process.poll() is None

    def lines(self) -> list[tuple[int, str]]:
        """Since the last call: (time [ns], line)."""
        found = []
        while not self._said.empty():
            found.append(self._said.get())
        return found

    def stop(self) -> int:
        """Have it end in order, and by force where it does not; returns its status."""
        if self.alive:
            self.process.send_signal(signal.SIGINT)
        try:
            self.process.wait(_STOP_S)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
        self._reader.join()
        return self.process.returncode

    def why(self) -> str:
        """The last thing it wrote on standard error."""
        lines = self._log.read_text(encoding="utf-8", errors="replace").strip().splitlines()
        return lines[-1] if lines else f"see {self._log}"

    def _read(self) -> None:
        assert self.process.stdout is not None  # noqa: S101 (it is a pipe)
        with self.process.stdout as output:
            for line in output:
                self._said.put((time.monotonic_ns(), line))


@dataclass(frozen=True, slots=True)
class Turns:
    """Which episodes are kept back."""

    quiet: int = 3
    """So many episodes without, then ..."""
    learning: int = 5
    """... so many with the learner at work, and then until it has nothing left to do; and so on."""


class OnlineBench:
    """Runs both commands. Use :meth:`run` once.

    Args:
        out: folder of the bench.
        session: ``cadenza collect ...``; its --out is ``out / "session"``.
        learner: ``cadenza learn online ...``; it watches ``out / "handed"``, its --out is ``out / "learner"``.
        turns: which episodes are kept back.
    """

    def __init__(self, out: Path, session: Sequence[str], learner: Sequence[str], turns: Turns) -> None:
        self._out, self._session, self._learner, self._turns = out, session, learner, turns
        self.seen = Witness()
        self._kept_back: list[Path] = []
        self._in_phase = 0
        self._handed_ns = 0
        self._idle_ns = 0
        self._asked_s = 0.0
        self._text: list[str] = []

    def run(self, progress: Callable[[int, str], None]) -> Witness:
        """Until the session is over. ``progress`` gets the number of closed episodes, and a few words.

        Raises:
            CadenzaError: one of the two could not do its work.
        """
        for folder in (self._out / "handed", self._out / "learner" / BUNDLES):
            folder.mkdir(parents=True, exist_ok=True)
        learner = Spoken("learner", self._learner, self._out / "logs" / "learner.log")
        session: Spoken | None = None
        try:
            self._await(learner, lambda: self._idle_ns > 0)
            self._phase(QUIET)
            session = Spoken("session", self._session, self._out / "logs" / "session.log")
            while session.alive:
                if not learner.alive:
                    raise CadenzaError(f"learner: ended with status {learner.process.returncode}: {learner.why()}")
                self._look(learner, session)
                progress(len(self.seen.closed), self._words())
                time.sleep(_LOOK_S)
        finally:
            if session is not None:
                self.seen.status["session"] = session.stop()
            self.seen.status["learner"] = learner.stop()
            self._hear(learner)
        self._text += [line for _, line in session.lines()]
        try:
            self.seen.report = json.loads("".join(self._text))
        except ValueError:
            raise CadenzaError(f"session: ended without a report: {session.why()}") from None
        return self.seen

    def _await(self, learner: Spoken, done: Callable[[], bool]) -> None:
        until = time.monotonic() + _START_S
        while not done():
            self._hear(learner)
            if not learner.alive or time.monotonic() > until:
                raise CadenzaError(f"learner: does not begin: {learner.why()}")
            time.sleep(_LOOK_S)

    def _look(self, learner: Spoken, session: Spoken) -> None:
        self._hear(learner)
        self._text += [line for _, line in session.lines()]
        now_ns, past_ns = time.monotonic_ns(), time.time_ns() - time.monotonic_ns()
        for path in sorted((self._out / "session" / "episodes").glob("*.mcap")):
            if path.name not in self.seen.closed:
                self.seen.closed[path.name] = path.stat().st_mtime_ns - past_ns
                self._take(path, now_ns)
        self._look_at_shelf(past_ns)
        if time.monotonic() >= self._asked_s:
            self._asked_s = time.monotonic() + _ASK_S
            self._ask()
        learned = self._phase_now == LEARNING and self._idle_ns > self._handed_ns
        if learned and self._in_phase >= self._turns.learning:
            self._phase(QUIET)

    def _take(self, path: Path, now_ns: int) -> None:
        """An episode was closed: hand it over, or keep it back."""
        self._in_phase += 1
        self._kept_back.append(path)
        if self._phase_now == QUIET and self._in_phase >= self._turns.quiet:
            self._phase(LEARNING)
        if self._phase_now == LEARNING:
            for kept in self._kept_back:
                os.link(kept, self._out / "handed" / kept.name)
            self._kept_back.clear()
            self._handed_ns = now_ns

    @property
    def _phase_now(self) -> str:
        return self.seen.phases[-1][1] if self.seen.phases else QUIET

    def _phase(self, phase: str) -> None:
        self.seen.phases.append((time.monotonic_ns(), phase))
        self._in_phase = 0

    def _hear(self, learner: Spoken) -> None:
        for time_ns, line in learner.lines():
            try:
                said = json.loads(line)
            except ValueError:
                continue
            if said.get("event") == "status" and said.get("waiting"):
                self._idle_ns = time_ns
            self.seen.learner.append((time_ns, said))

    def _look_at_shelf(self, past_ns: int) -> None:
        """Files say when they were written better than we when we saw them."""
        config = self._out / "learner" / CHECKPOINT / CONFIG_FILE
        try:
            written_ns, version = config.stat().st_mtime_ns, int(json.loads(config.read_bytes())["weights"])
        except (OSError, ValueError, KeyError):
            return
        self.seen.saved.setdefault(version, written_ns - past_ns)
        shelf = self._out / "learner" / BUNDLES
        newest = read_newest(shelf)
        if newest is not None and newest.weights not in self.seen.offered:
            self.seen.offered[newest.weights] = (shelf / "newest.json").stat().st_mtime_ns - past_ns

    def _ask(self) -> None:
        """Which weights drive, and which are being tried."""
        folder = self._out / "session"
        status = status_of(folder)
        if status is None:
            return
        now_ns, candidate = time.monotonic_ns(), status["candidate"]
        self.seen.swapped.setdefault(int(status["driving"]), now_ns)
        if candidate is not None and candidate["state"] == "shadow" and status["offered"] is not None:
            self.seen.tried.setdefault(int(status["offered"]), now_ns)

    def _words(self) -> str:
        driving = max(self.seen.swapped, default=0)
        return (
            f"weights {driving} drive, {'learner at work' if self._phase_now == LEARNING else 'learner kept waiting'}"
        )


def status_of(folder: Path) -> dict[str, Any] | None:
    """What ``cadenza weights FOLDER status`` says; None where no run listens or it does not answer at once."""
    try:
        return answer(folder, {"do": "weights"}, _ANSWER_S)
    except CadenzaError:
        return None

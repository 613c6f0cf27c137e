"""A run with nobody in front of it: it goes on until it is told to end, and waits for a person after every fault.

A run that did not end in order, or ended while it held for a person, leaves a mark. The next one finds it, holds the
arm where it stands, and moves nothing until somebody says ``cadenza recover``: a restart by the machine is no reason to
move, and its shutdown no cure for a fault.
"""

from __future__ import annotations

import itertools
import json
import signal
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

from cadenza.running import ENDS_THE_RUN, Wanted, started
from cadenza.service.lines import Lines
from controller.notify import Notify
from controller.recovery import GOES_ON, RESTS
from controller.session import EpisodeResult, Session
from controller.supervisor import Supervisor
from controller.word import ENDING
from episodes.outcome import Outcome
from spec.files import write_atomically

ABORTED_IN_A_ROW = 3
"""So many episodes that came to nothing are not followed by another without a person's word."""


@dataclass(slots=True)
class Served:
    """What a service has done so far; does not grow with time."""

    episodes: int = 0
    outcomes: Counter[str] = field(default_factory=Counter)
    terminations: Counter[str] = field(default_factory=Counter)
    recoveries: int = 0
    aborted: int = 0
    """In a row."""

    def add(self, result: EpisodeResult) -> None:
        """One more episode."""
        self.episodes += 1
        self.outcomes[result.outcome.value] += 1
        self.terminations[result.termination.value] += 1
        self.aborted = self.aborted + 1 if result.outcome is Outcome.ABORTED else 0

    def as_dict(self) -> dict[str, Any]:
        """JSON-able."""
        return {
            "episodes": self.episodes,
            "outcomes": dict(self.outcomes),
            "terminations": dict(self.terminations),
            "recoveries": self.recoveries,
        }


def serve(wanted: Wanted, episodes: int | None, notify: Notify, lines: Lines) -> bool:
    """Run until told to end, or for so many episodes; returns whether it ended in order.

    Writes ``report.json`` into the folder of the run.

    Raises:
        CadenzaError: something is missing or does not fit; nothing has moved then.
    """
    mark = _mark(wanted)
    served = Served()
    with _deaf_in_the_end() as deafen:
        with started(wanted, lines.say, notify=notify, witness=lines.event) as (supervisor, session):
            why = mark.read_text(encoding="utf-8").strip() if mark.exists() else None
            _leave(mark, wanted, "did not end in order")
            notify.ready()
            lines.say(f"{wanted.robot.name}: ready; cadenza status {wanted.out}")
            supervisor.word.sequel = GOES_ON
            free = why is None or _waited(wanted, session, notify, lines, why)
            free = free and _drive(wanted, episodes, supervisor, session, notify, lines, served)
            deafen()
            supervisor.close()
            report = {**served.as_dict(), "run": supervisor.report()}
            in_order = not supervisor.interrupted
        write_atomically(wanted.out / "report.json", (json.dumps(report, indent=2) + "\n").encode())
        if in_order and free:
            mark.unlink(missing_ok=True)
        elif in_order:
            _leave(mark, wanted, "ended while it held for a person")
    return in_order


@contextmanager
def _deaf_in_the_end() -> Iterator[Callable[[], None]]:
    """Yields what makes this process deaf to whoever asks for the end once more while it is on its way.

    That takes seconds, and SIGKILL is left for what hangs. A second SIGTERM found the arm at rest and the recordings
    closed, but mark and report not yet as an orderly end leaves them: the next run held the arm for a person.
    """
    before = {number: signal.getsignal(number) for number in ENDING}

    def deafen() -> None:
        for number in before:
            signal.signal(number, signal.SIG_IGN)

    try:
        yield deafen
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _drive(
    wanted: Wanted,
    episodes: int | None,
    supervisor: Supervisor,
    session: Session,
    notify: Notify,
    lines: Lines,
    served: Served,
) -> bool:
    """Episode after episode, as long as nobody asks for the end and after a fault somebody asks to go on.

    Returns:
        Whether it ended with nothing to hold for.
    """
    for number in itertools.count() if episodes is None else range(episodes):
        if supervisor.word.ends:
            return True
        supervisor.word.sequel = RESTS if number + 1 == episodes else GOES_ON
        lines.episode(number)
        notify.tell = partial(doing, number, supervisor, served)
        result = session.episode(number)
        notify.tell = None
        served.add(result)
        lines.say(f"episode {number}: {result.outcome.value}, ended by {result.termination.value}")
        stuck = served.aborted >= ABORTED_IN_A_ROW
        if result.termination in ENDS_THE_RUN or stuck:
            why = f"{served.aborted} episodes in a row came to nothing" if stuck else result.termination.value
            if not _waited(wanted, session, notify, lines, why):
                return False
            served.aborted = 0
            served.recoveries += 1
    return True


def doing(number: int, supervisor: Supervisor, served: Served) -> str:
    """How the run is at this instant, for ``systemctl status``: what the arm does, and how earlier episodes ended."""
    watch = supervisor.watch
    rate_hz = watch.recent_rate_hz(time.monotonic_ns())
    arm = f"{watch.mode.name}, {rate_hz:.0f} Hz" if watch.mode is not None and rate_hz else "the loop does not tick"
    return f"episode {number}: {arm}; {told(served)}"


def told(served: Served) -> str:
    """Outcomes so far, in a few words."""
    return ", ".join(f"{count} {outcome}" for outcome, count in sorted(served.outcomes.items())) or "the first"


def _waited(wanted: Wanted, session: Session, notify: Notify, lines: Lines, why: str) -> bool:
    """Hold until somebody says to go on; False where the end was asked for instead."""
    text = f"holding: {why}; to go on: cadenza recover {wanted.out}"
    notify.status(text)
    lines.say(text)
    return session.wait_for_recovery()


def _mark(wanted: Wanted) -> Path:
    """Of this very arm, beside the folders of its runs."""
    return wanted.out.absolute().parent / f".{wanted.robot.follower.serial}.unfinished"


def _leave(mark: Path, wanted: Wanted, what: str) -> None:
    """For the next run: why it is not to move."""
    write_atomically(mark, f"the run before, {wanted.out}, {what}\n".encode())

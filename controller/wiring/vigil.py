"""Which processes of a run live but do nothing any more: stopped, deadlocked, stuck in a driver.

Every process but control is asked for a sign of life now and then, and answers from its own loop; control shows its
life by its ticks. The same asking tells the processes that somebody still supervises them, see
:meth:`controller.wiring.child.Child.left_alone`.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Hashable
from dataclasses import dataclass

from controller.wiring.crew import Crew
from controller.wiring.process import Process
from controller.wiring.silence import Silence

BEAT_S = 0.25
"""The processes are asked this often [s]."""
READY_S = 20.0
"""Longest time any process may take to become ready [s]; usual is under two."""
TICKING_S = 1.5
"""Longest time without a tick while the arm is under way [s]. The servos' Bus Watchdog has long stopped it by then."""
RESTING_S = 10.0
"""Likewise while it rests: to engage the servos, or to recover one that shut down, is done between two ticks. It takes
a few tenths as a rule, and seconds where every exchange with a sick bus is tried again."""
CONTROL = "control"


@dataclass(frozen=True, slots=True)
class Bound:
    """How long a kind of process may be busy with one thing."""

    seconds: float
    why: str


BOUNDS = {
    "camera": Bound(8.0, "an attempt to open a stream takes up to 3 s, the first picture of it 1 s, twice over"),
    "inference": Bound(15.0, "a step of a large model on a busy processor; another bundle is loaded beside it"),
    "playback": Bound(2.0, "does nothing that takes time"),
    "teleop": Bound(4.0, "a leader that comes back is opened and checked again, servo by servo"),
    "recorder": Bound(8.0, "a slow disk finishes a file; who asked for it gives up after 5 s of its own accord"),
}
"""By the first word of a process's name. Beyond it the process is ended, and another takes its place."""

OTHER = Bound(15.0, "a source of chunks that is none of these; nothing is known of it, so as long as any")


@dataclass(frozen=True, slots=True)
class Hanging:
    """A process that is to be ended."""

    name: str
    why: str


class Vigil:
    """Asks and listens.

    Args:
        crew: the processes.
    """

    def __init__(self, crew: Crew) -> None:
        self._crew = crew
        self._silences: defaultdict[str, Silence] = defaultdict(Silence)
        self._beat_s = 0.0

    def beat(self, now_s: float) -> None:
        """Ask everybody who is ready, if it is time to."""
        if now_s < self._beat_s + BEAT_S:
            return
        self._beat_s = now_s
        for name in self._crew.processes:
            if name != CONTROL and self._crew.is_ready(name):
                self._crew.processes[name].tell(do="beat")

    def look(self, ticks: int, under_way: bool, now_s: float) -> list[Hanging]:
        """Who hangs; again only after as long again, should it survive its end for the moment.

        Args:
            ticks: seen so far.
            under_way: the arm moved at the last of them, or was about to.
            now_s: instant [s].
        """
        found = []
        for name, process in self._crew.processes.items():
            silence = self._silences[name]
            silence.look(_life(process, ticks), now_s)
            if process.alive and silence.seconds > (bound := _bound(process, under_way)):
                found.append(Hanging(name, _words(process, bound)))
                del self._silences[name]
        return found

    def silent_s(self, name: str) -> float:
        """For how long nothing was heard of a process [s]."""
        return self._silences[name].seconds


def _life(process: Process, ticks: int) -> Hashable:
    """Changes with every sign of life: also a successor, and that one is ready."""
    return process.pid, process.ready is not None, ticks if process.name == CONTROL else process.beats


def _bound(process: Process, under_way: bool) -> float:
    if process.ready is None:
        return READY_S
    if process.name == CONTROL:
        return TICKING_S if under_way else RESTING_S
    return BOUNDS.get(process.name.split()[0], OTHER).seconds


def _words(process: Process, bound_s: float) -> str:
    if process.ready is None:
        return f"not ready after {bound_s:g} s"
    return f"no tick for {bound_s:g} s" if process.name == CONTROL else f"no sign of life for {bound_s:g} s"

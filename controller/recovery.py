"""The operator's word that the cause of a fault is gone, carried out step by step.

A control process that died or hangs is started again first; only ever on this word. Then the loop is told to clear the
fault: it looks at every servo again, has them hold the arm where it stands, and rests until somebody orders a start.
"""

from __future__ import annotations

from collections.abc import Callable
from enum import Enum, auto

from controller.watch import Watch
from controller.wiring.crew import Crew
from controller.wiring.process import Process
from controller.wiring.vigil import CONTROL, RESTING_S
from episodes.records import Mode, Order

HEEDED_NS = 300_000_000
"""The control loop takes an order in at its next tick, acts on it between two ticks and shows the outcome in the next:
a tick that is so much younger than the order, and still at fault, means that it failed [ns]."""
ORDERED_S = 2 * RESTING_S
"""Longest wait for what becomes of the order [s]."""

RESTS = "the arm rests where it stands, until it is started"
GOES_ON = "the run goes on; the arm moves slowly to its start pose"
"""What follows, which is for the session to say (:attr:`controller.word.Word.sequel`)."""


def broken(control: Process, watch: Watch) -> str | None:
    """Why the arm cannot be started without somebody's word; None where it can."""
    if not control.alive:
        return f"the control process: {control.ending()}"
    if control.ready is None:
        return "the control process is being started"
    return watch.cause if watch.mode is Mode.FAULT else None


class _Step(Enum):
    IDLE = auto()
    STARTING = auto()
    """Of a new control process."""
    CLEARING = auto()
    """The order is out."""


class Recovery:
    """One word at a time, the newest counts.

    Args:
        crew: has the process that owns the arm, once the run has started.
        watch: sees what it does.
        order: sends an order to the control loop; returns when [ns].
    """

    def __init__(self, crew: Crew, watch: Watch, order: Callable[[Order], int]) -> None:
        self._crew, self._watch, self._order = crew, watch, order
        self._step = _Step.IDLE
        self._since_s = 0.0
        self._sent_ns = 0
        self._ticks = self._notices = 0
        self.succeeded = 0
        """How often the arm was recovered."""
        self.refusal: str | None = None
        """Why the newest attempt failed; None where it did not, or is on its way."""

    @property
    def active(self) -> bool:
        """Whether an attempt is on its way."""
        return self._step is not _Step.IDLE

    @property
    def needed(self) -> bool:
        """Whether there is a fault to recover from."""
        return broken(self._crew.processes[CONTROL], self._watch) is not None

    @property
    def mode(self) -> Mode:
        """What the arm does."""
        return self._watch.mode or Mode.IDLE

    @property
    def said_by_loop(self) -> bool:
        """Whether the control loop has said itself why the newest attempt failed."""
        return self.refusal in self._watch.not_recovered

    def begin(self, now_s: float) -> bool:
        """Somebody says so, at an instant [s]. One that hangs was ended before, see :mod:`controller.wiring.vigil`.

        Returns:
            Whether another control process is started for it.
        """
        if self.active:
            return False
        control, self.refusal, self._since_s = self._crew.processes[CONTROL], None, now_s
        if control.alive:
            self._clear(now_s)
            return False
        control.refusal = None  # what it missed may be there again
        control.restart()
        self._step, self._ticks = _Step.STARTING, self._watch.tally.ticks
        return True

    def look(self, now_s: float) -> bool:
        """Let time pass; returns whether the outcome is known by now, and was not before."""
        if not self.active:
            return False
        self._advance(now_s)
        return not self.active

    def _advance(self, now_s: float) -> None:
        control = self._crew.processes[CONTROL]
        if not control.alive:
            control.listen()
            self._fail(control.refusal or f"the control process: {control.ending()}")
        elif self._step is _Step.STARTING:
            if control.ready is not None and self._watch.tally.ticks > self._ticks:
                self._clear(now_s)
        else:
            self._see(now_s)

    def _clear(self, now_s: float) -> None:
        self._notices = len(self._watch.not_recovered)
        self._sent_ns = self._order(Order.CLEAR_FAULT)
        self._step, self._since_s = _Step.CLEARING, now_s

    def _see(self, now_s: float) -> None:
        """What has become of the order."""
        watch, tick = self._watch, self._watch.tick
        said = watch.not_recovered[self._notices :]
        if said:
            self._fail(said[-1])
        elif tick is not None and tick.now_ns > self._sent_ns + HEEDED_NS:
            if watch.mode is Mode.FAULT:
                self._fail(watch.cause or "the fault stays latched")
            else:
                self._step, self.succeeded = _Step.IDLE, self.succeeded + 1
        elif now_s > self._since_s + ORDERED_S:
            self._fail(f"the control loop has not answered for {ORDERED_S:g} s")

    def _fail(self, why: str) -> None:
        self._step, self.refusal = _Step.IDLE, why

"""A session of collecting episodes, as a pure state machine: what happens, and what is to be done about it.

    homing ──at the start pose──► reset ──time up, or start──► ready ──start──► opening ──► running
    running ──success, fail, stop, discard, redo, time up, fault──► stopping ──arm stands──► saving ──► homing
    any ──fault──► fault ──start──► homing                             any ──quit──► done

No clock, no file, no process: :mod:`controller.collection.collector` runs it on real ones.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from enum import Enum, StrEnum, auto

from episodes.outcome import Outcome, Termination
from spec.robot import Key

START_S = 10.0
"""Longest time from the order to drive until somebody does [s]."""
BRAKE_S = 2.0
"""Longest time the arm may take to stand [s]; braking from full speed takes about 0.2 s."""


class Phase(StrEnum):
    """Where a session is."""

    HOMING = "homing"
    """The arm is on its way to the start pose."""
    RESET = "reset"
    """A person prepares the scene."""
    READY = "ready"
    """Waiting for the word to start."""
    OPENING = "opening"
    """The recorder begins a file."""
    RUNNING = "running"
    """An episode is on."""
    STOPPING = "stopping"
    """It has ended; the arm comes to rest."""
    SAVING = "saving"
    """The recorder finishes the file."""
    FAULT = "fault"
    """The arm latched a fault; going on is for a person to decide."""
    DONE = "done"


class Happened(Enum):
    """What a session hears of, besides keys."""

    TIME = auto()
    """Time went by."""
    AT_HOME = auto()
    DRIVING = auto()
    """Policy or person have the arm."""
    TAKEN = auto()
    """A person took the arm."""
    OPENED = auto()
    CLOSED = auto()
    LOST = auto()
    """The recorder died or gave up."""
    DISK_FULL = auto()
    STANDING = auto()
    """The arm is at rest."""
    FAULT = auto()
    TASK_DONE = auto()
    """Says the judge."""
    INTERRUPT = auto()
    """Ctrl-C, or SIGTERM."""
    CONTROL_DIED = auto()
    ERROR = auto()
    """The session cannot go on for another reason."""


class Action(Enum):
    """What a session wants done."""

    GO_HOME = auto()
    PREPARE = auto()
    """Set the scene of the coming episode, where somebody can."""
    OPEN = auto()
    """Begin the recording of the episode."""
    DRIVE = auto()
    """Let the policy drive, or give the arm to the person."""
    HOLD = auto()
    CLOSE = auto()
    """Finish the recording with the verdict."""
    DISCARD_LAST = auto()
    """Put the newest saved episode away."""
    CLEAR_FAULT = auto()
    TAKE = auto()
    RELEASE = auto()
    TOGGLE = auto()
    HIGHLIGHT = auto()


class End(StrEnum):
    """Why a session is over."""

    COMPLETE = "complete"
    QUIT = "quit"
    INTERRUPTED = "interrupted"
    CONTROL_DIED = "control_died"
    DISK_FULL = "disk_full"
    ERROR = "error"


@dataclass(frozen=True, slots=True)
class Plan:
    """What a session is to do."""

    target: int
    """Episodes that shall count at its end."""
    reset_s: float
    """Time to prepare the scene [s]."""
    limit_s: float
    """Longest an episode may take, from the moment somebody drives [s]."""
    auto_start: bool = False
    """Start as soon as the time to prepare is over."""
    demonstration: bool = False
    """Nobody drives but the person."""
    judged: bool = False
    """Somebody can tell whether the task is done: running out of time is failure."""


@dataclass(frozen=True, slots=True)
class Verdict:
    """How an episode went, and what is to become of it."""

    outcome: Outcome
    termination: Termination
    discard: bool = False
    again: bool = False
    """Record the same number once more."""

    @property
    def counts(self) -> bool:
        return not self.discard and self.outcome is not Outcome.ABORTED


@dataclass(frozen=True, slots=True)
class Collection:
    """State of the machine."""

    number: int
    """Of the episode that runs or comes next."""
    saved: int = 0
    """Episodes that count."""
    phase: Phase = Phase.HOMING
    since_s: float = 0.0
    """When this phase began."""
    driving_s: float | None = None
    """When somebody began to drive in this episode."""
    verdict: Verdict | None = None
    """Of the episode that is ending."""
    last: int | None = None
    """Number of the newest saved episode, while it can be put away by a key."""
    faulted: bool = False
    """Whatever is to be saved, the arm has latched a fault."""
    ending: End | None = None


Step = tuple[Collection, tuple[Action, ...]]

_VERDICTS: dict[Happened | Key, Verdict] = {
    Happened.TASK_DONE: Verdict(Outcome.SUCCESS, Termination.DONE),
    Key.START_STOP: Verdict(Outcome.UNLABELLED, Termination.OPERATOR),
    Key.SUCCESS: Verdict(Outcome.SUCCESS, Termination.DONE),
    Key.FAIL: Verdict(Outcome.FAIL, Termination.DONE),
    Key.DISCARD: Verdict(Outcome.ABORTED, Termination.OPERATOR, discard=True),
    Key.REDO: Verdict(Outcome.ABORTED, Termination.OPERATOR, discard=True, again=True),
}
_WHILE_RUNNING = {
    Key.TAKE: Action.TAKE,
    Key.RELEASE: Action.RELEASE,
    Key.TOGGLE: Action.TOGGLE,
    Key.HIGHLIGHT: Action.HIGHLIGHT,
}
_BREAKS = {
    Happened.INTERRUPT: (Termination.OPERATOR, End.INTERRUPTED),
    Happened.CONTROL_DIED: (Termination.CONTROL_DIED, End.CONTROL_DIED),
    Happened.DISK_FULL: (Termination.DISK_FULL, End.DISK_FULL),
    Happened.ERROR: (Termination.ERROR, End.ERROR),
    Happened.LOST: (Termination.RECORDER_DIED, None),
    Happened.FAULT: (Termination.FAULT, None),
}
"""What breaks an episode off: how that is called, and whether the session is over with it."""


def begin(plan: Plan, number: int, saved: int, now_s: float) -> Step:
    """A session that has ``saved`` episodes already, and goes on with ``number``."""
    collection = Collection(number, saved, since_s=now_s)
    if saved >= plan.target:
        return replace(collection, phase=Phase.DONE, ending=End.COMPLETE), ()
    return collection, (Action.GO_HOME,)


def step(plan: Plan, now: Collection, heard: Happened | Key, now_s: float) -> Step:
    """The session after it heard of something. What means nothing in its phase changes nothing."""
    if now.phase is Phase.DONE:
        return now, ()
    if heard is Key.QUIT:
        return _broken_off(now, Termination.OPERATOR, End.QUIT, now_s)
    if heard in _BREAKS and isinstance(heard, Happened):
        termination, ending = _BREAKS[heard]
        faulted = replace(now, faulted=now.faulted or heard is Happened.FAULT)
        return _broken_off(faulted, termination, ending, now_s)
    return _PHASES[now.phase](plan, now, heard, now_s)


def accepts(plan: Plan, now: Collection, key: Key) -> bool:
    """Whether the key means something in this phase."""
    after, actions = step(plan, now, key, now.since_s)
    return bool(actions) or after != now


def _broken_off(now: Collection, termination: Termination, ending: End | None, now_s: float) -> Step:
    """Something ends the episode, and perhaps the session, from outside."""
    now = replace(now, ending=now.ending or ending)
    match now.phase:
        case Phase.OPENING | Phase.RUNNING:
            return _ended(now, Verdict(Outcome.ABORTED, termination), now_s)
        case Phase.STOPPING | Phase.SAVING:
            # The verdict stands, unless there is no whole recording for it to stand on.
            lost = termination in {Termination.RECORDER_DIED, Termination.DISK_FULL}
            return (_at_a_loss(now, termination) if lost else now), ()
        case _ if now.ending is not None:
            return _at(now, Phase.DONE, now_s), (Action.HOLD,)
        case _ if now.faulted:
            return _at(now, Phase.FAULT, now_s), ()
        case _:
            return now, ()


def _at_a_loss(now: Collection, termination: Termination) -> Collection:
    assert now.verdict is not None  # noqa: S101 (whatever ends an episode says how)
    return replace(now, verdict=replace(now.verdict, outcome=Outcome.ABORTED, termination=termination))


def _homing(plan: Plan, now: Collection, heard: Happened | Key, now_s: float) -> Step:
    if heard is not Happened.AT_HOME:
        return now, ()
    return _at(now, Phase.RESET if plan.reset_s > 0 else Phase.READY, now_s), (Action.PREPARE,)


def _reset(plan: Plan, now: Collection, heard: Happened | Key, now_s: float) -> Step:
    if heard is Happened.TIME and now_s - now.since_s >= plan.reset_s:
        return _at(now, Phase.READY, now_s), ()
    return _ready(plan, now, heard, now_s) if heard is not Happened.TIME else (now, ())


def _ready(plan: Plan, now: Collection, heard: Happened | Key, now_s: float) -> Step:
    """Taking the arm starts a demonstration as well."""
    starts = {Key.START_STOP} | ({Key.TAKE, Key.TOGGLE, Happened.TAKEN} if plan.demonstration else set())
    if heard in starts or (plan.auto_start and heard is Happened.TIME):
        return _start(now, now_s)
    if heard in {Key.DISCARD, Key.REDO} and now.last is not None:
        number = now.last if heard is Key.REDO else now.number
        after = replace(now, number=number, saved=now.saved - 1, last=None)
        if heard is Key.DISCARD:
            return after, (Action.DISCARD_LAST,)
        return _at(after, Phase.HOMING, now_s), (Action.DISCARD_LAST, Action.GO_HOME)
    return (now, (Action.HIGHLIGHT,)) if heard is Key.HIGHLIGHT else (now, ())


def _start(now: Collection, now_s: float) -> Step:
    now = replace(now, driving_s=None, verdict=None, last=None)
    return _at(now, Phase.OPENING, now_s), (Action.OPEN,)


def _opening(_plan: Plan, now: Collection, heard: Happened | Key, now_s: float) -> Step:
    if heard is Happened.OPENED:
        return _at(now, Phase.RUNNING, now_s), (Action.DRIVE,)
    return now, ()


def _running(plan: Plan, now: Collection, heard: Happened | Key, now_s: float) -> Step:
    if isinstance(heard, Key) and heard in _WHILE_RUNNING:
        return now, (_WHILE_RUNNING[heard],)
    if heard is Happened.DRIVING and now.driving_s is None:
        return replace(now, driving_s=now_s), ()
    verdict = _out_of_time(plan, now, now_s) if heard is Happened.TIME else _VERDICTS.get(heard)
    return (now, ()) if verdict is None else _ended(now, verdict, now_s)


def _out_of_time(plan: Plan, now: Collection, now_s: float) -> Verdict | None:
    """The verdict on an episode that has lasted as long as it may."""
    if now.driving_s is None:
        nobody = now_s - now.since_s > START_S
        return Verdict(Outcome.ABORTED, Termination.TIME_LIMIT) if nobody else None
    outcome = Outcome.FAIL if plan.judged else Outcome.UNLABELLED
    return Verdict(outcome, Termination.TIME_LIMIT) if now_s - now.driving_s >= plan.limit_s else None


def _ended(now: Collection, verdict: Verdict, now_s: float) -> Step:
    return _at(replace(now, verdict=verdict), Phase.STOPPING, now_s), (Action.HOLD,)


def _stopping(_plan: Plan, now: Collection, heard: Happened | Key, now_s: float) -> Step:
    late = heard is Happened.TIME and now_s - now.since_s > BRAKE_S
    if heard is not Happened.STANDING and not late:
        return now, ()
    return _at(now, Phase.SAVING, now_s), (Action.CLOSE,)


def _saving(plan: Plan, now: Collection, heard: Happened | Key, now_s: float) -> Step:
    return _concluded(plan, now, now_s) if heard is Happened.CLOSED else (now, ())


def _concluded(plan: Plan, now: Collection, now_s: float) -> Step:
    """The episode is over and on disk: on to the next one, if there is one."""
    verdict = now.verdict
    assert verdict is not None  # noqa: S101 (whatever ends an episode says how)
    counts = verdict.counts
    after = replace(
        now,
        number=now.number if verdict.again else now.number + 1,
        saved=now.saved + counts,
        last=now.number if counts else None,
        driving_s=None,
        verdict=None,
    )
    if after.ending is None and after.saved >= plan.target:
        after = replace(after, ending=End.COMPLETE)
    if after.ending is not None:
        return _at(after, Phase.DONE, now_s), (Action.HOLD,)
    if after.faulted:
        return _at(after, Phase.FAULT, now_s), ()
    return _at(after, Phase.HOMING, now_s), (Action.GO_HOME,)


def _fault(_plan: Plan, now: Collection, heard: Happened | Key, now_s: float) -> Step:
    if heard is not Key.START_STOP:
        return now, ()
    return _at(replace(now, faulted=False), Phase.HOMING, now_s), (Action.CLEAR_FAULT, Action.GO_HOME)


def _at(now: Collection, phase: Phase, now_s: float) -> Collection:
    return replace(now, phase=phase, since_s=now_s)


_PHASES = {
    Phase.HOMING: _homing,
    Phase.RESET: _reset,
    Phase.READY: _ready,
    Phase.OPENING: _opening,
    Phase.RUNNING: _running,
    Phase.STOPPING: _stopping,
    Phase.SAVING: _saving,
    Phase.FAULT: _fault,
}

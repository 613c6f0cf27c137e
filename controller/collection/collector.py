"""Runs a session of collecting on real processes: looks, tells the machine, and does what it wants done."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Protocol

from controller.collection.keeping import Keep, Keeper
from controller.collection.ledger import DISCARD, Ledger, Line
from controller.collection.machine import Action, Happened, Phase, Plan, begin, step
from controller.collection.policies import KEEPERS
from controller.collection.sight import Sight
from controller.collection.tally import EpisodeTally
from controller.session import Judge
from controller.supervisor import Supervisor
from episodes.records import Order
from spec.errors import CadenzaError
from spec.robot import Key

_AGAIN_S = 0.5
"""An order that has not shown yet is given again after this time [s]."""
_TELL_S = 3.0
"""The same is told at most this often [s]."""


@dataclass(frozen=True, slots=True)
class Reward:
    """A reward given at an instant of a running episode."""

    value: float


class Front(Protocol):
    """What the operator sees, hears and presses. Nothing of it may block."""

    def pressed(self, collector: Collector) -> list[Key | Reward]:
        """Keys that went down since the last call."""
        ...

    def show(self, collector: Collector) -> None:
        """Called about fifty times a second."""
        ...


class Hand(Protocol):
    """A person who does not need to be asked: the scripted one of the virtual arm."""

    def look(self, collector: Collector) -> list[Key]:
        """Let time pass; returns the keys it presses."""
        ...


class Collector:
    """One session.

    Args:
        supervisor: entered; a person may take the arm over.
        judge: of the task.
        plan: what to do.
        keep: what to keep.
        ledger: entered and reconciled.
        labels: of every recording: task, operator, source, session.
        front: the operator's.
        hand: a scripted person; None where there is a real one.
    """

    def __init__(
        self,
        supervisor: Supervisor,
        judge: Judge,
        plan: Plan,
        keep: Keep,
        ledger: Ledger,
        labels: Mapping[str, str],
        front: Front,
        hand: Hand | None = None,
    ) -> None:
        self.run, self.plan, self.keep, self.ledger = supervisor, plan, keep, ledger
        self._judge, self._labels, self._front, self._hand = judge, labels, front, hand
        self.keeper: Keeper = KEEPERS[keep.record](supervisor, keep, labels)
        self.episode = self._tally({})
        self._sight = Sight(supervisor)
        self._scene: Mapping[str, str] = {}
        self._again_s = 0.0
        self._ended: Line | None = None
        self._kept = True
        self._refused = 0
        self._told_s = float("-inf")
        self.now, actions = begin(plan, ledger.next, ledger.saved, time.monotonic())
        self._before = self.now
        self._do(actions)

    def collect(self) -> None:
        """Until the session is over, whatever that takes."""
        while self.now.phase is not Phase.DONE:
            self.look()
        self.keeper.end()
        self._front.show(self)

    def look(self) -> None:
        """Let a moment pass."""
        run = self.run
        said = run.poll()
        now_s = time.monotonic()
        for happened in (*self._sight.breaks(), *self.keeper.look(said, run.watch.taken_ns, now_s), *self._seen(now_s)):
            self.hear(happened)
        keys: list[Key | Reward] = [Key(name) for name in run.keys]
        run.keys.clear()
        keys += self._front.pressed(self)
        if self._hand is not None:
            keys += self._hand.look(self)
        for key in keys:
            if isinstance(key, Reward):
                self._reward(key.value)
            else:
                self.hear(key)
        self.hear(Happened.TIME)
        self._tell_refusals(now_s)
        self._front.show(self)

    def hear(self, heard: Happened | Key) -> None:
        """Tell the machine, and do what it wants done."""
        self._before = self.now
        self.now, actions = step(self.plan, self.now, heard, time.monotonic())
        self._do(actions)
        if self._before.phase is Phase.SAVING and self.now.phase is not Phase.SAVING:
            self._write_down()  # last: where that fails the arm holds, whatever it was told before

    @property
    def seconds(self) -> float:
        """Since somebody began to drive in this episode, up to its verdict [s]."""
        return self.episode.seconds(self.now)

    # -- what is seen

    def _seen(self, now_s: float) -> list[Happened]:
        """What the newest tick means in this phase."""
        sight = self._sight
        match self.now.phase:
            case Phase.HOMING if sight.at_home:
                return [Happened.AT_HOME]
            case Phase.HOMING if sight.astray and now_s > self._again_s:
                self._go_home()
            case Phase.RESET | Phase.READY if self.run.watch.human:
                return [Happened.TAKEN]
            case Phase.RUNNING:
                return self._running(now_s)
            case Phase.STOPPING if sight.stands or self.run.word.interrupts > 1:
                return [Happened.STANDING]
            case _:
                pass
        return []

    def _running(self, now_s: float) -> list[Happened]:
        if self.now.driving_s is None:
            if self._sight.driven(by_hand=self.plan.demonstration):
                return [Happened.DRIVING]
            if self.plan.demonstration and now_s > self._again_s:
                self._take()
            return []
        self.episode.seconds(self.now)
        try:
            return [Happened.TASK_DONE] if self._judge.success() is True else []
        except CadenzaError as error:
            self.run.say(str(error))  # what it watches is gone
            return [Happened.ERROR]

    def _tell_refusals(self, now_s: float) -> None:
        """A person who pulls in vain wants to know why."""
        refused = self.run.watch.tally.flags["takeover_refused"]
        if refused > self._refused and now_s > self._told_s + _TELL_S:
            self._told_s = now_s
            self.run.say("the arm was not given over: the device is silent, or too far from where the arm is")
        self._refused = refused

    # -- what is done

    def _do(self, actions: tuple[Action, ...]) -> None:
        for action in actions:
            _DEEDS[action](self)

    def _order(self, order: Order) -> None:
        if self.run.driving:
            self._sight.ordered_ns = self.run.order(order)
            self._again_s = time.monotonic() + _AGAIN_S

    def _go_home(self) -> None:
        self.run.follow(False)
        self._order(Order.HOME)

    def _prepare(self) -> None:
        try:
            self._scene = self._judge.prepare(self.now.number)
        except CadenzaError as error:
            self.run.say(str(error))
            self.hear(Happened.ERROR)

    def _open(self) -> None:
        number = self.now.number
        facts = {"number": str(number), "mode": self.run.robot.control.mode.value}
        self.episode = self._tally({**self._labels, **self._scene, **facts})
        for happened in self.keeper.open(number, self.episode.labels):
            self.hear(happened)

    def _drive(self) -> None:
        self.run.note("label", f"episode {self.now.number} begins")
        if self.plan.demonstration:
            self._take()
        else:
            self._order(Order.START)
            self.run.follow(True)

    def _take(self) -> None:
        if not self.run.watch.human:
            self._order(Order.TAKE_OVER)

    def _toggle(self) -> None:
        self._order(Order.RELEASE if self.run.watch.human else Order.TAKE_OVER)

    def _hold(self) -> None:
        self.run.follow(False)
        self._order(Order.HOLD)

    def _close(self) -> None:
        verdict = self.now.verdict
        assert verdict is not None  # noqa: S101 (an episode that ends has one)
        line = self._ended = self.episode.line(self.now, verdict, demonstration=self.plan.demonstration)
        facts = {
            "seconds": f"{line.seconds:.3f}",
            "source": "intervention" if line.interventions else self._labels.get("source", ""),
            "interventions": str(line.interventions),
            "human_seconds": f"{line.human_seconds:.3f}",
            **({DISCARD: "true"} if verdict.discard else {}),
        }
        self.run.note("label", f"episode {line.number} ends: {verdict.outcome} by {verdict.termination}")
        self.keeper.close(verdict, facts, None)

    def _write_down(self) -> None:
        """The episode is on disk: into the ledger with it, or out of the way."""
        line, verdict, files = self._ended, self._before.verdict, self.keeper.files
        assert line is not None and verdict is not None  # noqa: S101, PT018 (nothing is saved that has not ended)
        self._ended = line = replace(line, outcome=verdict.outcome.value, termination=verdict.termination.value)
        self._kept = not verdict.discard
        try:
            if verdict.discard:
                self.ledger.put_away(files)
                self.ledger.skip(self.now.number)
            else:
                self.ledger.add(line.with_files(files, self.ledger.folder), self.now.number)
        except OSError as error:
            self.run.say(f"{self.ledger.folder}: {error.strerror}")
            self.hear(Happened.DISK_FULL)

    def _discard_last(self) -> None:
        if self._before.last is None:
            return
        try:
            self.ledger.discard(self._before.last, self.now.number)
        except OSError as error:
            self.run.say(f"{self.ledger.folder}: {error.strerror}")

    def _highlight(self) -> None:
        if not self.keeper.highlight():
            self.run.note("label", "highlight")

    def _reward(self, value: float) -> None:
        """Counts only while an episode is on."""
        if self.now.phase is Phase.RUNNING:
            self.episode.rewards.append(value)
            self.run.note("reward", repr(value))

    @property
    def ended(self) -> tuple[Line, bool]:
        """The newest episode that ended, and whether it was kept; there must have been one."""
        assert self._ended is not None  # noqa: S101
        return self._ended, self._kept

    def _tally(self, labels: Mapping[str, str]) -> EpisodeTally:
        return EpisodeTally(self.run.watch, self.run.robot.control.rate_hz, labels)


_DEEDS: Mapping[Action, Callable[[Collector], None]] = {
    Action.GO_HOME: Collector._go_home,
    Action.PREPARE: Collector._prepare,
    Action.OPEN: Collector._open,
    Action.DRIVE: Collector._drive,
    Action.HOLD: Collector._hold,
    Action.CLOSE: Collector._close,
    Action.DISCARD_LAST: Collector._discard_last,
    Action.CLEAR_FAULT: lambda collector: collector._order(Order.CLEAR_FAULT),
    Action.TAKE: Collector._take,
    Action.RELEASE: lambda collector: collector._order(Order.RELEASE),
    Action.TOGGLE: Collector._toggle,
    Action.HIGHLIGHT: Collector._highlight,
}

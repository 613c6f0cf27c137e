"""The control loop: owns the clock and the bus, and calls the pure decision between read and write.

One tick: sleep to an absolute instant, one sync read, decide, one sync write, publish the record of it. Nothing in it
blocks but the sleep and the bus, and those not beyond their deadlines. A bus error is a value, not an exception; any
exception there is ends the loop in order: the arm brakes, stands, and is left held by its servos.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from enum import StrEnum
from typing import Protocol

import numpy as np

from controller.authority import Engagement, Fault
from controller.clock import Clock, TickGrid
from controller.decide import Command, Decide, Inputs, State
from controller.eyes import Eyes
from controller.filling import Filling, Ticking, failed
from controller.lockstep import warm_up
from controller.notices import Notices
from drivers.arm import Applied, Arm, BusFault, Reading
from episodes.records import Flag, Mode, Order, TickRecord
from spec.chunk import Chunk
from spec.errors import CadenzaError
from spec.teleop import TeleopSample

_log = logging.getLogger(__name__)

_MARK, _FAULT = Order.MARK, Mode.FAULT
_STALE_CAMERA = int(Flag.STALE_CAMERA)

REST_S = 2.0
"""Longest time given to the arm to come to rest at the end [s]. Braking from full speed takes about 0.2 s."""

WRITE_SHARE = 0.3
"""Share of the period kept free for deciding and writing when a read does not get its answers."""


class Termination(StrEnum):
    """Why the loop ended."""

    STOPPED = "stopped"
    """Ordered, or told to by the process around it."""
    FAULT = "fault"
    """Likewise, while a fault was latched."""
    PARENT_GONE = "parent_gone"
    """The process that watches over this one died."""
    ERROR = "error"
    """An exception; see the log."""


class Inbox(Protocol):
    """What others have for the loop. All return at once; one piece a tick."""

    def chunk(self) -> Chunk | None:
        """The newest chunk that came since the last call."""
        ...

    def order(self) -> Order | None:
        """The oldest order not yet handed over."""
        ...

    def human(self) -> TeleopSample | None:
        """The newest sample of the teleoperation device that came since the last call, of as many joints as the arm.
        A button that went down and up in between shows in it."""
        ...


class EmptyInbox:
    """Nobody has anything for the loop."""

    def chunk(self) -> Chunk | None:
        return None

    def order(self) -> Order | None:
        return None

    def human(self) -> TeleopSample | None:
        return None


def _unheard(_text: str) -> None: ...


def _unmarked(_tick: int, _state: State) -> None: ...


class ControlLoop:
    """Drives one arm.

    Args:
        arm: opened; :meth:`run` closes it.
        decide: made for the same robot.
        clock: real or virtual.
        rate_hz: control rate, the one ``decide`` was made for.
        inbox: where chunks and orders come from.
        publish: takes each tick's record; it is the same object every time, filled anew.
        notice: takes one line whenever the mode changes, a fault is latched, or the arm changes hands or is refused.
            Must not block. That it fails ends nothing.
        mark: takes number and state of a tick that was told to put them on record. Must not block. Likewise.
        port: of the arm, to name it where it is gone.
        eyes: know how old the pictures are; None where there are no cameras.
    """

    def __init__(
        self,
        arm: Arm,
        decide: Decide,
        clock: Clock,
        rate_hz: float,
        inbox: Inbox,
        publish: Callable[[TickRecord], None],
        notice: Callable[[str], None] = _unheard,
        mark: Callable[[int, State], None] = _unmarked,
        port: str = "the port of the arm",
        eyes: Eyes | None = None,
    ) -> None:
        self._arm, self._decide, self._clock, self._inbox = arm, decide, clock, inbox
        self._publish, self._mark, self._eyes = publish, mark, eyes
        self._notices = Notices(arm, port, notice, decide.hindrance)
        self._rate_hz = rate_hz
        self._write_ns = round(WRITE_SHARE * 1e9 / rate_hz)
        self._state = decide.initial()
        self._stop: Termination | None = None
        self._engagement = Engagement.NONE
        self._unsent = False
        self._reading: Reading | None = None
        self._chunk: Chunk | None = None
        self._chunk_is_in = False
        self._instant_ns = 0
        self._goal = np.zeros(decide.joints)
        self._record = TickRecord()
        self._fill = Filling(self._record, decide.joints)
        self.ticks = 0
        """Ticks run."""
        self.skipped = 0
        """Whole periods skipped because a tick came too late."""
        self.bus_errors = 0
        """Failed exchanges."""

    @property
    def state(self) -> State:
        return self._state

    def stop(self, reason: Termination = Termination.STOPPED) -> None:
        """Brake, hold and leave the loop. May be called from a signal handler or another thread, and more than once."""
        self._stop = self._stop or reason

    def run(self, ticks: int | None = None) -> Termination:
        """Tick until ordered to stop, or for ``ticks`` periods; then rest the arm and close it. Never raises."""
        try:
            ended = self._run(ticks)
        except KeyboardInterrupt:
            ended = Termination.STOPPED
        except Exception:  # noqa: BLE001 - the arm must come to rest whatever it was; it is logged whole
            _log.exception("control loop: tick %d", self._record.tick)
            ended = Termination.ERROR
        try:
            self._rest()
        except Exception:  # noqa: BLE001 - the arm must come to rest whatever it was; it is logged whole
            _log.exception("control loop: could not brake; the servos hold the last goal")
            ended = Termination.ERROR
        try:
            self._arm.close()
        except Exception:  # noqa: BLE001 - the arm must come to rest whatever it was; it is logged whole
            _log.exception("control loop: closing the arm")
            ended = Termination.ERROR
        return ended

    def _run(self, ticks: int | None) -> Termination:
        clock = self._clock
        warm_up(self._decide, self._rate_hz)
        grid = TickGrid.at(self._rate_hz, clock.now_ns())
        planned, away = 1, 0
        last_tick = None if ticks is None else planned + ticks
        while last_tick is None or planned < last_tick:
            deadline_ns = grid.instant_ns(planned)
            clock.sleep_until_ns(deadline_ns)
            woke_ns = clock.now_ns()
            wake = grid.wake(planned, woke_ns)
            command = self._tick(Ticking(deadline_ns, woke_ns, wake, away), grid.instant_ns(wake.tick + 1))
            planned, away = wake.tick + 1, 0
            if command.engage:
                self._engage(command.mode is _FAULT)
                away = max(0, grid.tick_at(clock.now_ns()) + 1 - planned)
                planned += away
            if command.done:
                return self._reason()
        return self._reason()

    def _reason(self) -> Termination:
        if self._state.authority.fault is not Fault.NONE and self._stop in {None, Termination.STOPPED}:
            return Termination.FAULT
        return self._stop or Termination.STOPPED

    def _tick(self, tick: Ticking, until_ns: int) -> Command:
        """Read, decide, write, publish; ``until_ns`` is the next instant of the grid."""
        clock, wake = self._clock, tick.wake
        self._chunk_is_in, self._instant_ns = False, wake.instant_ns
        reading = self._reading = self._arm.read(until_ns - self._write_ns, self._rehearse)
        tick.read_ns = clock.now_ns()
        order = self._inbox.order() if self._stop is None else Order.STOP
        if not self._chunk_is_in:
            self._chunk = self._inbox.chunk()
        inputs = self._inputs(reading, order, self._inbox.human())
        self._engagement = Engagement.NONE
        before = self._state
        self._state, command = self._decide(before, inputs, wake.instant_ns)
        tick.decided_ns = clock.now_ns()
        applied = None if command.position is None else self._send(command.position, until_ns)
        self._unsent = applied is not None and failed(applied.fault)
        tick.written_ns = clock.now_ns()
        self.ticks += 1
        self.skipped += wake.skipped + tick.away
        self.bus_errors += failed(reading.fault) + self._unsent
        seen = 0
        if self._eyes is not None and self._eyes.look(tick.written_ns, self._notices.say):
            seen = _STALE_CAMERA
        self._fill.fill(tick, reading, inputs, command, applied, self.bus_errors, seen)
        self._publish(self._record)
        if order is _MARK:
            self._put_on_record(wake.tick)
        self._notices.tell(before, self._state, command, order, until_ns)
        return command

    def _rehearse(self) -> None:
        """Decide for nothing, on what was heard last, while the servos answer.

        A deciding that comes a period after the last one finds its code and data out of the processor's caches, and
        takes ten times as long as one right after another. What decides is a pure function, so it may as well be slow
        while there is nothing to do but wait.
        """
        self._chunk, self._chunk_is_in = self._inbox.chunk(), True
        if self._reading is not None:
            self._decide(self._state, self._inputs(self._reading, None, None), self._instant_ns)

    def _inputs(self, reading: Reading, order: Order | None, human: TeleopSample | None) -> Inputs:
        return Inputs(
            reading.position,
            reading.velocity,
            reading.effort,
            reading.fresh,
            reading.fault,
            self._chunk,
            order,
            self._engagement,
            self._unsent,
            human,
        )

    def _put_on_record(self, tick: int) -> None:
        try:
            self._mark(tick, self._state)
        except Exception:  # noqa: BLE001 - without it a replay cannot start here; the arm is none the worse
            _log.exception("control loop: the state behind tick %d is not on record", tick)

    def _send(self, position: tuple[float, ...], until_ns: int) -> Applied:
        self._goal[:] = position
        return self._arm.write(self._goal, until_ns)

    def _engage(self, recovering: bool) -> None:
        """Have the servos hold the arm. Takes many exchanges, so it happens between ticks, with the arm at rest.

        They are checked as if the port had just been opened: since they were last looked at it may have been gone, or
        their power. Restarting one that shut down, however, is for the operator's word: ``recovering``.
        """
        try:
            if restarted := self._arm.recover(restart=recovering):
                self._notices.say(f"restarted: {'; '.join(restarted)}")
            self._arm.hold()
        except (CadenzaError, OSError) as error:
            text = f"not recovered: {error}" if recovering else str(error)
            _log.error("control loop: %s", text)
            self._notices.say(text)
            self._engagement = Engagement.FAILED
        else:
            self._engagement = Engagement.DONE

    def _rest(self) -> None:
        """Brake to a stand, whatever ended the loop, unless the arm stands already. Publishes nothing."""
        grid = TickGrid.at(self._rate_hz, self._clock.now_ns())
        unheard = _unread(self._decide.joints)
        for tick in range(1, round(REST_S * self._rate_hz)):
            commanded = self._state.commanded
            if commanded is None or commanded.at_rest:
                return
            instant_ns, until_ns = grid.instant_ns(tick), grid.instant_ns(tick + 1)
            self._clock.sleep_until_ns(instant_ns)
            self._state, command = self._decide(self._state, unheard, instant_ns)
            if command.position is not None:
                self._send(command.position, until_ns)


def _unread(joints: int) -> Inputs:
    """An order to stop, with nothing heard: braking needs no measurement."""
    nothing = np.zeros(joints)
    return Inputs(nothing, nothing, nothing, np.zeros(joints, dtype=np.bool_), BusFault.SKIPPED, None, Order.STOP)

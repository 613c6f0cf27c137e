"""The control loop: owns the clock and the bus, and calls the pure decision between read and write.

One tick: sleep to an absolute instant, one sync read, decide, one sync write, publish the record of it. Nothing in it
blocks but the sleep and the bus, and those not beyond their deadlines. A bus error is a value, not an exception; any
exception there is ends the loop in order: the arm brakes, stands, and is left held by its servos.
"""

from __future__ import annotations

import functools
import logging
import struct
from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum
from typing import Protocol

import numpy as np

from controller.authority import Engagement, Fault
from controller.clock import Clock, TickGrid, Wake
from controller.decide import Command, Decide, Inputs, State
from controller.lockstep import warm_up
from controller.takeover import Obstacle
from drivers.arm import Applied, Arm, BusFault, Reading
from episodes.records import Flag, Mode, Order, TickRecord
from spec.arrays import Float
from spec.chunk import Chunk
from spec.errors import DeviceError
from spec.robot import MAX_JOINTS
from spec.teleop import TeleopSample

_log = logging.getLogger(__name__)

_LATE, _WRITE_FAILED = int(Flag.LATE), int(Flag.WRITE_FAILED)
_HANDS = int(Flag.TAKEN_OVER | Flag.RELEASED)
_MARK, _TAKE_OVER = Order.MARK, Order.TAKE_OVER
_EXCHANGE = int(BusFault.TIMEOUT | BusFault.CORRUPT | BusFault.DISCONNECTED | BusFault.SKIPPED)
_NOWHERE = float("nan")
"""Logged where nothing was asked, limited or sent."""

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


@dataclass(slots=True)
class Ticking:
    """When the parts of one tick happened [ns]."""

    deadline_ns: int
    """What was slept for: woke_ns − deadline_ns is the whole lateness, skipped periods and all."""
    woke_ns: int
    wake: Wake
    away: int = 0
    """Periods that engaging the servos took before it: missed on purpose, so not late, but missed."""
    read_ns: int = 0
    decided_ns: int = 0
    written_ns: int = 0


class ControlLoop:
    """Drives one arm.

    Args:
        arm: opened; :meth:`run` closes it.
        decide: made for the same robot.
        clock: real or virtual.
        rate_hz: control rate, the one ``decide`` was made for.
        inbox: where chunks and orders come from.
        publish: takes each tick's record; it is the same object every time, filled anew.
        notice: takes one line whenever the mode changes, a fault is latched, or the arm changes hands. Must not block.
        mark: takes number and state of a tick that was told to put them on record. Must not block.
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
    ) -> None:
        self._arm, self._decide, self._clock, self._inbox = arm, decide, clock, inbox
        self._publish, self._notice, self._mark = publish, notice, mark
        self._rate_hz = rate_hz
        self._write_ns = round(WRITE_SHARE * 1e9 / rate_hz)
        self._state = decide.initial()
        self._stop: Termination | None = None
        self._engagement = Engagement.NONE
        self._unsent = False
        self._in_the_way = Obstacle.NONE
        self._goal = np.zeros(decide.joints)
        self._record = TickRecord()
        self._fill = _Filling(self._record, decide.joints)
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
                self._engage()
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
        reading = self._arm.read(until_ns - self._write_ns)
        tick.read_ns = clock.now_ns()
        order = self._inbox.order() if self._stop is None else Order.STOP
        inputs = Inputs(
            reading.position,
            reading.velocity,
            reading.effort,
            reading.fresh,
            reading.fault,
            self._inbox.chunk(),
            order,
            self._engagement,
            self._unsent,
            self._inbox.human(),
        )
        self._engagement = Engagement.NONE
        before = self._state.authority
        self._state, command = self._decide(self._state, inputs, wake.instant_ns)
        tick.decided_ns = clock.now_ns()
        applied = None if command.position is None else self._send(command.position, until_ns)
        self._unsent = applied is not None and _failed(applied.fault)
        tick.written_ns = clock.now_ns()
        self.ticks += 1
        self.skipped += wake.skipped + tick.away
        self.bus_errors += _failed(reading.fault) + self._unsent
        self._fill.fill(tick, reading, inputs, command, applied, self.bus_errors)
        self._publish(self._record)
        if order is _MARK:
            self._mark(wake.tick, self._state)
        if command.mode is not before.mode or command.fault is not before.fault or command.flags & _HANDS:
            self._notice(_transition(before.mode, command, order))
        if command.obstacle is not self._in_the_way:
            self._in_the_way = command.obstacle
            if command.obstacle is not Obstacle.NONE:
                self._notice(f"takeover: {_IN_THE_WAY[command.obstacle]}")
        return command

    def _send(self, position: tuple[float, ...], until_ns: int) -> Applied:
        self._goal[:] = position
        return self._arm.write(self._goal, until_ns)

    def _engage(self) -> None:
        """Have the servos hold the arm. Takes several exchanges, so it happens between ticks, with the arm at rest."""
        try:
            self._arm.hold()
        except DeviceError as error:
            _log.error("control loop: %s", error)
            self._notice(str(error))
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


def _failed(fault: BusFault) -> bool:
    """Whether the exchange failed; a servo's alert is an answer."""
    return bool(int(fault) & _EXCHANGE)


_IN_THE_WAY = {
    Obstacle.NOT_READY: "the arm is not under command; start it first",
    Obstacle.SILENT: "the teleoperation device is silent",
    Obstacle.FAR: "the teleoperation device is too far from where the arm is",
    Obstacle.DEAD_MAN: "the dead man's button is not held",
}


def _transition(before: Mode, command: Command, order: Order | None) -> str:
    causes = []
    if command.fault is not Fault.NONE:
        causes.append(command.fault.name)
    if command.flags & Flag.RELEASED:
        causes.append("given back")
    if command.flags & Flag.TAKEN_OVER:
        by = "order" if order is _TAKE_OVER else "force" if command.flags & Flag.FORCE else "button"
        causes.append(f"taken over by {by}")
    return f"{before.name} -> {command.mode.name}" + (f" ({', '.join(causes)})" if causes else "")


class _Filling:
    """Writes one tick after the other into the same record.

    Field by field this would be sixty attribute and slice assignments a tick; packing runs of neighbouring fields at
    their offsets is a dozen calls.
    """

    def __init__(self, record: TickRecord, joints: int) -> None:
        self._record, self._joints = record, joints
        self._times = _packer(record, "tick", "now_ns", "Q6q")
        self._skipped = _packer(record, "joints", "skipped", "2I")
        each = f"{joints}d{8 * (MAX_JOINTS - joints)}x"
        self._outcome = _packer(record, "mode", "policy", f"IIqIIIII4xqIId{each}")
        self._human = _packer(record, "teleop", "human_goal", "qq" + 4 * each)
        self._motion = _packer(record, "asked", "limited_acceleration", 4 * each)

        def view(name: str) -> Float:
            return np.ctypeslib.as_array(getattr(record, name))[:joints]

        self._position, self._velocity, self._effort = view("position"), view("velocity"), view("effort")
        self._raw = np.ctypeslib.as_array(record.raw)[: 3 * joints].reshape(joints, 3)
        self._fresh, self._ticks, self._sent = view("fresh"), view("sent_ticks"), view("sent")
        self._nowhere = (_NOWHERE,) * joints
        self._buttons = 0
        self._human(-1, 0, *4 * self._nowhere)

    def fill(
        self,
        tick: Ticking,
        reading: Reading,
        inputs: Inputs,
        command: Command,
        applied: Applied | None,
        bus_errors: int,
    ) -> None:
        """One whole tick."""
        wake = tick.wake
        self._times(
            wake.tick,
            tick.deadline_ns,
            tick.woke_ns,
            tick.read_ns,
            tick.decided_ns,
            tick.written_ns,
            wake.instant_ns,
        )
        self._skipped(self._joints, wake.skipped + tick.away)
        self._position[:], self._velocity[:], self._effort[:] = reading.position, reading.velocity, reading.effort
        self._raw[:], self._fresh[:] = reading.raw, reading.fresh
        human = inputs.human
        if human is not None:  # what it says stands in the record until the next
            self._buttons = human.buttons
            self._human(human.sequence, human.read_ns, *human.position, *human.velocity, *human.effort, *human.goal)
        commanded, nowhere = command.commanded, self._nowhere
        if commanded is None:
            self._motion(*nowhere, *nowhere, *nowhere, *nowhere)
        else:
            asked = command.asked or nowhere
            self._motion(*asked, *commanded.position, *commanded.velocity, *commanded.acceleration)
        flags = command.flags | (_LATE if wake.skipped else 0)
        write_fault = 0
        if applied is None:
            self._sent[:], self._ticks[:] = _NOWHERE, 0
        else:
            self._sent[:], self._ticks[:] = applied.position, applied.ticks
            write_fault = int(applied.fault)
            flags |= _WRITE_FAILED if write_fault & _EXCHANGE else 0
        self._outcome(
            command.mode,
            flags,
            command.chunk,
            command.weights,
            int(reading.fault),
            write_fault,
            bus_errors,
            0 if inputs.order is None else inputs.order,
            -1 if inputs.chunk is None else inputs.chunk.sequence,
            command.driver,
            self._buttons,
            command.alpha,
            *(command.policy or nowhere),
        )


def _packer(record: TickRecord, first: str, last: str, layout: str) -> Callable[..., None]:
    """A function that writes the fields from ``first`` to ``last``, of this struct ``layout``, into the record."""
    begin: int = getattr(TickRecord, first).offset
    fields = struct.Struct(f"={layout}")
    end: int = getattr(TickRecord, last).offset + getattr(TickRecord, last).size
    if end - begin != fields.size:
        raise TypeError(f"TickRecord: {first} to {last} are {end - begin} bytes, not {fields.size} ({layout})")
    return functools.partial(fields.pack_into, record, begin)

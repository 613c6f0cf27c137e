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
from controller.clock import Clock, TickGrid, Wake
from controller.decide import Command, Decide, Inputs, State
from drivers.arm import Applied, Arm, BusFault, Reading
from episodes.records import Flag, Mode, Order, TickRecord
from spec.arrays import Float
from spec.chunk import Chunk
from spec.errors import DeviceError

_log = logging.getLogger(__name__)

_LATE, _WRITE_FAILED = int(Flag.LATE), int(Flag.WRITE_FAILED)
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
    """What others have for the loop. Both return at once; one piece a tick."""

    def chunk(self) -> Chunk | None:
        """The newest chunk that came since the last call."""
        ...

    def order(self) -> Order | None:
        """The oldest order not yet handed over."""
        ...


class EmptyInbox:
    """Nobody has anything for the loop."""

    def chunk(self) -> Chunk | None:
        return None

    def order(self) -> Order | None:
        return None


def _unheard(_text: str) -> None: ...


class ControlLoop:
    """Drives one arm.

    Args:
        arm: opened; :meth:`run` closes it.
        decide: made for the same robot.
        clock: real or virtual.
        rate_hz: control rate, the one ``decide`` was made for.
        inbox: where chunks and orders come from.
        publish: takes each tick's record; it is the same object every time, filled anew.
        notice: takes one line whenever the mode changes or a fault is latched. Must not block.
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
    ) -> None:
        self._arm, self._decide, self._clock, self._inbox = arm, decide, clock, inbox
        self._publish, self._notice = publish, notice
        self._rate_hz = rate_hz
        self._write_ns = round(WRITE_SHARE * 1e9 / rate_hz)
        self._state = decide.initial()
        self._stop: Termination | None = None
        self._engagement = Engagement.NONE
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
        grid = TickGrid.at(self._rate_hz, clock.now_ns())
        planned = 1
        last_tick = None if ticks is None else planned + ticks
        while last_tick is None or planned < last_tick:
            deadline_ns = grid.instant_ns(planned)
            clock.sleep_until_ns(deadline_ns)
            woke_ns = clock.now_ns()
            wake = grid.wake(planned, woke_ns)
            self._fill.time(deadline_ns, woke_ns, wake)
            command = self._tick(wake, grid.instant_ns(wake.tick + 1))
            planned = wake.tick + 1
            if command.engage:
                self._engage()
                planned = max(planned, grid.tick_at(clock.now_ns()) + 1)  # took its time on purpose: nothing was late
            if command.done:
                return self._reason()
        return self._reason()

    def _reason(self) -> Termination:
        if self._state.authority.fault is not Fault.NONE and self._stop in {None, Termination.STOPPED}:
            return Termination.FAULT
        return self._stop or Termination.STOPPED

    def _tick(self, wake: Wake, until_ns: int) -> Command:
        """Read, decide, write, publish; ``until_ns`` is the next instant of the grid."""
        clock, fill = self._clock, self._fill
        reading = self._arm.read(until_ns - self._write_ns)
        read_ns = clock.now_ns()
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
        )
        self._engagement = Engagement.NONE
        before = self._state.authority
        self._state, command = self._decide(self._state, inputs, wake.instant_ns)
        decided_ns = clock.now_ns()
        applied = None if command.position is None else self._send(command.position, until_ns)
        written_ns = clock.now_ns()
        self.ticks += 1
        self.skipped += wake.skipped
        self.bus_errors += _failed(reading.fault) + (applied is not None and _failed(applied.fault))
        fill.phases(read_ns, decided_ns, written_ns, self.bus_errors)
        fill.reading(reading)
        fill.command(command, applied)
        self._publish(self._record)
        if command.mode is not before.mode or command.fault is not before.fault:
            self._notice(_transition(before.mode, command))
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
    return bool(fault & ~BusFault.SERVO)


def _transition(before: Mode, command: Command) -> str:
    cause = "" if command.fault is Fault.NONE else f" ({command.fault.name})"
    return f"{before.name} -> {command.mode.name}{cause}"


class _Filling:
    """Writes one tick after the other into the same record, through views made once."""

    def __init__(self, record: TickRecord, joints: int) -> None:
        self._record, self._joints = record, joints
        record.joints = joints

        def view(name: str) -> Float:
            return np.ctypeslib.as_array(getattr(record, name))[:joints]

        self._position, self._velocity, self._effort = view("position"), view("velocity"), view("effort")
        self._raw = np.ctypeslib.as_array(record.raw)[: 3 * joints].reshape(joints, 3)
        self._fresh, self._ticks = view("fresh"), view("sent_ticks")
        self._asked, self._limited, self._sent = view("asked"), view("limited"), view("sent")
        self._speed, self._acceleration = view("limited_velocity"), view("limited_acceleration")

    def time(self, deadline_ns: int, woke_ns: int, wake: Wake) -> None:
        """``deadline_ns`` is what was slept for: woke_ns − deadline_ns is the whole lateness, skips and all."""
        record = self._record
        record.tick, record.skipped = wake.tick, wake.skipped
        record.deadline_ns, record.woke_ns, record.now_ns = deadline_ns, woke_ns, wake.instant_ns

    def phases(self, read_ns: int, decided_ns: int, written_ns: int, bus_errors: int) -> None:
        record = self._record
        record.read_ns, record.decided_ns, record.written_ns = read_ns, decided_ns, written_ns
        record.bus_errors = bus_errors

    def reading(self, reading: Reading) -> None:
        self._position[:], self._velocity[:], self._effort[:] = reading.position, reading.velocity, reading.effort
        self._raw[:], self._fresh[:] = reading.raw, reading.fresh
        self._record.read_fault = int(reading.fault)

    def command(self, command: Command, applied: Applied | None) -> None:
        record = self._record
        flags = int(command.flags) | (_LATE if record.skipped else 0)
        if command.commanded is None:
            self._asked[:] = self._limited[:] = self._speed[:] = self._acceleration[:] = _NOWHERE
        else:
            self._asked[:], self._limited[:] = command.asked, command.commanded.position
            self._speed[:], self._acceleration[:] = command.commanded.velocity, command.commanded.acceleration
        if applied is None:
            self._sent[:], self._ticks[:] = _NOWHERE, 0
            record.write_fault = 0
        else:
            self._sent[:], self._ticks[:] = applied.position, applied.ticks
            record.write_fault = int(applied.fault)
            flags |= _WRITE_FAILED if _failed(applied.fault) else 0
        record.mode, record.flags = int(command.mode), flags
        record.chunk, record.weights = command.chunk, command.weights

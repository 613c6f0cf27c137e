"""What the loop says in words: changes of mode, faults with their cause, hands that are refused.

One line each, for the operator and the episode. Nobody who listens can end the loop.
"""

from __future__ import annotations

import logging
from collections.abc import Callable

from controller.authority import Fault
from controller.state import Command, State
from controller.takeover import Obstacle
from drivers.arm import Arm
from episodes.records import Flag, Mode, Order

_log = logging.getLogger(__name__)

ASKED = 20
"""So many ticks the servos are asked what alarms them: a tick may leave no time for it, and a packet may be lost."""

_HANDS = int(Flag.TAKEN_OVER | Flag.RELEASED)
_TAKE_OVER = Order.TAKE_OVER
_NONE, _SERVO_ALERT, _STALE_JOINT, _PORT_GONE = Fault.NONE, Fault.SERVO_ALERT, Fault.STALE_JOINT, Fault.PORT_GONE
_NOT_HOME = Fault.NOT_HOME
_CLEAR = Obstacle.NONE

_IN_THE_WAY = {
    Obstacle.NOT_READY: "the arm is not under command; start it, or try again where it is only being engaged anew",
    Obstacle.SILENT: "the teleoperation device is silent",
    Obstacle.FAR: "the teleoperation device is too far from where the arm is",
    Obstacle.DEAD_MAN: "the dead man's button is not held",
}


class Notices:
    """Says what is new in a tick.

    Args:
        arm: knows its joints, and what alarms them.
        port: of the arm, to name it.
        notice: takes one line. What it raises is logged once.
        hindrance: what of the envelope keeps the arm from its start pose, in words.
    """

    def __init__(self, arm: Arm, port: str, notice: Callable[[str], None], hindrance: Callable[[State], str]) -> None:
        self._arm, self._port, self._notice, self._hindrance = arm, port, notice, hindrance
        self._in_the_way = _CLEAR
        self._to_ask = 0
        self._broken = False

    def say(self, text: str) -> None:
        """One line, whatever becomes of it."""
        try:
            self._notice(text)
        except Exception:  # noqa: BLE001 - an arm that moves safely goes on, whoever cannot be told
            if not self._broken:
                _log.exception("control loop: a notice could not be given: %s", text)
            self._broken = True

    def tell(self, before: State, after: State, command: Command, order: Order | None, until_ns: int) -> None:
        """What this tick brought; may ask the servos, by ``until_ns``, what alarms them."""
        was, now = before.authority, after.authority
        if command.mode is not was.mode or command.fault is not was.fault or command.flags & _HANDS:
            self._to_ask = ASKED if command.fault is _SERVO_ALERT and was.fault is not _SERVO_ALERT else 0
            self.say(_transition(was.mode, command, order, self._cause(command.fault, after, until_ns)))
        elif self._to_ask:
            if alarms := self._alarms(until_ns):
                self.say(f"{_SERVO_ALERT.name}: {alarms}")
            elif not self._to_ask:
                self.say(f"{_SERVO_ALERT.name}: no servo names an error; a Bus Watchdog may have fired")
        elif was.taken and not now.taken and order is None:
            self.say("takeover: over, the teleoperation device was silent for too long; the arm rests until START")
        if command.obstacle is not self._in_the_way:
            self._in_the_way = command.obstacle
            if command.obstacle is not _CLEAR:
                self.say(f"takeover: {_IN_THE_WAY[command.obstacle]}")

    def _cause(self, fault: Fault, state: State, until_ns: int) -> str:
        """Where the fault is, as far as that is known at once."""
        if fault is _SERVO_ALERT:
            return self._alarms(until_ns) if self._to_ask else ""
        if fault is _STALE_JOINT:
            # Others may have missed this one tick as well; who fell silent together was heard last within a few.
            most = max(state.stale)
            silent = (name for name, ticks in zip(self._arm.joints, state.stale, strict=True) if 2 * ticks > most)
            return ", ".join(silent)
        if fault is _NOT_HOME:
            hindrance = self._hindrance(state)
            return f"held back by {hindrance}" if hindrance else ""
        return self._port if fault is _PORT_GONE else ""

    def _alarms(self, until_ns: int) -> str:
        """What alarms the servos, and no more questions; or one question less."""
        alarms = "; ".join(self._arm.alarms(until_ns))
        self._to_ask = 0 if alarms else self._to_ask - 1
        return alarms


def _transition(before: Mode, command: Command, order: Order | None, where: str) -> str:
    causes = []
    if command.fault is not _NONE:
        causes.append(f"{command.fault.name}: {where}" if where else command.fault.name)
    elif before is Mode.FAULT:
        causes.append("recovered")
    if command.flags & Flag.RELEASED:
        causes.append("given back")
    if command.flags & Flag.TAKEN_OVER:
        by = "order" if order is _TAKE_OVER else "force" if command.flags & Flag.FORCE else "button"
        causes.append(f"taken over by {by}")
    return f"{before.name} -> {command.mode.name}" + (f" ({', '.join(causes)})" if causes else "")

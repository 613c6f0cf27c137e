"""Who moves the arm: what is known of it from tick to tick, and what a tick finds out.

:mod:`controller.ladder` says how the one changes by the other.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from enum import IntEnum
from typing import NamedTuple

from controller.takeover import ABSENT, Wish
from episodes.records import Driver, Mode, Order
from spec.robot import WATCHDOG_SUSPECT, Arm, Control


class Fault(IntEnum):
    """Why the arm was stopped for good."""

    NONE = 0
    STALE_JOINT = 1
    """A joint was not heard for ``control.fault_ticks``."""
    SERVO_ALERT = 2
    """A servo kept reporting a hardware error; it may have switched its torque off."""
    NONFINITE = 3
    """The policy kept sending chunks that are not numbers."""
    NOT_ENGAGED = 4
    """The servos refused to hold the arm."""
    NOT_HOME = 5
    """The start pose was not reached in time: the workspace box, or the collision check, holds the arm back."""
    PORT_GONE = 6
    """The port of the arm is gone. Only opening it again helps, and what hangs on it then is to be looked at first."""
    STALLED = 7
    """The loop itself was away for ``control.fault_ticks`` while the arm was under way."""


class Engagement(IntEnum):
    """What became of the wish to have the servos hold the arm (see Command.engage), recovered first where a fault was
    latched."""

    NONE = 0
    DONE = 1
    FAILED = 2


class Bounds(NamedTuple):
    """How long each rung of the ladder may last. tests/controller/test_controller_ladder.py has them all as one table;
    docs/decisions/0026 says what shows each and what ends it."""

    hold_ticks: int
    """Ticks in a row without a fresh reading of some joint before the arm brakes."""
    outage_ticks: int
    """Likewise, before the servos' own Bus Watchdog may have stopped them: they must be engaged anew."""
    fault_ticks: int
    """Likewise, before a fault is latched; also, periods the loop may be away while the arm is under way."""
    alert_ticks: int = 3
    """Ticks in a row with a hardware-error alert before a fault is latched; a single one may be line noise."""
    nonfinite_chunks: int = 3
    """Non-finite chunks in a row before a fault is latched."""
    ease_in_ns: int = 30_000_000_000
    """Time the way to the start pose may take [ns]."""
    blend_ns: int = 200_000_000
    """Time in which the motion that a person took over fades [ns]."""
    absent_ns: int = 1_000_000_000
    """The person whose device is silent for so long does not have the arm any more [ns]: nobody may be holding a
    leader that comes back, and the arm would follow its fall."""

    @classmethod
    def of(cls, control: Control, arm: Arm) -> Bounds:
        watchdog = arm.bus_watchdog_ms
        outage = control.fault_ticks
        if watchdog is not None:
            outage = max(1, math.floor(WATCHDOG_SUSPECT * watchdog * 1e6 / control.period_ns))
        return cls(min(control.stale_ticks, outage), outage, control.fault_ticks)


_POLICY, _HOLD, _BLEND, _HUMAN = Mode.POLICY, Mode.HOLD, Mode.BLEND, Mode.HUMAN
_BY_NOBODY, _BY_POLICY, _BY_HUMAN = Driver
"""Looking a member up in its enum runs Python code; a tick does it once, when this module is loaded."""


class Facts(NamedTuple):
    """What one tick found out."""

    order: Order | None
    engagement: Engagement
    stale_ticks: int
    """Of the joint that has been silent longest; 0 when this tick heard every one."""
    gap_ticks: int
    """Periods since the tick before this one, less one: the loop itself was away, and the bus was silent."""
    alert_ticks: int
    nonfinite_chunks: int
    sighted: bool
    """A chunk reaches this instant."""
    at_home: bool
    at_rest: bool
    step_ns: int = 0
    """Policy step of the newest chunk: in that time the schedule fades what was commanded before it."""
    wish: Wish = ABSENT
    """Of the person."""
    gone: bool = False
    """The port of the arm is gone."""


@dataclass(frozen=True, slots=True)
class Authority:
    """State of the machine."""

    mode: Mode = Mode.IDLE
    fault: Fault = Fault.NONE
    resting: bool = False
    """Held on the operator's word (or after a fault): only START or HOME leaves it."""
    home_only: bool = False
    """Rest at the start pose instead of waiting for the policy there."""
    homed: bool = False
    """The start pose was reached since the last START."""
    held: bool = False
    """The servos were made to hold the arm at least once; from then on it is never without a goal."""
    engaged: bool = False
    """They follow commands, as far as is known: the bus was never silent for as long as their watchdog waits."""
    engaging: bool = False
    """They are to be made to; where a fault is latched, recovered first: the operator says that its cause is gone."""
    stopping: bool = False
    """The loop is to end."""
    since_ns: int = 0
    """Instant of the last change that makes older observations worthless to the policy."""
    taken: bool = False
    """A person has the arm; so it stays while it is held because the device or the joints are silent."""
    returning: bool = False
    """They gave it back, and the policy does not have it to itself yet."""
    blend_since_ns: int = 0
    """When the present or last blend began."""
    blend_ns: int = 0
    """How long it takes."""
    blend_from: float = 0.0
    """Weight of the person at its beginning."""

    @property
    def driver(self) -> Driver:
        """Whose wish the arm follows."""
        mode = self.mode
        if mode is _POLICY:
            return _BY_POLICY
        if mode is _HUMAN or mode is _BLEND:
            return _BY_HUMAN if self.taken else _BY_POLICY
        return _BY_NOBODY

    def alpha(self, now_ns: int) -> float:
        """Weight of the person against the policy. In a blend it moves as the old motion fades: 3s² − 2s³."""
        mode = self.mode
        if mode is _HUMAN:
            return 1.0
        if mode is _BLEND:
            s = min(1.0, (now_ns - self.blend_since_ns) / self.blend_ns)
            aim = 1.0 if self.taken else 0.0
            return self.blend_from + (aim - self.blend_from) * (s * s * (3.0 - 2.0 * s))
        return 1.0 if mode is _HOLD and (self.taken or self.returning) else 0.0

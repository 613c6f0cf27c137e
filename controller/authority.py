"""Who moves the arm: idle → ease_in → policy → hold / fault, as a pure state machine.

    idle ──START──► (servos engaged) ──► ease_in ──at the start pose──► hold ──fresh chunk──► policy
    policy ──no chunk, or joints stale──► hold ──fresh chunk, joints fresh──► policy
    any ──bounds of the ladder exceeded──► fault ──CLEAR_FAULT──► hold, until START

Every rung of the ladder has its bound in ticks in :class:`Bounds`.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from enum import IntEnum
from typing import NamedTuple

from episodes.records import Mode, Order
from spec.robot import Arm, Control

_SUSPICIOUS = 0.75
"""Share of the watchdog time after which a silence may have set it off: servos count in steps of 20 ms."""


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
    """The start pose was not reached in time: something, or the workspace box, is in the way."""


class Engagement(IntEnum):
    """What became of the wish to have the servos hold the arm (see Command.engage)."""

    NONE = 0
    DONE = 1
    FAILED = 2


class Bounds(NamedTuple):
    """How long each rung of the ladder may last."""

    hold_ticks: int
    """Ticks in a row without a fresh reading of some joint before the arm brakes."""
    outage_ticks: int
    """Likewise, before the servos' own Bus Watchdog may have stopped them: they must be engaged anew."""
    fault_ticks: int
    """Likewise, before a fault is latched."""
    alert_ticks: int = 3
    """Ticks in a row with a hardware-error alert before a fault is latched; a single one may be line noise."""
    nonfinite_chunks: int = 3
    """Non-finite chunks in a row before a fault is latched."""
    ease_in_ns: int = 30_000_000_000
    """Time the way to the start pose may take [ns]."""

    @classmethod
    def of(cls, control: Control, arm: Arm) -> Bounds:
        watchdog = arm.bus_watchdog_ms
        outage = control.fault_ticks
        if watchdog is not None:
            outage = max(1, math.floor(_SUSPICIOUS * watchdog * 1e6 / control.period_ns))
        return cls(min(control.stale_ticks, outage), outage, control.fault_ticks)


_IDLE, _EASE_IN, _POLICY, _HOLD, _FAULT, _BLEND, _HUMAN = Mode
_NOT_ENGAGED_NOW, _ENGAGED_NOW, _ = Engagement
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
    """They are to be made to."""
    stopping: bool = False
    """The loop is to end."""
    since_ns: int = 0
    """Instant of the last change that makes older observations worthless to the policy."""


def step(now: Authority, facts: Facts, bounds: Bounds, now_ns: int) -> Authority:
    """The machine after one tick."""
    if now.mode is _POLICY and now.engaged and facts.sighted and _uneventful(facts, bounds):
        return now  # nearly every tick
    return _changed(now, facts, bounds, now_ns)


def _uneventful(facts: Facts, bounds: Bounds) -> bool:
    return (
        facts.order is None
        and facts.engagement is _NOT_ENGAGED_NOW
        and facts.stale_ticks < bounds.hold_ticks
        and facts.gap_ticks < bounds.outage_ticks
        and facts.alert_ticks < bounds.alert_ticks
        and facts.nonfinite_chunks < bounds.nonfinite_chunks
    )


def _changed(now: Authority, facts: Facts, bounds: Bounds, now_ns: int) -> Authority:
    after = _engagement(now, facts, bounds)
    if facts.order is not None:
        after = _ordered(after, facts.order, now_ns)
    fault = _broken(after, facts, bounds, now_ns)
    if fault is not Fault.NONE and after.mode is not _FAULT:
        return replace(after, mode=_FAULT, fault=fault, engaging=False, resting=True, since_ns=now_ns)
    if after.mode is _EASE_IN:
        return _easing(after, facts, bounds, now_ns)
    if after.mode is _HOLD:
        return _holding(after, facts, now_ns)
    lost = facts.stale_ticks >= bounds.hold_ticks or not after.engaged or not facts.sighted
    if after.mode is _POLICY and lost:
        return replace(after, mode=_HOLD, since_ns=now_ns)
    return after


def _engagement(now: Authority, facts: Facts, bounds: Bounds) -> Authority:
    if facts.engagement is _ENGAGED_NOW:
        # From idle the servos are only ever engaged to start.
        mode = _HOLD if now.mode is _IDLE else now.mode
        return replace(now, held=True, engaged=True, engaging=False, mode=mode)
    if now.engaged and max(facts.stale_ticks, facts.gap_ticks) >= bounds.outage_ticks:
        return replace(now, engaged=False)
    return now


def _ordered(now: Authority, order: Order, now_ns: int) -> Authority:
    match order:
        case Order.STOP:
            mode = _HOLD if now.mode in {_EASE_IN, _POLICY} else now.mode
            return replace(now, mode=mode, stopping=True, resting=True, engaging=False, since_ns=now_ns)
        case Order.HOLD:
            mode = _HOLD if now.mode in {_EASE_IN, _POLICY} else now.mode
            return replace(now, mode=mode, resting=True, engaging=False, since_ns=now_ns)
        case Order.CLEAR_FAULT if now.mode is _FAULT:
            mode = _HOLD if now.held else _IDLE
            return replace(now, mode=mode, fault=Fault.NONE, resting=True, homed=False, since_ns=now_ns)
        case Order.START | Order.HOME if now.mode is not _FAULT and not now.stopping:
            return replace(
                now,
                mode=_EASE_IN if now.engaged else now.mode,
                resting=False,
                home_only=order is Order.HOME,
                homed=False,
                engaging=not now.engaged,
                since_ns=now_ns,
            )
        case _:
            return now


def _broken(now: Authority, facts: Facts, bounds: Bounds, now_ns: int) -> Fault:
    if facts.engagement is Engagement.FAILED:
        return Fault.NOT_ENGAGED
    if now.mode is _IDLE and not now.engaging:
        return Fault.NONE
    signs = (
        (facts.alert_ticks >= bounds.alert_ticks, Fault.SERVO_ALERT),
        (facts.stale_ticks >= bounds.fault_ticks, Fault.STALE_JOINT),
        (facts.nonfinite_chunks >= bounds.nonfinite_chunks and now.homed, Fault.NONFINITE),
        (now.mode is _EASE_IN and now_ns - now.since_ns > bounds.ease_in_ns, Fault.NOT_HOME),
    )
    return next((fault for seen, fault in signs if seen), Fault.NONE)


def _easing(now: Authority, facts: Facts, bounds: Bounds, now_ns: int) -> Authority:
    if facts.stale_ticks >= bounds.hold_ticks or not now.engaged:
        return replace(now, mode=_HOLD, since_ns=now_ns)
    if facts.at_home:
        return replace(now, mode=_HOLD, homed=True, resting=now.home_only, since_ns=now_ns)
    return now


def _holding(now: Authority, facts: Facts, now_ns: int) -> Authority:
    """Goes on by itself once what was missing is back."""
    if now.resting or now.stopping or facts.stale_ticks > 0:
        return now
    if not now.engaged:
        return now if now.engaging or not facts.at_rest else replace(now, engaging=True)
    if not now.homed:
        return replace(now, mode=_EASE_IN, since_ns=now_ns)
    return replace(now, mode=_POLICY) if facts.sighted else now

"""Who moves the arm: idle → ease_in → policy ⇄ blend ⇄ human → hold / fault, as a pure state machine.

    idle ──START──► (servos engaged) ──► ease_in ──at the start pose──► hold ──fresh chunk──► policy
    policy ──no chunk, or joints stale──► hold ──fresh chunk, joints fresh──► policy
    policy, hold, ease_in ──a person takes it──► blend ──► human
    blend, human ──device or joints stale──► hold, still the person's ──both back──► blend ──► human
                                             hold ──device silent for too long──► hold, until START or a takeover
    blend, human ──the person gives it back──► hold ──fresh chunk──► blend ──► policy
    any ──bounds of the ladder exceeded──► fault ──CLEAR_FAULT──► (servos recovered, engaged) ──► hold, until START

Every rung of the ladder has its bound in ticks in :class:`controller.authority.Bounds`.
"""

from __future__ import annotations

from dataclasses import replace

from controller.authority import Authority, Bounds, Engagement, Facts, Fault
from controller.takeover import Obstacle, Wish
from episodes.records import Mode, Order

_IDLE, _EASE_IN, _POLICY, _HOLD, _FAULT, _BLEND, _HUMAN = Mode
_HOLD_ORDER, _TAKE_OVER, _RELEASE = Order.HOLD, Order.TAKE_OVER, Order.RELEASE
_NOT_ENGAGED_NOW, _ENGAGED_NOW, _ = Engagement
"""Looking a member up in its enum runs Python code; a tick does it once, when this module is loaded."""


def step(now: Authority, facts: Facts, bounds: Bounds, now_ns: int) -> Authority:
    """The machine after one tick."""
    if _uneventful(facts, bounds) and now.engaged:  # nearly every tick
        if now.mode is _POLICY and facts.sighted:
            return now
        if now.mode is _HUMAN and facts.wish.present:
            return now
    return _changed(now, facts, bounds, now_ns)


def _uneventful(facts: Facts, bounds: Bounds) -> bool:
    wish = facts.wish
    return (
        facts.order is None
        and facts.engagement is _NOT_ENGAGED_NOW
        and facts.stale_ticks < bounds.hold_ticks
        and facts.gap_ticks < bounds.outage_ticks
        and facts.alert_ticks < bounds.alert_ticks
        and facts.nonfinite_chunks < bounds.nonfinite_chunks
        and not facts.gone
        and wish.permitted
        and not (wish.pull or wish.take or wish.release or wish.toggle)
    )


def _changed(now: Authority, facts: Facts, bounds: Bounds, now_ns: int) -> Authority:
    after = _engagement(now, facts, bounds, now_ns)
    if facts.order is not None:
        after = _ordered(after, facts.order, now_ns)
    after = _handed_over(after, facts, bounds, now_ns)
    fault = _broken(after, facts, bounds, now_ns)
    if fault is not Fault.NONE and after.mode is not _FAULT:
        return replace(_own(after), mode=_FAULT, fault=fault, engaging=False, resting=True, since_ns=now_ns)
    if after.mode is _EASE_IN:
        return _easing(after, facts, bounds, now_ns)
    if after.mode is _HOLD:
        return _holding(after, facts, bounds, now_ns)
    if after.mode is _IDLE or after.mode is _FAULT:
        return after
    return _driving(after, facts, bounds, now_ns)


def _engagement(now: Authority, facts: Facts, bounds: Bounds, now_ns: int) -> Authority:
    if facts.engagement is _ENGAGED_NOW:
        if now.mode is _FAULT:
            now = replace(now, mode=_HOLD, fault=Fault.NONE, resting=True, homed=False, since_ns=now_ns)
        # From idle the servos are only ever engaged to start.
        mode = _HOLD if now.mode is _IDLE else now.mode
        return replace(now, held=True, engaged=True, engaging=False, mode=mode)
    if facts.engagement is not _NOT_ENGAGED_NOW:  # it failed: a fault, or one that stays latched until the next attempt
        return replace(now, engaged=False, engaging=False)
    if now.engaged and max(facts.stale_ticks, facts.gap_ticks) >= bounds.outage_ticks:
        return replace(now, engaged=False)
    return now


def _ordered(now: Authority, order: Order, now_ns: int) -> Authority:
    match order:
        case Order.STOP:
            mode = now.mode if now.mode in {_IDLE, _FAULT} else _HOLD
            return replace(_own(now), mode=mode, stopping=True, resting=True, engaging=False, since_ns=now_ns)
        case Order.HOLD:
            mode = now.mode if now.mode in {_IDLE, _FAULT} else _HOLD
            return replace(_own(now), mode=mode, resting=True, engaging=False, since_ns=now_ns)
        case Order.CLEAR_FAULT if now.mode is _FAULT and not now.stopping:
            return replace(now, engaging=True)
        case Order.START | Order.HOME if now.mode is not _FAULT and not now.stopping:
            return replace(
                _own(now),
                mode=_EASE_IN if now.engaged else now.mode,
                resting=False,
                home_only=order is Order.HOME,
                homed=False,
                engaging=not now.engaged,
                since_ns=now_ns,
            )
        case _:
            return now


def _own(now: Authority) -> Authority:
    """Without the person: an order of the operator, or a fault, ends their turn."""
    return replace(now, taken=False, returning=False) if now.taken or now.returning else now


def _handed_over(now: Authority, facts: Facts, bounds: Bounds, now_ns: int) -> Authority:
    """Takeover and release, in the tick in which they are seen."""
    wish, order = facts.wish, facts.order
    if now.taken:
        if not given_back(facts):
            return now
        mode = now.mode if now.mode is _FAULT else _HOLD
        return replace(now, mode=mode, taken=False, returning=not now.resting, since_ns=now_ns)
    if order is _HOLD_ORDER or not wanted(now, facts) or obstacle(now, wish) is not Obstacle.NONE:
        return now
    # Out of a rest, or on the way to one, it comes back to rest: only START lets the policy drive.
    resting = now.resting or (now.home_only and not now.homed)
    return _blending(
        replace(now, taken=True, returning=False, homed=True, resting=resting), bounds.blend_ns, now, now_ns
    )


def given_back(facts: Facts) -> bool:
    """Whether the person who has the arm lets it go."""
    return facts.wish.release or facts.wish.toggle or facts.order is _RELEASE


def wanted(now: Authority, facts: Facts) -> bool:
    """Whether a person wants an arm they do not have. Pulling counts only where the policy drives, or is about to."""
    wish = facts.wish
    if wish.take or wish.toggle or facts.order is _TAKE_OVER:
        return True
    return wish.pull and (now.mode in {_POLICY, _BLEND} or (now.mode is _HOLD and not now.resting))


def obstacle(now: Authority, wish: Wish) -> Obstacle:
    """What keeps the arm from a person's hands."""
    if not now.engaged or now.stopping or now.mode in {_IDLE, _FAULT}:
        return Obstacle.NOT_READY
    if not wish.present:
        return Obstacle.SILENT
    if not wish.permitted:
        return Obstacle.DEAD_MAN
    return Obstacle.NONE if wish.aligned else Obstacle.FAR


def _blending(after: Authority, blend_ns: int, before: Authority, now_ns: int) -> Authority:
    return replace(after, mode=_BLEND, blend_since_ns=now_ns, blend_ns=blend_ns, blend_from=before.alpha(now_ns))


def _broken(now: Authority, facts: Facts, bounds: Bounds, now_ns: int) -> Fault:
    if facts.engagement is Engagement.FAILED:
        return Fault.NOT_ENGAGED
    if now.mode is _IDLE and not now.engaging:
        return Fault.NONE
    away = facts.gap_ticks >= bounds.fault_ticks and facts.engagement is _NOT_ENGAGED_NOW
    signs = (
        (facts.gone, Fault.PORT_GONE),
        (facts.alert_ticks >= bounds.alert_ticks, Fault.SERVO_ALERT),
        (facts.stale_ticks >= bounds.fault_ticks, Fault.STALE_JOINT),
        (facts.nonfinite_chunks >= bounds.nonfinite_chunks and now.homed and not now.taken, Fault.NONFINITE),
        (away and now.held and (now.taken or not now.resting), Fault.STALLED),
        (now.mode is _EASE_IN and now_ns - now.since_ns > bounds.ease_in_ns, Fault.NOT_HOME),
    )
    return next((fault for seen, fault in signs if seen), Fault.NONE)


def _easing(now: Authority, facts: Facts, bounds: Bounds, now_ns: int) -> Authority:
    if facts.stale_ticks >= bounds.hold_ticks or not now.engaged or not facts.wish.permitted:
        return replace(now, mode=_HOLD, since_ns=now_ns)
    if facts.at_home:
        return replace(now, mode=_HOLD, homed=True, resting=now.home_only, since_ns=now_ns)
    return now


def _driving(now: Authority, facts: Facts, bounds: Bounds, now_ns: int) -> Authority:
    """Whoever it is needs the joints, the servos, and something to follow."""
    source = facts.wish.present if now.taken else facts.sighted
    if facts.stale_ticks >= bounds.hold_ticks or not now.engaged or not source or not facts.wish.permitted:
        return replace(now, mode=_HOLD, since_ns=now_ns)
    if now.mode is _BLEND and now_ns - now.blend_since_ns >= now.blend_ns:
        return replace(now, mode=_HUMAN) if now.taken else replace(now, mode=_POLICY, returning=False)
    return now


def _holding(now: Authority, facts: Facts, bounds: Bounds, now_ns: int) -> Authority:
    """Goes on by itself once what was missing is back."""
    if now.stopping or (now.resting and not now.taken):
        return now
    if now.taken and not facts.wish.present and facts.wish.silent_ns > bounds.absent_ns:
        return replace(_own(now), resting=True)
    if not facts.wish.permitted:  # what the policy sees meanwhile is a held arm: it is to look again
        return replace(now, since_ns=now_ns)
    if facts.stale_ticks > 0:
        return now
    if not now.engaged:
        return now if now.engaging or not facts.at_rest else replace(now, engaging=True)
    return _going_on(now, facts, bounds, now_ns)


def _going_on(now: Authority, facts: Facts, bounds: Bounds, now_ns: int) -> Authority:
    """From a hold in which nothing is missing any more but, perhaps, something to follow."""
    if now.taken:
        return _blending(now, bounds.blend_ns, now, now_ns) if facts.wish.aligned else now
    if not now.homed:
        return replace(now, mode=_EASE_IN, since_ns=now_ns)
    if not facts.sighted or now.since_ns == now_ns:  # a stop in this very tick made all chunks worthless
        return now
    return _blending(now, facts.step_ns, now, now_ns) if now.returning else replace(now, mode=_POLICY)

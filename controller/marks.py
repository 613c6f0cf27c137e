"""What a tick's record says in flags: what came, how the policy stands, what became of a person's wish."""

from __future__ import annotations

from controller.authority import Authority, Engagement, Facts
from controller.ladder import given_back, obstacle, wanted
from controller.state import Inputs
from controller.takeover import Obstacle, Wish
from episodes.records import Driver, Flag, Mode

# Looking a member up in its enum, or combining two flags, runs Python code: a tick works on plain integers.
_HOLD, _FAULT = Mode.HOLD, Mode.FAULT
_BY_POLICY = Driver.POLICY
_UNENGAGED, _DONE = Engagement.NONE, Engagement.DONE
_NO_CHUNK, _TAIL, _FAULT_LATCHED = int(Flag.NO_CHUNK), int(Flag.TAIL), int(Flag.FAULT_LATCHED)
_ENGAGED, _ENGAGE_FAILED = int(Flag.ENGAGED), int(Flag.ENGAGE_FAILED)
_TAKEN_OVER, _RELEASED, _FORCE = int(Flag.TAKEN_OVER), int(Flag.RELEASED), int(Flag.FORCE)
_TAKEOVER_REFUSED, _STALE_TELEOP = int(Flag.TAKEOVER_REFUSED), int(Flag.STALE_TELEOP)
_NEW_TELEOP, _ORDERED, _UNSENT = int(Flag.NEW_TELEOP), int(Flag.ORDERED), int(Flag.UNSENT)


def arrivals(authority: Authority, driver: Driver, inputs: Inputs, sighted: bool, tail: bool) -> int:
    """What came, and how the policy stands."""
    flags = 0
    if inputs.engagement is not _UNENGAGED:
        flags = _ENGAGED if inputs.engagement is _DONE else _ENGAGE_FAILED
    if inputs.order is not None:
        flags |= _ORDERED
    if inputs.human is not None:
        flags |= _NEW_TELEOP
    if inputs.unsent:
        flags |= _UNSENT
    mode = authority.mode
    if mode is _FAULT:
        flags |= _FAULT_LATCHED
    elif mode is _HOLD:
        if not sighted and authority.homed:
            flags |= _NO_CHUNK
    elif tail and driver is _BY_POLICY:
        flags |= _TAIL
    return flags


def hands(before: Authority, after: Authority, facts: Facts) -> tuple[int, Obstacle]:
    """What became of a person's wish, and what is in its way."""
    wish = facts.wish
    flags = _FORCE if wish.pull else 0
    if after.taken:
        if before.taken:
            mark, obstacle_now = _kept(after, wish)
            return flags | mark, obstacle_now
        return flags | _TAKEN_OVER, Obstacle.NONE
    if before.taken:
        return (flags | _RELEASED if given_back(facts) else flags), Obstacle.NONE
    if wanted(before, facts):
        return flags | _TAKEOVER_REFUSED, obstacle(before, wish) or Obstacle.NOT_READY
    return flags, Obstacle.NONE


def _kept(now: Authority, wish: Wish) -> tuple[int, Obstacle]:
    """Why the person who has the arm does not move it."""
    if now.mode is not _HOLD:
        return 0, Obstacle.NONE
    if not wish.present:
        return _STALE_TELEOP, Obstacle.SILENT
    if not wish.permitted:
        return 0, Obstacle.DEAD_MAN
    return (0, Obstacle.NONE) if wish.aligned else (_TAKEOVER_REFUSED, Obstacle.FAR)

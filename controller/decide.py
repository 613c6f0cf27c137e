"""The decision of one tick: ``decide(state, inputs, now_ns) -> (state, command)``.

No clock, no input or output, no randomness: the same states and inputs give the same commands to the bit, so the same
function runs live, in lock-step simulation, and in the replay of a logged episode.
"""

from __future__ import annotations

import math
from typing import NamedTuple

from controller import schedule as schedules
from controller import takeover
from controller.authority import Authority, Bounds, Engagement, Facts
from controller.commanded import Commanded
from controller.curve import Motion
from controller.envelope import Envelope
from controller.ladder import step
from controller.marks import arrivals, hands
from controller.schedule import Refusal, Schedule
from controller.state import Command, Inputs, State
from controller.takeover import ABSENT, NOBODY, Obstacle, Person, Rules, Wish
from drivers.arm import BusFault
from episodes.records import Driver, Flag, Mode, Order
from spec.chunk import Chunk
from spec.errors import SpecError
from spec.robot import Control, Limits, Robot

__all__ = ["Command", "Decide", "Inputs", "State"]

_HOME_RAD, _HOME_RAD_S = 1e-4, 1e-3
"""The start pose counts as reached this near to it and this slow; an encoder tick is 1.5e-3 rad."""

# Looking a member up in its enum, or combining two flags, runs Python code: a tick works on plain integers.
_READ_FAULTS = int(BusFault.TIMEOUT | BusFault.CORRUPT | BusFault.DISCONNECTED | BusFault.SKIPPED)
_SERVO, _GONE = int(BusFault.SERVO), int(BusFault.DISCONNECTED)
_IDLE, _EASE_IN, _HOLD, _FAULT = Mode.IDLE, Mode.EASE_IN, Mode.HOLD, Mode.FAULT
_BY_NOBODY, _BY_HUMAN = Driver.NONE, Driver.HUMAN
_TAKE_OVER = Order.TAKE_OVER
_UNTRIED, _DONE = Engagement.NONE, Engagement.DONE
_NOTHING = Obstacle.NONE
_TAKEN, _NONFINITE_CHUNK = Refusal.NONE, Refusal.NONFINITE
_STALE_JOINT, _READ_FAILED = int(Flag.STALE_JOINT), int(Flag.READ_FAILED)
_NONFINITE, _LIMITED = int(Flag.NONFINITE), int(Flag.LIMITED)
_WORKSPACE, _COLLISION = int(Flag.WORKSPACE), int(Flag.COLLISION)
_NEW_CHUNK, _CHUNK_REFUSED = int(Flag.NEW_CHUNK), int(Flag.CHUNK_REFUSED)


class _Learned(NamedTuple):
    """The state with the inputs taken in, before anything is decided."""

    flags: int
    position: tuple[float, ...]
    stale: tuple[int, ...]
    alert_ticks: int
    nonfinite_chunks: int
    schedule: Schedule
    refusal: Refusal
    commanded: Commanded | None
    anchored: bool
    person: Person
    wish: Wish


class _Moved(NamedTuple):
    """One period of motion, and what it leaves behind."""

    schedule: Schedule
    person: Person
    commanded: Commanded | None
    asked: tuple[float, ...] | None
    policy: tuple[float, ...] | None
    flags: int


class Decide:
    """The decision function of one robot. What it holds are settings and scratch memory, never state.

    Args:
        limits: per joint.
        control: tick and chunk settings.
        bounds: of the ladder.
        envelope: safety envelope made from the same limits.
        rules: of takeover; None: nobody can take the arm.
    """

    __slots__ = (
        "_absent",
        "_bounds",
        "_control",
        "_envelope",
        "_heard_all",
        "_period_ns",
        "_period_s",
        "_rules",
        "_tail_ns",
        "home",
        "joints",
    )

    def __init__(
        self, limits: Limits, control: Control, bounds: Bounds, envelope: Envelope, rules: Rules | None = None
    ) -> None:
        self.joints = envelope.joints
        self._control, self._bounds, self._envelope = control, bounds, envelope
        self.home = Motion(tuple(limits.home.tolist()), (0.0,) * self.joints)
        self._heard_all = (0,) * self.joints
        self._period_ns, self._period_s = control.period_ns, control.period_ns * 1e-9
        self._tail_ns = round(control.tail_ms * 1e6)
        self._rules = rules
        self._absent = takeover.wish(NOBODY, 0, rules, 0) if rules is not None and rules.dead_man else ABSENT

    @classmethod
    def of(cls, robot: Robot) -> Decide:
        """The decision function a robot file describes.

        Raises:
            SpecError, MisfitError: the MJCF that the workspace box or the collision check needs cannot be used.
        """
        limits, control = robot.limits(), robot.control
        envelope = Envelope.of(robot)
        bounds, rules = Bounds.of(control, robot.follower), Rules.of(robot)
        if rules is not None:
            bounds = bounds._replace(blend_ns=rules.blend_ns)
        return cls(limits, control, bounds, envelope, rules)

    def check_home(self) -> None:
        """Refuse a start pose that the envelope does not permit: from outside, it only forbids what leads further out.

        Raises:
            SpecError: outside the workspace box, or two links, or a link and the table, too near to each other.
        """
        if (found := self._envelope.outside(self.home.position)) is not None:
            what, by = found
            raise SpecError(
                "follower.joints.*.home",
                list(self.home.position),
                f"the start pose violates {what}, by {by * 1e3:.1f} mm",
            )

    def initial(self) -> State:
        """The state before the first tick: idle, nothing heard yet."""
        return State((0,) * self.joints, 0, Authority(), Schedule())

    def __call__(self, state: State, inputs: Inputs, now_ns: int) -> tuple[State, Command]:
        """One tick at the grid instant ``now_ns``."""
        learned = self._learned(state, inputs, now_ns)
        before, schedule, commanded, anchored = state.authority, learned.schedule, learned.commanded, learned.anchored
        sighted, tail = self._sighted(schedule, now_ns)
        facts = self._facts(state, inputs, learned, sighted, now_ns)
        authority = step(before, facts, self._bounds, now_ns)
        if authority.since_ns != before.since_ns:
            schedule, tail = schedules.emptied(schedule), False
        readable = not any(learned.stale)
        if authority.engaged and not anchored and readable:
            commanded, anchored = self._envelope.standing(learned.position), True
        if authority.mode is _IDLE:
            commanded, anchored = None, False

        driver, person = authority.driver, learned.person
        if commanded is None:
            moved = _Moved(schedule, person, None, None, None, 0)
        elif not anchored:
            moved = self._brake(schedule, person, commanded)
        else:
            moved = self._move(authority, driver, schedule, person, commanded, now_ns, now_ns - state.now_ns)
        flags = learned.flags | moved.flags | arrivals(authority, driver, inputs, sighted, tail)
        in_the_way = _NOTHING
        if learned.wish is not ABSENT or before.taken or inputs.order is not None:
            passed, in_the_way = hands(before, authority, facts)
            flags |= passed
        leading = moved.schedule.leading
        after = State(
            learned.stale,
            now_ns,
            authority,
            moved.schedule,
            moved.commanded,
            commanded,
            anchored,
            learned.alert_ticks,
            learned.nonfinite_chunks,
            state.refused_chunks + (learned.refusal > 0),
            moved.person if driver is _BY_HUMAN else takeover.idle(moved.person, authority.taken),
        )
        return after, Command(
            None if moved.commanded is None else moved.commanded.position,
            moved.asked,
            moved.commanded,
            authority.mode,
            authority.fault,
            flags,
            -1 if leading is None else leading.sequence,
            0 if leading is None else leading.weights,
            learned.refusal,
            authority.engaging and (readable or authority.mode is _FAULT),
            authority.stopping and (moved.commanded is None or moved.commanded.at_rest),
            driver,
            authority.alpha(now_ns),
            moved.policy,
            in_the_way,
        )

    def hindrance(self, state: State) -> str:
        """What of the envelope keeps the arm from its start pose, in words; empty where nothing does. Not for every
        tick."""
        return "" if state.commanded is None else self._envelope.hindrance(state.commanded, self.home)

    def _learned(self, state: State, inputs: Inputs, now_ns: int) -> _Learned:
        """Take the inputs in."""
        before = state.authority
        flags, position, stale = self._heard(state, inputs)
        # While the servos are not engaged their alert is what engaging them will clear, or will fail on.
        alerting = before.engaged and int(inputs.fault) & _SERVO
        schedule, refusal, marks = self._chunk(state, inputs.chunk, now_ns)
        nonfinite = state.nonfinite_chunks
        engaged_now = inputs.engagement is _DONE
        if before.taken or engaged_now:  # what the policy says then is nobody's concern
            nonfinite = 0
        elif inputs.chunk is not None:
            nonfinite = nonfinite + 1 if refusal is _NONFINITE_CHUNK else 0
        # A motion goes on from what was really sent: else the next command would be a step of several periods. At the
        # end it does not wait for the bus, which may be gone for good.
        waits = inputs.unsent and not before.stopping
        commanded = state.sent if waits else state.commanded
        # Engaged, the servos hold where they stand, and nothing is sent before that is measured. Where that failed half
        # way some of them do, and nothing is sent before it succeeds.
        untried = inputs.engagement is _UNTRIED
        if not untried:
            commanded = None
        anchored = state.anchored and untried
        person, wish = self._person(state, inputs, commanded if anchored else None, now_ns)
        return _Learned(
            flags | marks,
            position,
            stale,
            state.alert_ticks + 1 if alerting else 0,
            nonfinite,
            schedule,
            refusal,
            commanded,
            anchored,
            person,
            wish,
        )

    def _facts(self, state: State, inputs: Inputs, learned: _Learned, sighted: bool, now_ns: int) -> Facts:
        commanded, last = learned.commanded, learned.schedule.last
        easing = learned.anchored and state.authority.mode is _EASE_IN
        return Facts(
            inputs.order,
            inputs.engagement,
            max(learned.stale),
            (now_ns - state.now_ns) // self._period_ns - 1 if state.now_ns else 0,
            learned.alert_ticks,
            learned.nonfinite_chunks,
            sighted,
            easing and self._at_home(commanded),
            commanded is None or commanded.at_rest,
            0 if last is None else last.step_ns,
            learned.wish,
            bool(int(inputs.fault) & _GONE),
        )

    def _person(self, state: State, inputs: Inputs, commanded: Commanded | None, now_ns: int) -> tuple[Person, Wish]:
        """What there is of a person, and what they want of the arm that is at ``commanded``."""
        person, sample, rules = state.person, inputs.human, self._rules
        if rules is None or (sample is None and person is NOBODY):
            return person, self._absent
        pressed = 0
        if sample is not None:
            person, pressed = takeover.heard(person, sample, rules, now_ns)
        wish = takeover.wish(person, pressed, rules, now_ns)
        if commanded is not None and wish.present:
            waits = state.authority.taken and state.authority.mode is _HOLD
            matters = waits or pressed or wish.pull or inputs.order is _TAKE_OVER
            if matters and takeover.near(person, commanded.position, rules):
                wish = wish._replace(aligned=True)
        return person, wish

    def _heard(self, state: State, inputs: Inputs) -> tuple[int, tuple[float, ...], tuple[int, ...]]:
        """Flags, measured positions, and how long each joint has been silent. A non-finite reading is none."""
        flags = _READ_FAILED if int(inputs.fault) & _READ_FAULTS else 0
        position: list[float] = inputs.position.tolist()
        fresh: list[bool] = inputs.fresh.tolist()
        if not math.isfinite(sum(position)):
            flags |= _NONFINITE
            fresh = [here and math.isfinite(value) for here, value in zip(fresh, position, strict=True)]
        if all(fresh):
            stale = self._heard_all
        else:
            flags |= _STALE_JOINT
            # Engaging the servos one by one was hearing them.
            before = self._heard_all if inputs.engagement is _DONE else state.stale
            stale = tuple([0 if here else ticks + 1 for here, ticks in zip(fresh, before, strict=True)])
        return flags, tuple(position), stale

    def _chunk(self, state: State, chunk: Chunk | None, now_ns: int) -> tuple[Schedule, Refusal, int]:
        if chunk is None:
            return state.schedule, _TAKEN, 0
        refusal = schedules.refusal(
            chunk, state.schedule, self.joints, state.authority.since_ns, now_ns, self._period_ns
        )
        if refusal is _TAKEN:
            return schedules.taken(state.schedule, chunk, now_ns), refusal, _NEW_CHUNK
        marks = _CHUNK_REFUSED | (_NONFINITE if refusal is _NONFINITE_CHUNK else 0)
        return state.schedule, refusal, marks

    def _sighted(self, schedule: Schedule, now_ns: int) -> tuple[bool, bool]:
        """Whether a chunk reaches this instant, and whether it is only the tail of one whose successor is overdue.

        A successor is due one policy step after its predecessor came; one more step is grace.
        """
        last = schedule.last
        if last is None or last.ends_ns <= now_ns:
            return False, False
        late_ns = now_ns - last.arrived_ns - 2 * last.step_ns
        return late_ns <= self._tail_ns, late_ns > 0

    def _at_home(self, commanded: Commanded | None) -> bool:
        return commanded is not None and all(
            abs(p - home) < _HOME_RAD and abs(v) < _HOME_RAD_S
            for p, v, home in zip(commanded.position, commanded.velocity, self.home.position, strict=True)
        )

    def _move(
        self,
        authority: Authority,
        driver: Driver,
        schedule: Schedule,
        person: Person,
        commanded: Commanded,
        now_ns: int,
        elapsed_ns: int,
    ) -> _Moved:
        """One period of motion as the mode has it."""
        wish: Motion | None = None
        policy: tuple[float, ...] | None = None
        if driver is _BY_NOBODY:
            if authority.mode is _EASE_IN:
                wish = self.home
        else:
            ahead, by_human = commanded.motion, driver is _BY_HUMAN
            if schedule.mix is None or (by_human and person.hand is None):  # it begins where this motion goes on
                ahead = ahead.after(self._period_s)
            schedule, wish = schedules.target(schedule, self._control, now_ns, ahead)
            policy = None if wish is None else wish.position
            if by_human and self._rules is not None:
                person, wish = takeover.driven(person, ahead, self._rules, elapsed_ns * 1e-9, now_ns)
        if wish is None:
            return self._brake(schedule, person, commanded)
        done = self._envelope.follow(commanded, wish, gentle=authority.mode is _EASE_IN)
        flags = _LIMITED if done.limited and driver is not _BY_NOBODY else 0
        if done.workspace:
            flags |= _WORKSPACE
        if done.collision:
            flags |= _COLLISION
        if not done.finite:
            flags |= _NONFINITE
        return _Moved(schedule, person, done.commanded, wish.position, policy, flags)

    def _brake(self, schedule: Schedule, person: Person, commanded: Commanded) -> _Moved:
        stopped = self._envelope.brake(commanded)
        return _Moved(schedule, person, stopped, stopped.position, None, 0)

"""The decision of one tick: ``decide(state, inputs, now_ns) -> (state, command)``.

No clock, no input or output, no randomness: the same states and inputs give the same commands to the bit, so the same
function runs live, in lock-step simulation, and in the replay of a logged episode.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import NamedTuple

from controller import schedule as schedules
from controller.authority import Authority, Bounds, Engagement, Facts, Fault, step
from controller.curve import Motion
from controller.envelope import Commanded, Envelope
from controller.kinematics import Kinematics
from controller.schedule import Refusal, Schedule
from drivers.arm import BusFault
from episodes.records import Flag, Mode, Order
from spec.arrays import Bool, Float
from spec.chunk import Chunk
from spec.robot import Control, Limits, Robot

_HOME_RAD, _HOME_RAD_S = 1e-4, 1e-3
"""The start pose counts as reached this near to it and this slow; an encoder tick is 1.5e-3 rad."""

# Looking a member up in its enum, or combining two flags, runs Python code: a tick works on plain integers.
_READ_FAULTS = int(BusFault.TIMEOUT | BusFault.CORRUPT | BusFault.DISCONNECTED | BusFault.SKIPPED)
_SERVO = int(BusFault.SERVO)
_IDLE, _EASE_IN, _POLICY, _HOLD, _FAULT, _BLEND, _HUMAN = Mode
_UNENGAGED, _DONE, _FAILED = Engagement
_TAKEN, _NONFINITE_CHUNK = Refusal.NONE, Refusal.NONFINITE
_STALE_JOINT, _NO_CHUNK, _TAIL = int(Flag.STALE_JOINT), int(Flag.NO_CHUNK), int(Flag.TAIL)
_NONFINITE, _LIMITED, _WORKSPACE = int(Flag.NONFINITE), int(Flag.LIMITED), int(Flag.WORKSPACE)
_FAULT_LATCHED, _READ_FAILED = int(Flag.FAULT_LATCHED), int(Flag.READ_FAILED)
_NEW_CHUNK, _CHUNK_REFUSED = int(Flag.NEW_CHUNK), int(Flag.CHUNK_REFUSED)
_ENGAGED, _ENGAGE_FAILED = int(Flag.ENGAGED), int(Flag.ENGAGE_FAILED)


@dataclass(slots=True, eq=False)
class Inputs:
    """Everything one tick learned. Arrays have shape (joints,) and are not kept."""

    position: Float
    """[rad]"""
    velocity: Float
    """[rad/s]"""
    effort: Float
    """Current [A] or load fraction."""
    fresh: Bool
    """True where this tick brought the value."""
    fault: BusFault
    chunk: Chunk | None = None
    """A chunk that came since the last tick."""
    order: Order | None = None
    engagement: Engagement = Engagement.NONE
    unsent: bool = False
    """The last command never left: the servos still follow the one before it."""


class State(NamedTuple):
    """All that one tick hands to the next. Immutable."""

    stale: tuple[int, ...]
    """Ticks since each joint was heard, shape (joints,)."""
    now_ns: int
    """Instant of the tick that left this state."""
    authority: Authority
    schedule: Schedule
    commanded: Commanded | None = None
    """None until the servos were engaged."""
    sent: Commanded | None = None
    """The command before it, which the servos follow in case ``commanded`` never leaves."""
    anchored: bool = False
    """The command began at a pose measured since the servos were last engaged."""
    alert_ticks: int = 0
    nonfinite_chunks: int = 0
    """In a row."""
    refused_chunks: int = 0
    """Since the start."""


class Command(NamedTuple):
    """What to do about it."""

    position: tuple[float, ...] | None
    """Joint targets to send [rad]; None sends nothing."""
    asked: tuple[float, ...] | None
    """What the schedule, or the way to the start pose, wanted [rad]."""
    commanded: Commanded | None
    mode: Mode
    fault: Fault
    flags: int
    """Bits of :class:`episodes.records.Flag`."""
    chunk: int
    """Sequence of the newest chunk in use; -1 for none."""
    weights: int
    """Its weight version."""
    refusal: Refusal
    """Why the chunk of this tick was not taken."""
    engage: bool
    """Have the servos hold the arm where it stands, and say in the next inputs what came of it."""
    done: bool
    """STOP was ordered and the arm stands."""


class Decide:
    """The decision function of one robot. What it holds are settings and scratch memory, never state.

    Args:
        limits: per joint.
        control: tick and chunk settings.
        bounds: of the ladder.
        envelope: safety envelope made from the same limits.
    """

    __slots__ = ("_bounds", "_control", "_envelope", "_heard_all", "_period_ns", "_tail_ns", "home", "joints")

    def __init__(self, limits: Limits, control: Control, bounds: Bounds, envelope: Envelope) -> None:
        self.joints = envelope.joints
        self._control, self._bounds, self._envelope = control, bounds, envelope
        self.home = Motion(tuple(limits.home.tolist()), (0.0,) * self.joints)
        self._heard_all = (0,) * self.joints
        self._period_ns = control.period_ns
        self._tail_ns = round(control.tail_ms * 1e6)

    @classmethod
    def of(cls, robot: Robot) -> Decide:
        """The decision function a robot file describes.

        Raises:
            SpecError, MisfitError: the MJCF that the workspace box needs cannot be used.
        """
        limits, control = robot.limits(), robot.control
        kinematics = workspace = None
        if robot.workspace is not None and robot.model is not None:
            kinematics, workspace = Kinematics(robot.model, robot.follower.names), robot.workspace.bounds()
        envelope = Envelope(limits, 1.0 / control.rate_hz, kinematics, workspace)
        return cls(limits, control, Bounds.of(control, robot.follower), envelope)

    def initial(self) -> State:
        """The state before the first tick: idle, nothing heard yet."""
        return State((0,) * self.joints, 0, Authority(), Schedule())

    def __call__(self, state: State, inputs: Inputs, now_ns: int) -> tuple[State, Command]:
        """One tick at the grid instant ``now_ns``."""
        flags, position, stale = self._heard(state, inputs)
        # While the servos are not engaged their alert is what engaging them will clear, or will fail on.
        alerting = state.authority.engaged and int(inputs.fault) & _SERVO
        alerts = state.alert_ticks + 1 if alerting else 0
        schedule, refusal, refusal_flags = self._chunk(state, inputs.chunk, now_ns)
        flags |= refusal_flags
        nonfinite = state.nonfinite_chunks
        if inputs.chunk is not None:
            nonfinite = nonfinite + 1 if refusal is _NONFINITE_CHUNK else 0

        # A motion goes on from what was really sent: else the next command would be a step of several periods. At the
        # end it does not wait for the bus, which may be gone for good.
        waits = inputs.unsent and not state.authority.stopping
        commanded, anchored = (
            state.sent if waits else state.commanded,
            state.anchored and inputs.engagement is not _DONE,
        )
        readable = not any(stale)
        sighted, tail = self._sighted(schedule, now_ns)
        authority = step(
            state.authority,
            Facts(
                inputs.order,
                inputs.engagement,
                max(stale),
                (now_ns - state.now_ns) // self._period_ns - 1 if state.now_ns else 0,
                alerts,
                nonfinite,
                sighted,
                anchored and state.authority.mode is _EASE_IN and self._at_home(commanded),
                commanded is None or commanded.at_rest,
            ),
            self._bounds,
            now_ns,
        )
        if authority.since_ns != state.authority.since_ns:
            schedule, tail = schedules.emptied(schedule), False
        if authority.engaged and not anchored and readable:
            commanded, anchored = self._envelope.standing(position), True

        if authority.mode is _IDLE:
            commanded, anchored = None, False

        asked, sent = None, commanded
        if commanded is not None:
            schedule, commanded, asked, moving = self._move(authority, schedule, commanded, anchored, now_ns)
            flags |= moving
        flags |= _marks(authority, inputs.engagement, sighted, tail)
        last = schedule.last
        after = State(
            stale,
            now_ns,
            authority,
            schedule,
            commanded,
            sent,
            anchored,
            alerts,
            nonfinite,
            state.refused_chunks + (refusal > 0),
        )
        return after, Command(
            None if commanded is None else commanded.position,
            asked,
            commanded,
            authority.mode,
            authority.fault,
            flags,
            -1 if last is None else last.sequence,
            0 if last is None else last.weights,
            refusal,
            authority.engaging and readable,
            authority.stopping and (commanded is None or commanded.at_rest),
        )

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
            stale = tuple([0 if here else ticks + 1 for here, ticks in zip(fresh, state.stale, strict=True)])
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
        self, authority: Authority, schedule: Schedule, commanded: Commanded, anchored: bool, now_ns: int
    ) -> tuple[Schedule, Commanded, tuple[float, ...], int]:
        """One period of motion as the mode has it: schedule after, command, what was asked, flags."""
        wish: Motion | None = None
        if authority.mode is _POLICY and anchored:
            schedule, wish = schedules.target(schedule, self._control, now_ns, commanded.motion)
        elif authority.mode is _EASE_IN and anchored:
            wish = self.home
        if wish is None:
            stopped = self._envelope.brake(commanded)
            return schedule, stopped, stopped.position, 0
        done = self._envelope.follow(commanded, wish, gentle=authority.mode is _EASE_IN)
        flags = _LIMITED if done.limited and authority.mode is _POLICY else 0
        if done.workspace:
            flags |= _WORKSPACE
        if not done.finite:
            flags |= _NONFINITE
        return schedule, done.commanded, wish.position, flags


def _marks(authority: Authority, engagement: Engagement, sighted: bool, tail: bool) -> int:
    flags = 0
    if engagement is not _UNENGAGED:
        flags = _ENGAGED if engagement is _DONE else _ENGAGE_FAILED
    mode = authority.mode
    if mode is _FAULT:
        flags |= _FAULT_LATCHED
    elif authority.homed and (mode is _POLICY or mode is _HOLD):
        if not sighted:
            flags |= _NO_CHUNK
        elif tail and mode is _POLICY:
            flags |= _TAIL
    return flags

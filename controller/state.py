"""What goes into one tick, what comes out of it, and what it hands to the next."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

from controller.authority import Authority, Engagement, Fault
from controller.commanded import Commanded
from controller.schedule import Refusal, Schedule
from controller.takeover import NOBODY, Obstacle, Person
from drivers.arm import BusFault
from episodes.records import Driver, Mode, Order
from spec.arrays import Bool, Float
from spec.chunk import Chunk
from spec.teleop import TeleopSample


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
    human: TeleopSample | None = None
    """A sample of the teleoperation device that came since the last tick."""


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
    person: Person = NOBODY


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
    """Sequence of the newest chunk the policy's wish is made of, whoever drives; -1 for none."""
    weights: int
    """Weight version of all such chunks; says nothing where there is none."""
    refusal: Refusal
    """Why the chunk of this tick was not taken."""
    engage: bool
    """Have the servos hold the arm where it stands, and say in the next inputs what came of it. Where a fault is
    latched this is its recovery: the operator says that the cause is gone."""
    done: bool
    """STOP was ordered and the arm stands."""
    driver: Driver
    """Whose wish ``asked`` is."""
    alpha: float
    """Weight of the person against the policy, 0 to 1."""
    policy: tuple[float, ...] | None
    """What the policy wants [rad], whoever drives; None where no chunk is followed."""
    obstacle: Obstacle
    """Why a person who wants the arm, or has it while it is held, does not move it."""

"""What a case left behind: what the loop recorded, what was said, and what the virtual arm knows to be true."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from cadenza.faults.cases import Case, Trouble
from cadenza.faults.kinds import Tempo
from controller.loop import Termination
from episodes.records import Flag, Mode
from spec.arrays import Bool, Float, Int
from spec.robot import Robot

MOVING = (Mode.EASE_IN, Mode.POLICY, Mode.BLEND, Mode.HUMAN)


@dataclass(frozen=True, slots=True, eq=False)
class Truth:
    """What the virtual arm knows, once a tick, shape (ticks, ...). No driver sees this."""

    joints: Float
    """Where they are [rad], shape (ticks, joints)."""
    goals: Float
    """What the servos pursue [rad], likewise."""
    torque: Bool
    """Which hold, likewise."""
    harmed: Int
    """Packets lost, broken or made up so far that a reader could notice, shape (ticks,)."""
    alarms: Int
    """Bits of Hardware Error Status(70) of every servo that could say so: with power, plugged in, not silent, shape
    (ticks, joints)."""
    shut: Bool
    """Which have shut themselves down, by an error that their Shutdown(63) names, and were not restarted, likewise."""
    tripped: Bool
    """Whose Bus Watchdog(98) fired: they have made a goal of where they were, and take no other, likewise."""


@dataclass(frozen=True, slots=True, eq=False)
class Evidence:
    """One case, whole."""

    case: Case
    robot: Robot
    ticks: npt.NDArray[Any]
    """Structured array of :class:`episodes.records.TickRecord`."""
    truth: Truth
    notices: tuple[tuple[float, str], ...]
    """What the loop said, and when [s]."""
    delivered: tuple[tuple[float, str], ...]
    """When a chunk came [s], and which kind of fault had spoilt it; "" where none had."""
    began_ns: int
    ended: Termination
    calm_s: float
    """From then on all was well [s]."""
    word_s: float | None
    """When the operator said that it was [s]; None: nothing had to be said."""
    again_s: float | None
    """When the policy drove after that [s]; None: it did not."""
    rested: tuple[bool, ...] = ()
    """Whether each joint was held some time after the loop had ended; empty where nobody looked."""
    switched_s: tuple[float, ...] = ()
    """When the operator switched the servos' power off and on [s]."""

    @property
    def joints(self) -> int:
        return len(self.robot.follower.names)

    @property
    def tempo(self) -> Tempo:
        return Tempo.of(self.robot)

    @property
    def time_s(self) -> Float:
        """Instant of every tick [s], shape (ticks,)."""
        return np.asarray((self.ticks["now_ns"] - self.began_ns) * 1e-9)

    @property
    def mode(self) -> Int:
        return np.asarray(self.ticks["mode"], dtype=np.int64)

    @property
    def commanded(self) -> Float:
        """What the envelope let through [rad], shape (ticks, joints); NaN where there was no command."""
        return np.asarray(self.ticks["limited"][:, : self.joints])

    @property
    def standing(self) -> Bool:
        """Where the arm is held, and its servos are given no goal but the one they have, shape (ticks,)."""
        held = np.isin(self.mode, (Mode.HOLD, Mode.FAULT))
        still = ~(np.abs(self.ticks["limited_velocity"][:, : self.joints]) > 1e-6).any(axis=1)
        return np.asarray(held & (still | self.flagged(Flag.WRITE_FAILED)))

    @property
    def fresh(self) -> Bool:
        """Ticks in which every joint was heard, shape (ticks,)."""
        return np.asarray((self.ticks["fresh"][:, : self.joints] != 0).all(axis=1))

    def flagged(self, flags: Flag) -> Bool:
        """Ticks that carry any of ``flags``, shape (ticks,)."""
        return np.asarray((self.ticks["flags"] & int(flags)) != 0)

    def during(self, trouble: Trouble, grace_s: float = 0.0) -> Bool:
        """Ticks of the time of a fault, and a little longer, shape (ticks,)."""
        time = self.time_s
        return np.asarray((time >= trouble.at_s) & (time < trouble.ends_s + grace_s))

    def joints_of(self, trouble: Trouble) -> list[int]:
        """Of the servos that a fault befalls; all where it does not say which."""
        ids = [joint.id for joint in self.robot.follower.joints.values()]
        servos = trouble.values.get("servos", [trouble.values["servo"]] if "servo" in trouble.values else ids)
        return [ids.index(servo) for servo in servos]

    def said(self, trouble: Trouble, words: str, grace_s: float) -> bool:
        """Whether the loop said ``words`` in that time."""
        until_s = trouble.ends_s + grace_s
        return any(trouble.at_s <= at < until_s and re.search(words, text) for at, text in self.notices)

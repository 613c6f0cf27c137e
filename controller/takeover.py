"""The person's side of a tick: what the device says, what buttons and a pull at it mean, where the hand goes. Pure.

The device is read on its own clock, fifty times a second perhaps, by encoders of 1.5 mrad. Followed sample by sample
the command would be a staircase. So each sample is a straight line (where the hand was, how fast it went), and the
hand's motion closes in on that line like a critically damped spring: no lag behind an even motion, 6 mrad behind one
that gains 10 rad/s², and of a whole encoder tick no more than 2.5 rad/s² comes through.

When a person takes the arm, what was commanded until then is faded out over ``teleop.blend_ms``, position and
velocity alike. So the motion asked for begins exactly as the old one went on.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from enum import IntEnum
from typing import NamedTuple, Self

from controller.curve import Cubic, Motion
from controller.schedule import MAX_RAD
from spec.robot import Robot
from spec.teleop import Button, TeleopSample

STIFFNESS = 40.0
"""Natural frequency of the spring [rad/s]. A hand does little above 5 Hz, which is 31 rad/s."""

COAST = 2
"""A line is followed for so many sample intervals, then the hand counts as standing: the next sample is late."""

_MAX_RAD_S = 100.0
"""[rad/s] No hand is so fast; a line at such a speed would carry the arm off before the next sample came."""

REARM_NS = 500_000_000
"""A pull counts after the leader was left alone for so long [ns]: who lets go holds on for a moment."""

# Looking a member up in its enum, or combining two flags, runs Python code: a tick works on plain integers.
_TAKE, _RELEASE, _TOGGLE, _DEAD_MAN = map(int, (Button.TAKE, Button.RELEASE, Button.TOGGLE, Button.DEAD_MAN))


class Obstacle(IntEnum):
    """Why a person who wants the arm does not get it."""

    NONE = 0
    NOT_READY = 1
    """It is not under command: idle, faulted, ending, or its servos are not engaged."""
    SILENT = 2
    """The device has not been heard for ``teleop.stale_ms``."""
    FAR = 3
    """The device is further than ``teleop.align_rad`` from the arm."""
    DEAD_MAN = 4
    """The dead man's button is not held."""


@dataclass(frozen=True, slots=True)
class Rules:
    """Settings of takeover. Tuples have length joints."""

    blend_ns: int
    stale_ns: int
    align_rad: float
    dead_man: bool
    lag_s: float
    """How far the leader trails what it mirrors."""
    residual: tuple[float, ...] = ()
    """[rad] Further than this from what it mirrors, somebody pulls at it. Empty: force does not count."""
    current: tuple[float, ...] = ()
    """[A] Likewise."""

    @classmethod
    def of(cls, robot: Robot) -> Self | None:
        """Those of a robot file; None where nobody can take the arm."""
        teleop = robot.teleop
        if teleop is None:
            return None
        rules = cls(
            round(teleop.blend_ms * 1e6),
            round(teleop.stale_ms * 1e6),
            teleop.align_rad,
            teleop.dead_man,
            0.0,
        )
        if not teleop.force or teleop.takeover is None:
            return rules
        measured, names = teleop.takeover, robot.follower.names
        return cls(
            rules.blend_ns,
            rules.stale_ns,
            rules.align_rad,
            rules.dead_man,
            measured.lag_s,
            tuple([measured.position.get(name, math.inf) for name in names]),
            tuple([measured.current.get(name, math.inf) for name in names]),
        )


class Person(NamedTuple):
    """What the next tick must know of the person. Immutable. Tuples have length joints."""

    heard_ns: int = -1
    """Tick that brought the newest sample, whatever it said; -1: none ever came."""
    buttons: int = 0
    """Of that sample."""
    read_ns: int = -1
    """Instant of the newest sample with numbers in it; -1: none ever came."""
    position: tuple[float, ...] = ()
    """[rad] Of that sample."""
    velocity: tuple[float, ...] = ()
    """[rad/s]"""
    spacing_ns: int = 0
    """Between it and the one before."""
    quiet_ns: int = -1
    """The leader has mirrored and been left alone since then; -1: it has not."""
    pulled: bool = False
    """Somebody pulls at it, and it counts."""
    hand: Motion | None = None
    """The smoothed motion; None while the person does not drive."""
    fade: Cubic | None = None
    """What is left of the motion that the person took over."""


class Wish(NamedTuple):
    """What a person wants in this tick."""

    take: bool = False
    release: bool = False
    toggle: bool = False
    pull: bool = False
    present: bool = False
    """The device was heard not too long ago."""
    aligned: bool = False
    """It is where the arm is. Only looked at where it matters."""
    permitted: bool = True
    """The dead man's button is held, or there is none."""
    silent_ns: int = 0
    """For how long the device has not been heard."""


NOBODY = Person()
ABSENT = Wish()


def heard(person: Person, sample: TeleopSample, rules: Rules, now_ns: int) -> tuple[Person, int]:
    """The person after one more sample, and the buttons that went down with it.

    A sample that is not newer than the one before, or holds something that is no motion of a hand, says nothing of it;
    its buttons count all the same: a foot pedal must release an arm whose leader is gone.
    """
    first = person.heard_ns < 0 or now_ns - person.heard_ns > rules.stale_ns
    pressed = 0 if first else sample.buttons & ~person.buttons
    if sample.read_ns <= person.read_ns or sample.read_ns > now_ns + rules.stale_ns or not _motion(sample):
        return person._replace(heard_ns=now_ns, buttons=sample.buttons), pressed
    spacing_ns = 0 if person.read_ns < 0 else sample.read_ns - person.read_ns
    silent = spacing_ns == 0 or spacing_ns > rules.stale_ns
    quiet_ns, pulled = -1, False
    if rules.residual and math.isfinite(sum(sample.goal)):
        quiet_ns, pulled = _pull(-1 if silent else person.quiet_ns, sample, rules)
    after = Person(
        now_ns,
        sample.buttons,
        sample.read_ns,
        sample.position,
        sample.velocity,
        0 if silent else spacing_ns,
        quiet_ns,
        pulled,
        person.hand,
        person.fade,
    )
    return after, pressed


def _motion(sample: TeleopSample) -> bool:
    return (
        math.isfinite(sum(sample.position) + sum(sample.velocity))
        and min(sample.position) >= -MAX_RAD
        and max(sample.position) <= MAX_RAD
        and min(sample.velocity) >= -_MAX_RAD_S
        and max(sample.velocity) <= _MAX_RAD_S
    )


def _pull(quiet_ns: int, sample: TeleopSample, rules: Rules) -> tuple[int, bool]:
    """Since when the leader has been left alone, and whether it is pulled at after that."""
    lag = rules.lag_s
    for goal, p, v, current, far, strong in zip(
        sample.goal, sample.position, sample.velocity, sample.effort, rules.residual, rules.current, strict=True
    ):
        if abs(goal - p - lag * v) > far or abs(current) > strong:
            armed = 0 <= quiet_ns <= sample.read_ns - REARM_NS
            return (quiet_ns if armed else -1), armed
    return (sample.read_ns if quiet_ns < 0 else quiet_ns), False


def wish(person: Person, pressed: int, rules: Rules, now_ns: int) -> Wish:
    """What the person wants now, but for ``aligned``."""
    present = person.read_ns >= 0 and now_ns - person.read_ns <= rules.stale_ns
    permitted = not rules.dead_man or (present and bool(person.buttons & _DEAD_MAN))
    return Wish(
        bool(pressed & _TAKE),
        bool(pressed & _RELEASE),
        bool(pressed & _TOGGLE),
        present and person.pulled,
        present,
        False,
        permitted,
        now_ns - person.read_ns,
    )


def near(person: Person, position: tuple[float, ...], rules: Rules) -> bool:
    """Whether the device is where the arm is commanded to be, in every joint."""
    reach = rules.align_rad
    return all(-reach <= p - q <= reach for p, q in zip(person.position, position, strict=True))


def idle(person: Person, taken: bool) -> Person:
    """The person of a tick in which nobody but the policy moves the arm."""
    if person is NOBODY:
        return person
    if taken and person.quiet_ns >= 0:  # whoever has the arm is not left alone
        person = person._replace(quiet_ns=-1, pulled=False)
    return person if person.hand is None else person._replace(hand=None, fade=None)


def driven(person: Person, ahead: Motion, rules: Rules, period_s: float, now_ns: int) -> tuple[Person, Motion]:
    """The motion the person asks for.

    Args:
        ahead: what would be commanded now if nothing changed; only the first such tick starts from it.
        period_s: since the tick before [s].
    """
    line = _line(person, now_ns)
    fade = person.fade
    if person.hand is None:
        hand, fade = line, Cubic.fade(now_ns, rules.blend_ns, ahead.minus(line))
    else:
        hand = _closer(person.hand, line, period_s)
        fade = None if fade is None or not fade.covers(now_ns) else fade
    after = person._replace(hand=hand, fade=fade, quiet_ns=-1, pulled=False)
    return after, hand if fade is None else hand.plus(fade.at(now_ns))


def _line(person: Person, now_ns: int) -> Motion:
    """Where the hand is now, by the newest sample."""
    age_ns, most_ns = now_ns - person.read_ns, COAST * person.spacing_ns
    if age_ns <= most_ns:
        t, velocity = age_ns * 1e-9, person.velocity
    else:
        t, velocity = most_ns * 1e-9, (0.0,) * len(person.velocity)
    return Motion(tuple([p + t * v for p, v in zip(person.position, person.velocity, strict=True)]), velocity)


def _closer(hand: Motion, line: Motion, period_s: float) -> Motion:
    """One period of the spring, by the implicit Euler rule: stable for any period, and nothing but + · /."""
    pull = STIFFNESS * STIFFNESS * period_s
    drag = 1.0 / (1.0 + STIFFNESS * period_s) ** 2
    position, velocity = [], []
    for p, u, q, v in zip(hand.position, hand.velocity, line.position, line.velocity, strict=True):
        off = p - (q - v * period_s)
        rate = (u - v - pull * off) * drag
        position.append(q + off + period_s * rate)
        velocity.append(v + rate)
    return Motion(tuple(position), tuple(velocity))

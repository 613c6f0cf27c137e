"""From the action chunks alive at an instant to one target. Pure: works on clocks, never on queue indices.

Between two actions the target follows a cubic that passes through both at their due times with a continuous velocity
and never beyond either (slopes limited as Fritsch & Carlson 1980, SIAM J. Numer. Anal. 17(2), require for a monotone
curve). A straight line would do as well for the position, but its corners ask for infinite acceleration ten times a
second, and the arm would be in its limits on every clean chunk.

An action moves the arm *during* its step, so the first one starts somewhere: from where its own rate would have
come, one step before it is due (action 0 minus the change from action 0 to action 1). That needs nothing but the chunk,
so every chunk, wherever it comes from, replays alike.

Whenever the set of chunks in use changes (one arrives, one ends), the difference between the old and the new target
is faded out over one policy step, position and velocity alike (:class:`Splice`). So the target is smooth at every
switch, and chunks that agree are followed exactly.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from enum import IntEnum
from typing import NamedTuple

import numpy as np

from spec.arrays import Float
from spec.chunk import Chunk
from spec.robot import ChunkMode, Control

MAX_ALIVE = 32
"""Chunks that are averaged at most; beyond that the oldest go. ACT's own use has as many as a chunk is long."""

MAX_LENGTH = 1024
"""A longer chunk is no chunk."""


class Refusal(IntEnum):
    """Why a chunk was not taken."""

    NONE = 0
    SHAPE = 1
    """Wrong number of joints, no action at all, or absurdly many; or a step that is no time."""
    NONFINITE = 2
    FUTURE = 3
    """Observed after now."""
    OUTDATED = 4
    """Not newer than one already taken, or observed before the policy was given the arm."""
    EXPIRED = 5
    """Its last action was due before it came."""


class Motion(NamedTuple):
    """Where the joints are and how fast they go, each of length joints."""

    position: tuple[float, ...]
    """[rad]"""
    velocity: tuple[float, ...]
    """[rad/s]"""


@dataclass(frozen=True, slots=True, eq=False)
class Track:
    """A chunk that was taken, with its curve worked out once."""

    sequence: int
    weights: int
    observed_ns: int
    step_ns: int
    ends_ns: int
    arrived_ns: int
    curve: Float
    """Cubic coefficients of each step, shape (chunk, 4, joints): p(s) = Σ c_i s^i [rad], s in [0, 1]."""


@dataclass(frozen=True, slots=True)
class Splice:
    """What is left of a difference between two targets, fading: a cubic from (position, velocity) to rest at zero."""

    since_ns: int
    span_ns: int
    position: tuple[float, ...]
    """[rad]"""
    velocity: tuple[float, ...]
    """[rad/s]"""

    def at(self, now_ns: int) -> Motion | None:
        """Offset and its rate; None once it has gone."""
        s = (now_ns - self.since_ns) / self.span_ns
        if s >= 1.0:
            return None
        span = self.span_ns * 1e-9
        rest = 1.0 - s
        # Hermite basis functions of the starting value and slope, and their derivatives.
        value, slope = rest * rest * (1.0 + 2.0 * s), s * rest * rest * span
        value_rate, slope_rate = -6.0 * s * rest / span, rest * (1.0 - 3.0 * s)
        pairs = tuple(zip(self.position, self.velocity, strict=True))
        return Motion(
            tuple([value * p + slope * v for p, v in pairs]),
            tuple([value_rate * p + slope_rate * v for p, v in pairs]),
        )


@dataclass(frozen=True, slots=True)
class Schedule:
    """The chunks in hand. Immutable; every function below returns a new one."""

    alive: tuple[Track, ...] = ()
    """Oldest first."""
    using: tuple[int, ...] = ()
    """Sequence numbers of those the target was made of at the last tick."""
    turn_ends_ns: int = 0
    """Mode open_loop: until when the chunk in use keeps its turn."""
    splice: Splice | None = None
    newest: int = -1
    """Sequence of the newest chunk ever taken; an older one never comes back."""

    @property
    def last(self) -> Track | None:
        return self.alive[-1] if self.alive else None


def refusal(chunk: Chunk, schedule: Schedule, joints: int, since_ns: int, now_ns: int, slack_ns: int) -> Refusal:
    """Whether a chunk can be used at all.

    Args:
        since_ns: observations before this are of another time: before a hold, an ease-in, a person's turn.
        slack_ns: how far ahead of ``now_ns``, which is an instant of the grid, an observation may seem to be.
    """
    targets = chunk.targets
    if targets.ndim != 2 or targets.shape[1] != joints or not 1 <= targets.shape[0] <= MAX_LENGTH or chunk.step_ns <= 0:
        return Refusal.SHAPE
    if not math.isfinite(float(targets.sum())) and not bool(np.isfinite(targets).all()):
        return Refusal.NONFINITE
    if chunk.observed_ns > now_ns + slack_ns:
        return Refusal.FUTURE
    last = schedule.last
    if chunk.sequence <= schedule.newest or chunk.observed_ns < since_ns:
        return Refusal.OUTDATED
    if last is not None and chunk.observed_ns < last.observed_ns:
        return Refusal.OUTDATED
    return Refusal.EXPIRED if chunk.ends_ns <= now_ns else Refusal.NONE


def taken(schedule: Schedule, chunk: Chunk, now_ns: int) -> Schedule:
    """The schedule with one more chunk, which must have passed :func:`refusal`."""
    track = Track(
        chunk.sequence,
        chunk.weights,
        chunk.observed_ns,
        chunk.step_ns,
        chunk.ends_ns,
        now_ns,
        _curve(chunk.targets),
    )
    alive = (*schedule.alive, track)[-MAX_ALIVE:]
    return Schedule(alive, schedule.using, schedule.turn_ends_ns, schedule.splice, chunk.sequence)


def emptied(schedule: Schedule) -> Schedule:
    """The schedule without its chunks; it still knows which were used."""
    return Schedule(newest=schedule.newest)


def target(schedule: Schedule, control: Control, now_ns: int, standing: Motion) -> tuple[Schedule, Motion | None]:
    """Where the chunks in hand want the arm to be.

    Args:
        standing: what to start from where no chunk was in use before.

    Returns:
        The schedule for the next tick, and the target; None where no chunk reaches ``now_ns``.
    """
    alive = schedule.alive
    if alive and alive[0].ends_ns <= now_ns:
        alive = tuple([track for track in alive if track.ends_ns > now_ns])
    if not alive:
        return emptied(schedule), None
    chosen, turn_ends_ns = _chosen(schedule, alive, control, now_ns)
    using = tuple([track.sequence for track in chosen])
    splice = schedule.splice
    if using == schedule.using:
        wish = _mean(_motions(chosen, control, now_ns), control)
    else:
        used = tuple([track for track in schedule.alive if track.sequence in schedule.using])
        motions = _motions((*used, *chosen), control, now_ns)
        wish = _mean(motions[len(used) :], control)
        before = standing
        if used:
            before = _mean(motions[: len(used)], control)
            left = None if splice is None else splice.at(now_ns)
            before = before if left is None else _plus(before, left)
        splice = Splice(now_ns, chosen[-1].step_ns, *_minus(before, wish))
    offset = None if splice is None else splice.at(now_ns)
    if offset is None:
        splice = None
    else:
        wish = _plus(wish, offset)
    if control.mode is not ChunkMode.ENSEMBLE:  # only the one in use and the one that may follow matter from here on
        alive = tuple([track for track in alive if track is alive[-1] or track in chosen])
    return Schedule(alive, using, turn_ends_ns, splice, schedule.newest), wish


def _chosen(
    schedule: Schedule, alive: tuple[Track, ...], control: Control, now_ns: int
) -> tuple[tuple[Track, ...], int]:
    """The chunks to follow now, oldest first, and until when the present one keeps its turn (open_loop)."""
    newest = alive[-1]
    if control.mode is ChunkMode.ENSEMBLE:
        return alive, 0
    if control.mode is not ChunkMode.OPEN_LOOP:
        return (newest,), 0
    current = next((track for track in alive if track.sequence in schedule.using), None)
    if current is not None and (now_ns < schedule.turn_ends_ns or current is newest):
        return (current,), schedule.turn_ends_ns
    # n actions from the first that is still due: those that came too late do not count.
    reached = max(0, (now_ns - newest.observed_ns) // newest.step_ns)
    return (newest,), newest.observed_ns + (reached + control.open_loop_steps) * newest.step_ns


def _motions(tracks: tuple[Track, ...], control: Control, now_ns: int) -> Float:
    """Position and velocity of every track at an instant, shape (tracks, 2, joints).

    Elementwise products and sums in a fixed order, no BLAS: the same numbers on every machine.
    """
    steps: list[Float] = []
    powers: list[float] = []
    for track in tracks:
        step, into = divmod(now_ns - track.observed_ns, track.step_ns)
        rate = 1e9 / track.step_ns
        last = track.curve.shape[0] - 1
        if control.mode is ChunkMode.FIRST:  # the first action, reached and standing
            step, into = 0, track.step_ns
            rate = 0.0
        if 0 <= step <= last:
            s = into / track.step_ns
            powers += (1.0, s, s * s, s * s * s, 0.0, rate, 2.0 * rate * s, 3.0 * rate * s * s)
        elif step < 0:  # observed a moment after this instant of the grid: its start
            powers += (1.0, 0.0, 0.0, 0.0, 0.0, rate, 0.0, 0.0)
            step = 0
        else:  # over since the last tick, asked for once more to be faded out: straight on
            s = min((now_ns - track.ends_ns) / track.step_ns, 1.0)
            powers += (1.0, 1.0 + s, 1.0 + 2.0 * s, 1.0 + 3.0 * s, 0.0, rate, 2.0 * rate, 3.0 * rate)
            step = last
        steps.append(track.curve[step])
    scales = np.array(powers).reshape(-1, 2, 4, 1)
    return np.asarray((scales * np.array(steps)[:, None]).sum(axis=2))


def _mean(motions: Float, control: Control) -> Motion:
    """Weighted mean of ``motions``, shape (tracks, 2, joints): exp(-m·i), i = 0 for the oldest (ACT, section IV-B)."""
    if len(motions) == 1:
        position, velocity = motions[0].tolist()
    else:
        decay = math.exp(-control.ensemble_m)
        weights = [1.0]
        for _ in range(len(motions) - 1):
            weights.append(weights[-1] * decay)
        total = sum(weights)
        share = np.array([weight / total for weight in weights])
        position, velocity = (share[:, None, None] * motions).sum(axis=0).tolist()
    return Motion(tuple(position), tuple(velocity))


def _curve(targets: Float) -> Float:
    """Cubic coefficients through all actions of a chunk, see the head of this module. Shape (chunk, 4, joints)."""
    length, joints = targets.shape
    knots = np.empty((length + 1, joints))
    knots[1:] = targets
    knots[0] = targets[0] if length == 1 else 2.0 * targets[0] - targets[1]
    rise = knots[1:] - knots[:-1]
    slope = np.empty_like(knots)
    slope[0], slope[-1] = rise[0], rise[-1]
    before, after = rise[:-1], rise[1:]
    mean = 0.5 * (before + after)
    # A slope within three times the smaller neighbour, and zero at a turning point, keeps the cubic monotone.
    bound = np.where(before * after > 0.0, 3.0 * np.minimum(np.abs(before), np.abs(after)), 0.0)
    slope[1:-1] = np.clip(mean, -bound, bound)
    curve = np.empty((length, 4, joints))
    curve[:, 0] = knots[:-1]
    curve[:, 1] = slope[:-1]
    curve[:, 2] = 3.0 * rise - 2.0 * slope[:-1] - slope[1:]
    curve[:, 3] = slope[:-1] + slope[1:] - 2.0 * rise
    curve.setflags(write=False)
    return curve


def _plus(a: Motion, b: Motion) -> Motion:
    return Motion(
        tuple([x + y for x, y in zip(a.position, b.position, strict=True)]),
        tuple([x + y for x, y in zip(a.velocity, b.velocity, strict=True)]),
    )


def _minus(a: Motion, b: Motion) -> Motion:
    return Motion(
        tuple([x - y for x, y in zip(a.position, b.position, strict=True)]),
        tuple([x - y for x, y in zip(a.velocity, b.velocity, strict=True)]),
    )

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

MAX_RAD = 1e4
"""[rad] A target beyond this is no angle; sums of such could overflow."""

_FIRST, _OPEN_LOOP, _ENSEMBLE = ChunkMode.FIRST, ChunkMode.OPEN_LOOP, ChunkMode.ENSEMBLE
"""Looking a member up in its enum runs Python code; a tick does it once, when this module is loaded."""

_POWERS = np.array([[1.0], [2.0], [3.0]])


class Refusal(IntEnum):
    """Why a chunk was not taken."""

    NONE = 0
    SHAPE = 1
    """Wrong number of joints, no action at all, or absurdly many; or a step that is no time."""
    NONFINITE = 2
    """Not a number, infinite, or beyond any joint."""
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
    first: tuple[float, ...]
    """Its first action [rad]."""
    curve: Float
    """Cubic coefficients c_i of each step, Σ c_i s^i with s in [0, 1], of position [rad] and after it velocity [rad/s];
    one more row goes straight on after the end. Shape (chunk + 1, 4, 2 · joints)."""


@dataclass(frozen=True, slots=True, eq=False)
class Mix:
    """Tracks that are averaged, with what every tick needs of them.

    It is plain numbers and few array calls: a tick comes out of a sleep with cold caches, where each different numpy
    call costs ten times what it does in a loop.
    """

    tracks: tuple[Track, ...]
    """Oldest first."""
    parts: tuple[tuple[int, float, int, int, float], ...]
    """Of each: instant of observation and step [ns], first row in ``curves``, the row beyond its end, its share."""
    curves: Float
    """The tracks' curves one after the other."""

    @classmethod
    def of(cls, tracks: tuple[Track, ...], control: Control) -> Mix:
        """Weights exp(-m·i), i = 0 for the oldest (ACT, section IV-B)."""
        decay, weights = math.exp(-control.ensemble_m), [1.0]
        for _ in tracks[1:]:
            weights.append(weights[-1] * decay)
        total, row, parts = sum(weights), 0, []
        for track, weight in zip(tracks, weights, strict=True):
            parts.append((track.observed_ns, float(track.step_ns), row, len(track.curve) - 1, weight / total))
            row += len(track.curve)
        curves = tracks[0].curve if len(tracks) == 1 else np.concatenate([track.curve for track in tracks])
        return cls(tracks, tuple(parts), curves)

    def at(self, now_ns: int) -> Motion:
        """Weighted mean at an instant. Elementwise and in a fixed order, no BLAS: the same numbers on every machine."""
        rows: list[int] = []
        powers: list[float] = []
        for observed_ns, step_ns, row, beyond, share in self.parts:
            since = (now_ns - observed_ns) / step_ns
            step = min(int(since), beyond)
            s = min(since - step, 1.0)
            rows.append(row + step)
            powers += (share, share * s, share * s * s, share * s * s * s)
        curves = self.curves.take(rows, axis=0)
        terms = curves.reshape(len(powers), -1) * np.array(powers)[:, None]
        both: list[float] = np.add.reduce(terms, axis=0).tolist()
        joints = len(both) // 2
        return Motion(tuple(both[:joints]), tuple(both[joints:]))


class Splice(NamedTuple):
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


class Schedule(NamedTuple):
    """The chunks in hand. Immutable; every function below returns a new one."""

    alive: tuple[Track, ...] = ()
    """Oldest first."""
    mix: Mix | None = None
    """Those the target was made of at the last tick."""
    turn_ends_ns: int = 0
    """Mode open_loop: until when the chunk in use keeps its turn."""
    splice: Splice | None = None
    newest: int = -1
    """Sequence of the newest chunk ever taken; an older one never comes back."""

    @property
    def using(self) -> tuple[int, ...]:
        """Sequence numbers of those the target was made of at the last tick."""
        return () if self.mix is None else tuple([track.sequence for track in self.mix.tracks])

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
    if not float(np.abs(targets).max()) <= MAX_RAD:  # not (a <= b): true for NaN as well
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
        tuple(chunk.targets[0].tolist()),
        _curve(chunk.targets, chunk.step_ns * 1e-9),
    )
    alive = (*schedule.alive, track)[-MAX_ALIVE:]
    return schedule._replace(alive=alive, newest=chunk.sequence)


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
    mix, splice = schedule.mix, schedule.splice
    if mix is not None and _same(mix.tracks, chosen):
        wish = _wish(mix, control, now_ns)
    else:
        before = standing if mix is None else _before(mix, splice, control, now_ns)
        mix = Mix.of(chosen, control)
        wish = _wish(mix, control, now_ns)
        splice = Splice(now_ns, chosen[-1].step_ns, *_minus(before, wish))
    offset = None if splice is None else splice.at(now_ns)
    if offset is None:
        splice = None
    else:
        wish = _plus(wish, offset)
    if control.mode is not _ENSEMBLE:  # only the one in use and the one that may follow matter from here on
        alive = (alive[-1],) if alive[-1] is chosen[0] else (chosen[0], alive[-1])
    return Schedule(alive, mix, turn_ends_ns, splice, schedule.newest), wish


def _same(a: tuple[Track, ...], b: tuple[Track, ...]) -> bool:
    return a is b or (len(a) == len(b) and all(x is y for x, y in zip(a, b, strict=True)))


def _wish(mix: Mix, control: Control, now_ns: int) -> Motion:
    if control.mode is _FIRST:
        first = mix.tracks[-1].first
        return Motion(first, (0.0,) * len(first))
    return mix.at(now_ns)


def _before(mix: Mix, splice: Splice | None, control: Control, now_ns: int) -> Motion:
    """What the chunks used until now would want at this instant."""
    wish = _wish(mix, control, now_ns)
    left = None if splice is None else splice.at(now_ns)
    return wish if left is None else _plus(wish, left)


def _chosen(
    schedule: Schedule, alive: tuple[Track, ...], control: Control, now_ns: int
) -> tuple[tuple[Track, ...], int]:
    """The chunks to follow now, oldest first, and until when the present one keeps its turn (open_loop)."""
    newest = alive[-1]
    if control.mode is _ENSEMBLE:
        return alive, 0
    if control.mode is not _OPEN_LOOP:
        return (newest,), 0
    current = None if schedule.mix is None else next((t for t in alive if t is schedule.mix.tracks[0]), None)
    if current is not None and (now_ns < schedule.turn_ends_ns or current is newest):
        return (current,), schedule.turn_ends_ns
    # n actions from the first that is still due: those that came too late do not count.
    reached = max(0, (now_ns - newest.observed_ns) // newest.step_ns)
    return (newest,), newest.observed_ns + (reached + control.open_loop_steps) * newest.step_ns


def _curve(targets: Float, step_s: float) -> Float:
    """The curve of :class:`Track` through all actions of a chunk; see the head of this module."""
    length, joints = targets.shape
    knots = np.empty((length + 1, joints))
    knots[1:] = targets
    knots[0] = targets[0] if length == 1 else 2.0 * targets[0] - targets[1]
    rise = knots[1:] - knots[:-1]
    slope = np.empty_like(knots)
    slope[0], slope[-1] = rise[0], rise[-1]
    before, after = rise[:-1], rise[1:]
    # A slope within three times the smaller neighbour, and zero at a turning point, keeps the cubic monotone.
    bound = np.where(before * after > 0.0, 3.0 * np.minimum(np.abs(before), np.abs(after)), 0.0)
    slope[1:-1] = np.minimum(np.maximum(0.5 * (before + after), -bound), bound)
    start, end = slope[:-1], slope[1:]
    curve = np.zeros((length + 1, 4, 2 * joints))
    position, velocity = curve[:, :, :joints], curve[:, :, joints:]
    position[:, 0], position[:, 1] = knots, slope
    position[:-1, 2] = 3.0 * rise - 2.0 * start - end
    position[:-1, 3] = start + end - 2.0 * rise
    velocity[:, :3] = position[:, 1:] * (_POWERS / step_s)
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

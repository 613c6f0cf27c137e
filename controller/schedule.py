"""From the action chunks alive at an instant to one target. Pure: works on clocks, never on queue indices.

Between two actions the target follows a cubic that passes through both at their due times with a continuous velocity
and never beyond either (slopes limited as Fritsch & Carlson 1980, SIAM J. Numer. Anal. 17(2), require for a monotone
curve). A straight line would do as well for the position, but its corners ask for infinite acceleration ten times a
second, and the arm would be in its limits on every clean chunk.

An action moves the arm *during* its step, so the first one starts somewhere: from where its own rate would have
come, one step before it is due (action 0 minus the change from action 0 to action 1). That needs nothing but the chunk,
so every chunk, wherever it comes from, replays alike.

Whenever the set of chunks in use changes (one arrives, one ends), the difference between the old and the new target
is faded out over one policy step, position and velocity alike. So the target is smooth at every
switch, and chunks that agree are followed exactly.

Chunks of two weight versions are never averaged: the first chunk of another version has the older ones dropped, and
what then differs is faded out over :data:`SWAP_STEPS` policy steps, however many chunks come meanwhile.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from enum import IntEnum
from typing import NamedTuple

import numpy as np

from controller.curve import Cubic, Motion, curve_through
from spec.arrays import Float
from spec.chunk import Chunk
from spec.robot import ChunkMode, Control

MAX_ALIVE = 32
"""Chunks that are averaged at most; beyond that the oldest go. ACT's own use has as many as a chunk is long."""

SWAP_STEPS = 5
"""Policy steps over which the arm passes from the chunks of one weight version to those of another. A difference d asks
for 6 d / T² of acceleration: 25 times less than the same difference between two chunks of one policy."""

MAX_LENGTH = 1024
"""A longer chunk is no chunk."""

MAX_STEP_NS = 5_000_000_000
"""A longer policy step is none [ns]: the arm would wait for the next chunk, and follow this one, for as long."""

MAX_RAD = 1e4
"""[rad] A target beyond this is no angle; sums of such could overflow."""

_FIRST, _OPEN_LOOP, _ENSEMBLE = ChunkMode.FIRST, ChunkMode.OPEN_LOOP, ChunkMode.ENSEMBLE
"""Looking a member up in its enum runs Python code; a tick does it once, when this module is loaded."""


class Refusal(IntEnum):
    """Why a chunk was not taken."""

    NONE = 0
    SHAPE = 1
    """Wrong number of joints, no action at all, or absurdly many; or a step that is no time or too long."""
    NONFINITE = 2
    """Not a number, infinite, or beyond any joint."""
    FUTURE = 3
    """Observed after now."""
    OUTDATED = 4
    """Not newer than one already taken, or observed before the policy was given the arm."""
    EXPIRED = 5
    """Its last action was due before it came."""


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
    """See :func:`controller.curve.curve_through`. Shape (chunk + 1, 4, joints)."""


@dataclass(frozen=True, slots=True, eq=False)
class Mix:
    """Tracks that are averaged, with what is needed of them at hand."""

    tracks: tuple[Track, ...]
    """Oldest first."""
    parts: tuple[tuple[Float, int, int, int, float], ...]
    """Of each: curve, its last row, instant of observation and step [ns], share."""

    @classmethod
    def of(cls, tracks: tuple[Track, ...], control: Control) -> Mix:
        """Weights exp(-m·i), i = 0 for the oldest (ACT, section IV-B)."""
        decay, weights = math.exp(-control.ensemble_m), [1.0]
        for _ in tracks[1:]:
            weights.append(weights[-1] * decay)
        total = sum(weights)
        parts = [
            (track.curve, len(track.curve) - 1, track.observed_ns, track.step_ns, weight / total)
            for track, weight in zip(tracks, weights, strict=True)
        ]
        return cls(tracks, tuple(parts))

    def cubic(self, now_ns: int) -> Cubic:
        """Weighted mean from an instant until the first track goes on to its next action.

        Elementwise and in a fixed order, no BLAS: the same numbers on every machine.
        """
        rows: list[Float] = []
        place: list[float] = []
        rate: list[float] = []
        bend: list[float] = []
        twist: list[float] = []
        ends_ns = self.tracks[0].ends_ns
        for curve, beyond, observed_ns, step_ns, share in self.parts:
            since = now_ns - observed_ns
            step = since // step_ns if since > 0 else 0
            step = min(step, beyond)
            since -= step * step_ns
            if step < beyond and now_ns - since + step_ns < ends_ns:
                ends_ns = now_ns - since + step_ns
            t = (min(step_ns, since)) * 1e-9
            rows.append(curve[step])
            # What each of the track's four terms adds to each of the four terms about this instant (Taylor).
            first = share * t
            second = first * t
            place += (share, first, second, second * t)
            rate += (0.0, share, 2.0 * first, 3.0 * second)
            bend += (0.0, 0.0, share, 3.0 * first)
            twist += (0.0, 0.0, 0.0, share)
        weights = np.array((place, rate, bend, twist))
        terms = np.add.reduce(weights[:, :, None] * np.concatenate(rows), axis=1)
        return Cubic(now_ns, ends_ns, tuple(map(tuple, terms.T.tolist())))


class Schedule(NamedTuple):
    """The chunks in hand. Immutable; every function below returns a new one."""

    alive: tuple[Track, ...] = ()
    """Oldest first."""
    mix: Mix | None = None
    """Those the target was made of at the last tick."""
    turn_ends_ns: int = 0
    """Mode open_loop: until when the chunk in use keeps its turn."""
    splice: Cubic | None = None
    """What is left of a difference between two targets, fading."""
    piece: Cubic | None = None
    """The target itself, mix and splice together, for as long as neither changes."""
    newest: int = -1
    """Sequence of the newest chunk ever taken; an older one never comes back."""

    @property
    def using(self) -> tuple[int, ...]:
        """Sequence numbers of those the target was made of at the last tick."""
        return () if self.mix is None else tuple([track.sequence for track in self.mix.tracks])

    @property
    def leading(self) -> Track | None:
        """Newest of those the target was made of at the last tick."""
        return None if self.mix is None else self.mix.tracks[-1]

    @property
    def last(self) -> Track | None:
        """Newest in hand; its turn may be still to come."""
        return self.alive[-1] if self.alive else None


def refusal(chunk: Chunk, schedule: Schedule, joints: int, since_ns: int, now_ns: int, slack_ns: int) -> Refusal:
    """Whether a chunk can be used at all.

    Args:
        since_ns: observations before this are of another time: before a hold, an ease-in, a person's turn.
        slack_ns: how far ahead of ``now_ns``, which is an instant of the grid, an observation may seem to be.
    """
    targets = chunk.targets
    shaped = targets.ndim == 2 and targets.shape[1] == joints and 1 <= targets.shape[0] <= MAX_LENGTH
    if not shaped or not 0 < chunk.step_ns <= MAX_STEP_NS:
        return Refusal.SHAPE
    values: list[float] = targets.ravel().tolist()
    if not math.isfinite(sum(values)) or min(values) < -MAX_RAD or max(values) > MAX_RAD:
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
        curve_through(chunk.targets, chunk.step_ns * 1e-9),
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
    mix, splice, piece = schedule.mix, schedule.splice, schedule.piece
    if mix is None or not _same(mix.tracks, chosen):
        before = standing if mix is None else _before(mix, splice, piece, control, now_ns)
        mix = Mix.of(chosen, control)
        wish = _wish(mix, control, now_ns)
        fade_ns = _fade_ns(schedule, chosen[-1], now_ns)
        splice = Cubic.fade(now_ns, fade_ns, before.minus(wish.at(now_ns)))
        piece = wish.plus(splice)
    elif piece is None or not piece.covers(now_ns):
        splice = splice if splice is not None and splice.covers(now_ns) else None
        piece = _piece(mix, splice, control, now_ns)
    # Only those in use and the one that may follow matter from here on.
    alive = chosen if alive[-1] is chosen[-1] else (*chosen, alive[-1])
    return Schedule(alive, mix, turn_ends_ns, splice, piece, schedule.newest), piece.at(now_ns)


def _same(a: tuple[Track, ...], b: tuple[Track, ...]) -> bool:
    return a is b or (len(a) == len(b) and all(x is y for x, y in zip(a, b, strict=True)))


def _fade_ns(schedule: Schedule, newest: Track, now_ns: int) -> int:
    """How long the difference at this switch takes to fade: a policy step, or as long as a change of version does."""
    mix, splice = schedule.mix, schedule.splice
    if mix is not None and mix.tracks[-1].weights != newest.weights:
        return SWAP_STEPS * newest.step_ns
    under_way_ns = 0 if splice is None else splice.ends_ns - now_ns
    return max(newest.step_ns, under_way_ns)


def _wish(mix: Mix, control: Control, now_ns: int) -> Cubic:
    if control.mode is _FIRST:
        newest = mix.tracks[-1]
        return Cubic(now_ns, newest.ends_ns, tuple([(angle, 0.0, 0.0, 0.0) for angle in newest.first]))
    return mix.cubic(now_ns)


def _piece(mix: Mix, splice: Cubic | None, control: Control, now_ns: int) -> Cubic:
    wish = _wish(mix, control, now_ns)
    return wish if splice is None else wish.plus(splice)


def _before(mix: Mix, splice: Cubic | None, piece: Cubic | None, control: Control, now_ns: int) -> Motion:
    """What the chunks used until now would want at this instant."""
    if piece is None or not piece.covers(now_ns):
        piece = _piece(mix, splice if splice is not None and splice.covers(now_ns) else None, control, now_ns)
    return piece.at(now_ns)


def _chosen(
    schedule: Schedule, alive: tuple[Track, ...], control: Control, now_ns: int
) -> tuple[tuple[Track, ...], int]:
    """The chunks to follow now, oldest first, and until when the present one keeps its turn (open_loop)."""
    newest = alive[-1]
    if control.mode is _ENSEMBLE:
        if alive[0].weights != newest.weights:
            alive = tuple([track for track in alive if track.weights == newest.weights])
        return alive, 0
    if control.mode is not _OPEN_LOOP:
        return (newest,), 0
    current = None if schedule.mix is None else next((t for t in alive if t is schedule.mix.tracks[0]), None)
    if current is not None and (now_ns < schedule.turn_ends_ns or current is newest):
        return (current,), schedule.turn_ends_ns
    # n actions from the first that is still due: those that came too late do not count.
    reached = max(0, (now_ns - newest.observed_ns) // newest.step_ns)
    return (newest,), newest.observed_ns + (reached + control.open_loop_steps) * newest.step_ns

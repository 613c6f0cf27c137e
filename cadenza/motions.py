"""The motions in recorded episodes: what was asked of the arm and what it did, and asked again of another envelope."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from calibration.derivatives import Derivatives, derivatives, half_window
from controller.curve import Motion
from controller.envelope import FOLLOWED_RAD, Envelope
from episodes.reader import Episode
from episodes.records import Driver
from spec.arrays import Float
from spec.errors import CadenzaError
from spec.robot import Limits

_APART_S = 0.5
"""Limited ticks no further apart than this are one trip."""
JERK_RATIO, JERK_STEPS = 1.3, 11
"""Jerk limits are tried out in these ratios, from a fourteenth of the highest on."""


@dataclass(frozen=True, slots=True, eq=False)
class Piece:
    """Ticks in a row in which a policy or a person drove; arrays without the first and last half window."""

    episode: int
    asked: Derivatives
    measured: Derivatives
    effort: Float
    """[A] or load, shape (ticks, joints)."""

    def __len__(self) -> int:
        return len(self.effort)


def pieces(number: int, episode: Episode, joints: tuple[str, ...], rate_hz: float) -> Iterator[Piece]:
    """Those of one episode, of which ``number`` is the number.

    Raises:
        CadenzaError: other joints, or another control rate.
    """
    if episode.joints != joints:
        raise CadenzaError(
            f"{episode.path}: joints {', '.join(episode.joints)}, the robot file has {', '.join(joints)}"
        )
    recorded = float(episode.facts.get("rate_hz", "nan"))
    if recorded != rate_hz:
        raise CadenzaError(f"{episode.path}: recorded at {recorded:g} Hz, the robot file says {rate_hz:g}")
    half = half_window(rate_hz)
    for part in _driven(episode.ticks):
        ticks = episode.ticks[part]
        asked, measured = (derivatives(np.asarray(ticks[name]), rate_hz) for name in ("asked", "position"))
        if asked is not None and measured is not None:
            yield Piece(number, asked, measured, np.abs(ticks["effort"][half : len(ticks) - half]))


def _driven(ticks: Any) -> Iterator[slice]:
    """Runs of ticks in a row that somebody drove, and asked for a number in."""
    good = (ticks["driver"] != Driver.NONE) & np.isfinite(ticks["asked"]).all(axis=1) & ticks["fresh"].all(axis=1)
    first = np.append(True, np.diff(ticks["tick"].astype(np.int64)) != 1)
    start = None
    for row in range(len(ticks) + 1):
        ends = row == len(ticks) or not good[row] or first[row]
        if ends and start is not None:
            yield slice(start, row)
            start = None
        if row < len(ticks) and good[row] and start is None:
            start = row


@dataclass(frozen=True, slots=True)
class Replayed:
    """What an envelope did to the motions."""

    ticks: int
    limited: int
    trips: int


def replayed(motions: Sequence[Piece], limits: Limits, rate_hz: float) -> Replayed:
    """Ask the motions of the real envelope. Velocity, acceleration and jerk count; where the arm may be does not."""
    apart = round(_APART_S * rate_hz)
    ticks = limited = trips = 0
    for motion, lag in zip(motions, _lags(motions, limits, rate_hz), strict=True):
        rows = np.flatnonzero((lag > FOLLOWED_RAD).any(axis=1))
        ticks, limited = ticks + len(motion), limited + len(rows)
        trips += int(len(rows) > 0) + int((np.diff(rows) > apart).sum())
    return Replayed(ticks, limited, trips)


def jerk_needed(
    motions: Sequence[Piece], limits: Limits, rate_hz: float, progress: Callable[[], None] = lambda: None
) -> list[Float]:
    """The lowest jerk limit with which the envelope follows, tick by tick [rad/s³], shape (ticks, joints) each.

    It is told positions and velocities to be at, and may bend only so fast towards the next: it needs several times the
    jerk of the motion itself. So that is tried out.

    Args:
        limits: their jerk is the highest that is tried.
        progress: called after each of :data:`JERK_STEPS` tries.
    """
    needed = [np.tile(limits.jerk * JERK_RATIO ** (1 - JERK_STEPS), (len(motion), 1)) for motion in motions]
    for step in range(1 - JERK_STEPS, 1):
        jerk = limits.jerk * JERK_RATIO**step
        tried = Limits(limits.lower, limits.upper, limits.velocity, limits.acceleration, jerk, limits.home)
        for found, lag in zip(needed, _lags(motions, tried, rate_hz), strict=True):
            found[:] = np.where(lag > FOLLOWED_RAD, jerk * JERK_RATIO, found)
        progress()
    return needed


def _lags(motions: Sequence[Piece], limits: Limits, rate_hz: float) -> Iterator[Float]:
    """How far the envelope's command is from what was asked, tick by tick [rad], shape (ticks, joints) each."""
    anywhere = np.full(len(limits.lower), 1e3)
    free = Limits(-anywhere, anywhere, limits.velocity, limits.acceleration, limits.jerk, limits.home)
    envelope = Envelope(free, 1.0 / rate_hz)
    for motion in motions:
        position, velocity = motion.asked.position.tolist(), motion.asked.velocity.tolist()
        begin = np.clip(motion.asked.acceleration[0], -limits.acceleration, limits.acceleration)
        speed = np.clip(motion.asked.velocity[0], -limits.velocity, limits.velocity)
        now = envelope.standing(tuple(position[0]))._replace(
            velocity=tuple(speed.tolist()), acceleration=tuple(begin.tolist())
        )
        path = [now.position]
        for where, fast in zip(position[1:], velocity[1:], strict=True):
            now = envelope.follow(now, Motion(tuple(where), tuple(fast))).commanded
            path.append(now.position)
        yield np.abs(np.array(path) - motion.asked.position)

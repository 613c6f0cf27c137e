"""From the residuals of a leader nobody touched to the thresholds above which somebody pulls at it. Pure.

A threshold shall hardly ever be crossed by chance, which two minutes of samples cannot show by themselves. So the
highest residuals are continued: by how much the peaks of separate half seconds exceed a high level falls off as a
generalised Pareto distribution (peaks over threshold: Coles 2001, chapter 4). Servos and motions have bounds, so its
shape is negative; how much so takes hours to learn, and it is set instead. With what is set here, thresholds from any
two minutes of an hour of simulated mirroring were crossed 0.14 times an hour, where 0.1 was aimed at; from one minute,
3 times; with an exponential tail never, but they were half as high again.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from calibration.quiet import Recording
from spec.arrays import Float
from spec.errors import DeviceError
from spec.robot import Takeover

FALSE_TRIPS_PER_HOUR = 0.1
"""What is aimed at, all joints together: one in a long working day."""
MARGIN = 1.5
"""At least this far above anything that was seen."""
_BLOCK_S = 0.5
"""A residual stands as long as a joint gathers or loses speed: peaks further apart have causes of their own."""
_PEAKS = 0.2
"""Share of the blocks whose peaks say how the highest ones fall off."""
_SHAPE = -0.1
_FEWEST_BLOCKS = 20
_FINEST = {"position": 0.008, "current": 0.03}
"""No threshold is finer: five encoder ticks [rad], thirty units of the current register [A]."""


@dataclass(frozen=True, slots=True, eq=False)
class Channel:
    """One residual of one joint: [rad] for ``position``, [A] for ``current``."""

    joint: str
    kind: str
    residual: Float
    """Shape (samples,), not negative."""
    level: float
    """Peaks above it were continued."""
    decay: float
    """By how much they exceed it on average."""
    peaks_per_hour: float
    """How often they do."""
    threshold: float

    @property
    def highest(self) -> float:
        return float(self.residual.max())

    @property
    def false_trips_per_hour(self) -> float:
        beyond = 1.0 + _SHAPE * max(0.0, self.threshold - self.level) / self._scale
        return float(self.peaks_per_hour * max(0.0, beyond) ** (-1.0 / _SHAPE))

    @property
    def _scale(self) -> float:
        """Of the distribution, from its mean."""
        return self.decay * (1.0 - _SHAPE)


def channels(recording: Recording, lag_s: float) -> tuple[Channel, ...]:
    """Residuals of every joint with the thresholds they call for, position first.

    Raises:
        DeviceError: too short to say anything.
    """
    blocks = ((recording.read_s - recording.read_s[0]) / _BLOCK_S).astype(np.int64) if len(recording.read_s) else []
    if len(np.unique(blocks)) < _FEWEST_BLOCKS:
        raise DeviceError(f"leader: only {recording.seconds:.1f} s of samples; measure for longer")
    position = np.abs(recording.goal - recording.position - lag_s * recording.velocity)
    share = FALSE_TRIPS_PER_HOUR / (2 * len(recording.joints))
    return tuple(
        _channel(name, kind, residual[:, k], np.asarray(blocks), recording.seconds, share)
        for kind, residual in (("position", position), ("current", np.abs(recording.current)))
        for k, name in enumerate(recording.joints)
    )


def _channel(joint: str, kind: str, residual: Float, blocks: Float, seconds: float, aim: float) -> Channel:
    peaks = np.sort([residual[blocks == block].max() for block in np.unique(blocks)])
    above = max(5, round(_PEAKS * len(peaks)))
    level, finest = float(peaks[-above - 1]), _FINEST[kind]
    decay = max(float(np.mean(peaks[-above:]) - level), finest / 20)
    rate = above / seconds * 3600
    rare = level + decay * (1.0 - _SHAPE) / _SHAPE * ((rate / aim) ** _SHAPE - 1.0)
    threshold = max(finest, MARGIN * float(peaks[-1]), rare)
    return Channel(joint, kind, residual, level, decay, rate, _rounded_up(threshold))


def _rounded_up(value: float) -> float:
    """To three figures."""
    last = 10.0 ** (math.floor(math.log10(value)) - 2)
    return float(f"{math.ceil(value / last) * last:.3g}")


def lag(recording: Recording) -> float:
    """How far the leader trails what it mirrors, as a time [s]: least squares over all joints, each by its own size."""
    error, velocity = recording.goal - recording.position, recording.velocity
    scale = np.maximum(np.std(error, axis=0), 1e-6)
    moving = np.sum((velocity / scale) ** 2)
    return float(np.clip(np.sum(error * velocity / scale**2) / moving, 0.0, 1.0)) if moving > 0 else 0.0


def takeover(recording: Recording, found: tuple[Channel, ...], lag_s: float) -> Takeover:
    """What goes into the calibration file."""
    by_kind = {kind: {c.joint: c.threshold for c in found if c.kind == kind} for kind in ("position", "current")}
    return Takeover(
        position=by_kind["position"],
        current=by_kind["current"],
        lag_s=round(lag_s, 5),
        false_trips_per_hour=float(f"{sum(c.false_trips_per_hour for c in found):.2g}"),
        measured_s=round(recording.seconds, 1),
    )

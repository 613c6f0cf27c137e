"""The one window code: which ticks and frames make up an observation history, and which actions follow it.

The inference worker asks it while the arm runs, the learner asks it of a log. Both therefore see the same history for
the same instant, bit for bit. Nothing is copied or padded here: the answer is indices and masks.

Two steps. *Sampling* picks, at each policy step, the newest tick and the newest frame of every camera. *Windows* pick,
for one sample, the samples that lie one, two, ... observation steps before it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from episodes.reader import Episode, Frames, LoggedChunk
from episodes.records import Mode
from spec.arrays import Bool, Float, Int

MISSING = -1
RESTING = (Mode.IDLE, Mode.EASE_IN, Mode.FAULT)
"""In these modes the policy does not drive. A tick spent in one begins a new history: what lies before it happened
under other hands."""


@dataclass(frozen=True, slots=True, eq=False)
class Samples:
    """What was seen at each policy step. All arrays have shape (samples,)."""

    observed_ns: Int
    """Instant of the joint reading, CLOCK_MONOTONIC [ns], strictly rising."""
    tick: Int
    """Index of the tick."""
    frames: Mapping[str, Int]
    """Index of each camera's frame; ``MISSING`` where there was none."""
    segment: Int
    """Histories stay within one segment; never falls."""

    def __len__(self) -> int:
        return len(self.observed_ns)


def policy_grid(start_ns: int, end_ns: int, step_ns: int) -> Int:
    """Instants of policy steps from ``start_ns`` to at most ``end_ns`` [ns], shape (steps,)."""
    return np.arange(start_ns, end_ns + 1, step_ns, dtype=np.int64)


def newest_at(times_ns: Int, instants_ns: Int, max_age_ns: int | None = None) -> Int:
    """Index of the newest entry not after each instant.

    Args:
        times_ns: rising, shape (n,).
        instants_ns: shape (m,).
        max_age_ns: entries older than this at the instant do not count; None: any age will do.

    Returns:
        Shape (m,), ``MISSING`` where there is none.
    """
    index = np.searchsorted(times_ns, instants_ns, side="right") - 1
    if max_age_ns is not None and len(times_ns):
        age = instants_ns - times_ns[np.maximum(index, 0)]
        index = np.where(age > max_age_ns, MISSING, index)
    return np.asarray(index, dtype=np.int64)


def sample(
    instants_ns: Int,
    tick_ns: Int,
    frame_ns: Mapping[str, Int],
    delay_ns: Mapping[str, int] | None = None,
    max_age_ns: int | None = None,
) -> Samples:
    """Observe at given instants of a log; steps before the first tick or the first frame of some camera are left out.

    Args:
        instants_ns: policy steps, rising, e.g. :func:`policy_grid`.
        tick_ns: ``now_ns`` of the ticks.
        frame_ns: ``captured_ns`` of the frames of the cameras the policy uses.
        delay_ns: by camera, how much later than its capture a frame could first be seen; zero by default.
        max_age_ns: a frame older than this is no sight: the step is left out.
    """
    tick = newest_at(tick_ns, instants_ns)
    seen = tick != MISSING
    frames: dict[str, Int] = {}
    for name, captured in frame_ns.items():
        late = (delay_ns or {}).get(name, 0)
        frames[name] = newest_at(captured, instants_ns - late, None if max_age_ns is None else max_age_ns - late)
        seen &= frames[name] != MISSING
    seen[1:] &= tick[1:] != tick[:-1]  # a step without a new reading shows nothing new
    tick = tick[seen]
    chosen = {name: index[seen] for name, index in frames.items()}
    return Samples(tick_ns[tick].astype(np.int64), tick, chosen, np.zeros(len(tick), dtype=np.int64))


def segments(modes: npt.NDArray[Any]) -> Int:
    """Number of the segment of each tick, from the modes of all ticks: every :data:`RESTING` one begins a new one."""
    return np.cumsum(np.isin(modes, RESTING)).astype(np.int64)


def history(observed_ns: Int, at: Int, length: int, step_ns: int, segment: Int | None = None) -> tuple[Int, Bool]:
    """Which samples stand in the history of each window.

    Slot h of a window ending at sample ``a`` wants the instant ``observed_ns[a] - (length - 1 - h) * step_ns`` and
    takes the nearest sample that is less than half a step away from it, not newer than ``a`` and of the same segment.
    So one sample never fills two slots, and a late step leaves a masked slot rather than a shifted history.

    Args:
        observed_ns: instants of all samples, strictly rising, shape (n,).
        at: samples at which windows end, shape (m,).
        length: slots H.
        step_ns: time between slots [ns].
        segment: segment of each sample, shape (n,); None: all the same.

    Returns:
        Indices, shape (m, H), oldest first, 0 where masked; and the mask, True where a slot is real.
    """
    wanted = observed_ns[at][:, None] - step_ns * np.arange(length - 1, -1, -1, dtype=np.int64)
    after = np.minimum(np.searchsorted(observed_ns, wanted, side="left"), len(observed_ns) - 1)
    before = np.maximum(after - 1, 0)
    older_is_nearer = np.abs(observed_ns[before] - wanted) <= np.abs(observed_ns[after] - wanted)
    index = np.where(older_is_nearer, before, after)
    index = np.minimum(index, at[:, None])
    mask = 2 * np.abs(observed_ns[index] - wanted) < step_ns
    if segment is not None:
        mask &= segment[index] == segment[at][:, None]
    index[:, -1], mask[:, -1] = at, True
    return np.where(mask, index, 0).astype(np.int64), mask


def action_targets(observed_ns: Int, length: int, step_ns: int, times_ns: Int, values: Float) -> tuple[Float, Bool]:
    """What was commanded when each action of a chunk was due (see :class:`spec.chunk.Chunk`).

    Args:
        observed_ns: instants of the windows' newest samples, shape (m,).
        length: actions C of a chunk.
        step_ns: time between actions [ns].
        times_ns: instants of the commands, strictly rising, shape (n,).
        values: commanded joint targets [rad], shape (n, joints).

    Returns:
        Targets [rad], shape (m, C, joints), linear between commands; and the mask, shape (m, C), False where the log
        ends before the action is due (the last command stands there).
    """
    due = observed_ns[:, None] + step_ns * np.arange(1, length + 1, dtype=np.int64)
    before = np.clip(np.searchsorted(times_ns, due, side="right") - 1, 0, len(times_ns) - 1)
    after = np.minimum(before + 1, len(times_ns) - 1)
    span = np.maximum(times_ns[after] - times_ns[before], 1)
    part = np.clip((due - times_ns[before]) / span, 0.0, 1.0)[..., None]
    targets = values[before] * (1.0 - part) + values[after] * part
    return np.asarray(targets), (due >= times_ns[0]) & (due <= times_ns[-1])


def samples_of_chunks(episode: Episode, cameras: tuple[str, ...]) -> Samples:
    """The samples the live policy took, rebuilt from the identities that each logged chunk carries.

    A chunk that is not finite left no trace in the policy's history, and leaves none here.

    Args:
        episode: with ticks, frames and chunks.
        cameras: in manifest order.
    """
    numbers = episode.ticks["tick"].astype(np.int64)
    tick = np.array([_find(numbers, chunk.tick) for chunk in episode.chunks], dtype=np.int64)
    frames = {
        name: np.array([_frame(episode.frames[name], chunk, k) for chunk in episode.chunks], dtype=np.int64)
        for k, name in enumerate(cameras)
    }
    whole = (tick != MISSING) & np.array([np.isfinite(chunk.targets).all() for chunk in episode.chunks], dtype=np.bool_)
    for index in frames.values():
        whole &= index != MISSING
    observed = np.array([chunk.observed_ns for chunk in episode.chunks], dtype=np.int64)
    tick = tick[whole]
    segment = segments(episode.ticks["mode"])[tick]
    return Samples(observed[whole], tick, {name: index[whole] for name, index in frames.items()}, segment)


def _frame(frames: Frames, chunk: LoggedChunk, camera: int) -> int:
    """A restarted camera counts from zero again: of two frames with one number it is the last before the chunk."""
    same = np.flatnonzero(frames.sequence == chunk.frames[camera])
    same = same[frames.captured_ns[same] <= chunk.started_ns]
    return int(same[-1]) if len(same) else MISSING


def _find(sorted_values: Int, value: int) -> int:
    index = int(np.searchsorted(sorted_values, value))
    return index if index < len(sorted_values) and sorted_values[index] == value else MISSING

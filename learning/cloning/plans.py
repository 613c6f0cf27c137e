"""What an episode says was right to do: the plans written down at its steps, or what was sent afterwards."""

from __future__ import annotations

import numpy as np

from episodes.executed import executed_targets
from episodes.reader import Episode
from episodes.windows import Samples, newest_at, segments
from learning.network.config import ActorConfig
from spec.arrays import Float
from spec.errors import CadenzaError, MisfitError


def planned_steps(episode: Episode, config: ActorConfig) -> tuple[Samples, Float]:
    """The steps at which a sound chunk was written down and every camera had seen, and what those chunks plan.

    Returns:
        The steps; and targets [rad], shape (steps, C + 1, joints), one more than a chunk.

    Raises:
        MisfitError: plans of another step, or too short.
        CadenzaError: no plans.
    """
    if not episode.chunks:
        raise CadenzaError(f"{episode.path}: holds no plans to learn from; try --labels sent")
    tick_ns = episode.ticks["now_ns"].astype(np.int64)
    observed = np.array([chunk.observed_ns for chunk in episode.chunks], dtype=np.int64)
    tick = newest_at(tick_ns, observed)
    frames = {name: newest_at(episode.frames[name].captured_ns, observed) for name in config.cameras}
    seen = (tick >= 0) & np.all([index >= 0 for index in frames.values()], axis=0)
    seen &= [bool(np.isfinite(chunk.targets).all()) for chunk in episode.chunks]
    plans = _plans(episode, config.act_chunk_size + 1, round(config.act_step_s * 1e9))[seen]
    found = {name: index[seen] for name, index in frames.items()}
    return Samples(observed[seen], tick[seen], found, segments(episode.ticks["mode"])[tick[seen]]), plans


def sent_targets(episode: Episode) -> Float:
    """What reached the servos [rad], shape (ticks, joints); NaN at a tick that sent nothing."""
    nothing = np.isnan(episode.ticks["sent"]).any(axis=1, keepdims=True)
    return np.where(nothing, np.nan, executed_targets(episode.ticks))


def _plans(episode: Episode, length: int, step_ns: int) -> Float:
    """The chunks of an episode, cut to ``length`` actions: shape (chunks, length, joints)."""
    for chunk in episode.chunks:
        if len(chunk.targets) < length or chunk.step_ns != step_ns:
            raise MisfitError(
                f"{episode.path}: chunk {chunk.sequence} plans {len(chunk.targets)} actions of "
                f"{chunk.step_ns * 1e-9:g} s; labels from plans need {length} of {step_ns * 1e-9:g} s "
                f"(one more than a chunk); use shorter chunks or --labels sent"
            )
    return np.stack([chunk.targets[:length] for chunk in episode.chunks])

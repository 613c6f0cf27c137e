"""Figures of a run, taken from its episodes: nothing is reported that is not on record."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from cadenza.picture import FilmStrip, JointTrace
from episodes.messages import CHUNKS
from episodes.outcome import Outcome
from episodes.reader import Episode
from episodes.records import Flag, Mode
from spec.arrays import Float
from spec.manifest import ImageInput
from spec.observation import decode_jpeg, policy_image

FILM_FRAMES = 6
"""So many frames go beside each other."""
_FILM_APART_NS = 200_000_000


def lateness_us(episode: Episode) -> Float:
    """How long after its deadline each tick woke [µs], shape (ticks,)."""
    return _micros(episode.ticks["woke_ns"] - episode.ticks["deadline_ns"])


def phases_us(episode: Episode) -> dict[str, Float]:
    """Time each phase of each tick took [µs], shape (ticks,)."""
    ticks = episode.ticks
    return {
        "read": _micros(ticks["read_ns"] - ticks["woke_ns"]),
        "decide": _micros(ticks["decided_ns"] - ticks["read_ns"]),
        "write": _micros(ticks["written_ns"] - ticks["decided_ns"]),
    }


def summarise(episodes: Sequence[Episode]) -> dict[str, Any]:
    """Success, punctuality and speed over all episodes of a run, JSON-able."""
    lateness = np.concatenate([lateness_us(episode) for episode in episodes])
    phases = joined_phases(episodes)
    inference = np.array([time for episode in episodes for time in _inference_ms(episode)], dtype=np.float64)
    skipped = sum(int(episode.ticks["skipped"].sum()) for episode in episodes)
    ticks = int(lateness.size)
    return {
        "success_rate": sum(episode.outcome is Outcome.SUCCESS for episode in episodes) / len(episodes),
        "episodes": len(episodes),
        "ticks": ticks,
        "missed_ticks": skipped,
        "missed_share": skipped / max(1, ticks + skipped),
        "lateness_us": percentiles(lateness, (50, 99, 99.9)) | ({"max": float(lateness.max())} if ticks else {}),
        "limited_share": limited_share(episodes),
        "phase_us": {name: percentiles(values, (50, 99)) for name, values in phases.items()},
        "inference_ms": percentiles(inference, (50, 99)),
        "episode_files": [str(episode.path) for episode in episodes],
    }


def limited_share(episodes: Sequence[Episode]) -> float:
    """Share of the policy's ticks in which the safety envelope changed what was asked; 0 where it never drove."""
    flags = np.concatenate([episode.ticks["flags"][episode.ticks["mode"] == Mode.POLICY] for episode in episodes])
    return float(np.mean(flags & Flag.LIMITED != 0)) if flags.size else 0.0


def joined_phases(episodes: Sequence[Episode]) -> dict[str, Float]:
    """:func:`phases_us` of all episodes, one after the other."""
    rows = [phases_us(episode) for episode in episodes]
    return {name: np.concatenate([row[name] for row in rows]) for name in rows[0]}


def percentiles(values: Float, shares: Sequence[float]) -> dict[str, float]:
    """``{"p50": ..., "p99_9": ...}``; empty where there is nothing to measure."""
    if not values.size:
        return {}
    found = np.percentile(values, list(shares))
    return {f"p{share:g}".replace(".", "_"): float(value) for share, value in zip(shares, found, strict=True)}


def joint_trace(episode: Episode) -> JointTrace:
    """Asked and measured joints while the policy drove."""
    driven = episode.ticks[episode.ticks["mode"] == Mode.POLICY]
    count = len(episode.joints)
    start = driven["now_ns"][0] if len(driven) else 0
    return JointTrace(
        names=episode.joints,
        time=(driven["now_ns"] - start) * 1e-9,
        asked=driven["asked"][:, :count],
        measured=driven["position"][:, :count],
    )


def film_strip(episode: Episode, camera: str) -> FilmStrip:
    """A few frames of one camera, evenly spread over the time the policy drove."""
    driven = episode.ticks["now_ns"][episode.ticks["mode"] == Mode.POLICY]
    if not len(driven):
        return FilmStrip(camera, (), [])
    wanted_ns = np.linspace(driven[0], driven[-1], FILM_FRAMES)
    return film(episode, camera, wanted_ns, (wanted_ns - driven[0]) * 1e-9)


def film(episode: Episode, camera: str, wanted_ns: Float, seconds: Float) -> FilmStrip:
    """Frames of one camera, each the first from an instant on, or the last of all; none where that is long before or
    after it.

    Args:
        episode: with pictures.
        camera: one that it need not have.
        wanted_ns: instants, rising [ns], shape (n,).
        seconds: what they are called [s], shape (n,).
    """
    frames = episode.frames.get(camera)
    if frames is None or not frames.jpeg:
        return FilmStrip(camera, (), [])
    chosen = np.clip(np.searchsorted(frames.captured_ns, wanted_ns), 0, len(frames) - 1)
    near = np.abs(frames.captured_ns[chosen] - wanted_ns) <= _FILM_APART_NS
    size = ImageInput(height=240, width=320)
    images = [
        policy_image(decode_jpeg(frames.jpeg[index]), size) if shown else None
        for index, shown in zip(chosen, near, strict=True)
    ]
    return FilmStrip(camera, tuple(seconds.tolist()), images)


def _inference_ms(episode: Episode) -> list[float]:
    made = episode.chunks[episode.carried.get(CHUNKS, 0) :]
    return [(chunk.finished_ns - chunk.started_ns) * 1e-6 for chunk in made]


def _micros(nanoseconds: npt.NDArray[Any]) -> Float:
    return np.asarray(nanoseconds, dtype=np.float64) * 1e-3

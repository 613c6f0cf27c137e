"""Finding episodes, and summing one up."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
from rich.console import Console
from rich.progress import track

from cadenza.report import lateness_us, percentiles
from episodes.messages import CAMERA_PREFIX, CHUNKS
from episodes.reader import Episode
from episodes.records import Driver
from episodes.recovery import being_written
from episodes.writer import PART
from spec.errors import CadenzaError

_Item = TypeVar("_Item")


def find_episodes(paths: Sequence[Path], unfinished_only: bool = False) -> list[Path]:
    """The files named, and all in the folders named.

    Raises:
        CadenzaError: no path, or one that does not exist.
    """
    if not paths:
        raise CadenzaError("name at least one episode or folder, e.g. cadenza episodes list runs")
    found = [file for path in paths for file in _in(path, unfinished_only)]
    return list(dict.fromkeys(found))


def _in(path: Path, unfinished_only: bool) -> list[Path]:
    if path.is_file():
        return [path]
    if not path.is_dir():
        raise CadenzaError(f"{path}: no such file or folder")
    found = {*path.rglob(f"*.mcap{PART}")}
    return sorted(found if unfinished_only else found | {*path.rglob("*.mcap")})


def interventions(episode: Episode) -> dict[str, Any]:
    """How much of it a person drove: ``count`` of stretches, their ``seconds``, their ``share`` of all ticks."""
    by_hand = episode.ticks["driver"] == Driver.HUMAN
    begins = by_hand & ~np.concatenate(([False], by_hand[:-1]))
    share = float(by_hand.mean()) if by_hand.size else 0.0
    return {"count": int(begins.sum()), "seconds": round(share * episode.duration_s, 3), "share": round(share, 4)}


def summary(episode: Episode) -> dict[str, Any]:
    """One episode in figures, JSON-able."""
    ended, carried = episode.ending, episode.carried
    return {
        "path": str(episode.path),
        "outcome": episode.outcome.value,
        "termination": None if episode.termination is None else episode.termination.value,
        "reward": ended.reward,
        "terminated": ended.terminated,
        "truncated": ended.truncated,
        "seconds": round(episode.duration_s, 3),
        "ticks": len(episode.ticks),
        "missed_ticks": int(episode.ticks["skipped"].sum()),
        "interventions": interventions(episode),
        "lateness_us": percentiles(lateness_us(episode), (50, 99)),
        "chunks": len(episode.chunks) - carried.get(CHUNKS, 0),
        "frames": {name: len(frames) - carried.get(CAMERA_PREFIX + name, 0) for name, frames in episode.frames.items()},
        "events": len(episode.events),
        "megabytes": round(episode.path.stat().st_size / 1e6, 2),
        "damage": episode.damage,
        "being_written": being_written(episode.path),
    }


def with_progress(items: Sequence[_Item], quiet: bool) -> Iterable[_Item]:
    """Go through ``items`` under a bar on the terminal, unless there are few of them."""
    return track(items, "reading", console=Console(stderr=True), transient=True, disable=quiet or len(items) < 5)


def text_console() -> Console:
    """For tables and facts. Piped output is for other programs: paths must not be broken over lines."""
    console = Console()
    return console if console.is_terminal else Console(width=240)

"""Finding episodes, setting damaged ones aside, and summing one up."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
from rich.console import Console
from rich.progress import track

from cadenza.report import lateness_us, percentiles
from episodes.messages import CAMERA_PREFIX, CHUNKS
from episodes.pruning import DISCARDED
from episodes.reader import Episode, read_episode
from episodes.records import Driver
from episodes.recovery import being_written
from episodes.writer import PART
from spec.errors import CadenzaError

_Item = TypeVar("_Item")


def find_episodes(paths: Sequence[Path], none_will_do: bool = False) -> list[Path]:
    """The files named, and all in the folders named. A folder without any is named on standard error.

    Args:
        paths: files, and folders to search.
        none_will_do: finding nothing at all is no reason to refuse.

    Raises:
        CadenzaError: no path, one that does not exist, or nothing found.
    """
    if not paths:
        raise CadenzaError("name at least one episode or folder, e.g. cadenza episodes list runs")
    found = {path: _in(path) for path in paths}
    empty = [path for path, files in found.items() if not files]
    if len(empty) == len(found) and not none_will_do:
        names = ", ".join(map(str, empty))
        raise CadenzaError(f"{names}: no episodes there; record some: cadenza demos, cadenza collect")
    for path in empty:
        print(f"{path}: no episodes there; record some: cadenza demos, cadenza collect", file=sys.stderr)
    return list(dict.fromkeys(file for files in found.values() for file in files))


def episodes_to_learn_from(
    paths: Sequence[Path], quiet: bool, option: str = "--data"
) -> tuple[list[Path], dict[str, str]]:
    """As :func:`set_damaged_aside` of the closed episodes in ``paths``, but for those that an operator discarded.

    Args:
        paths: files, and folders to search.
        quiet: show no progress.
        option: that they were given with.

    Raises:
        CadenzaError: none is left.
    """
    if not paths:
        raise CadenzaError(f"{option}: name at least one episode or folder, e.g. {option} runs/demos")
    files = [
        file for path in paths for file in find_episodes((path,)) if file.suffix != PART and not _discarded(file, path)
    ]
    if not files:
        raise CadenzaError(f"{', '.join(map(str, paths))}: no closed episodes there; record some: cadenza collect")
    return set_damaged_aside(list(dict.fromkeys(files)), quiet)


def _discarded(file: Path, below: Path) -> bool:
    """Whether it lies in a folder ``discarded`` that nobody named."""
    return file != below and DISCARDED in file.relative_to(below).parts[:-1]


def _in(path: Path) -> list[Path]:
    if path.is_file():
        return [path]
    if not path.is_dir():
        raise CadenzaError(f"{path}: no such file or folder")
    return sorted({*path.rglob(f"*.mcap{PART}"), *path.rglob("*.mcap")})


def set_damaged_aside(files: Sequence[Path], quiet: bool) -> tuple[list[Path], dict[str, str]]:
    """Files to work with; and the damaged ones with the reason, named on standard error: half an episode is not used
    as if it were all of it. A file that cannot be read at all stays, for the work itself to refuse.

    Raises:
        CadenzaError: all are damaged.
    """
    damaged = {file: reason for file in with_progress(files, quiet) if (reason := _damage(file))}
    lines = [f"{file}: {damage_line(file, reason)}" for file, reason in damaged.items()]
    if len(files) == 1 and damaged:
        raise CadenzaError(lines[0])
    for line in lines:
        print(line, file=sys.stderr)
    if files and len(damaged) == len(files):
        raise CadenzaError(f"all {len(files)} episodes are damaged")
    return [file for file in files if file not in damaged], {str(file): reason for file, reason in damaged.items()}


def _damage(file: Path) -> str:
    try:
        return read_episode(file, cameras=()).damage
    except CadenzaError:
        return ""


def damage_line(file: Path | str, reason: str) -> str:
    """What is wrong with a damaged episode, and what to do."""
    return f"damaged: {reason}; save what is whole: cadenza episodes recover {file}"


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

"""One episode of the log made into parts of a dataset, finished or not there at all.

A part is one run of an episode without a gap: a table of its rows, its pictures, and a note of what it is. Parts do
not know yet where in the dataset they will stand, so an export that was broken off finds them again and goes on.
"""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from episodes.lerobot.form import check_fit, form_of, space_of
from episodes.lerobot.layout import (
    ACTION,
    DONE,
    INTERVENTION,
    IS_INTERVENTION,
    PICTURES,
    REWARD,
    STATE,
    TERMINATED,
    TRUNCATED,
    Form,
    Only,
    Settings,
)
from episodes.lerobot.stats import PictureStats, Stats, read_back, written
from episodes.lerobot.tables import PictureTable, write_rows
from episodes.lerobot.video import VideoWriter
from episodes.outcome import Outcome
from episodes.reader import Episode, read_episode
from episodes.transitions import Transitions, transitions
from episodes.windows import MISSING
from spec.arrays import Bytes, Int
from spec.errors import MisfitError, SpecError
from spec.files import write_atomically
from spec.observation import decode_jpeg, policy_state

_NOTE = "parts.json"
_ROWS = "rows.parquet"


@dataclass(frozen=True, slots=True)
class Part:
    """One run of one episode, on disk."""

    folder: Path
    length: int
    interventions: int
    """Rows in which a person drove."""
    task: str
    source: Mapping[str, str]
    """Where it comes from: file, start, outcome, termination."""
    stats: Mapping[str, Stats]
    """Of the pictures, by column."""

    def rows(self) -> Path:
        """File of all columns but the pictures and those that depend on where the part will stand."""
        return self.folder / _ROWS

    def pictures(self, key: str, form: Form) -> Path:
        """File of one column of pictures."""
        return self.folder / f"{key}.{'mp4' if key in form.video_keys else 'parquet'}"


def staged(path: Path, work: Path) -> tuple[Part, ...]:
    """The parts of an episode that a broken off export had made; none where it had not come to that."""
    folder = work / _key(path)
    try:
        notes = json.loads((folder / _NOTE).read_bytes())
    except FileNotFoundError:
        return ()
    return _read_parts(folder, notes)


def stage(
    path: Path,
    work: Path,
    settings: Settings,
    form: Form | None,
    known: Collection[str],
    progress: Callable[[float], None],
) -> tuple[Form, tuple[Part, ...], str]:
    """Make the parts of one episode, if it has any.

    Args:
        path: a closed episode.
        work: folder of parts.
        settings: the user's choice.
        form: what the dataset looks like; None if this episode is to say.
        known: when the episodes began that the dataset has already.
        progress: told the share of the episode that is done, 0 to 1.

    Returns:
        What a dataset of this episode looks like, its parts, and why there are none, if so.

    Raises:
        MisfitError: the episode does not fit ``form``.
        CadenzaError: it cannot be read, or something is missing that only the user knows.
    """
    episode = read_episode(path)
    own = form_of(episode, settings)
    steps = transitions(episode, round(1e9 / own.fps), space_of(episode, settings), own.cameras)
    left_out = _left_out(episode, steps, settings.only, known)
    if form is not None and not left_out:
        check_fit(path, own, form)
    if left_out:
        return own, (), left_out
    folder = work / _key(path)
    making = folder.with_name(folder.name + ".making")
    shutil.rmtree(making, ignore_errors=True)
    making.mkdir(parents=True)
    notes = _write_parts(making, episode, steps, own, settings, progress)
    write_atomically(making / _NOTE, json.dumps(notes).encode())
    making.rename(folder)
    return own, _read_parts(folder, notes), ""


def _read_parts(folder: Path, notes: Sequence[Mapping[str, Any]]) -> tuple[Part, ...]:
    return tuple(
        Part(
            folder=folder / note["folder"],
            length=note["length"],
            interventions=note["interventions"],
            task=note["task"],
            source=note["source"],
            stats={key: read_back(stats) for key, stats in note["stats"].items()},
        )
        for note in notes
    )


def _key(path: Path) -> str:
    """Another file, or the same one changed, has another key."""
    status = path.stat()
    identity = f"{path.resolve()}\n{status.st_size}\n{status.st_mtime_ns}"
    return f"{path.stem}-{hashlib.sha256(identity.encode()).hexdigest()[:12]}"


def _left_out(episode: Episode, steps: Transitions, only: Only, known: Collection[str]) -> str:
    if episode.facts["started_utc"] in known:
        return "already in the dataset"
    if not len(steps):
        return "no step in which every camera had seen and something was executed"
    if only is Only.SUCCESS and episode.outcome is not Outcome.SUCCESS:
        return f"outcome: {episode.outcome}"
    if only is Only.INTERVENTIONS and not steps.intervention.any():
        return "no intervention"
    return ""


def _write_parts(
    folder: Path,
    episode: Episode,
    steps: Transitions,
    form: Form,
    settings: Settings,
    progress: Callable[[float], None],
) -> list[dict[str, Any]]:
    """Write every run into a folder of its own; returns the notes."""
    source = {
        "file": episode.path.name,
        "started_utc": episode.facts["started_utc"],
        "outcome": episode.outcome.value,
        "termination": episode.termination.value if episode.termination else "",
    }
    task = _task(episode, settings)
    notes: list[dict[str, Any]] = []
    for number, rows in enumerate(steps.runs()):
        run = folder / f"run-{number:03d}"
        run.mkdir()
        part = Part(run, rows.stop - rows.start, int(steps.intervention[rows].sum()), task, source, {})
        write_rows(part.rows(), _columns(episode, steps, rows, settings), form.features)
        stats = {}
        for place, camera in enumerate(form.cameras):
            key = PICTURES + camera
            index = steps.samples.frames[camera][steps.at[rows]]
            before = (rows.start + place * part.length / len(form.cameras)) / len(steps)
            share = part.length / len(form.cameras) / len(steps)
            stats[key] = PictureStats()
            with _writer(part.pictures(key, form), key, form) as writer:
                for row, picture in enumerate(_pictures(episode, camera, index, form.features[key]["shape"])):
                    writer.add(picture)
                    stats[key].add(picture)
                    progress(before + share * (row + 1) / part.length)
        note = {"folder": run.name, "length": part.length, "interventions": part.interventions, "task": task}
        notes.append({**note, "source": source, "stats": {key: written(of.result()) for key, of in stats.items()}})
    return notes


def _task(episode: Episode, settings: Settings) -> str:
    virtual = episode.robot().virtual
    task = settings.task or episode.labels.get("task") or (virtual.task if virtual is not None else "")
    if not task:
        raise SpecError("--task", None, f"needed: {episode.path.name} does not say what was done")
    return task


def _columns(episode: Episode, steps: Transitions, rows: slice, settings: Settings) -> dict[str, Any]:
    ticks = steps.samples.tick[steps.at[rows]]
    position, velocity = (np.asarray(episode.ticks[name][ticks], dtype=np.float64) for name in ("position", "velocity"))
    return {
        STATE: policy_state(position, velocity, settings.state),
        ACTION: steps.action[rows],
        REWARD: steps.reward[rows],
        DONE: steps.done[rows],
        INTERVENTION: steps.intervention[rows],
        IS_INTERVENTION: steps.intervention[rows],
        TERMINATED: steps.terminated[rows],
        TRUNCATED: steps.truncated[rows],
    }


def _writer(path: Path, key: str, form: Form) -> VideoWriter | PictureTable:
    height, width, _ = form.features[key]["shape"]
    return VideoWriter(path, form.fps, height, width) if key in form.video_keys else PictureTable(path)


def _pictures(episode: Episode, camera: str, index: Int, shape: list[int]) -> Iterator[Bytes]:
    """Pictures of the rows, RGB, one at a time; one that lasts several rows is decoded once."""
    last = MISSING
    for frame in index:
        if frame != last:
            picture = cv2.cvtColor(decode_jpeg(episode.frames[camera].jpeg[frame]), cv2.COLOR_BGR2RGB)
            last = frame
        if list(picture.shape) != shape:
            raise MisfitError(
                f"{episode.path}: camera {camera}: frame {frame} has shape {picture.shape}, others {shape}"
            )
        yield picture

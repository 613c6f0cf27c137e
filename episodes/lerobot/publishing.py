"""Exporting from beginning to end, such that it can be broken off anywhere and goes on when it is asked for again.

While it runs, everything is in the folder ``.export`` of the dataset: one part after another, each finished or not
there, under a name that tells the settings; then the whole dataset, put together beside them; then a mark; then an old
dataset moves out of the way, and file after file moves to its place, what LeRobot reads first moving last.
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import shutil
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass
from enum import StrEnum
from functools import partial
from pathlib import Path
from typing import Any

from episodes.lerobot.assembly import Base, assemble, read_base
from episodes.lerobot.layout import INFO, Form, Settings
from episodes.lerobot.staging import Part, stage, staged
from episodes.writer import sync_folder
from spec.errors import CadenzaError
from spec.files import write_atomically

WORK = ".export"
_FORM, _MARK = "form.json", "assembled.json"
_TREE, _OLD = "dataset", "old"
_OURS = ("data", "videos", "meta")


class Existing(StrEnum):
    """What to do with a dataset that is there already."""

    REFUSE = "refuse"
    APPEND = "append"
    OVERWRITE = "overwrite"


@dataclass(frozen=True, slots=True)
class Summary:
    """What came of an export."""

    episodes: int
    """Added to the dataset; one of the log may have become several, where it had gaps."""
    frames: int
    """Rows added."""
    interventions: int
    """Of these, rows in which a person drove."""
    fps: int
    cameras: tuple[str, ...]
    resumed: int
    """Episodes of the log that were ready from an export that was broken off."""
    left_out: dict[str, str]
    """Episode of the log → why it is not in the dataset."""


Progress = Callable[[str, float], None]
"""Told what is being done, and how much of that, 0 to 1."""


def export(
    paths: Sequence[Path],
    out: Path,
    settings: Settings,
    existing: Existing = Existing.REFUSE,
    progress: Progress = lambda *_: None,
) -> Summary:
    """Make a LeRobotDataset of episodes.

    Args:
        paths: closed episodes, in the order they shall have.
        out: folder of the dataset.
        settings: how.
        existing: what to do with a dataset that is there; one that was broken off is always gone on with.
        progress: see :data:`Progress`.

    Raises:
        CadenzaError: nothing to export, episodes that do not belong together, or something else is in the way.
        OSError: as the file system says; the same call goes on from there.
    """
    work = out / WORK
    request = {"settings": asdict(settings), "existing": existing}
    with _alone(out):
        if (mark := _read_mark(work)) is not None:
            _put_in_place(out, mark)
            if mark["request"] == request:
                return _summary(mark)
        finished = _look(out, existing)
        base = read_base(out) if finished and existing is Existing.APPEND else Base()
        parts = work / f"parts-{hashlib.sha256(json.dumps(asdict(settings)).encode()).hexdigest()[:12]}"
        summary = _make(paths, parts, work / _TREE, settings, base, progress)
        mark = {"request": request, "summary": asdict(summary), "replace": existing is Existing.OVERWRITE}
        _write_mark(work, mark)
        _put_in_place(out, mark)
    return summary


@contextmanager
def _alone(out: Path) -> Iterator[None]:
    """Two exports into one folder would spoil each other's work."""
    try:
        out.mkdir(parents=True, exist_ok=True)
    except FileExistsError:
        raise CadenzaError(f"{out}: is a file") from None
    folder = os.open(out, os.O_RDONLY)
    try:
        fcntl.flock(folder, fcntl.LOCK_EX | fcntl.LOCK_NB)
        yield
    except BlockingIOError:
        raise CadenzaError(f"{out}: another export is at work there") from None
    finally:
        os.close(folder)
        with suppress(OSError):
            out.rmdir()  # if nothing came of it


def _look(out: Path, existing: Existing) -> bool:
    """Whether there is a dataset; refuses what must not be touched."""
    finished = (out / INFO).exists()
    if finished and existing is Existing.REFUSE:
        raise CadenzaError(f"{out}: holds a dataset already; --append adds to it, --overwrite replaces it")
    if not finished and any(file.name != WORK for file in out.iterdir()):
        raise CadenzaError(f"{out}: not empty, and no dataset; choose another folder")
    return finished


def _make(paths: Sequence[Path], work: Path, tree: Path, settings: Settings, base: Base, progress: Progress) -> Summary:
    """Make the parts that are not there yet, and the dataset of them."""
    form, resumed, known = _read_form(work) or base.form, 0, set(base.known)
    parts: list[Part] = []
    left_out: dict[str, str] = {}
    for number, path in enumerate(paths):
        found = staged(path, work)
        resumed += bool(found)
        if not found:
            own, found, reason = stage(path, work, settings, form, known, partial(_tell, progress, number, len(paths)))
            if form is None and found:
                form = own
                write_atomically(work / _FORM, json.dumps(asdict(own)).encode())
        elif found[0].source["started_utc"] in known:
            found, reason = (), "already in the dataset"
        if not found:
            left_out[str(path)] = reason
        known |= {part.source["started_utc"] for part in found}
        parts += found
        progress("episodes", (number + 1) / len(paths))
    if form is None or not parts:
        raise CadenzaError(f"nothing to export: {'; '.join(sorted(set(left_out.values()))) or 'no episodes'}")
    shutil.rmtree(tree, ignore_errors=True)
    assemble(parts, form, base, tree, partial(progress, "dataset"))
    return Summary(
        episodes=len(parts),
        frames=sum(part.length for part in parts),
        interventions=sum(part.interventions for part in parts),
        fps=form.fps,
        cameras=form.cameras,
        resumed=resumed,
        left_out=left_out,
    )


def _tell(progress: Progress, number: int, episodes: int, share: float) -> None:
    progress("episodes", (number + share) / episodes)


def _read_form(work: Path) -> Form | None:
    try:
        return Form(**json.loads((work / _FORM).read_bytes()))
    except FileNotFoundError:
        return None


def _put_in_place(out: Path, mark: dict[str, Any]) -> None:
    """Move what is not in place yet; what says that there is a dataset moves last."""
    work = out / WORK
    if mark["replace"]:
        for name in _OURS:
            if (out / name).exists():
                (work / _OLD).mkdir(exist_ok=True)
                (out / name).rename(work / _OLD / name)
        _write_mark(work, {**mark, "replace": False})
    tree = work / _TREE
    files = [path.relative_to(tree) for path in tree.rglob("*") if path.is_file()]
    for file in sorted(files, key=lambda file: (file == INFO, file)):
        (out / file).parent.mkdir(parents=True, exist_ok=True)
        (tree / file).replace(out / file)
        sync_folder((out / file).parent)
    shutil.rmtree(work)


def _read_mark(work: Path) -> dict[str, Any] | None:
    try:
        mark: dict[str, Any] = json.loads((work / _MARK).read_bytes())
    except FileNotFoundError:
        return None
    return mark


def _write_mark(work: Path, mark: dict[str, Any]) -> None:
    write_atomically(work / _MARK, json.dumps(mark).encode())


def _summary(mark: dict[str, Any]) -> Summary:
    return Summary(**{**mark["summary"], "cameras": tuple(mark["summary"]["cameras"])})

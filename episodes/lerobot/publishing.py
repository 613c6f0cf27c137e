"""Exporting from beginning to end, such that it can be broken off anywhere and goes on when it is asked for again.

While it runs, everything is in the folder ``.export`` of the dataset: one part after another, each finished or not
there; then the whole dataset, put together beside them; then a mark; then file after file moves to its place, what
LeRobot reads first moving last.
"""

from __future__ import annotations

import fcntl
import json
import os
import shutil
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from enum import StrEnum
from functools import partial
from pathlib import Path

from episodes.lerobot.assembly import Base, assemble, read_base
from episodes.lerobot.layout import INFO, Form, Settings
from episodes.lerobot.staging import Staged, stage, staged
from episodes.writer import sync_folder
from spec.errors import CadenzaError
from spec.files import write_atomically

WORK = ".export"
_PLAN, _FORM, _MARK = "plan.json", "form.json", "assembled.json"
_PARTS, _TREE = "parts", "dataset"
_OURS = ("data", "videos", "meta", WORK)


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
    with _alone(out):
        append = _begin(out, settings, existing)
        if not (work / _MARK).exists():
            summary = _make(paths, work, settings, read_base(out) if append else Base(), progress)
            write_atomically(work / _MARK, json.dumps(asdict(summary)).encode())
        found = json.loads((work / _MARK).read_bytes())
        _put_in_place(work / _TREE, out)
        shutil.rmtree(work)
    return Summary(**{**found, "cameras": tuple(found["cameras"])})


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


def _begin(out: Path, settings: Settings, existing: Existing) -> bool:
    """Find or write down what this export is; returns whether it adds to a dataset."""
    plan = out / WORK / _PLAN
    finished, begun = (out / INFO).exists(), plan.exists()
    if existing is Existing.OVERWRITE and (finished or begun):
        for name in _OURS:
            shutil.rmtree(out / name, ignore_errors=True)
        finished = begun = False
    if begun:
        found = json.loads(plan.read_bytes())
        changed = [name for name, value in asdict(settings).items() if found["settings"][name] != value]
        if changed:
            options = ", ".join(f"--{name.replace('_', '-')} was {found['settings'][name]}" for name in changed)
            raise CadenzaError(f"{out}: holds an unfinished export with other settings ({options}); or --overwrite")
        return bool(found["append"])
    if finished and existing is Existing.REFUSE:
        raise CadenzaError(f"{out}: holds a dataset already; --append adds to it, --overwrite replaces it")
    if not finished and any(file.name != WORK for file in out.iterdir()):
        raise CadenzaError(f"{out}: not empty, and no dataset; choose another folder")
    write_atomically(plan, json.dumps({"settings": asdict(settings), "append": finished}).encode())
    return finished


def _make(paths: Sequence[Path], work: Path, settings: Settings, base: Base, progress: Progress) -> Summary:
    """Make the parts that are not there yet, and the dataset of them."""
    form, resumed, known = _read_form(work) or base.form, 0, set(base.known)
    results: list[Staged] = []
    for number, path in enumerate(paths):
        result = staged(path, work / _PARTS)
        resumed += result is not None
        if result is None:
            tell = partial(_tell, progress, number, len(paths))
            own, result = stage(path, work / _PARTS, settings, form, known, tell)
            if form is None and result.parts:
                form = own
                write_atomically(work / _FORM, json.dumps(asdict(own)).encode())
        known |= {part.source["started_utc"] for part in result.parts}
        results.append(result)
        progress("episodes", (number + 1) / len(paths))
    parts = [part for result in results for part in result.parts]
    if form is None or not parts:
        reasons = ", ".join(sorted({result.left_out for result in results}))
        raise CadenzaError(f"nothing to export: {reasons or 'no episodes'}")
    shutil.rmtree(work / _TREE, ignore_errors=True)
    assemble(parts, form, base, work / _TREE, partial(progress, "dataset"))
    return Summary(
        episodes=len(parts),
        frames=sum(part.length for part in parts),
        interventions=sum(part.interventions for part in parts),
        fps=form.fps,
        cameras=form.cameras,
        resumed=resumed,
        left_out={str(result.source): result.left_out for result in results if result.left_out},
    )


def _tell(progress: Progress, number: int, episodes: int, share: float) -> None:
    progress("episodes", (number + share) / episodes)


def _read_form(work: Path) -> Form | None:
    try:
        return Form(**json.loads((work / _FORM).read_bytes()))
    except FileNotFoundError:
        return None


def _put_in_place(tree: Path, out: Path) -> None:
    """Move what is not in place yet; what says that there is a dataset moves last."""
    files = sorted(
        (path.relative_to(tree) for path in tree.rglob("*") if path.is_file()), key=lambda path: (path == INFO, path)
    )
    for file in files:
        (out / file).parent.mkdir(parents=True, exist_ok=True)
        (tree / file).replace(out / file)
    for folder in {(out / file).parent for file in files}:
        sync_folder(folder)

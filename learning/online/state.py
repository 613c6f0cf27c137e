"""What a learner resumes from: one file, whole or not there, with all tensors and all counters of one instant."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from pydantic import Field, NonNegativeInt
from torch import Tensor

from episodes.writer import sync_folder
from learning.checkpoint import read_facts, read_tensors, write_tensors
from learning.replay.cut import Source
from spec.errors import MisfitError, SpecError
from spec.robot import Section

STATE_FILE = "state.safetensors"
_COUNTERS = "counters"


class Counters(Section):
    """Where a run stands. ``heads`` and ``entries`` say which of stores and journal the state has seen."""

    settings: dict[str, Any]
    """What must not change within a run, by name."""
    update: NonNegativeInt = 0
    entries: NonNegativeInt = 0
    """Lines of the journal."""
    online_rows: NonNegativeInt = 0
    """Rows with an action of episodes that are no demonstrations: what updates are made for."""
    heads: dict[Source, int] = Field(default_factory=dict)
    """Rows ever appended to each store."""
    weights: NonNegativeInt = 0
    """Weight version of the newest bundle."""
    exported_at: NonNegativeInt = 0
    """Updates made when it was due."""
    due_at: NonNegativeInt = 0
    """Updates after which the next one is due, because an episode has been learned from; 0 for none."""
    owed: NonNegativeInt = 0
    """Updates for episodes that came after ``due_at`` was set."""
    skipped: NonNegativeInt = 0
    """Updates without effect, because a loss was not finite."""


def save_state(folder: Path, tensors: Mapping[str, Tensor], counters: Counters) -> None:
    """Raises OSError as the file system says; the older state is then still there."""
    write_tensors(folder / STATE_FILE, tensors, {_COUNTERS: counters.model_dump_json()})
    sync_folder(folder)  # stores forget next time what an older state would need


def load_state(folder: Path, settings: Mapping[str, Any]) -> tuple[dict[str, Tensor], Counters] | None:
    """The state in ``folder``; None where there is none yet.

    Raises:
        MisfitError: made with other settings.
        SpecError: damaged, not finite, or none of ours.
    """
    path = folder / STATE_FILE
    _sweep(folder)
    if not path.exists():
        return None
    counters = read_counters(path)
    if changed := _changed(counters.settings, settings):
        raise MisfitError(
            f"{folder}: was begun with other settings: {'; '.join(changed)}; give those again, or begin another run "
            f"from its weights: --checkpoint {folder / 'checkpoint'} --out ANOTHER"
        )
    with _remedy(path):
        tensors = read_tensors(path)
        for name, tensor in tensors.items():
            if not bool(tensor.isfinite().all()):
                raise SpecError(f"{path}: {name}", "not finite", "nothing more would be learned from it")
    return tensors, counters


def read_counters(path: Path) -> Counters:
    """The counters of a state. Raises SpecError where it is damaged, or none of ours."""
    with _remedy(path):
        text = read_facts(path).get(_COUNTERS)
    if text is None:
        raise SpecError(str(path), "no counters", "not the state of an online learner; choose another --out")
    try:
        return Counters.model_validate_json(text)
    except ValueError as error:
        raise SpecError(str(path), "counters", f"not those of this program: {type(error).__name__}") from None


@contextlib.contextmanager
def _remedy(path: Path) -> Iterator[None]:
    """A state is not needed: the journal says which episodes came when, and all is learned again."""
    try:
        yield
    except SpecError as error:
        remedy = f"{error.reason}; remove {path}, and the journal has everything learned again"
        raise SpecError(error.where, error.value, remedy) from None


def _changed(before: Mapping[str, Any], now: Mapping[str, Any]) -> list[str]:
    names = [name for name in {**before, **now} if before.get(name) != now.get(name)]
    return [f"{name} is {now.get(name)}, was {before.get(name)}" for name in names]


def _sweep(folder: Path) -> None:
    """Remove what a kill in the middle of a save has left: the file that was not yet the state."""
    for left in folder.glob(f".{STATE_FILE}.*"):
        with contextlib.suppress(OSError):
            left.unlink()

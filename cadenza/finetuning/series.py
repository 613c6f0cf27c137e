"""Several methods and seeds: what each run showed, kept on disk, and what it all comes to."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from cadenza.finetuning.trial import Plan, Point
from learning.sac.settings import Objective, Settings
from spec.errors import MisfitError, SpecError
from spec.files import write_atomically

WARM_AT_MOST, TUNED_AT_LEAST = 0.6, 0.95
"""Success before and after fine-tuning that the default method is held to."""


@dataclass(frozen=True, slots=True)
class Run:
    """One method with one seed, whole."""

    objective: Objective
    seed: int
    points: tuple[Point, ...]


@dataclass(frozen=True, slots=True)
class Verdict:
    """One thing that must hold."""

    name: str
    shown: str
    wanted: str
    held: bool


def path_of(folder: Path, objective: Objective, seed: int) -> Path:
    return folder / f"{objective}-{seed}.json"


def save_run(folder: Path, run: Run, plan: Plan, settings: Settings) -> None:
    """Write down a run that is whole."""
    text = json.dumps({"setting": _setting(plan, settings), "points": [_plain(p) for p in run.points]}, indent=2)
    write_atomically(path_of(folder, run.objective, run.seed), (text + "\n").encode())


def load_run(folder: Path, plan: Plan, settings: Settings) -> Run | None:
    """The run that was done before; None where there is none.

    Raises:
        MisfitError: it was done otherwise.
        SpecError: not such a file.
    """
    path = path_of(folder, settings.objective, settings.seed)
    if not path.exists():
        return None
    try:
        found = json.loads(path.read_bytes())
        setting = found["setting"]
        points = tuple(_point(point) for point in found["points"])
    except (ValueError, KeyError, TypeError, AttributeError):
        raise SpecError(str(path), "...", "not the result of a run; remove it, or choose another --out") from None
    if setting != json.loads(json.dumps(_setting(plan, settings))):
        raise MisfitError(f"{path}: was done with other settings; choose another --out")
    return Run(settings.objective, settings.seed, points)


def verdicts(runs: Sequence[Run]) -> list[Verdict]:
    """Whether ``chunk`` does what it must, as far as it and others were run."""
    tuned = [run for run in runs if run.objective is Objective.CHUNK]
    if not tuned:
        return []
    before, after = (float(np.mean([run.points[at].success for run in tuned])) for at in (0, -1))
    found = [
        Verdict("success after warm-up", f"{before:.2f}", f"at most {WARM_AT_MOST:.2f}", before <= WARM_AT_MOST),
        Verdict("chunk: success", f"{after:.2f}", f"at least {TUNED_AT_LEAST:.2f}", after >= TUNED_AT_LEAST),
    ]
    early, late = (float(np.mean([run.points[at].interventions for run in tuned])) for at in (1, -1))
    found.append(
        Verdict("chunk: episodes with a takeover", f"{early:.2f} → {late:.2f}", "falls", late < early),
    )
    for objective in Objective:
        others = [run for run in runs if run.objective is objective]
        if objective is Objective.CHUNK or not others:
            continue
        theirs = float(np.mean([run.points[-1].success for run in others]))
        found.append(Verdict(f"chunk against {objective}", f"{after:.2f} : {theirs:.2f}", "ahead", after > theirs))
    return found


def _setting(plan: Plan, settings: Settings) -> dict[str, Any]:
    return {"plan": asdict(plan), "settings": settings.model_dump(mode="json")}


def _point(values: dict[str, Any]) -> Point:
    known: dict[str, Any] = {name: math.nan if value is None else value for name, value in values.items()}
    return Point(**known)


def _plain(point: Point) -> dict[str, Any]:
    """JSON has no NaN."""
    return {k: None if isinstance(v, float) and math.isnan(v) else v for k, v in asdict(point).items()}

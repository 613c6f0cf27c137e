"""``cadenza replay --against``: asks policies about recorded episodes; table, picture, report."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table

from cadenza.picture import FAINT, HUES, save
from cadenza.replay_difference import (
    EXECUTED,
    LOGGED,
    PERSON,
    Compared,
    compare,
    executed,
    judged,
    labels_of,
    load_policies,
    spans_of_a_person,
    summary,
)
from cadenza.replay_pictures import Apart, Line, draw_against
from cadenza.report import FILM_FRAMES, film
from controller.hindsight import explored
from episodes.reader import read_episode
from export.bundle import read_bundle
from spec.arrays import Float
from spec.errors import SpecError


def run(
    files: Sequence[Path], folders: Sequence[Path], out: Path | None, console: Console
) -> tuple[int, dict[str, Any]]:
    """Exit status and JSON-able report.

    Args:
        files: episodes.
        folders: of the bundles.
        out: where the picture of the first episode goes; None: nowhere.
        console: for progress and the table.

    Raises:
        CadenzaError: an episode or bundle that cannot be used, or that do not fit.
    """
    if out is not None and out.suffix not in {".png", ".svg", ".pdf"}:
        raise SpecError("--out", str(out), "is to be a picture", ("*.png", "*.svg", "*.pdf"))
    labels = labels_of(folders)
    policies = load_policies([read_bundle(folder) for folder in folders], labels)
    cameras = {name for bundle, _ in policies.values() for name in bundle.manifest.observation.cameras}
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    compared: list[Compared] = []
    with Progress(*columns, console=console, transient=True) as progress:
        whole = progress.add_task("episodes", total=len(files))
        for file in files:
            episode = read_episode(file, cameras)
            steps = progress.add_task(file.name, total=None)
            compared.append(compare(episode, policies, partial(progress.advance, steps)))
            progress.remove_task(steps)
            progress.advance(whole)
    rows, verdict = summary(compared), judged(compared)
    picture = None
    if out is not None:
        save(_draw(compared[0], labels), out)
        picture = str(out)
    report = {
        "episodes": [_about(one) for one in compared],
        "bundles": {
            label: {
                "folder": str(b.folder),
                "name": b.manifest.name,
                "weights": b.manifest.weights,
                "provider": p.provider,
            }
            for label, (b, p) in policies.items()
        },
        "differences_in_encoder_ticks": rows,
        "verdict": verdict,
        "picture": picture,
    }
    _print(rows, report, console)
    return 1 if verdict else 0, report


def _about(one: Compared) -> dict[str, Any]:
    exploration = explored(one.episode)
    return {
        "path": str(one.episode.path),
        "recorded_with": one.recorded_with,
        "steps": max(len(answer.observed_ns) for answer in one.answers.values()),
        "left_out": one.left_out,
        "explored": None if exploration is None else asdict(exploration),
        "bit_equal": {d.name: d.bit_equal for d in one.differences if d.to == LOGGED},
    }


def _print(rows: Sequence[Mapping[str, Any]], report: Mapping[str, Any], console: Console) -> None:
    table = Table("[encoder ticks]", "joint", "mean", "p95", "max", "above 1", box=None)
    for column in table.columns[2:]:
        column.justify = "right"
    for row in rows:
        name = f"{row['of']} against {row['to']}"
        if row["bit_equal"]:
            table.add_row(name, "all", "0", "0", "0", "0 %", end_section=True)
            continue
        for joint, figures in {**row["joints"], "all": row["all"]}.items():
            table.add_row(name, joint.replace("_", " "), *_cells(figures))
            name = ""
    console.print(table)
    for one in report["episodes"]:
        notes = [f"{one['steps']} policy steps"]
        if one["left_out"]:
            notes.append(f"{one['left_out']} left out: their history began before the recording")
        if one["explored"] is not None:
            notes.append(f"explored at {one['explored']['scale']:g}, with the same noise here")
        if one["recorded_with"] is not None:
            equal = one["bit_equal"].get(f"{one['recorded_with']} against {LOGGED}")
            are = {None: "cannot be compared", True: "are bit-equal", False: "are NOT bit-equal"}[equal]
            notes.append(f"{one['recorded_with']} drove, its chunks {are}")
        elif not one["bit_equal"]:
            notes.append("no chunks on record at these steps")
        console.print(f"{one['path']}: {'; '.join(notes)}", highlight=False, soft_wrap=True)
    for line in report["verdict"]:
        console.print(f"[bold red]broken[/] {line}", highlight=False, soft_wrap=True)
    if report["picture"]:
        console.print(f"picture {report['picture']}", highlight=False)


def _cells(figures: Mapping[str, Any]) -> tuple[str, ...]:
    if not figures["compared"]:
        return ("none", "", "", "")
    return (*(f"{figures[key]:.3g}" for key in ("mean", "p95", "max")), f"{figures['share_above_1']:.0%}")


def _draw(one: Compared, labels: Sequence[str]) -> Any:
    episode = one.episode
    start_ns = int(episode.ticks["now_ns"][0])
    sent_ns, sent, by_policy, by_person = executed(episode)
    driven = by_policy | by_person
    seconds = _seconds(sent_ns, start_ns)
    wanted = [
        Line(
            f"{label}, next action",
            _seconds(one.answers[label].observed_ns + one.answers[label].step_ns, start_ns),
            one.answers[label].targets[:, 0],
            HUES[number],
        )
        for number, label in enumerate(labels)
    ]
    apart = [
        Apart(
            difference.name,
            _seconds(one.answers[difference.of].observed_ns, start_ns),
            *_extremes(difference.ticks),
            HUES[labels.index(difference.of) if difference.to in {LOGGED, EXECUTED, PERSON} else -1 - number % 3],
            {LOGGED: "--", PERSON: ":"}.get(difference.to, "-"),
        )
        for number, difference in enumerate(one.differences)
        # Against another bundle's log is against that bundle, which is shown.
        if difference.to != LOGGED or one.recorded_with in {None, difference.of}
    ]
    camera = next((name for name, frames in episode.frames.items() if frames.jpeg), "")
    begin, end = (seconds[driven][0], seconds[driven][-1]) if driven.any() else (0.0, episode.duration_s)
    shown = np.linspace(begin, end, FILM_FRAMES)
    return draw_against(
        f"{episode.path.name}: what {' and '.join(labels)} would have done",
        episode.joints,
        Line(EXECUTED, seconds, sent, FAINT),
        wanted,
        apart,
        spans_of_a_person(episode),
        film(episode, camera, shown * 1e9 + start_ns, shown),
    )


def _seconds(instants_ns: Any, start_ns: int) -> Float:
    return np.asarray((instants_ns - start_ns) * 1e-9, dtype=np.float64)


def _extremes(ticks: Float) -> tuple[Float, Float]:
    """Per step over joints and actions; per joint the 95th percentile and maximum. NaN where nothing was compared."""
    size = np.abs(ticks)
    none = ~np.isfinite(size)
    per_step = np.where(none.all(axis=(1, 2)), np.nan, np.where(none, -1.0, size).max(axis=(1, 2)))
    by_joint = np.full((ticks.shape[2], 2), np.nan)
    for joint in range(ticks.shape[2]):
        values = size[:, :, joint][~none[:, :, joint]]
        if values.size:
            by_joint[joint] = np.percentile(values, 95), values.max()
    return per_step, by_joint

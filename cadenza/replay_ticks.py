"""``cadenza replay --ticks``: every decision of recorded episodes again, demanded to the last bit."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from controller.replay import Verdict, replay
from episodes.reader import read_episode
from spec.errors import CadenzaError


def run(files: Sequence[Path], console: Console) -> tuple[int, dict[str, Any]]:
    """Exit status and JSON-able report.

    Returns:
        0: every tick of every episode is bit-equal from its first state on record on; 1: some is not, or is missing;
        2: some episode cannot be replayed, and no other was found to differ.
    """
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    rows: list[dict[str, Any]] = []
    with Progress(*columns, console=console, transient=True) as progress:
        whole = progress.add_task("episodes", total=len(files))
        for file in files:
            try:
                episode = read_episode(file, cameras=())
                ticking = progress.add_task(file.name, total=len(episode.ticks))
                verdict = replay(episode, partial(progress.advance, ticking))
                progress.remove_task(ticking)
            except CadenzaError as error:
                rows.append({"path": str(file), "refused": str(error).removeprefix(f"{file}: ")})
            else:
                rows.append({"path": str(file), "equal": verdict.equal, **asdict(verdict)})
                rows[-1]["text"] = told(verdict)
            _say(rows[-1], console)
            progress.advance(whole)
    equal = sum(row.get("equal", False) for row in rows)
    ticks = sum(row["compared"] - row["differing"] for row in rows if "compared" in row)
    if len(rows) > 1:
        console.print(f"{equal} of {len(rows)} episodes bit-equal, {ticks:,} ticks", highlight=False)
    differs = any(not row["equal"] for row in rows if "equal" in row)
    status = 1 if differs else 2 if equal < len(rows) else 0
    return status, {"episodes": rows, "bit_equal": equal, "bit_equal_ticks": ticks}


def told(verdict: Verdict) -> str:
    """A verdict in one line."""
    same = verdict.compared - verdict.differing
    line = f"{same} of {verdict.ticks} ticks bit-equal"
    if verdict.before:
        line += f" (the first {verdict.before} come before the state on record)"
    if verdict.first is not None:
        line += f"; {verdict.first}"
        if verdict.differing > 1:
            line += f"; {verdict.differing - 1} ticks after it differ too"
    return "; ".join([line, *verdict.gaps])


def _say(row: dict[str, Any], console: Console) -> None:
    good = row.get("equal", False)
    text = f"{row['path']}: {row.get('text', row.get('refused'))}"
    console.print(text, style=None if good else "red", highlight=False, soft_wrap=True, markup=False)

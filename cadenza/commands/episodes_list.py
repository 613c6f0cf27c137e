"""``cadenza episodes list``: one line for each episode."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import tyro
from rich.table import Table

from cadenza.arguments import parse
from cadenza.episode_files import damage_line, find_episodes, summary, text_console, with_progress
from episodes.reader import read_episode
from episodes.writer import PART
from spec.errors import CadenzaError

_DAMAGED = "(damaged)"


@dataclass(frozen=True, slots=True)
class Args:
    """One line for each episode: how it went, how long it is, how much of it a person drove.

    cadenza episodes list runs/demo/episodes
    cadenza episodes list runs --json
    """

    paths: tyro.conf.Positional[tuple[Path, ...]]
    """Files, or folders to search."""
    json: bool = False
    """Print JSON instead of text."""


def main(argv: Sequence[str]) -> int:
    """Run the action; a file that is no episode gets a line as well."""
    args = parse(Args, argv, "episodes list")
    rows, unreadable = [], []
    for file in with_progress(find_episodes(args.paths, none_will_do=True), args.json):
        try:
            rows.append(summary(read_episode(file, cameras=())))
        except CadenzaError as error:
            unreadable.append({"path": str(file), "unreadable": str(error).removeprefix(f"{file}: ")})
    if args.json:
        print(json.dumps([*rows, *unreadable], indent=2))
    else:
        _print(rows, unreadable)
    return 0


def _ended_by(row: dict[str, Any]) -> str:
    if row["being_written"]:
        return "(being written)"
    if row["damage"]:
        return "(unfinished)" if row["path"].endswith(PART) else _DAMAGED
    return row["termination"] or ""


def _print(rows: list[dict[str, Any]], unreadable: list[dict[str, str]]) -> None:
    columns = ("episode", "outcome", "ended by", "reward", "seconds", "by hand", "missed", "chunks", "frames", "MB")
    table = Table(*columns, box=None)
    for column in table.columns[3:]:
        column.justify = "right"
    table.columns[8].justify = "left"
    for row in rows:
        hand = row["interventions"]
        by_hand = f"{hand['count']}×, {hand['seconds']:.1f} s ({hand['share']:.0%})" if hand["count"] else "-"
        table.add_row(
            row["path"],
            row["outcome"],
            _ended_by(row),
            "-" if row["reward"] is None else f"{row['reward']:g}",
            f"{row['seconds']:.1f}",
            by_hand,
            str(row["missed_ticks"]),
            str(row["chunks"]),
            ", ".join(f"{name} {count}" for name, count in row["frames"].items()),
            f"{row['megabytes']:.1f}",
        )
    for other in unreadable:
        table.add_row(other["path"], "unreadable", other["unreadable"])
    console = text_console()
    console.print(table)
    share = sum(row["interventions"]["seconds"] for row in rows)
    total = sum(row["seconds"] for row in rows)
    size = sum(row["megabytes"] for row in rows)
    for row in rows:
        if _ended_by(row) == _DAMAGED:
            line = f"{row['path']}: {damage_line(row['path'], row['damage'])}"
            console.print(line, style="red", highlight=False, markup=False, soft_wrap=True)
    console.print(f"{len(rows)} episodes, {total:.1f} s, {share:.1f} s of it by hand, {size:.1f} MB", highlight=False)

"""``cadenza episodes info``: all that is known about an episode."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import tyro

from cadenza.arguments import parse
from cadenza.episode_files import damage_line, find_episodes, summary, text_console
from episodes.reader import Episode, read_episode

_MOST_TEXT = 160


@dataclass(frozen=True, slots=True)
class Args:
    """All about an episode: figures, facts, labels, attachments, and every event with its time.

    cadenza episodes info runs/demo/episodes/episode-000000.mcap
    cadenza episodes info runs/demo/episodes/episode-000000.mcap --json
    """

    paths: tyro.conf.Positional[tuple[Path, ...]]
    """Files, or folders to search."""
    json: bool = False
    """Print JSON instead of text."""


def main(argv: Sequence[str]) -> int:
    """Run the action."""
    args = parse(Args, argv, "episodes info")
    rows = [_everything(read_episode(file, cameras=())) for file in find_episodes(args.paths)]
    if args.json:
        print(json.dumps(rows, indent=2))
    else:
        for row in rows:
            _print(row)
    return 0


def _everything(episode: Episode) -> dict[str, Any]:
    return {
        **summary(episode),
        "facts": dict(episode.facts),
        "labels": dict(episode.labels),
        "result": dict(episode.result),
        "attachments": {name: len(content) for name, content in episode.attachments.items()},
        "rewards": [{"time_ns": time_ns, "reward": reward} for time_ns, reward in episode.rewards],
        "events": [
            {"time_ns": event.time_ns, "source": event.source, "kind": event.kind, "text": event.text}
            for event in episode.events
        ],
    }


def _print(row: dict[str, Any]) -> None:
    console = text_console()
    start = int(row["facts"].get("started_ns", 0))
    for key, value in row.items():
        if key == "damage" and value:
            told = damage_line(row["path"], value)
            console.print(f"{row['path']}: {told}", style="red", highlight=False, markup=False, soft_wrap=True)
        elif key not in {"events", "rewards", "damage"}:
            console.print(f"[bold]{key}[/]: {value}", highlight=False)
    for event in row["events"]:
        seconds, text = (event["time_ns"] - start) * 1e-9, event["text"]
        if len(text) > _MOST_TEXT:  # a state on record is for programs
            text = f"{text[:40]}... ({len(text)} characters)"
        line = f"  {seconds:8.3f} s  {event['source']}: {event['kind']}: {text}"
        console.print(line, highlight=False, markup=False, soft_wrap=True)

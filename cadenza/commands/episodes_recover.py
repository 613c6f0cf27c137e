"""``cadenza episodes recover``: make whole episodes of unfinished ones."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import tyro

from cadenza.arguments import parse
from cadenza.episode_files import find_episodes
from episodes.recovery import being_written, recover
from spec.errors import CadenzaError


@dataclass(frozen=True, slots=True)
class Args:
    """Make whole episodes of files whose writer was killed. Files that are being written are left alone.

    A run does this by itself at its start; nothing that reached the disk is lost either way.

    cadenza episodes recover runs
    cadenza episodes recover runs/demo/episodes/episode-000003.mcap.part
    """

    paths: tyro.conf.Positional[tuple[Path, ...]]
    """Files, or folders to search."""
    json: bool = False
    """Print JSON instead of text."""


def main(argv: Sequence[str]) -> int:
    """Run the action; one that cannot be recovered stops no other."""
    args = parse(Args, argv, "episodes recover")
    rows = [row for file in find_episodes(args.paths, unfinished_only=True) if (row := _recovered(file)) is not None]
    if args.json:
        print(json.dumps(rows, indent=2))
    else:
        for row in rows:
            done = f"{row['messages']} records -> {row['episode'] or 'nothing'}"
            print(f"{row['part']}: {done} ({row['note'] or 'whole'})")
        print(f"{sum(row['episode'] is not None for row in rows)} recovered")
    return 0


def _recovered(file: Path) -> dict[str, Any] | None:
    if being_written(file):
        return {"part": str(file), "episode": None, "messages": 0, "note": "is being written"}
    try:
        found = recover(file)
    except CadenzaError as error:
        return {"part": str(file), "episode": None, "messages": 0, "note": str(error).removeprefix(f"{file}: ")}
    except OSError as error:
        raise CadenzaError(f"{file}: cannot recover: {error.strerror}") from None
    if found is None:
        return None
    episode = None if found.episode is None else str(found.episode)
    return {"part": str(file), "episode": episode, "messages": found.messages, "note": found.damage}

"""``cadenza episodes recover``: make whole episodes of unfinished and of damaged ones."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import tyro

from cadenza.arguments import parse
from cadenza.episode_files import find_episodes
from episodes.recovery import being_written, mend, recover
from episodes.writer import PART
from spec.errors import CadenzaError


@dataclass(frozen=True, slots=True)
class Args:
    """Make whole episodes of files whose writer was killed. Files that are being written are left alone.

    A run does this by itself at its start; nothing that reached the disk is lost either way.

    A damaged episode that is named is cut back to what is whole; the original stays beside it, as *.mcap.damaged.

    cadenza episodes recover runs
    cadenza episodes recover runs/demo/episodes/episode-000003.mcap.part
    cadenza episodes recover runs/demo/episodes/episode-000004.mcap
    """

    paths: tyro.conf.Positional[tuple[Path, ...]]
    """Files, or folders to search for unfinished ones."""
    json: bool = False
    """Print JSON instead of text."""


def main(argv: Sequence[str]) -> int:
    """Run the action; one that cannot be recovered stops no other, and is refused if there is no other."""
    args = parse(Args, argv, "episodes recover")
    found = find_episodes(args.paths, none_will_do=True)
    files = [file for file in found if file.suffix == PART or file in args.paths]
    rows, refused = [], False
    for file in files:
        try:
            row = _recovered(file)
        except CadenzaError as error:
            if len(files) == 1:
                raise
            row, refused = _row(file, None, 0, str(error).removeprefix(f"{file}: ")), True
        if row is not None:
            rows.append(row)
    if args.json:
        print(json.dumps(rows, indent=2))
    else:
        for row in rows:
            done = f"{row['messages']} records -> {row['episode']} ({row['note'] or 'whole'})"
            print(f"{row['part']}: {done if row['episode'] else row['note']}")
        print(f"{sum(row['episode'] is not None for row in rows)} recovered")
    return int(refused)


def _recovered(file: Path) -> dict[str, Any] | None:
    if being_written(file):
        return _row(file, None, 0, "is being written")
    try:
        found = recover(file) if file.suffix == PART else mend(file)
    except OSError as error:
        raise CadenzaError(f"{file}: cannot recover: {error.strerror}") from None
    return None if found is None else _row(file, found.episode, found.messages, found.damage)


def _row(file: Path, episode: Path | None, messages: int, note: str) -> dict[str, Any]:
    return {"part": str(file), "episode": episode and str(episode), "messages": messages, "note": note}

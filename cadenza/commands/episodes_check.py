"""``cadenza episodes check``: is an episode sound?"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import tyro

from cadenza.arguments import parse
from cadenza.episode_files import find_episodes, with_progress
from episodes.check import examine


@dataclass(frozen=True, slots=True)
class Args:
    """Read everything in an episode, decode every picture, and say what is wrong. Exit status 1 if anything is.

    Beside what is wrong there are notes: what a sound episode may lack, such as a state that a replay can start from.

    cadenza episodes check runs
    cadenza episodes check runs/demo/episodes/episode-000000.mcap --json
    """

    paths: tyro.conf.Positional[tuple[Path, ...]]
    """Files, or folders to search."""
    json: bool = False
    """Print JSON instead of text."""


def main(argv: Sequence[str]) -> int:
    """Run the action."""
    args = parse(Args, argv, "episodes check")
    files = find_episodes(args.paths, none_will_do=True)
    verdicts = {str(file): examine(file) for file in with_progress(files, args.json)}
    bad = {file: verdict.wrong for file, verdict in verdicts.items() if verdict.wrong}
    notes = {file: verdict.notes for file, verdict in verdicts.items() if verdict.notes}
    if args.json:
        print(json.dumps({"checked": len(files), "findings": bad, "notes": notes}, indent=2))
    else:
        for file, lines in bad.items():
            print("\n".join(f"{file}: {line}" for line in lines))
        for file, lines in notes.items():
            print("\n".join(f"{file}: note: {line}" for line in lines))
        print(f"{len(files)} checked, {len(files) - len(bad)} sound")
    return 1 if bad else 0

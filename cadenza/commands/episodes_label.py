"""``cadenza episodes label``: judge a recorded episode anew."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import tyro

from cadenza.arguments import parse
from cadenza.episode_files import find_episodes
from episodes.outcome import Outcome
from episodes.reader import read_episode
from episodes.recovery import being_written
from episodes.rewrite import relabel
from episodes.writer import PART
from spec.errors import CadenzaError, SpecError


@dataclass(frozen=True, slots=True)
class Args:
    """Judge episodes anew: how they went, and the reward of the last step. Everything else stays as it was recorded.

    The file is written anew and then replaced at once, so that a power cut leaves the old one or the new one.

    cadenza episodes label runs/collect/episodes/episode-000004.mcap --outcome fail
    cadenza episodes label runs/collect/episodes/episode-000004.mcap --outcome success --reward 0.5
    """

    paths: tyro.conf.Positional[tuple[Path, ...]]
    """Closed episodes, or folders of them."""
    outcome: Outcome
    """The verdict."""
    reward: float | None = None
    """Reward of the last step; without it success gives 1 and failure 0."""
    json: bool = False
    """Print JSON instead of text."""


def main(argv: Sequence[str]) -> int:
    """Run the action; nothing is written before every file named can be."""
    args = parse(Args, argv, "episodes label")
    if args.reward is not None and not math.isfinite(args.reward):
        raise SpecError("--reward", args.reward, "must be a finite number")
    files = find_episodes(args.paths)
    for file in files:
        if file.name.endswith(PART) or being_written(file):
            raise CadenzaError(f"{file}: is not closed; label it afterwards (or: cadenza episodes recover)")
        read_episode(file, cameras=())
    rows = []
    for file in files:
        try:
            relabel(file, args.outcome, args.reward)
        except OSError as error:
            raise CadenzaError(f"{file}: cannot be labelled: {error.strerror}; it is as it was") from None
        ended = read_episode(file, cameras=()).ending
        rows.append(
            {
                "path": str(file),
                "outcome": args.outcome.value,
                "reward": ended.reward,
                "terminated": ended.terminated,
                "truncated": ended.truncated,
            }
        )
    if args.json:
        print(json.dumps(rows, indent=2))
    else:
        for row in rows:
            ends = "terminated" if row["terminated"] else "truncated" if row["truncated"] else "neither over nor cut"
            print(f"{row['path']}: {row['outcome']}, reward {row['reward']}, {ends}")
    return 0

"""``cadenza episodes export``: recorded episodes as a data set for other programs."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Literal

import tyro
from rich.console import Console
from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeRemainingColumn

from cadenza.arguments import parse
from cadenza.episode_files import find_episodes, set_damaged_aside
from episodes.lerobot import Existing, Only, Settings, export
from episodes.lerobot.publishing import Progress as Report
from episodes.pruning import DISCARDED
from episodes.writer import PART
from spec.action import ActionSpace
from spec.errors import CadenzaError, SpecError


@dataclass(frozen=True, slots=True)
class Args:
    """Write episodes as a LeRobotDataset v3.0: joint angles [rad], pictures, executed actions, rewards, interventions.

    Rows come at the policy's steps, or --fps a second. An episode with gaps (the arm rested, a camera was blind)
    becomes several. What the operator discarded is left out, and so is a damaged one, with exit status 1. Broken off,
    the same command goes on where it stopped.

    cadenza episodes export runs/collect --out datasets/push
    cadenza episodes export runs/collect --out datasets/push --append
    cadenza episodes export runs/collect --out datasets/fixes --only interventions --task "Push the cube."
    cadenza episodes export runs/demos --out datasets/exact --images --fps 10 --json
    """

    paths: tyro.conf.Positional[tuple[Path, ...]]
    """Files, or folders to search."""
    out: Path
    """Folder of the data set."""
    format: Literal["lerobot"] = "lerobot"
    fps: int | None = None
    """Rows a second; without it, the policy's steps, and the cameras' where no policy drove."""
    action_space: ActionSpace | None = None
    """What an action means; without it, the policy's, and joint_position where none drove."""
    velocity: bool = False
    """The state holds the joints' speeds too."""
    images: bool = False
    """Keep the pictures as they are, inside the tables, instead of making videos. Ten times the size."""
    task: str | None = None
    """What was done, in words; without it, what the episodes say."""
    only: Only = Only.ALL
    """Which episodes."""
    append: bool = False
    """Add to the data set those episodes that are not in it yet."""
    overwrite: bool = False
    """Replace the data set."""
    json: bool = False
    """Print JSON instead of text."""


def main(argv: Sequence[str]) -> int:
    """Run the action."""
    args = parse(Args, argv, "episodes export")
    if args.append and args.overwrite:
        raise CadenzaError("--append and --overwrite: one of them")
    if args.fps is not None and args.fps < 1:
        raise SpecError("--fps", args.fps, "must be 1 or more")
    existing = Existing.APPEND if args.append else Existing.OVERWRITE if args.overwrite else Existing.REFUSE
    settings = Settings(args.fps, args.action_space, args.velocity, args.images, args.task, args.only)
    closed, left_out = _closed(args.paths)
    files, damaged = set_damaged_aside(closed, args.json)
    try:
        with _progress(args.json) as progress:
            summary = export(files, args.out, settings, existing, progress)
    except OSError as error:
        raise CadenzaError(f"{args.out}: {error.strerror}; the same command goes on where it stopped") from None
    left_out |= summary.left_out
    if args.json:
        facts = {**asdict(summary), "out": str(args.out), "left_out": left_out, "damaged": damaged}
        print(json.dumps(facts, indent=2))
        return int(bool(damaged))
    for file, reason in left_out.items():
        print(f"{file}: left out: {reason}", file=sys.stderr)
    share = summary.interventions / summary.frames
    resumed = f" ({summary.resumed} ready from before)" if summary.resumed else ""
    print(f"{args.out}: added from {len(files) - len(summary.left_out)} files{resumed}")
    print(f"  episodes {summary.episodes}, rows {summary.frames} at {summary.fps} Hz")
    print(f"  a person drove in {summary.interventions} rows ({share:.1%})")
    print(f"  cameras: {', '.join(summary.cameras) or 'none'}")
    return int(bool(damaged))


def _closed(paths: Sequence[Path]) -> tuple[list[Path], dict[str, str]]:
    """Closed episodes, and the others with the reason."""
    closed, left_out = [], {}
    for file in find_episodes(paths):
        if file.name.endswith(PART):
            left_out[str(file)] = "unfinished; cadenza episodes recover"
        elif file not in paths and DISCARDED in file.parts[:-1]:
            left_out[str(file)] = "discarded by the operator"
        else:
            closed.append(file)
    return closed, left_out


@contextmanager
def _progress(quiet: bool) -> Iterator[Report]:
    """A bar for each stage."""
    columns = (TextColumn("{task.description:<9}"), BarColumn(), TaskProgressColumn(), TimeRemainingColumn())
    console = Console(stderr=True)
    with Progress(*columns, console=console, transient=True, disable=quiet or not console.is_terminal) as bars:
        tasks = {}

        def report(stage: str, share: float) -> None:
            if stage not in tasks:
                tasks[stage] = bars.add_task(stage, total=1.0)
            bars.update(tasks[stage], completed=share)

        yield report

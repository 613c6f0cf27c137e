"""``cadenza replay``: an episode again, on the arm, under another policy, through the decision, or on a screen."""

from __future__ import annotations

import importlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import tyro
from rich.console import Console

from cadenza.arguments import parse, split_robot_overrides
from cadenza.episode_files import find_episodes, set_damaged_aside
from episodes.writer import PART
from spec.errors import CadenzaError, SpecError
from spec.robotfile import load_robot


@dataclass(frozen=True, slots=True)
class Args:
    """Replay recorded episodes, one of four ways.

    A damaged episode is left out, with exit status 1, and refused where it is the only one.

    With --ticks the decision of every tick is run again on what is on record, and the same result demanded to the
    last bit: exit status 1 names the first tick and field that differ, 2 says why nothing can be compared.

    With --against policies are asked what they would have done at every policy step, and that is compared with what
    is on record and with each other, in encoder ticks (4096 a turn). Exit status 1 where the bundle that drove does
    not say again what it said.

    With --view a recording for the rerun viewer is written. The episode itself opens in Foxglove.

    With --arm an arm is moved as it was moved then, and recorded again: gently to the start pose, slowly to where the
    motion begins, then along it; space pauses and goes on, q stops.

    cadenza replay runs/demo/episodes --ticks

    cadenza replay runs/demo/episodes/episode-000000.mcap --against runs/bundle --against runs/older-bundle

    cadenza replay runs/demo/episodes/episode-000000.mcap --view --spawn

    cadenza replay runs/demo/episodes/episode-000000.mcap --arm --config robots/virtual.yaml --speed 0.5
    """

    episodes: tyro.conf.Positional[tuple[Path, ...]]
    """Files, or folders to search. --view and --arm take one file."""
    ticks: bool = False
    """Run the decision again and demand equal bits."""
    against: Annotated[tuple[Path, ...], tyro.conf.arg(metavar="BUNDLE"), tyro.conf.UseAppendAction] = ()
    """Ask the policy of this bundle. May be given more than once."""
    view: bool = False
    """Write a rerun recording."""
    arm: bool = False
    """Move an arm."""
    config: Path = Path("robots/virtual.yaml")
    """With --arm: robot file. Any field can be overridden: --robot.control.rate_hz 100"""
    speed: float = 1.0
    """With --arm: 0.5 takes twice the time."""
    teleop: bool = False
    """With --arm: a person may take the arm over meanwhile, also by key t; given back, it is led to where it left the
    motion, and goes on."""
    spawn: bool = False
    """With --view: open the viewer on it."""
    out: Path | None = None
    """With --view: the file (beside the episode by default). With --against: the picture (none by default). With
    --arm: folder of the run (a new one under runs/ by default)."""
    json: bool = False
    """Print the report as JSON and nothing else on standard output."""


def main(argv: Sequence[str]) -> int:
    """Run the command."""
    rest, overrides = split_robot_overrides(argv)
    args = parse(Args, rest, "replay")
    ways = [name for name in ("ticks", "against", "view", "arm") if getattr(args, name)]
    if len(ways) != 1:
        chosen = ", ".join(f"--{name}" for name in ways) or "none"
        raise SpecError("way", chosen, "choose one", ("--ticks", "--against", "--view", "--arm"))
    if overrides and not args.arm:
        raise SpecError(
            "--robot.*", ", ".join(overrides), "only --arm uses a robot file; the others read the episode's"
        )
    files = closed_episodes(args.episodes)
    if (args.view or args.arm) and len(files) != 1:
        raise SpecError(f"--{ways[0]}", f"{len(files)} episodes", "takes one at a time")
    files, damaged = set_damaged_aside(files, args.json)
    console = Console(stderr=args.json)
    # Each way is imported by itself: the others may need what is not installed here.
    way = importlib.import_module(f"cadenza.replay_{ways[0]}")
    status, report = way.run(*_arguments(ways[0], files, args, overrides), console)
    if damaged:
        report["damaged"] = damaged
    if args.json:
        print(json.dumps(report, indent=2))
    return int(status) or int(bool(damaged))


def _arguments(way: str, files: Sequence[Path], args: Args, overrides: Mapping[str, str]) -> tuple[Any, ...]:
    """What the ``run`` of each way takes before the console."""
    match way:
        case "ticks":
            return (files,)
        case "against":
            return (files, args.against, args.out)
        case "view":
            return (files[0], args.out, args.spawn)
        case _:
            return (files[0], load_robot(args.config, overrides), args.speed, args.teleop, args.out)


def closed_episodes(paths: Sequence[Path]) -> list[Path]:
    """The files named, and the closed ones in the folders named.

    Raises:
        CadenzaError: none, or a path that does not exist.
    """
    found = [file for file in find_episodes(paths) if file.suffix != PART or file in paths]
    if not found:
        raise CadenzaError(f"{', '.join(map(str, paths))}: no episodes there")
    return found

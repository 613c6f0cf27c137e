"""``cadenza episodes prune``: delete recorded episodes by rule."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import tyro

from cadenza.arguments import parse
from cadenza.episode_files import find_episodes, with_progress
from episodes.outcome import Outcome
from episodes.pruning import Rules, Stored, to_delete
from episodes.reader import read_episode
from episodes.recovery import being_written
from episodes.writer import PART
from spec.errors import CadenzaError, SpecError

_MOST = 1e9
"""Days or GB: more is a slip."""


@dataclass(frozen=True, slots=True)
class Args:
    """Delete episodes by outcome, age or size, and discarded ones. Only shows what it would do, unless told --yes.

    An episode that meets one rule goes; the size budget then takes the oldest of the rest. Unfinished files are never
    touched: recover them first.

    cadenza episodes prune runs/collect --discarded
    cadenza episodes prune runs --outcome aborted --older-than-days 30
    cadenza episodes prune runs --keep-gb 50 --yes
    """

    paths: tyro.conf.Positional[tuple[Path, ...]]
    """Files, or folders to search."""
    outcome: tuple[Outcome, ...] = ()
    """Those that went so."""
    discarded: bool = False
    """Those that the operator discarded (in a folder of that name)."""
    older_than_days: float | None = None
    """Those not written to for so long."""
    keep_gb: float | None = None
    """Most that may remain [GB]; the oldest go first."""
    yes: bool = False
    """Do delete."""
    json: bool = False
    """Print JSON instead of text."""


def main(argv: Sequence[str]) -> int:
    """Run the action."""
    args = parse(Args, argv, "episodes prune")
    rules = _rules(args)
    stored, left_alone = _stored(find_episodes(args.paths, none_will_do=True), args.json)
    sizes = {file.path: file.size for file in stored}
    chosen = to_delete(stored, rules)
    if args.yes:
        for path in chosen:
            _delete(path)
    freed = sum(sizes[path] for path in chosen)
    if args.json:
        rows = [{"path": str(path), "reason": reason, "bytes": sizes[path]} for path, reason in chosen.items()]
        print(json.dumps({"deleted": args.yes, "episodes": rows, "bytes": freed, "left_alone": left_alone}, indent=2))
        return 0
    for path, reason in chosen.items():
        print(f"{path}: {sizes[path] / 1e6:.1f} MB, {reason}")
    for path_text, reason in left_alone.items():
        print(f"{path_text}: left alone: {reason}", file=sys.stderr)
    done = "deleted" if args.yes else "would be deleted (do it: --yes)"
    print(f"{len(chosen)} of {len(stored)} episodes, {freed / 1e6:.1f} of {sum(sizes.values()) / 1e6:.1f} MB {done}")
    return 0


def _rules(args: Args) -> Rules:
    for name, value in (("--older-than-days", args.older_than_days), ("--keep-gb", args.keep_gb)):
        if value is not None and not 0.0 <= value <= _MOST:
            raise SpecError(name, value, f"must be from 0 to {_MOST:g}")
    if not (args.outcome or args.discarded or args.older_than_days is not None or args.keep_gb is not None):
        raise CadenzaError("say what is not wanted: --outcome, --discarded, --older-than-days or --keep-gb")
    return Rules(
        outcomes=args.outcome,
        discarded=args.discarded,
        older_than_s=None if args.older_than_days is None else args.older_than_days * 86_400,
        budget=None if args.keep_gb is None else round(args.keep_gb * 1e9),
    )


def _stored(files: Sequence[Path], quiet: bool) -> tuple[list[Stored], dict[str, str]]:
    """What is known about each closed episode; and the other files, with the reason to leave them alone."""
    stored, left_alone = [], {}
    now_s = time.time()
    for file in with_progress(files, quiet):
        if being_written(file):
            left_alone[str(file)] = "is being written"
        elif file.name.endswith(PART):
            left_alone[str(file)] = "unfinished; cadenza episodes recover"
        else:
            try:
                outcome = read_episode(file, cameras=()).outcome
            except CadenzaError as error:
                left_alone[str(file)] = str(error).removeprefix(f"{file}: ")
                continue
            status = file.stat()
            stored.append(Stored(file.resolve(), outcome, now_s - status.st_mtime, status.st_size))
    return stored, left_alone


def _delete(path: Path) -> None:
    try:
        path.unlink(missing_ok=True)
    except OSError as error:
        raise CadenzaError(f"{path}: cannot be deleted: {error.strerror}") from None

"""Making whole episodes of files whose writer was killed, and of damaged ones."""

from __future__ import annotations

import contextlib
import fcntl
import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from episodes.outcome import Outcome, Termination, ending, ending_facts
from episodes.reader import read_episode
from episodes.rewrite import rewrite
from episodes.scan import Scan, open_episode
from episodes.writer import PART, sync_folder
from spec.errors import CadenzaError

UNREADABLE = ".unreadable"
DAMAGED = ".damaged"
"""What the original of a damaged episode is called after its recovery."""


@dataclass(frozen=True, slots=True)
class Recovered:
    """What became of one unfinished or damaged file."""

    part: Path
    episode: Path | None
    """The recovered episode; None where nothing could be saved: the file is then kept, as ``*.unreadable`` if no
    episode begins in it."""
    messages: int
    damage: str
    """Where reading stopped, or why nothing was saved."""


def recover_folder(folder: Path) -> list[Recovered]:
    """Recover every unfinished episode in ``folder`` that nobody is writing; one that cannot be stops no other."""
    found: list[Recovered | None] = []
    for part in sorted(folder.glob(f"*.mcap{PART}")):
        if being_written(part):
            continue
        try:
            found.append(recover(part))
        except CadenzaError as error:
            found.append(Recovered(part, None, 0, str(error)))
    return [item for item in found if item is not None]


def being_written(part: Path) -> bool:
    """True while the writer of ``part`` lives: it holds a lock that the kernel drops with the process."""
    try:
        with part.open("rb") as file:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    except OSError:
        return False
    return False


def recover(part: Path) -> Recovered | None:
    """Make ``*.mcap.part`` a whole ``*.mcap`` with every chunk that reached the file.

    The part is first replaced by its repaired self, then gets its final name: at no instant are there two of them, so
    a recovery that is cut off simply starts over. Returns None when another process was faster.

    Raises:
        CadenzaError: the file has a living writer or is being recovered, or its final name is taken.
        OSError: disk full or not writable; the part is untouched.
    """
    whole = part.with_name(part.name.removesuffix(PART))
    try:
        with _locked(part):
            if whole.exists():
                raise CadenzaError(f"{whole}: exists already; move it away to recover {part.name}")
            try:
                stream = open_episode(part)
            except CadenzaError as error:
                part.rename(part.with_name(part.name + UNREADABLE))
                return Recovered(part, None, 0, str(error))
            scan = Scan(stream)
            staging = whole.with_name(f".{whole.name}.recovering")
            messages = rewrite(scan, staging, _broken_off)
            staging.replace(part)
            part.rename(whole)
            sync_folder(whole.parent)
    except FileNotFoundError:
        if part.exists():
            raise
        return None
    return Recovered(part, whole, messages, scan.damage)


def mend(closed: Path) -> Recovered:
    """Put the whole part of a damaged ``*.mcap`` in its place; the original stays beside it, as ``*.mcap.damaged``.

    The original first gets its second name, then the first is given to the whole part at once: at no instant is either
    missing, and a recovery that is cut off simply starts over. Of a whole episode nothing is written.

    Raises:
        CadenzaError: not an episode, being recovered, or another file has the name for the original.
        OSError: disk full or not writable; the episode is untouched.
    """
    kept, staging = closed.with_name(closed.name + DAMAGED), closed.with_name(f".{closed.name}.recovering")
    with _locked(closed):
        damage = read_episode(closed, cameras=()).damage
        if not damage:
            return Recovered(closed, None, 0, "is whole")
        if kept.exists() and not kept.samefile(closed):
            raise CadenzaError(f"{kept}: exists already; move it away to recover {closed.name}")
        try:
            messages = rewrite(Scan(open_episode(closed)), staging, _broken_off)
            if not kept.exists():
                os.link(closed, kept)
            staging.replace(closed)
        finally:
            staging.unlink(missing_ok=True)
        sync_folder(closed.parent)
    return Recovered(closed, closed, messages, damage)


def _broken_off(found: Mapping[str, str] | None) -> Mapping[str, str]:
    """The outcome of a recovered episode: its own, if it was killed between its last record and its rename."""
    if found is not None:
        return found
    outcome, termination = Outcome.ABORTED, Termination.RECOVERED
    return {"outcome": outcome, "termination": termination, **ending_facts(ending(outcome, termination))}


@contextlib.contextmanager
def _locked(part: Path) -> Iterator[None]:
    """Hold the lock that the writer of ``part`` would hold: two recoveries of one file would write over each other."""
    with part.open("rb") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise CadenzaError(f"{part}: is being written; nothing to recover") from None
        yield

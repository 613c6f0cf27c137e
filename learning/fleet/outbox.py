"""What a robot has to send: the closed episodes of its folders, oldest first, but for those the learner has.

The journal beside the episodes only spares asking again: without it, or with half of it, everything is asked anew.
"""

from __future__ import annotations

import hashlib
import json
import re
import time
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from io import BufferedReader
from pathlib import Path

from mcap.records import Metadata

from episodes.scan import Scan
from learning.fleet.client import Parcel, RejectedError

JOURNAL = ".sent.jsonl"
_NOT_IN_NAMES = re.compile(r"[^A-Za-z0-9._-]+")


@dataclass(frozen=True, slots=True)
class Seen:
    """A file as it lies there. A label given later makes it another one."""

    name: str
    size: int
    modified_ns: int


@dataclass(frozen=True, slots=True)
class Verdict:
    """What a learner said about a file."""

    server: str
    """Identity of its inbox."""
    seen: Seen
    rejected: str = ""
    """Why it will never take it; empty: it has it."""


class Outbox:
    """One folder of episodes. What lies in folders below it (discarded, highlights) is not sent.

    Args:
        folder: need not exist yet.
        settle_s: an episode is left alone for so long after it was closed: it may yet be labelled or discarded [s].
    """

    def __init__(self, folder: Path, settle_s: float = 0.0) -> None:
        self.folder, self._settle_s = folder, settle_s
        self._verdicts = {(verdict.server, verdict.seen): verdict for verdict in _read_journal(folder / JOURNAL)}

    def waiting(self, server: str) -> list[Path]:
        """Episodes on which that learner has given no verdict, oldest first."""
        now_s = time.time()
        found = []
        for path in self.folder.glob("*.mcap"):
            seen = see(path)
            if seen is None or (server, seen) in self._verdicts or path.name.startswith("."):
                continue
            if 0.0 <= now_s - seen.modified_ns * 1e-9 < self._settle_s:
                continue
            found.append((seen.modified_ns, seen.name, path))
        return [path for _, _, path in sorted(found)]

    def rejected(self, server: str) -> dict[str, str]:
        """By file that is still there as it was: why that learner will never take it."""
        return {
            seen.name: verdict.rejected
            for (by, seen), verdict in self._verdicts.items()
            if by == server and verdict.rejected and see(self.folder / seen.name) == seen
        }

    def note(self, verdict: Verdict) -> None:
        """Remember a verdict. Failing to write it down is no reason to stop: it will be asked for again."""
        self._verdicts[verdict.server, verdict.seen] = verdict
        try:
            with (self.folder / JOURNAL).open("a", encoding="utf-8") as file:
                file.write("\n" + json.dumps(asdict(verdict)))  # whatever a crash left of the last line ends here
        except OSError:
            return


def see(path: Path) -> Seen | None:
    """A file as it lies there; None where there is none."""
    try:
        status = path.stat()
    except OSError:
        return None
    return Seen(path.name, status.st_size, status.st_mtime_ns)


def pack(robot: str, path: Path, file: BufferedReader) -> Parcel:
    """An open episode as a parcel. Its name on the learner begins with when it began, so that episodes of all runs of a
    robot have names of their own, and in order.

    Raises:
        RejectedError: no episode begins in it.
        OSError: it cannot be read.
    """
    began = _began(path, file)
    file.seek(0)
    digest = hashlib.file_digest(file, "sha256").hexdigest()
    size = file.tell()
    name = _NOT_IN_NAMES.sub("-", f"{began}-{path.stem}")
    return Parcel(robot, name[:100], digest, size)


def _began(path: Path, file: BufferedReader) -> str:
    """``started_utc`` without its punctuation. It is among the first records of the file."""
    for record in Scan(file):
        if isinstance(record, Metadata) and record.name == "episode":
            text = record.metadata.get("started_utc", "")
            if stamp := re.sub(r"[^0-9T]", "", text.partition("+")[0]):
                return stamp
            break
    raise RejectedError(f"{path}: not an episode: it does not say when it began")


def _read_journal(path: Path) -> Iterable[Verdict]:
    try:
        lines = path.read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return
    for line in lines:
        try:
            fields = json.loads(line)
            yield Verdict(str(fields["server"]), Seen(**fields["seen"]), str(fields["rejected"]))
        except (ValueError, KeyError, TypeError):
            continue

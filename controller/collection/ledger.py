"""What a session was asked for and what it has brought so far: ``session.json``, whole at any moment.

Recordings are the truth: what they say is put into the ledger when it is opened, so that a kill between the closing of
a file and the writing of its line costs nothing.
"""

from __future__ import annotations

import fcntl
import json
import re
import secrets
from collections.abc import Iterable
from dataclasses import asdict, dataclass, field, fields, replace
from datetime import UTC, datetime
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from episodes.outcome import Outcome
from episodes.reader import read_episode
from episodes.records import Driver
from spec.errors import CadenzaError, SpecError
from spec.files import write_atomically

SESSION_FILE, LOCK_FILE = "session.json", "session.lock"
EPISODES, DISCARDED = "episodes", "discarded"
DISCARD = "discard"
"""Fact of a recording that is to be put away: it is, even if the program dies right after it was closed."""
_VERSION = 1
_NUMBERED = re.compile(r"episode-(\d+)")


@dataclass(frozen=True, slots=True)
class Asked:
    """What makes a session the same session."""

    task: str
    source: str
    """teleop or policy."""
    record: str
    """Recording policy."""
    robot: str
    """sha256 of the robot file, ports and all."""
    bundle: str = ""
    """sha256 of the policy's graphs; empty where none drives."""


@dataclass(frozen=True, slots=True)
class Line:
    """One episode."""

    number: int
    outcome: str
    termination: str
    seconds: float
    files: tuple[str, ...]
    """Relative to the folder of the session."""
    reward: float | None = None
    interventions: int = 0
    human_seconds: float = 0.0
    """For so long a person drove [s]."""
    operator: str = ""
    ended_utc: str = field(default_factory=lambda: datetime.now(UTC).isoformat(timespec="seconds"))

    @property
    def counts(self) -> bool:
        return self.outcome != Outcome.ABORTED

    def with_files(self, files: Iterable[Path], folder: Path) -> Line:
        """The same episode, having left these recordings below ``folder``."""
        return replace(self, files=tuple(str(path.relative_to(folder)) for path in files))


class Ledger:
    """The session of one folder. Use as a context manager: only one program at a time may.

    Args:
        folder: of the session.
        asked: what is asked for now.

    Raises:
        SpecError: from ``__enter__``: the folder holds a session that was asked for something else.
        CadenzaError: likewise: somebody else is at it, or the file cannot be read.
        OSError: as the file system says.
    """

    def __init__(self, folder: Path, asked: Asked) -> None:
        self.folder, self.asked = folder, asked
        self.session = f"{datetime.now(UTC):%Y%m%d-%H%M%S}-{secrets.token_hex(2)}"
        self.lines: list[Line] = []
        self.next = 0
        """Number of the coming episode."""
        self.resumed = False
        self._path = folder / SESSION_FILE

    @property
    def saved(self) -> int:
        """Episodes that count."""
        return sum(line.counts for line in self.lines)

    def __enter__(self) -> Self:
        self.folder.mkdir(parents=True, exist_ok=True)
        self._lock = (self.folder / LOCK_FILE).open("w")
        try:
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            self._load()
        except BlockingIOError:
            self._lock.close()
            raise CadenzaError(f"{self.folder}: another cadenza collect is at work there") from None
        except BaseException:
            self._lock.close()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._lock.close()

    def reconcile(self) -> None:
        """Make the ledger say what is on disk: recordings that were closed but not yet written down, or put away since.

        To be called once nothing is unfinished there any more.
        """
        self.lines = [line for line in self.lines if not line.files or any(map(self._exists, line.files))]
        known = {name for line in self.lines for name in line.files}
        for path in sorted((self.folder / EPISODES).glob("episode-*.mcap")):
            name, number = str(path.relative_to(self.folder)), _number_of(path)
            if name in known or number is None or path.name != episode_name(number):
                continue
            if (line := self._read(path, number)) is not None:
                self.lines = [other for other in self.lines if other.number != number or other.files]
                self.lines.append(line)
        self.lines.sort(key=lambda line: line.number)
        if self._taken(self.next):
            self.next = self.first_free()
        self.write()

    def add(self, line: Line, coming: int) -> None:
        """Write an episode down.

        Args:
            line: it.
            coming: number of the next one.
        """
        self.lines.append(line)
        self.next = coming
        self.write()

    def skip(self, coming: int) -> None:
        """The newest episode is not written down."""
        self.next = coming
        self.write()

    def discard(self, number: int, coming: int) -> None:
        """Put an episode that was written down away."""
        for line in [line for line in self.lines if line.number == number]:
            self.put_away(self.folder / name for name in line.files)
            self.lines.remove(line)
        self.next = coming
        self.write()

    def put_away(self, files: Iterable[Path]) -> None:
        """Move recordings to ``discarded/``; nothing is deleted, and nothing there is replaced."""
        for path in files:
            if path.exists():
                target = _unused(self.folder / DISCARDED / path.name)
                target.parent.mkdir(exist_ok=True)
                path.rename(target)

    def first_free(self) -> int:
        """A number above all that were ever used."""
        files = [path for name in (EPISODES, DISCARDED) for path in (self.folder / name).glob("episode-*")]
        used = [number for path in files if (number := _number_of(path)) is not None]
        return max([*used, *(line.number for line in self.lines)], default=-1) + 1

    def write(self) -> None:
        """Raises OSError."""
        document = {
            "version": _VERSION,
            "session": self.session,
            "asked": asdict(self.asked),
            "next": self.next,
            "saved": self.saved,
            "episodes": [asdict(line) for line in self.lines],
        }
        write_atomically(self._path, (json.dumps(document, indent=2) + "\n").encode())

    def _load(self) -> None:
        try:
            document = json.loads(self._path.read_bytes())
            if document["version"] != _VERSION:
                raise SpecError(str(self._path), document["version"], "session of another version", [_VERSION])
            asked = Asked(**document["asked"])
            self.session, self.next = document["session"], int(document["next"])
            self.lines = [Line(**{**line, "files": tuple(line["files"])}) for line in document["episodes"]]
        except FileNotFoundError:
            if any((self.folder / EPISODES).glob("*.mcap*")):
                raise CadenzaError(f"{self.folder}: has episodes but no {SESSION_FILE}; choose another --out") from None
            return
        except (ValueError, LookupError, TypeError) as error:
            raise CadenzaError(f"{self._path}: not a session file ({error}); choose another --out") from None
        for name in (item.name for item in fields(Asked)):
            before, now = getattr(asked, name), getattr(self.asked, name)
            if before != now:
                reason = f"the session there has {_short(before)!r}: go on with that, or choose another --out"
                raise SpecError(f"{self._path}: {name}", _short(now), reason)
        self.resumed = True

    def _exists(self, name: str) -> bool:
        return (self.folder / name).exists()

    def _taken(self, number: int) -> bool:
        """Also by what a killed session left of an episode: its corrections are no part of the next one."""
        files = (self.folder / EPISODES).glob(f"{Path(episode_name(number)).stem}*")
        return any(line.number == number for line in self.lines) or any(files)

    def _read(self, path: Path, number: int) -> Line | None:
        """What a recording says about itself; None for one that was to be put away, which it then is."""
        try:
            episode = read_episode(path, cameras=())
            rewards = [value for _, value in episode.rewards]
        except CadenzaError:
            return None  # somebody else's file; its number stays taken
        result = episode.result
        if result.get(DISCARD) == "true":
            self.put_away([path])
            return None
        ticks = episode.ticks
        human = ticks["driver"] == Driver.HUMAN
        stepped_in = int((human[1:] & ~human[:-1]).sum() + human[:1].sum())
        if (final := episode.ending.reward) is not None:
            rewards.append(final)
        return Line(
            number=number,
            outcome=str(episode.outcome),
            termination=str(episode.termination),
            seconds=float(result.get("seconds", episode.duration_s)),
            files=(str(path.relative_to(self.folder)),),
            reward=sum(rewards) if rewards else None,
            interventions=0 if self.asked.source == "teleop" else stepped_in,
            human_seconds=float(human.mean() * episode.duration_s) if len(ticks) else 0.0,
            operator=episode.labels.get("operator", ""),
        )


def episode_name(number: int) -> str:
    return f"episode-{number:06d}.mcap"


def _number_of(path: Path) -> int | None:
    found = _NUMBERED.match(path.name)
    return None if found is None else int(found[1])


def _unused(path: Path) -> Path:
    taken, copy = path, 0
    while taken.exists():
        copy += 1
        taken = path.with_name(f"{path.stem}.{copy}{path.suffix}")
    return taken


def _short(value: Any) -> str:
    text = str(value)
    return text if len(text) <= 40 else text[:12]

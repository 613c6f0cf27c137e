"""From a closed file to rows, or to the reason why not."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from episodes.reader import Episode, read_episode
from episodes.records import Driver
from episodes.windows import RESTING
from learning.network.config import ActorConfig
from learning.online.journal import Entry, Facts
from learning.online.watch import Found
from learning.replay.cut import Source, rows_of_episode
from learning.replay.rows import Rows
from spec.errors import CadenzaError
from spec.files import sha256_of

_SETTLED_S = 5.0
"""A damaged file that changed more lately than this may still be on its way."""


@dataclass(frozen=True, slots=True, eq=False)
class Taken:
    """What came of a file."""

    entry: Entry | None
    """To be written down; None where there is nothing to say: the episode is known, or nobody has judged it yet."""
    rows: Rows | None
    """None where it was refused."""
    same_as: Entry | None = None
    """Where the episode is a copy: what was taken in."""


class Intake:
    """Reads episodes for one actor.

    Args:
        config: what the actor sees and does; episodes that have it not are refused.
        reward: gives the rows another reward than the log's.
        calibration: hash of the one the actor was trained under; None: any.
        wait_for_label: leave episodes alone that nobody has judged.
        now: seconds since the epoch, as the file system counts them.
    """

    def __init__(
        self,
        config: ActorConfig,
        reward: Callable[[Rows], Rows] = lambda rows: rows,
        calibration: str | None = None,
        wait_for_label: bool = False,
        now: Callable[[], float] = time.time,
    ) -> None:
        self._config, self._reward, self._calibration = config, reward, calibration
        self._wait_for_label, self._now = wait_for_label, now

    def take(self, found: Found, update: int, taken: Mapping[str, Entry]) -> Taken | None:
        """Read a file that came; None where it is to be looked at again, because it is gone or still on its way.

        Args:
            found: where it is.
            update: updates made so far.
            taken: those taken in already, by sha256.

        Raises:
            OSError: it is there and cannot be read.
        """
        try:
            sha256 = sha256_of(found.path)
            if (same := taken.get(sha256)) is not None:
                return Taken(None, None, None if same.path == str(found.path) else same)
            refusal, rows, facts = "", None, None
            try:
                self._same_file_before(found.path, taken)
                episode = read_episode(found.path, tuple(self._config.cameras))
                if self._on_its_way(episode, found):
                    return None
                if self._wait_for_label and found.source is Source.ONLINE and not _judged(episode):
                    return Taken(None, None)
                rows, facts = self._rows(episode, found.source)
            except CadenzaError as error:
                refusal = str(error)
            stat = found.path.stat()
        except (FileNotFoundError, NotADirectoryError):
            return None
        if (stat.st_size, stat.st_mtime_ns) != (found.size, found.mtime_ns):
            return None
        entry = Entry(
            update=update,
            source=found.source,
            path=str(found.path),
            size=found.size,
            mtime_ns=found.mtime_ns,
            sha256=sha256,
            facts=facts,
            refused=refusal,
        )
        return Taken(entry, rows)

    def again(self, entry: Entry) -> Rows:
        """The rows of an episode that was taken in before.

        Raises:
            CadenzaError: the file is not what it was.
        """
        path = Path(entry.path)
        try:
            same = sha256_of(path) == entry.sha256
        except OSError as error:
            raise CadenzaError(f"{path}: {error.strerror}; its rows are lost to this run") from None
        if not same:
            raise CadenzaError(f"{path}: altered since it was taken in; its rows are lost to this run")
        return self._rows(read_episode(path, tuple(self._config.cameras)), entry.source)[0]

    def _on_its_way(self, episode: Episode, found: Found) -> bool:
        if not episode.damage:
            return False
        if 0.0 <= self._now() - found.mtime_ns * 1e-9 < _SETTLED_S:
            return True
        raise CadenzaError(f"damaged: {episode.damage}; save what is whole: cadenza episodes recover {found.path}")

    def _same_file_before(self, path: Path, taken: Mapping[str, Entry]) -> None:
        if any(entry.path == str(path) for entry in taken.values()):
            raise CadenzaError("changed after it was taken in; its rows stay as they were")

    def _rows(self, episode: Episode, source: Source) -> tuple[Rows, Facts]:
        rows = self._reward(rows_of_episode(episode, self._config, source, self._calibration))
        if not rows.acted.any():
            raise CadenzaError(f"{episode.path}: no policy step in it at which something was executed")
        return rows, _facts(episode, rows)


def _judged(episode: Episode) -> bool:
    return episode.ending.reward is not None or episode.ending.truncated


def _facts(episode: Episode, rows: Rows) -> Facts:
    ticks = episode.ticks[~np.isin(episode.ticks["mode"], RESTING)]
    by_hand = ticks["driver"] == Driver.HUMAN
    return Facts(
        seconds=round(episode.duration_s, 3),
        rows=int(rows.acted.sum()),
        reward=float(rows.reward.sum(dtype=np.float64)),
        outcome=episode.outcome.value,
        intervention=round(float(by_hand.mean()), 4) if len(ticks) else 0.0,
        weights=tuple(int(version) for version in np.unique(ticks["weights"][~by_hand]) if version),
    )

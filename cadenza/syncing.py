"""What ``cadenza sync`` does: it sends episodes and brings bundles, each as a task of its own, so that new weights do
not wait for an hour of uploading."""

from __future__ import annotations

import os
import random
import threading
from collections.abc import Callable, Sequence
from io import BufferedReader
from pathlib import Path
from typing import Any

from cadenza.shelf_copy import ShelfCopy
from learning.fleet.client import EpisodeError, Link, Parcel, RejectedError, StoppedError
from learning.fleet.outbox import Outbox, Seen, Verdict, pack
from spec.errors import CadenzaError

LOOK_S = 2.0
"""Between looks at the folder of episodes."""
LONG_POLL_S = 30
_FIRST_S, _LONGEST_S = 1.0, 300.0
"""Waits after trouble: doubled each time, and shortened at random, so that robots do not come back all at once."""

Report = Callable[[dict[str, Any]], None]
"""Told what happened, one flat dict an event."""
Progress = Callable[[str, int, int], None]
"""Told of an upload: the file, bytes the learner has, bytes in all."""


class Sending:
    """Takes the episodes of some folders to the learner.

    Args:
        robot: what this robot is called there.
    """

    def __init__(
        self,
        robot: str,
        outboxes: Sequence[Outbox],
        report: Report,
        progress: Progress = lambda _file, _done, _size: None,
    ) -> None:
        self._robot, self._outboxes, self._report, self._progress = robot, outboxes, report, progress

    def once(self, link: Link) -> None:
        """Send everything that waits.

        Raises:
            LinkError: not all of it got there; the next call goes on where this one ended.
        """
        server = link.identity()
        trouble = None
        for outbox in self._outboxes:
            for path in outbox.waiting(server):
                try:
                    self._send(link, server, outbox, path)
                except EpisodeError as error:
                    trouble = error
                except FileNotFoundError:  # discarded meanwhile
                    continue
                except OSError as error:  # cannot be read; the others need not wait for it
                    trouble = EpisodeError(f"{path}: {error.strerror}")
        if trouble is not None:
            raise trouble

    def rejected(self, link: Link) -> dict[str, str]:
        """By file: what the learner will never take, and why."""
        server = link.identity()
        return {str(box.folder / name): why for box in self._outboxes for name, why in box.rejected(server).items()}

    def _send(self, link: Link, server: str, outbox: Outbox, path: Path) -> None:
        with path.open("rb") as file:  # stays what it is while it is open, even if it is labelled meanwhile
            status = os.fstat(file.fileno())
            seen = Seen(path.name, status.st_size, status.st_mtime_ns)
            try:
                parcel = pack(self._robot, path, file)
                event = "sent" if self._deliver(link, path, parcel, file) else "there already"
            except RejectedError as error:
                outbox.note(Verdict(server, seen, str(error)))
                self._report({"event": "rejected", "file": str(path), "why": str(error)})
                return
        outbox.note(Verdict(server, seen))
        self._report({"event": event, "file": str(path), "episode": parcel.episode, "bytes": parcel.size})

    def _deliver(self, link: Link, path: Path, parcel: Parcel, file: BufferedReader) -> bool:
        """Returns whether anything had to be sent."""
        standing = link.standing(parcel)
        if standing.whole:
            return False
        done = standing.offset

        def sent(count: int) -> None:
            nonlocal done
            done += count
            self._progress(str(path), done, parcel.size)

        if not link.send(parcel, file, done, sent).whole:
            raise EpisodeError(f"{path}: did not arrive whole")
        return True


def bring(link: Link, copy: ShelfCopy, report: Report, wait_s: int) -> None:
    """Fetch what the learner offers, if it is new."""
    if (newest := copy.follow(link, wait_s)) is not None:
        facts = {"bundle": newest.bundle, "weights": newest.weights, "rollback": newest.rollback}
        report({"event": "fetched", **facts})


def keep_on(task: Callable[[], None], what: str, pause_s: float, stop: threading.Event, report: Report) -> None:
    """Do ``task`` again and again until ``stop``. Trouble of any foreseeable kind is told once and waited out."""
    wait_s, told = _FIRST_S, ""
    while not stop.is_set():
        try:
            task()
        except StoppedError:
            return
        except (CadenzaError, OSError) as error:
            why = str(error)
            if why != told:
                report({"event": "trouble", "what": what, "why": why})
            told = why
            stop.wait(wait_s * random.uniform(0.5, 1.0))  # noqa: S311  # no secret
            wait_s = min(2.0 * wait_s, _LONGEST_S)
        else:
            if told:
                report({"event": "well again", "what": what})
            wait_s, told = _FIRST_S, ""
            stop.wait(pause_s)

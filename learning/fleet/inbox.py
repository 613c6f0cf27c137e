"""Where the server keeps what robots send.

``episodes/<robot>/<episode>.mcap``
    whole, verified, and never touched again: the folder that a learner watches. It may delete what it has taken in.
``parts/<robot>/<episode>.<sha256>``
    what has come so far. Other content of the same name is another part, so that nothing is ever mixed.
``received.jsonl``
    one line for every episode that ever came whole: what was deleted since is not sent again.

An episode appears under its name at once and whole, then its line is written; a crash between the two is mended by
looking at the file itself.
"""

from __future__ import annotations

import errno
import fcntl
import json
import os
import shutil
import threading
import time
import uuid
from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

from episodes.writer import sync_folder
from learning.fleet.examine import Examiner
from learning.fleet.names import is_name, is_sha256
from spec.errors import CadenzaError
from spec.files import sha256_of, write_atomically

EPISODES, PARTS, RECEIVED, IDENTITY = "episodes", "parts", "received.jsonl", "identity"
_FULL = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}


class Reason(StrEnum):
    """Why something is not taken."""

    MALFORMED = "malformed"
    TOO_LARGE = "too_large"
    OTHER_CONTENT = "other_content"
    OTHER_OFFSET = "other_offset"
    ALTERED = "altered"
    UNSOUND = "unsound"
    NO_ROOM = "no_room"


class RefusedError(CadenzaError):
    """Something a robot asked for that is not done; the message is for its operator."""

    def __init__(self, reason: Reason, message: str) -> None:
        self.reason = reason
        super().__init__(message)


@dataclass(frozen=True, slots=True)
class Limits:
    """What one server takes, in bytes."""

    episode: int = 4 << 30
    """The largest episode."""
    total: int | None = None
    """All episodes and parts together; None: as far as the disk goes."""
    keep_free: int = 2 << 30
    """Left free on the disk for everything else."""
    part_age_s: float = 30 * 86_400.0
    """Parts that nobody went on with for so long are deleted: they only cost being sent anew."""


@dataclass(frozen=True, slots=True)
class Offer:
    """An episode that a robot wants to send."""

    robot: str
    episode: str
    sha256: str
    size: int

    def __post_init__(self) -> None:
        """Raises RefusedError for names that are none; everything that becomes a path goes through here."""
        if not (is_name(self.robot) and is_name(self.episode)):
            raise RefusedError(Reason.MALFORMED, "robot and episode must have plain names")
        if not is_sha256(self.sha256) or self.size < 1:
            raise RefusedError(Reason.MALFORMED, "an episode is offered with its sha256 and its size")


@dataclass(frozen=True, slots=True)
class Standing:
    """How far an offered episode has come."""

    whole: bool
    offset: int
    """Bytes that are here."""


class Inbox:
    """The folder of one server. Methods of one episode must not run at the same time; those of different ones may.

    Args:
        verify: says what is wrong with a file; None reads it as an episode.

    Raises:
        CadenzaError: another server has the folder.
        OSError: it cannot be written.
    """

    def __init__(self, folder: Path, limits: Limits | None = None, verify: Callable[[Path], str] | None = None) -> None:
        self.folder, self.limits = folder, limits or Limits()
        self._examiner = Examiner()
        self._verify = verify or self._examiner
        self.episodes, self._parts = folder / EPISODES, folder / PARTS
        for made in (self.episodes, self._parts):
            made.mkdir(parents=True, exist_ok=True)
        self._lock = (folder / ".lock").open("w")
        try:
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            self._lock.close()
            raise CadenzaError(f"{folder}: another server uses this folder") from None
        self.identity = _identity(folder / IDENTITY)
        self._received = _read_received(folder / RECEIVED)
        self._writing = threading.Lock()
        self._delete_old_parts()

    def prepare(self) -> None:
        """Start what reads episodes, so that the first one does not wait for it."""
        self._examiner.start()

    def close(self) -> None:
        """Let another server have the folder."""
        self._examiner.close()
        self._lock.close()

    def standing(self, offer: Offer) -> Standing:
        """How far an episode has come.

        Raises:
            RefusedError: another content has the name, it is too large, or there is no room for the rest.
        """
        if (known := self._known(offer)) is not None:
            if known != offer.sha256:
                raise RefusedError(
                    Reason.OTHER_CONTENT, f"{offer.episode}: came before with another content; it is kept"
                )
            return Standing(True, offer.size)
        if offer.size > self.limits.episode:
            raise RefusedError(
                Reason.TOO_LARGE, f"{offer.size} bytes; this server takes {self.limits.episode} an episode"
            )
        here = _size_of(self._part(offer))
        if here > offer.size:  # offered with another size before: one of the two was wrong
            self._part(offer).unlink()
            here = 0
        self._check_room(offer.size - here)
        return Standing(False, here)

    def begin(self, offer: Offer, offset: int) -> Arrival:
        """Go on where the last attempt ended.

        Raises:
            RefusedError: as :meth:`standing`; also where it ended elsewhere.
        """
        here = self.standing(offer)
        if here.whole or here.offset != offset:
            raise RefusedError(Reason.OTHER_OFFSET, f"{here.offset} bytes are here, not {offset}")
        return Arrival(self._part(offer), offer.size - offset)

    def finish(self, offer: Offer) -> None:
        """Take a part that has come whole among the episodes.

        Raises:
            RefusedError: altered, or not an episode: the part is deleted. Or the name was taken meanwhile.
        """
        part = self._part(offer)
        if (found := sha256_of(part)) != offer.sha256:
            part.unlink()
            raise RefusedError(Reason.ALTERED, f"altered on its way: sha256 {found[:12]}, not {offer.sha256[:12]}")
        if wrong := self._verify(part):
            part.unlink()
            raise RefusedError(Reason.UNSOUND, wrong)
        target = self._episode(offer)
        try:
            if not target.parent.exists():
                target.parent.mkdir(exist_ok=True)
                sync_folder(self.episodes)
            with part.open("rb") as file:
                os.fsync(file.fileno())
            os.link(part, target)  # unlike a rename it never replaces
        except FileExistsError:
            raise RefusedError(Reason.OTHER_CONTENT, f"{offer.episode}: came before; it is kept") from None
        except OSError as error:
            raise _no_room(error) from error
        part.unlink(missing_ok=True)
        sync_folder(target.parent)
        self._remember(offer)

    def counts(self) -> dict[str, dict[str, int]]:
        """By robot: ``episodes`` and ``bytes`` that ever came whole, ``parts`` on their way."""
        counts: dict[str, dict[str, int]] = {}
        with self._writing:
            received = list(self._received.items())
        for (robot, _), (_, size) in received:
            robot_counts = counts.setdefault(robot, {"episodes": 0, "bytes": 0, "parts": 0})
            robot_counts["episodes"] += 1
            robot_counts["bytes"] += size
        for part in self._parts.glob("*/*"):
            counts.setdefault(part.parent.name, {"episodes": 0, "bytes": 0, "parts": 0})["parts"] += 1
        return counts

    def free(self) -> int:
        """Bytes that still fit."""
        room = shutil.disk_usage(self.folder).free - self.limits.keep_free
        if self.limits.total is not None:
            used = sum(_size_of(file) for top in (self.episodes, self._parts) for file in top.glob("*/*"))
            room = min(room, self.limits.total - used)
        return max(room, 0)

    def _known(self, offer: Offer) -> str | None:
        """sha256 of what came whole under this name."""
        with self._writing:
            if (known := self._received.get((offer.robot, offer.episode))) is not None:
                return known[0]
        try:
            found = sha256_of(self._episode(offer))
        except OSError:
            return None
        self._remember(Offer(offer.robot, offer.episode, found, _size_of(self._episode(offer))))
        self._part(offer).unlink(missing_ok=True)
        return found

    def _remember(self, offer: Offer) -> None:
        fields = {"robot": offer.robot, "episode": offer.episode, "sha256": offer.sha256, "bytes": offer.size}
        with self._writing:
            self._received[offer.robot, offer.episode] = (offer.sha256, offer.size)
            try:
                with (self.folder / RECEIVED).open("ab") as file:
                    file.write(json.dumps(fields).encode() + b"\n")
                    file.flush()
                    os.fsync(file.fileno())
            except OSError as error:
                # The episode stands under its name, which says the same, as long as nobody deletes it.
                if error.errno not in _FULL:
                    raise

    def _check_room(self, wanted: int) -> None:
        if wanted > (room := self.free()):
            raise RefusedError(Reason.NO_ROOM, f"no room for {wanted} bytes: {room} left on the learner's disk")

    def _delete_old_parts(self) -> None:
        oldest = time.time() - self.limits.part_age_s
        for part in self._parts.glob("*/*"):
            if part.stat().st_mtime < oldest:
                part.unlink()

    def _episode(self, offer: Offer) -> Path:
        return self.episodes / offer.robot / f"{offer.episode}.mcap"

    def _part(self, offer: Offer) -> Path:
        return self._parts / offer.robot / f"{offer.episode}.{offer.sha256}"


class Arrival:
    """A part that is being added to. What reached the file stays when the sender does not come back."""

    def __init__(self, part: Path, missing: int) -> None:
        self.missing = missing
        """Bytes that are to come."""
        try:
            part.parent.mkdir(exist_ok=True)
            self._file = part.open("ab", buffering=0)
        except OSError as error:
            raise _no_room(error) from error

    def write(self, content: bytes) -> None:
        """Add bytes.

        Raises:
            RefusedError: more than there is, or the disk is full. What fits is kept.
        """
        if len(content) > self.missing:
            raise RefusedError(Reason.TOO_LARGE, "more bytes than were offered")
        rest = memoryview(content)
        while rest:
            try:
                written = self._file.write(rest)
            except OSError as error:
                raise _no_room(error) from error
            self.missing -= written
            rest = rest[written:]

    def close(self) -> None:
        self._file.close()


def _no_room(error: OSError) -> RefusedError:
    """A full disk is the robot's business: it keeps the episode. Any other error is the server's: raised as it is."""
    if error.errno not in _FULL:
        raise error
    return RefusedError(Reason.NO_ROOM, "the learner's disk is full")


def _size_of(path: Path) -> int:
    try:
        return path.stat().st_size
    except FileNotFoundError:
        return 0


def _identity(path: Path) -> str:
    """Tells robots whether this is the inbox that they know."""
    try:
        return path.read_text(encoding="ascii").strip()
    except FileNotFoundError:
        made = uuid.uuid4().hex
        write_atomically(path, made.encode())
        return made


def _read_received(path: Path) -> dict[tuple[str, str], tuple[str, int]]:
    """The lines that are whole; a crash may have left half of the last one, which then gets an end of its own."""
    try:
        content = path.read_bytes()
    except FileNotFoundError:
        return {}
    if content and not content.endswith(b"\n"):
        with path.open("ab") as file:
            file.write(b"\n")
    received = {}
    for line in content.splitlines():
        try:
            fields = json.loads(line)
            received[str(fields["robot"]), str(fields["episode"])] = (str(fields["sha256"]), int(fields["bytes"]))
        except (ValueError, KeyError, TypeError):
            continue
    return received

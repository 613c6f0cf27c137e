"""Recording policies other than one file an episode: corrections only, highlights, everything."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from controller.collection.correction import Correction, Cut, cut
from controller.collection.keeping import Keep, Keeper, Look, Record
from controller.collection.machine import Happened, Verdict
from controller.collection.tape import Spool
from controller.supervisor import Supervisor
from episodes.outcome import Outcome, Termination
from episodes.records import Order

_MARK_S = 1.5
"""While the past is kept in memory, the state goes on record this often [s]: a file replays from the first in it."""
_HEARD_S = 2.0
"""A recorder hears of a takeover within this [s], or what is longest ago is not in its memory any more."""
_SAVE_S = 60.0
"""Longest time until the recorder has written a highlight [s]: 400 MB at 10 MB/s take 40 s."""


class _Ring:
    """The past as the recorder keeps it in memory."""

    def __init__(self, supervisor: Supervisor, seconds: float) -> None:
        self._run, self._seconds = supervisor, seconds
        self._told = False
        self._marked_s = 0.0

    def look(self, said: list[dict[str, Any]], now_s: float) -> None:
        """A recorder that took the place of a dead one has to be told again."""
        self._told = self._told and not any(message["kind"] == "died" for message in said)
        if not self._told and self._run.recorder.ready:
            self._run.recorder.keep(self._seconds)
            self._told = True
        if now_s - self._marked_s > _MARK_S:
            self._marked_s = now_s
            self._run.order(Order.MARK)


class CorrectionKeeper(Keeper):
    """Only while a person drives, with some seconds before and after."""

    def __init__(self, supervisor: Supervisor, keep: Keep, labels: Mapping[str, str]) -> None:
        super().__init__(supervisor, keep, labels)
        self._ring = _Ring(supervisor, keep.before_s + _HEARD_S)
        self._correction = Correction()
        self._running, self._parts = False, 0

    def _begin(self) -> list[Happened]:
        self._running, self._parts, self._correction = True, 0, Correction()
        return [Happened.OPENED]

    def _finish(self, verdict: Verdict, facts: Mapping[str, str], reward: float | None) -> None:
        self._running = False
        super()._finish(verdict, facts, reward)

    def _between(self, look: Look) -> list[Happened]:
        self._ring.look(look.said, look.now_s)
        if self._tape.spool is Spool.BROKEN and self._running:
            self._tape.salvage()
            self._correction = Correction()
        fits = True
        if self._running and self._tape.spool in {Spool.IDLE, Spool.OPEN}:
            fits = self._cut(look.taken_ns, look.now_s)
        return [Happened.DISK_FULL] if look.heard is Happened.DISK_FULL or not fits else []

    def _cut(self, taken_ns: int | None, now_s: float) -> bool:
        """False where a correction begins that the disk has no room for."""
        self._correction, do = cut(self._correction, taken_ns is not None, self._keep.after_s, now_s)
        if taken_ns is not None and do is Cut.BEGIN:
            name = f"episode-{self._number:06d}-correction-{self._parts:02d}.mcap"
            self._parts += 1
            labels = {**self._labels, "source": "intervention"}
            from_ns = taken_ns - round(self._keep.before_s * 1e9)
            return self._tape.open(self._run.episodes_folder / name, labels, from_ns=from_ns)
        if do is Cut.END:
            self._tape.close(Outcome.UNLABELLED, Termination.OPERATOR, {"source": "intervention"}, None)
        return True


class HighlightKeeper(Keeper):
    """The last seconds, kept whenever somebody presses the key for it."""

    def __init__(self, supervisor: Supervisor, keep: Keep, labels: Mapping[str, str]) -> None:
        super().__init__(supervisor, keep, labels)
        self._ring = _Ring(supervisor, keep.highlight_s)
        self._saving = 0
        self._since_s = 0.0
        self._used: set[Path] = set()

    def highlight(self) -> bool:
        path = self._unused()
        self._used.add(path)  # the recorder has yet to make the file
        self._saving += self._run.recorder.save(path, self._labels)
        return True

    def _begin(self) -> list[Happened]:
        return [Happened.OPENED]

    def _finish(self, verdict: Verdict, facts: Mapping[str, str], reward: float | None) -> None:
        """Highlights that are being written belong to the episode."""

    def _between(self, look: Look) -> list[Happened]:
        self._ring.look(look.said, look.now_s)
        before = self._saving
        self._hear(look.said)
        if not self._saving or self._saving < before:
            self._since_s = look.now_s
        elif look.now_s - self._since_s > _SAVE_S:
            self._run.recorder.replace()
        return [look.heard] if look.heard is Happened.DISK_FULL else []

    @property
    def _closed(self) -> bool:
        return self._saving == 0

    @property
    def _ended(self) -> bool:
        return self._saving == 0

    def _unused(self) -> Path:
        """A name for the next: the key is pressed between episodes as well, and was in sessions before."""
        folder, part = self._run.episodes_folder, 0
        while True:
            path = folder / f"episode-{self._number:06d}-highlight-{part:02d}.mcap"
            if path not in self._used and not any(folder.glob(f"{path.name}*")):
                return path
            part += 1

    def _listen(self) -> list[dict[str, Any]]:
        said = super()._listen()
        self._hear(said)
        return said

    def _hear(self, said: list[dict[str, Any]]) -> None:
        for message in said:
            match message["kind"]:
                case "saved":
                    self._saving -= 1
                    self.files.append(Path(message["path"]))
                    self._run.say(f"kept the last {message['seconds']:.0f} s: {Path(message['path']).name}")
                case "save_failed":
                    self._saving -= 1
                    self._run.say(message["text"])
                case "died":
                    self._saving = 0
                case _:
                    pass


class ContinuousKeeper(Keeper):
    """Everything from the beginning of the session to its end."""

    def __init__(self, supervisor: Supervisor, keep: Keep, labels: Mapping[str, str]) -> None:
        super().__init__(supervisor, keep, labels)
        self._awaited = False

    def _begin(self) -> list[Happened]:
        self._awaited = not self.recording
        return [Happened.OPENED] if self.recording else []

    def _finish(self, verdict: Verdict, facts: Mapping[str, str], reward: float | None) -> None:
        """The recording goes on."""

    def _take_files(self) -> None:
        """They are no episode's own."""

    def _between(self, look: Look) -> list[Happened]:
        """There is always a recording open; one that broke is followed by another."""
        if look.heard is Happened.DISK_FULL:
            return [look.heard]
        if self._tape.spool is Spool.BROKEN:
            self._tape.salvage()
        if self._tape.spool is Spool.IDLE and not self._tape.open(
            self._unused(), self._labels, rotate_mb=self._keep.rotate_mb
        ):
            return [Happened.DISK_FULL]
        if look.heard is Happened.OPENED and self._awaited:
            self._awaited = False
            return [Happened.OPENED]
        return []

    @property
    def _closed(self) -> bool:
        return True

    def _unused(self) -> Path:
        folder, number = self._run.episodes_folder, 0
        while any(folder.glob(f"continuous-{number:03d}*")):
            number += 1
        return folder / f"continuous-{number:03d}.mcap"


KEEPERS: Mapping[Record, type[Keeper]] = {
    Record.EPISODES: Keeper,
    Record.CORRECTIONS: CorrectionKeeper,
    Record.CONTINUOUS: ContinuousKeeper,
    Record.HIGHLIGHT: HighlightKeeper,
}

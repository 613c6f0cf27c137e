"""What a run has its recorder do: open and close episodes, and keep the newest seconds in memory."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from controller.wiring.crew import Crew
from controller.workers.disk import DiskBounds
from episodes.recovery import Recovered, recover_folder
from export.bundle import Bundle
from spec.errors import CadenzaError

RECORDER = "recorder"
LEAST_FREE_BYTES = DiskBounds().begin


class Dictation:
    """Orders to the recorder; what it answers comes from :meth:`controller.supervisor.Supervisor.poll`.

    Args:
        crew: has the recorder, once the run has started.
        out: folder of the run.
        say: takes one line for the person watching.
        labels: of every episode.
        driving: the bundle whose manifest goes into an episode that begins now; None where none drives.
        give_up: ends the process of that name, for that reason; another takes its place.
    """

    def __init__(
        self,
        crew: Crew,
        out: Path,
        say: Callable[[str], None],
        labels: Mapping[str, str],
        driving: Callable[[], Bundle | None],
        give_up: Callable[[str, str], None],
    ) -> None:
        self.folder = out / "episodes"
        self.recovered: list[Recovered] = []
        self._crew, self._out, self._say = crew, out, say
        self._labels, self._driving, self._give_up = labels, driving, give_up

    @property
    def ready(self) -> bool:
        """Whether it lives and takes orders."""
        return self._crew.is_ready(RECORDER)

    @property
    def gone(self) -> bool:
        """Whether it has said that it cannot work: no other takes its place."""
        return self._crew.processes[RECORDER].refusal is not None

    def open(
        self, path: Path, labels: Mapping[str, str], *, from_ns: int | None = None, rotate_mb: float | None = None
    ) -> bool:
        """Have it open an episode; it answers ``opened`` or ``failed``. False: the disk has no room.

        Args:
            path: of the closed file.
            labels: free facts.
            from_ns: begin with the past from this instant on [ns], as far as it is kept in memory. None: with nothing.
            rotate_mb: go on in another file whenever one is this large; it says ``rotated``. None: never.
        """
        try:
            check_room(self._out)
        except CadenzaError as error:
            self._say(str(error))
            return False
        self._tell("open", **self._about(path, labels), from_ns=from_ns, rotate_mb=rotate_mb)
        return True

    def close(self, outcome: str, termination: str, facts: dict[str, str], reward: float | None = None) -> None:
        """Have it close the episode; it answers ``closed`` or ``failed``. Reward None: by the outcome."""
        if self.ready:  # the successor of a dead one has nothing to close
            self._tell("close", outcome=outcome, termination=termination, facts=facts, reward=reward)

    def replace(self) -> None:
        """End the recorder, which has not answered in its time: another takes its place, and its file can be recovered.

        One that is only slow would go on recording what was given up.
        """
        if self.ready:
            self._give_up(RECORDER, "no answer")

    def keep(self, seconds: float) -> None:
        """Have it keep the newest so many seconds in memory."""
        self._tell("ring", seconds=seconds)

    def save(self, path: Path, labels: Mapping[str, str]) -> bool:
        """Have it write them as an episode; it answers ``saved`` or ``save_failed``. False: it is gone."""
        return self._tell("save", **self._about(path, labels))

    def recover(self) -> None:
        """Save what a killed recorder left."""
        try:
            found = recover_folder(self.folder)
        except (CadenzaError, OSError) as error:
            self._say(f"episodes: cannot recover: {error}")
            return
        for item in found:
            saved = item.episode is not None
            self._say(f"recovered {item.messages} records of {item.part.name}" if saved else item.damage)
        self.recovered += found

    def _about(self, path: Path, labels: Mapping[str, str]) -> dict[str, Any]:
        """Of an episode: where, which, and who drives in it."""
        bundle = self._driving()
        manifest = {} if bundle is None else {"manifest": bundle.manifest.model_dump(mode="json")}
        return {"path": str(path), "labels": {**labels, **self._labels}, **manifest}

    def _tell(self, do: str, **wanted: Any) -> bool:
        return self._crew.processes[RECORDER].tell(do=do, **wanted)


def check_room(folder: Path) -> None:
    """Refuse to begin what cannot be recorded.

    Raises:
        CadenzaError: says how much is free, or why nobody can tell.
    """
    try:
        free = shutil.disk_usage(folder).free
    except OSError as error:
        raise CadenzaError(f"{folder}: {error.strerror}; nothing can be recorded there") from None
    if free < LEAST_FREE_BYTES:
        raise CadenzaError(
            f"{folder}: {free / 1e6:.0f} MB free, {LEAST_FREE_BYTES / 1e6:.0f} MB needed to record an episode"
        )

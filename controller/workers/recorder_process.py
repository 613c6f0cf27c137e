"""``python -m controller.workers.recorder_process``: writes episodes.

Commands, each answered:

- ``{"do": "open", "path": ..., "labels": {...}}``: ``opened``. With ``"from_ns"`` it begins with what the ring holds
  from that instant on; with ``"rotate_mb"`` it goes on in the next file at that size and says ``rotated``;
  ``"manifest"`` is that of the bundle that drives.
- ``{"do": "close", "outcome": ..., "termination": ..., "facts": {...}, "reward": ...}``: ``closed``.
- ``{"do": "ring", "seconds": ..., "megabytes": ...}``: keep the last seconds in memory; ``ring``.
- ``{"do": "save", "path": ..., "labels": {...}, "manifest": ..., "outcome": ...}``: write them as an episode of their
  own, a slice at a time beside whatever is recorded; ``saved`` or ``save_failed``.

``failed`` with the reason answers what cannot be done, and says unasked that a recording has ended for want of space.
"""

from __future__ import annotations

import gc
import os
import sys
import time
from collections import deque
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from controller.wiring.child import Child, run_child
from controller.wiring.placement import stay_off_control_core
from controller.workers.disk import Space
from controller.workers.recorder import Recorder, is_full
from controller.workers.recording import Recording, Series
from episodes.outcome import Outcome, Termination
from episodes.writer import Header
from spec.calibration import load_calibration
from spec.errors import CadenzaError
from spec.manifest import Manifest
from spec.robotfile import validated

_PAUSE_S = 0.03
"""Looking more seldom costs less (what a turn costs beside its records is most of a millisecond) and loses more."""
_RING_MB = 400.0
"""A minute of two cameras of 640x480 at 30 pictures a second."""
_SAVE_BYTES = 2_000_000
"""Most that a save writes before the disk has taken it: else the recording would find the disk busy with it."""


@dataclass(frozen=True, slots=True)
class _Saving:
    recording: Recording
    seconds: float
    outcome: Outcome


class _Work:
    """The recorder and its orders."""

    def __init__(self, child: Child, recorder: Recorder, header: Header) -> None:
        self._child, self._recorder, self._header = child, recorder, header
        self._savings: deque[_Saving] = deque()

    def turn(self) -> None:
        """One look at orders, topics and the disk."""
        now_ns = time.monotonic_ns()
        try:
            for command in self._child.commands():
                self._obey(command, now_ns)
            self._recorder.drain(now_ns)
            if self._recorder.look_at_disk(now_ns):
                self._heed_disk(now_ns)
        except OSError as error:
            self._give_up(error)
        for turn in self._recorder.turns():
            self._child.say("rotated", path=str(self._recorder.path), file=str(turn.file), closed=str(turn.closed))
        if self._savings:
            self._save_on()
        path = self._recorder.path
        self._child.vitals["recording"] = None if path is None else str(path)

    def end(self) -> None:
        """Close what is open: the supervisor is done, died, or gave up in a hurry."""
        if self._recorder.recording:
            self._recorder.close(Outcome.ABORTED, Termination.ERROR, {})
        while self._savings:
            self._save_on()
            time.sleep(_PAUSE_S)

    def _obey(self, command: dict[str, Any], now_ns: int) -> None:
        say, recorder = self._child.say, self._recorder
        try:
            match command["do"]:
                case "open":
                    self._open(command, now_ns)
                case "close":
                    outcome, termination = Outcome(command["outcome"]), Termination(command["termination"])
                    say(
                        "closed",
                        **recorder.close(outcome, termination, command.get("facts", {}), command.get("reward")),
                    )
                case "ring":
                    recorder.keep(command["seconds"], round(command.get("megabytes", _RING_MB) * 1e6))
                    say("ring", seconds=command["seconds"])
                case "save":
                    self._save(command, now_ns)
        except CadenzaError as error:
            say("failed", text=str(error), full=False)

    def _open(self, command: dict[str, Any], now_ns: int) -> None:
        rotate_mb = command.get("rotate_mb")
        series = Series(Path(command["path"]), None if rotate_mb is None else round(rotate_mb * 1e6))
        self._recorder.open(series, self._labelled(command), now_ns, command.get("from_ns"))
        self._child.say("opened", path=command["path"])

    def _labelled(self, command: dict[str, Any]) -> Header:
        manifest = command.get("manifest")
        bundle = None if manifest is None else validated(Manifest, manifest, "manifest")
        return replace(self._header, labels=command.get("labels", {}), bundle=bundle)

    def _save(self, command: dict[str, Any], now_ns: int) -> None:
        path = Path(command["path"])
        try:
            recording, seconds = self._recorder.saved(path, self._labelled(command), now_ns)
        except CadenzaError as error:
            self._child.say("save_failed", path=str(path), text=str(error), full=False)
        except OSError as error:
            self._child.say("save_failed", path=str(path), text=f"{path}: {error.strerror}", full=is_full(error))
        else:
            self._savings.append(_Saving(recording, seconds, Outcome(command.get("outcome", Outcome.UNLABELLED))))

    def _save_on(self) -> None:
        """Write the next slice of the oldest save."""
        saving = self._savings[0]
        recording = saving.recording
        try:
            if recording.syncing:
                return
            if recording.waiting:
                recording.advance(_SAVE_BYTES)
                recording.sync()
                return
            recording.close(saving.outcome, Termination.SAVED, {}, None)
        except OSError as error:
            recording.abandon()
            text = f"{recording.path}: cannot be saved: {error.strerror}"
            self._child.say("save_failed", path=str(recording.path), text=text, full=is_full(error))
        else:
            self._child.say("saved", path=str(recording.path), seconds=saving.seconds, counts=recording.counts)
        self._savings.popleft()

    def _heed_disk(self, now_ns: int) -> None:
        """The room on the disk is another than it was."""
        recorder, free = self._recorder, f"{self._recorder.free / 1e6:.0f} MB free"
        match recorder.space:
            case Space.AMPLE:
                self._child.event(now_ns, "disk", f"{free}: enough again")
            case Space.LOW:
                self._child.event(now_ns, "disk_low", f"{free}; pictures are left out before ticks are")
            case Space.SHED:
                self._child.event(now_ns, "disk_low", f"{free}; no more pictures are recorded")
            case Space.FULL:
                path = str(recorder.path)
                recorder.close(Outcome.ABORTED, Termination.DISK_FULL, {})
                self._child.event(now_ns, "recording_stopped", f"{free}; the episode is closed")
                self._child.say("failed", path=path, text=f"{path}: {free}; the episode was closed", full=True)
        self._child.say("space", level=recorder.space.name.lower(), free=recorder.free)

    def _give_up(self, error: OSError) -> None:
        """The disk does not take more: keep draining, so that nobody else is held up, and say so."""
        self._recorder.abandon()
        self._child.event(time.monotonic_ns(), "recording_failed", str(error))
        self._child.say("failed", text=f"episode cannot be written: {error.strerror}", full=is_full(error))


def work(child: Child) -> None:
    """Until told to stop; a recording still open then is closed as aborted."""
    assignment = child.assignment
    stay_off_control_core(assignment.robot.control)
    recorder = Recorder(child.node, assignment.robot)
    calibration = load_calibration(assignment.robot.follower)
    working = _Work(child, recorder, Header(assignment.robot, calibration))
    gc.freeze()
    child.say("ready", pid=os.getpid())
    try:
        while not child.stopping:
            working.turn()
            time.sleep(_PAUSE_S)
    finally:
        working.end()
    child.say("report", cpu_s=time.process_time())


def main() -> int:
    """Entry of the process."""
    return run_child("recorder", work)


if __name__ == "__main__":
    sys.exit(main())

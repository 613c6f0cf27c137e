"""A session: episode after episode with one running set of processes.

Per episode: to the start pose, prepare the scene, record, let the policy drive until the judge or the clock says stop,
hold, close the recording.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from controller.supervisor import Supervisor
from controller.watch import DRIVEN, MOVED
from controller.wiring.process import FIRST_BACKOFF_S
from controller.wiring.vigil import READY_S
from episodes.outcome import Outcome, Termination
from episodes.records import Mode, Order
from spec.errors import CadenzaError

HOME_S = 40.0
"""Longest time to the start pose [s]; the control loop latches a fault before."""
ANSWER_S = 5.0
"""Longest time the recorder may take to open or close a file [s]."""
SETTLE_S = 0.3
"""From a prepared scene to the first look at it [s]: longer than a picture is on its way."""
NEAR_RAD, STANDING_RAD_S = 2e-3, 1e-3
"""Such an arm is at its start pose, and stands."""
TAKEN_IN = 3
"""Periods from the sending of an order to the first tick that has certainly seen it."""


class Judge(Protocol):
    """Knows the task: sets the scene and says when it is done."""

    def prepare(self, episode: int) -> Mapping[str, str]:
        """Set the scene for an episode, the arm being at its start pose; returns labels for the log."""
        ...

    def success(self) -> bool | None:
        """True once the task is done, None where nobody can tell."""
        ...


class NoJudge:
    """Nobody says how it went: episodes last their time and stay unlabelled."""

    def prepare(self, episode: int) -> Mapping[str, str]:
        return {"episode": str(episode)}

    def success(self) -> bool | None:
        return None


@dataclass(frozen=True, slots=True)
class EpisodeResult:
    """What became of one episode."""

    path: Path | None
    """The closed recording; None where there is none."""
    outcome: Outcome
    termination: Termination
    seconds: float
    """The policy drove this long [s]."""
    dropped: Mapping[str, int]
    """Records that never reached the recorder, by topic."""


class _BrokenError(Exception):
    """The episode cannot go on; carries why."""

    def __init__(self, termination: Termination) -> None:
        self.termination = termination


class Session:
    """Runs episodes on a started :class:`Supervisor`.

    Args:
        supervisor: entered.
        judge: of the task.
        seconds: time limit of an episode, counted from the moment the policy drives.
    """

    def __init__(self, supervisor: Supervisor, judge: Judge, seconds: float) -> None:
        self._run, self._judge, self._seconds = supervisor, judge, seconds
        self._answers: list[dict[str, Any]] = []
        self._recording = False
        self._recoveries = 0
        """There had been so many when the newest episode began."""
        self._home = supervisor.robot.limits().home
        self._index = _first_free(supervisor.episodes_folder)

    def episode(self, number: int) -> EpisodeResult:
        """Run one episode to its end, whatever that is. Raises nothing on account of it."""
        path = self._run.episodes_folder / f"episode-{self._index:06d}.mcap"
        self._index += 1
        self._recording = False
        self._recoveries = self._run.recoveries
        began_s = 0.0
        outcome, ended = Outcome.ABORTED, Termination.OPERATOR
        try:
            self._go_home()
            labels = {**self._judge.prepare(number), "mode": self._run.robot.control.mode.value}
            self._wait(lambda: False, SETTLE_S)
            self._open(path, labels)
            began_s = self._start()
            outcome, ended = self._drive(began_s)
        except _BrokenError as broken:
            ended = broken.termination
        except CadenzaError as error:  # the judge cannot judge any more: what it watches is gone
            self._run.say(str(error))
            outcome, ended = Outcome.ABORTED, Termination.ERROR
        seconds = time.monotonic() - began_s if began_s else 0.0
        self._hold()
        if not self._recording:
            return EpisodeResult(None, outcome, ended, seconds, {})
        answer = self._close(path, outcome, ended, seconds)
        if answer.get("path") != str(path):
            return self._lost(path, ended, seconds, full=answer.get("full", False))
        return EpisodeResult(path, outcome, ended, seconds, answer["dropped"])

    def wait_for_recovery(self) -> bool:
        """Hold until somebody says that the cause of what ended the episode is gone, and the arm was recovered.

        Returns:
            False where the end of the run was asked for instead.
        """
        run, word = self._run, self._run.word
        word.waiting = True
        while run.recoveries == self._recoveries and not word.ends:
            self._answers += run.poll()
        word.waiting = False
        return not word.ends

    def _go_home(self) -> None:
        """Also out of a place where a person left the arm who took it on the way."""
        self._run.follow(False)
        deadline, watch = time.monotonic() + HOME_S, self._run.watch
        while True:
            sent_ns = self._run.order(Order.HOME)
            if not self._wait(partial(self._rests, sent_ns), deadline - time.monotonic()):
                raise _BrokenError(Termination.FAULT)
            if np.all(np.abs(watch.commanded() - self._home) < NEAR_RAD):
                return
            self._wait(lambda: False, SETTLE_S)

    def _rests(self, sent_ns: int) -> bool:
        """Whether the arm has heeded an order, and holds."""
        watch, margin_ns = self._run.watch, TAKEN_IN * self._run.robot.control.period_ns
        heeded = watch.tick is not None and watch.tick.now_ns > sent_ns + margin_ns
        return heeded and watch.mode is Mode.HOLD and watch.speed() < STANDING_RAD_S

    def _open(self, path: Path, labels: Mapping[str, str]) -> None:
        """Begin the recording. Whatever befell the recorder before is over once it is ready."""
        if not self._wait(lambda: self._run.recorder.ready, READY_S):
            raise _BrokenError(Termination.RECORDER_DIED)
        self._answers.clear()
        if not self._run.recorder.open(path, labels):
            raise _BrokenError(Termination.DISK_FULL)
        self._recording = True
        opened = {"kind": "opened", "path": str(path)}
        if not self._wait(lambda: opened in self._answers, ANSWER_S):
            self._run.recorder.replace()
            raise _BrokenError(Termination.RECORDER_DIED)
        self._run.order(Order.MARK)

    def _start(self) -> float:
        """Let the policy drive; returns since when [s]."""
        self._run.order(Order.START)
        self._run.follow(True)
        if not self._wait(lambda: self._run.watch.mode in DRIVEN, self._seconds):
            raise _BrokenError(Termination.TIME_LIMIT)
        return time.monotonic()

    def _drive(self, began_s: float) -> tuple[Outcome, Termination]:
        if self._wait(self._done, self._seconds - (time.monotonic() - began_s)):
            return Outcome.SUCCESS, Termination.DONE
        unknown = self._judge.success() is None
        return Outcome.UNLABELLED if unknown else Outcome.FAIL, Termination.TIME_LIMIT

    def _done(self) -> bool:
        return self._judge.success() is True

    def _hold(self) -> None:
        self._run.follow(False)
        if self._run.driving:
            self._run.order(Order.HOLD)
            deadline = time.monotonic() + 2.0
            while time.monotonic() < deadline and self._run.driving and self._moving():
                self._answers += self._run.poll()

    def _moving(self) -> bool:
        watch = self._run.watch
        return watch.mode in MOVED or watch.speed() > STANDING_RAD_S

    def _close(self, path: Path, outcome: Outcome, ended: Termination, seconds: float) -> dict[str, Any]:
        """What became of the recording, in the recorder's words; empty where it has none."""
        self._run.recorder.close(outcome, ended, {"seconds": f"{seconds:.3f}"})
        deadline = time.monotonic() + ANSWER_S
        while time.monotonic() < deadline:
            self._answers += self._run.poll()
            for answer in self._answers:
                late = answer.get("path") not in {None, str(path)}  # about an episode that was given up before
                if answer["kind"] in {"died", "failed", "closed"} and not late:
                    return answer
        self._run.recorder.replace()
        return {}

    def _lost(self, path: Path, ended: Termination, seconds: float, full: bool) -> EpisodeResult:
        """The recorder died or gave up: what is on the disk is recovered."""
        time.sleep(FIRST_BACKOFF_S)
        self._run.recorder.recover()
        if ended in {Termination.DONE, Termination.TIME_LIMIT}:
            ended = Termination.DISK_FULL if full else Termination.RECORDER_DIED
        return EpisodeResult(path if path.exists() else None, Outcome.ABORTED, ended, seconds, {})

    def _wait(self, done: Callable[[], bool], seconds: float) -> bool:
        """Let time pass until ``done``; False when it is up.

        Raises:
            _BrokenError: something ended the episode.
        """
        deadline = time.monotonic() + seconds
        while not done():
            if time.monotonic() >= deadline:
                return False
            self._answers += self._run.poll()
            if self._run.interrupted:
                raise _BrokenError(Termination.OPERATOR)
            if not self._run.driving or self._run.recoveries != self._recoveries:  # or it died and came back unseen
                raise _BrokenError(Termination.CONTROL_DIED)
            if self._run.watch.mode is Mode.FAULT:
                raise _BrokenError(Termination.FAULT)
            if self._recording:
                self._heed_recorder()
        return True

    def _heed_recorder(self) -> None:
        for answer in self._answers:
            if answer["kind"] == "failed":
                raise _BrokenError(Termination.DISK_FULL if answer["full"] else Termination.RECORDER_DIED)
            if answer["kind"] == "died":
                raise _BrokenError(Termination.RECORDER_DIED)


def _first_free(folder: Path) -> int:
    """Number of the next episode of a folder that may hold some."""
    taken = [path.name.split(".")[0].removeprefix("episode-") for path in folder.glob("episode-*.mcap*")]
    return max((int(number) + 1 for number in taken if number.isdigit()), default=0)

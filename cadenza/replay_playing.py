"""The session of a replay on an arm: one motion, watched, paused and stopped by keys."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping

import numpy as np
from rich.progress import Progress, TaskID

from cadenza.collecting.keys import TerminalKeys
from controller.session import Session
from controller.sources import PLAYBACK
from controller.supervisor import TELEOP, Supervisor
from controller.workers.playback import FINISHED, PACE, Pace
from drivers.virtual import SimClient
from episodes.outcome import Outcome, Termination
from episodes.reader import Episode
from episodes.records import Driver, Order
from spec.errors import DeviceError

SCENE = "scene_seed"
"""Label of an episode of the virtual arm."""


class Watcher:
    """Says when the motion was played, and hears the keys meanwhile. Implements :class:`controller.session.Judge`."""

    def __init__(
        self,
        supervisor: Supervisor,
        client: SimClient | None,
        episode: Episode,
        keys: TerminalKeys | None,
        progress: Progress,
        task: TaskID,
    ) -> None:
        self._run, self._client, self._episode = supervisor, client, episode
        self._keys, self._progress, self._task = keys, progress, task
        self._paused = False
        self.stopped = False

    def prepare(self, _episode: int) -> Mapping[str, str]:
        """The scene of the episode, where there is one to set."""
        labels = {"replay_of": self._episode.path.name}
        seed = self._episode.labels.get(SCENE)
        if self._client is not None and seed is not None:
            self._client.reset(int(seed))
            labels[SCENE] = seed
        self._progress.update(self._task, description="leading in")
        return labels

    def success(self) -> bool:
        """True when it is over: played to its end, or stopped by a key."""
        process = self._run.processes[PLAYBACK]
        if process.restarts or process.refusal is not None:
            raise DeviceError(process.refusal or "playback: died; a motion is not taken up again in the middle")
        for key in "" if self._keys is None else self._keys.typed():
            if key == " ":
                self._paused = not self._paused
                process.tell(do="stand" if self._paused else "go")
            elif key == "q":
                self.stopped = True
            elif key == "t" and TELEOP in self._run.processes and self._run.watch.tick is not None:
                taken = self._run.watch.tick.driver == Driver.HUMAN
                self._run.order(Order.RELEASE if taken else Order.TAKE_OVER)
        self._show()
        return self.stopped or self._run.watch.tally.events[f"{PLAYBACK}: {FINISHED}"] > 0

    def _show(self) -> None:
        text, tick = self._run.watch.newest.get(f"{PLAYBACK}: {PACE}"), self._run.watch.tick
        if text is None or tick is None:
            return
        pace = Pace(**json.loads(text))
        seconds = float(pace.seconds(np.array([tick.now_ns]))[0])
        doing = "paused" if self._paused else "playing" if pace.over_ns else "leading in"
        self._progress.update(self._task, completed=seconds, description=doing)


class Playing(Session):
    """One motion is one episode; how the task went is for nobody here to say."""

    def _drive(self, began_s: float) -> tuple[Outcome, Termination]:
        del began_s  # there is no time limit: a pause may last
        self._wait(self._done, math.inf)
        stopped = isinstance(self._judge, Watcher) and self._judge.stopped
        return Outcome.UNLABELLED, Termination.OPERATOR if stopped else Termination.DONE

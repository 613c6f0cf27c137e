"""The whole daemon at full rate with nothing connected: the real supervisor, recorder and control loop."""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from benchmarks.rig import virtual_robot
from benchmarks.stand_ins.chunks import STEP_S
from controller.dictation import RECORDER
from controller.sources import ChunkSource
from controller.supervisor import Supervisor
from controller.wiring.ipc import Node
from controller.wiring.topics import TICKS, topics
from episodes.layout import TICK_RECORD, records_of
from episodes.outcome import Outcome, Termination
from episodes.records import Mode, Order, TickRecord
from spec.robot import Robot

RATE_HZ = 500
STAND_INS = {
    "controller.workers.control_process": "benchmarks.stand_ins.control",
    "controller.workers.camera_process": "benchmarks.stand_ins.camera",
}
_CLOSED_S = 0.3


def full_rate_robot() -> Robot:
    """500 ticks a second and two cameras of 640x480 at 30 pictures a second."""
    size = {
        f"cameras.{name}.{side}": str(n) for name in ("top", "front") for side, n in (("width", 640), ("height", 480))
    }
    return virtual_robot({"control.rate_hz": str(RATE_HZ), **size})


class StandInDaemon(Supervisor):
    """A supervisor whose arm, cameras and policy are stand-ins."""

    def __init__(self, robot: Robot, out: Path, say: Callable[[str], None]) -> None:
        super().__init__(robot, ChunkSource("chunks", "benchmarks.stand_ins.chunks", (), STEP_S), out, say)

    @property
    def namespace(self) -> str:
        """Of its topics."""
        return self._namespace

    def _add(self, name: str, module: str, *arguments: str) -> None:
        super()._add(name, STAND_INS.get(module, module), *arguments)

    def drive(self) -> None:
        """Have the policy drive the arm."""
        self.order(Order.START)
        self.follow(True)
        self.until(lambda _: self.watch.mode is Mode.POLICY)

    def record(self, path: Path) -> None:
        """Begin a recording and wait until it has."""
        assert self.recorder.open(path, {"task": "bench"})
        self.until(lambda said: any(message["kind"] == "opened" for message in said))

    def finish(self) -> dict[str, Any]:
        """End it; returns what the recorder says."""
        self.recorder.close(Outcome.SUCCESS, Termination.DONE, {})
        return next(message for message in self.until(_closed) if message["kind"] == "closed")

    def until(self, done: Callable[[list[dict[str, Any]]], bool], seconds: float = 30.0) -> list[dict[str, Any]]:
        """Let time pass until ``done`` with what the recorder has said since; returns that.

        Raises:
            TimeoutError: it never was.
        """
        said: list[dict[str, Any]] = []
        deadline_s = time.monotonic() + seconds
        while not done(said):
            if time.monotonic() > deadline_s:
                raise TimeoutError(f"the daemon does not go on; see {self.out}/logs")
            said += self.poll()
        return said


class Observer:
    """Reads every tick from outside of the daemon, and so knows what was published last when it is killed."""

    def __init__(self, robot: Robot, namespace: str) -> None:
        self._node = Node(namespace, topics(robot), "observer")
        self._ticks = self._node.subscriber(TICKS, TickRecord)

    def take(self) -> npt.NDArray[Any]:
        """The ticks since the last call: structured array, fields of :class:`TickRecord`."""
        content = self._ticks.drain_bytes()
        return records_of(content) if content else np.zeros(0, dtype=TICK_RECORD)

    def close(self) -> None:
        self._node.close()


def main() -> int:
    """Record short episodes, each time one that is closed and one that stays open until the recorder is killed.

    Tells on standard output, as JSON lines: the namespace, then for each open one its path and the recorder's pid.
    """
    out = Path(sys.argv[1])
    with StandInDaemon(full_rate_robot(), out, lambda line: print(line, file=sys.stderr, flush=True)) as daemon:
        _tell(namespace=daemon.namespace)
        daemon.drive()
        number = 0
        while not daemon.interrupted and os.getppid() != 1:
            daemon.until(lambda _: daemon.recorder.ready)
            daemon.record(daemon.episodes_folder / f"closed-{number:03d}.mcap")
            daemon.until(_after(_CLOSED_S))
            daemon.finish()
            path = daemon.episodes_folder / f"open-{number:03d}.mcap"
            daemon.record(path)
            _tell(path=str(path), recorder=daemon.processes[RECORDER].pid)
            daemon.until(lambda said: any(m["kind"] == "died" for m in said) or daemon.interrupted)
            number += 1
    return 0


def _after(seconds: float) -> Callable[[list[dict[str, Any]]], bool]:
    end_s = time.monotonic() + seconds
    return lambda _: time.monotonic() >= end_s


def _closed(said: list[dict[str, Any]]) -> bool:
    return any(message["kind"] in {"closed", "failed"} for message in said)


def _tell(**facts: object) -> None:
    print(json.dumps(facts), flush=True)


if __name__ == "__main__":
    sys.exit(main())

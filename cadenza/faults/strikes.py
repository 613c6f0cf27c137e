"""What befalls a running daemon: processes killed and stopped; cameras, cable, disk and memory spoilt, and mended."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import time
from collections.abc import Callable, Mapping
from pathlib import Path

from cadenza.faults import rooms
from cadenza.faults.cases import Trouble
from cadenza.faults.kinds import IN_MEMORY, ON_DISK
from controller.dictation import RECORDER
from controller.sources import INFERENCE
from controller.supervisor import TELEOP, Supervisor
from controller.wiring.room import SHARED_MEMORY
from controller.wiring.vigil import CONTROL
from drivers.virtual.client import SimClient

_PROCESSES = {"control": CONTROL, "inference": INFERENCE, "recorder": RECORDER, "teleop": TELEOP}


class Strikes:
    """Faults of one case, on time. All instants are counted from :meth:`begin` [s].

    Args:
        run: the daemon.
        client: its virtual arm.
        disk: where the disk that it records on is mounted.
        troubles: the case's.
    """

    def __init__(self, run: Supervisor, client: SimClient, disk: Path, troubles: tuple[Trouble, ...]) -> None:
        self._run, self._client, self._disk, self._troubles = run, client, disk, troubles
        self._began_s: float | None = None
        self._undo: dict[int, Callable[[], None]] = {}
        self.killed_ns: dict[str, int] = {}
        """When a process was killed [ns], by name."""
        self.struck_ns: dict[int, int] = {}
        """When each fault came [ns], by its place in the case."""
        self._over_ns: dict[int, int] = {}
        self._slept_ns: list[tuple[int, int]] = []

    def before(self) -> None:
        """What can only be done while no episode is open."""
        for index, trouble in enumerate(self._troubles):
            if trouble.kind == "disk_read_only":
                rooms.lock(self._run.episodes_folder)
                self._undo[index] = lambda: rooms.unlock(self._run.episodes_folder)
                self.struck_ns[index] = time.monotonic_ns()

    def look(self) -> bool:
        """Do what is due; True once every fault is over. The first look begins the time."""
        now_s = time.monotonic()
        self._began_s = now_s if self._began_s is None else self._began_s
        since_s = now_s - self._began_s
        for index, trouble in enumerate(self._troubles):
            if index not in self.struck_ns and since_s >= trouble.at_s:
                self.struck_ns[index] = time.monotonic_ns()
                self._strike(index, trouble)
            if index in self._undo and since_s >= trouble.ends_s:
                self._undo.pop(index)()
                self._over_ns[index] = time.monotonic_ns()
        return len(self.struck_ns) == len(self._troubles) and not self._undo

    def was_there(self, index: int, at_ns: int) -> bool:
        """Whether a fault had come by an instant [ns], and was not over yet."""
        return index in self.struck_ns and self.struck_ns[index] <= at_ns <= self._over_ns.get(index, at_ns)

    def watched_s(self, index: int) -> float:
        """For how long a fault was there while the supervisor, which watches the others, was not stopped itself [s]."""
        if index not in self.struck_ns:
            return 0.0
        begins, ends = self.struck_ns[index], self._over_ns.get(index, self.struck_ns[index])
        slept = sum(max(0, min(until, ends) - max(since, begins)) for since, until in self._slept_ns)
        return (ends - begins - slept) * 1e-9

    def mend(self) -> None:
        """Everything well again."""
        while self._undo:
            self._undo.popitem()[1]()
        self._client.clear()

    def _strike(self, index: int, trouble: Trouble) -> None:
        what, _, whom = trouble.kind.partition("_")
        if whom == "supervisor":
            began_ns = time.monotonic_ns()
            _sleep_stopped(trouble.for_s)
            self._slept_ns.append((began_ns, time.monotonic_ns()))
        elif what in {"kill", "stop", "hang"}:
            self._strike_process(index, what, self._process(whom, trouble.values))
        elif trouble.kind in ON_DISK:
            rooms.fill(self._disk)
            self._undo[index] = lambda: rooms.empty(self._disk)
        elif trouble.kind in IN_MEMORY:
            rooms.fill(SHARED_MEMORY)
            self._undo[index] = lambda: rooms.empty(SHARED_MEMORY)
        else:
            self._inject(index, trouble)

    def _process(self, whom: str, values: Mapping[str, int]) -> str:
        if whom != "camera":
            return _PROCESSES[whom]
        cameras = sorted(name for name in self._run.processes if name.startswith("camera"))
        return cameras[values["which"] % len(cameras)]

    def _strike_process(self, index: int, what: str, name: str) -> None:
        process = self._run.processes.get(name)
        pid = None if process is None else process.pid
        if pid is None:
            return
        if what == "kill":
            self.killed_ns[name] = time.monotonic_ns()
            _send(pid, signal.SIGKILL)
        else:
            _send(pid, signal.SIGSTOP)
            self._undo[index] = lambda: self._wake(name, pid)

    def _wake(self, name: str, pid: int) -> None:
        """Unless it was ended meanwhile: its number may be another's by now."""
        if self._run.processes[name].pid == pid:
            _send(pid, signal.SIGCONT)

    def _inject(self, index: int, trouble: Trouble) -> None:
        cameras = list(self._run.robot.cameras)
        camera = cameras[trouble.values["which"] % len(cameras)] if cameras else ""
        on, off = {
            "unplug": (True, False),
            "loss": (trouble.values.get("share", 0.0), 0.0),
            "freeze_camera": (camera, []),
            "drop_camera": (camera, []),
        }[trouble.kind]
        self._client.inject({trouble.kind: on})
        self._undo[index] = lambda: self._client.inject({trouble.kind: off})


def _send(pid: int, number: int) -> None:
    with contextlib.suppress(ProcessLookupError):  # somebody has ended it meanwhile
        os.kill(pid, number)


def _sleep_stopped(seconds: float) -> None:
    """Be stopped by SIGSTOP, and woken by another process after that time."""
    with subprocess.Popen(["sh", "-c", f"sleep {seconds:.3f}; kill -CONT {os.getpid()}"]):
        os.kill(os.getpid(), signal.SIGSTOP)


def left_over(folder: Path) -> list[Path]:
    """Recordings that were begun and never closed."""
    return sorted(folder.glob("*.part"))

"""The processes below a supervisor, all together: started, listened to, started again, ended."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from controller.wiring.process import Process
from spec.errors import DeviceError

_MEASURE_S = 1.0


@dataclass(frozen=True, slots=True)
class Change:
    """A process died or was started again."""

    kind: str
    """``died`` or ``restarted``."""
    name: str
    how: str = ""
    """It came to its end, in words."""
    refused: bool = False
    """It has said itself why it cannot go on, and is not started again."""


class Crew:
    """Processes by name, in the order in which they were added.

    Args:
        common: what every one of them is told on its command line.
        logs: folder for what they write to standard error.
    """

    def __init__(self, common: Sequence[str], logs: Path) -> None:
        self.processes: dict[str, Process] = {}
        self.peak_mb: dict[str, float] = {}
        """Most memory each was seen to use [MB]."""
        self._deaths: dict[str, str] = {}
        self._common, self._logs = tuple(common), logs
        self._measure_s = 0.0

    def add(self, name: str, module: str, *arguments: str) -> None:
        """One more, not yet started."""
        log = self._logs / f"{name.replace(' ', '-')}.log"
        self.processes[name] = Process(name, module, (*self._common, *arguments), log)

    def brief(self, name: str, *arguments: str) -> None:
        """What the successor of this one is told, should it need one; a refusal is forgotten."""
        process = self.processes[name]
        process.arguments, process.refusal = (*self._common, *arguments), None

    def start(self) -> None:
        """Start all; does not wait."""
        for process in self.processes.values():
            process.start()

    def listen(self) -> list[tuple[str, dict[str, Any]]]:
        """What they have said since the last call, by name; never blocks."""
        return [(process.name, message) for process in self.processes.values() for message in process.listen()]

    def is_ready(self, name: str) -> bool:
        """Whether it lives and takes orders."""
        process = self.processes[name]
        return process.alive and process.ready is not None

    def tell(self, name: str, **command: Any) -> bool:
        """Have one do something; False: it is gone."""
        return self.processes[name].tell(**command)

    def late(self) -> Process | None:
        """The first that has not said yet that it is ready.

        Raises:
            DeviceError: one cannot do its work; says which and why.
        """
        for process in self.processes.values():
            if not process.alive and process.ready is None:
                process.listen()
                raise DeviceError(process.refusal or f"{process.name}: {process.ending()}")
        return next((process for process in self.processes.values() if process.ready is None), None)

    def revive(self, never: str) -> list[Change]:
        """Start the dead again that may be, but never the one of that name; returns what has changed."""
        changes: list[Change] = []
        for process in self.processes.values():
            if process.alive:
                continue
            if process.status is not None and process.ready is not None:
                how = self._deaths[process.name] = process.ending()
                changes.append(Change("died", process.name, how, process.refusal is not None))
                process.ready = None
            if process.name != never and process.may_restart():
                process.restart()
                changes.append(Change("restarted", process.name))
        return changes

    def measure(self) -> None:
        """Look how much memory they use, if it is time to."""
        now_s = time.monotonic()
        if now_s >= self._measure_s:
            self._measure_s = now_s + _MEASURE_S
            for name, process in self.processes.items():
                self.peak_mb[name] = max(self.peak_mb.get(name, 0.0), process.memory_mb())

    def end(self, timeout_s: float) -> None:
        """End all, the last added first; those that do not end in time are killed."""
        for process in reversed(self.processes.values()):
            process.terminate()
        deadline = time.monotonic() + timeout_s
        for process in self.processes.values():
            process.wait(max(0.0, deadline - time.monotonic()))

    def report(self) -> dict[str, Any]:
        """JSON-able."""
        return {
            "restarts": {name: process.restarts for name, process in self.processes.items() if process.restarts},
            "deaths": self._deaths,  # of each the newest
            "peak_memory_mb": self.peak_mb,
            "processes": {name: process.report for name, process in self.processes.items()},
        }

"""Plays cases side by side in processes of their own, and keeps what became of each."""

from __future__ import annotations

import json
import multiprocessing
import os
import signal
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any, Self, TypeVar

from cadenza.faults.cases import Case
from cadenza.faults.playing import play
from cadenza.faults.shrinking import shrunk
from cadenza.faults.verdicts import Latency, judged, latencies
from spec.robot import Robot

_Item = TypeVar("_Item")

_AHEAD = 4
"""Cases handed out at a time for each process: enough that none waits, few enough that Ctrl-C is prompt."""


@dataclass(frozen=True, slots=True)
class Result:
    """What became of one case."""

    case: Case
    broken: Mapping[str, Sequence[str]]
    """What is wrong, by verdict; empty where all is well."""
    latencies: tuple[Latency, ...]
    seconds: float
    """Of robot time [s]."""
    recovery_ticks: int | None = None
    """From the operator's word until the policy drove; None: nothing had to be said, or it never did."""

    def as_dict(self) -> dict[str, Any]:
        """JSON-able; :meth:`of` takes it back."""
        return {
            "case": self.case.as_dict(),
            "broken": {name: list(reasons) for name, reasons in self.broken.items()},
            "latencies": [list(one) for one in self.latencies],
            "seconds": self.seconds,
            "recovery_ticks": self.recovery_ticks,
        }

    @classmethod
    def of(cls, document: Mapping[str, Any]) -> Self:
        return cls(
            Case.of(document["case"]),
            document["broken"],
            tuple(Latency(*one) for one in document["latencies"]),
            document["seconds"],
            document["recovery_ticks"],
        )


class Journal:
    """One line a case on disk, so that a campaign that was broken off goes on where it was."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def read(self) -> list[Result]:
        """Those on disk; the last line may have been cut off."""
        if not self._path.exists():
            return []
        found = []
        for line in self._path.read_text(encoding="utf-8").splitlines():
            try:
                found.append(Result.of(json.loads(line)))
            except (KeyError, TypeError, ValueError):
                continue
        return found

    def add(self, result: Result) -> None:
        """Raises OSError: as the file system says."""
        try:
            with self._path.open("a", encoding="utf-8") as file:
                file.write(json.dumps(result.as_dict()) + "\n")
        except OSError as error:  # a full disk says no name
            raise OSError(error.errno, error.strerror, str(self._path)) from None


def result_of(case: Case, robot: Robot) -> Result:
    """Play and judge one lock-step case."""
    evidence = play(case, robot)
    ticks = None
    if evidence.word_s is not None and evidence.again_s is not None:
        ticks = round((evidence.again_s - evidence.word_s) / evidence.tempo.period_s)
    return Result(case, judged(evidence), tuple(latencies(evidence)), float(evidence.time_s[-1]), ticks)


def smallest(result: Result, robot: Robot) -> Result:
    """The smallest case that breaks one of the verdicts that ``result`` breaks."""
    verdict = next(iter(result.broken))
    small = shrunk(result.case, lambda case: verdict in result_of(case, robot).broken)
    return result_of(small, robot)


def play_all(cases: Sequence[Case], robot: Robot, processes: int, done: Callable[[Result], None]) -> None:
    """Play lock-step cases, ``processes`` at a time; ``done`` hears of each as it ends. Ctrl-C comes out at once."""
    for result in _side_by_side(result_of, cases, robot, processes):
        done(result)


def shrink_all(results: Sequence[Result], robot: Robot, processes: int) -> list[Result]:
    """The smallest case of each."""
    return list(_side_by_side(smallest, results, robot, processes))


def _side_by_side(
    work: Callable[[_Item, Robot], Result], items: Sequence[_Item], robot: Robot, processes: int
) -> Iterator[Result]:
    left = iter(items)
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(processes, mp_context=context, initializer=_give_way) as pool:
        running: set[Future[Result]] = set()
        try:
            while True:
                room = _AHEAD * processes - len(running)
                running |= {pool.submit(work, item, robot) for item in islice(left, room)}
                if not running:
                    return
                ended, running = wait(running, return_when=FIRST_COMPLETED)
                for future in ended:
                    yield future.result()
        finally:
            pool.shutdown(wait=True, cancel_futures=True)


def _give_way() -> None:
    """Ctrl-C is the parent's to act on, and what runs in real time goes first."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    os.nice(max(0, 10 - os.getpriority(os.PRIO_PROCESS, 0)))

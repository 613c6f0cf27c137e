"""What the timing benchmarks share: the loop on a virtual arm, in a process of its own so that it is alone there."""

from __future__ import annotations

import math
import multiprocessing
import time
from collections.abc import Callable, Mapping
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import ParamSpec, TypeVar

import numpy as np

from controller.clock import MonotonicClock
from episodes.records import Flag, Mode, Order, TickRecord
from spec.arrays import Float, frozen
from spec.chunk import Chunk
from spec.robot import Robot
from spec.robotfile import load_robot
from spec.teleop import TeleopSample

ROBOT_FILE = Path(__file__).parents[1] / "robots" / "virtual.yaml"
STEP_NS = 100_000_000
CHUNK = 16

_P = ParamSpec("_P")
_T = TypeVar("_T")


def virtual_robot(overrides: Mapping[str, str]) -> Robot:
    """The shipped virtual robot with some fields set otherwise."""
    return load_robot(ROBOT_FILE, overrides)


def apart(function: Callable[_P, _T], *args: _P.args, **kwargs: _P.kwargs) -> _T:
    """Call in a fresh process: real-time settings cannot be undone, and imports of others would be measured too."""
    with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn")) as pool:
        return pool.submit(function, *args, **kwargs).result()


class SinePolicy:
    """An inbox that starts the arm and then sends a chunk of a slow sine every policy step, so that as many chunks are
    alive at once as one is long: the most that temporal ensembling ever has to average."""

    def __init__(self, robot: Robot, latency_ns: int = 40_000_000, amplitude: float = 0.1) -> None:
        self._clock = MonotonicClock()
        self._home = robot.limits().home
        self._amplitude, self._latency_ns = amplitude, latency_ns
        self._started = False
        self._sequence = 0
        self._next_ns = self._clock.now_ns()
        self._waiting: list[tuple[int, Chunk]] = []

    def order(self) -> Order | None:
        started, self._started = self._started, True
        return None if started else Order.START

    def human(self) -> TeleopSample | None:
        return None

    def chunk(self) -> Chunk | None:
        now = self._clock.now_ns()
        if now >= self._next_ns:  # observed at evenly spaced instants, as the inference process does
            self._waiting.append((self._next_ns + self._latency_ns, self._made(self._next_ns)))
            self._next_ns += STEP_NS
        if self._waiting and self._waiting[0][0] <= now:
            return self._waiting.pop(0)[1]
        return None

    def _made(self, now_ns: int) -> Chunk:
        due = (now_ns + STEP_NS * np.arange(1, CHUNK + 1)) * 1e-9
        wave = self._amplitude * np.sin(2.0 * math.pi * 0.4 * due)
        self._sequence += 1
        return Chunk(self._sequence, now_ns, STEP_NS, frozen(self._home + wave[:, None]))


class Ledger:
    """Keeps the times of every tick while the policy drives. Preallocated: it must not disturb what it measures."""

    COLUMNS = ("deadline_ns", "woke_ns", "read_ns", "decided_ns", "written_ns", "skipped", "stale")

    def __init__(self, most: int) -> None:
        self._rows = np.zeros((most, len(self.COLUMNS)), dtype=np.int64)
        self._count = 0

    def __call__(self, record: TickRecord) -> None:
        if record.mode != Mode.POLICY or self._count == len(self._rows):
            return
        self._rows[self._count] = (
            record.deadline_ns,
            record.woke_ns,
            record.read_ns,
            record.decided_ns,
            record.written_ns,
            record.skipped,
            bool(record.flags & Flag.STALE_JOINT),
        )
        self._count += 1

    def column(self, name: str) -> Float:
        """One column over all ticks kept, as float."""
        return np.asarray(self._rows[: self._count, self.COLUMNS.index(name)], dtype=np.float64)

    def __len__(self) -> int:
        return self._count


def percentiles(values: Float) -> dict[str, float]:
    """p50, p99, p99.9 and the largest."""
    if not len(values):
        return {}
    return {
        "p50": float(np.percentile(values, 50)),
        "p99": float(np.percentile(values, 99)),
        "p99_9": float(np.percentile(values, 99.9)),
        "max": float(values.max()),
    }


def settle() -> None:
    """Let what was just started finish starting."""
    time.sleep(0.5)

"""Sees a run from within its supervisor's process and from beside it, and puts what it sees on record."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict

import numpy as np

from cadenza.soaking.histogram import Histogram
from cadenza.soaking.journal import Journal
from cadenza.soaking.processes import Usage, busy_s, shared_memory, usage
from controller.supervisor import Supervisor
from controller.wiring.ipc import Node
from controller.wiring.topics import TICKS, topics
from episodes.layout import records_of
from episodes.records import Flag, TickRecord

BLOCKS = 60
"""Stretches of time into which a soak is cut: a minute each where it lasts an hour."""
_SAMPLES = 6
"""Looks at memory in each of them."""
_LOOK_S = 0.1
_ENGAGED = int(Flag.ENGAGED | Flag.ENGAGE_FAILED)


class Witness:
    """Call :meth:`look` whenever there is time; it looks no more often than it needs to.

    Args:
        run: entered.
        namespace: of its topics.
        beside: processes by name that belong to no supervisor, such as the virtual arm.
        journal: takes what is seen.
        block_s: length of one stretch of time [s].
    """

    def __init__(
        self, run: Supervisor, namespace: str, beside: Mapping[str, int], journal: Journal, block_s: float
    ) -> None:
        self._run, self._namespace, self._beside, self._journal = run, namespace, beside, journal
        self._block_s, self._sample_s = block_s, block_s / _SAMPLES
        self._node = Node(namespace, topics(run.robot), "soak")
        self._ticks = self._node.subscriber(TICKS, TickRecord)
        self.recent = Histogram()
        """Lateness of the last whole stretch, or of the first one so far."""
        self._late, self._missed, self._lost, self._max_us = Histogram(), 0, 0, 0.0
        self._tick: int | None = None
        self._weights = 0
        self._next_look_s = 0.0
        self._next_sample_s = 0.0
        self._next_block_s = journal.now_s() + block_s
        self._busy_s, self._ours_s = busy_s(), self._cpu_s()

    def look(self) -> None:
        """Take in what has come; write down what is due."""
        now_s = self._journal.now_s()
        if now_s < self._next_look_s:
            return
        self._next_look_s = now_s + _LOOK_S
        self._count()
        if now_s >= self._next_sample_s:
            self._next_sample_s = now_s + self._sample_s
            self._sample()
        if now_s >= self._next_block_s:
            self._next_block_s += self._block_s
            self._end_block()

    def close(self) -> None:
        """The last stretch counts where at least half of it has passed."""
        self._count()
        if self._next_block_s - self._journal.now_s() < self._block_s / 2:
            self._end_block()
        self._node.close()

    def _count(self) -> None:
        content = self._ticks.drain_bytes()
        if not content:
            return
        ticks = records_of(content)
        late_us = (ticks["woke_ns"] - ticks["deadline_ns"]) * 1e-3
        self._late.add(late_us)
        self._missed += int(ticks["skipped"].sum())
        self._max_us = max(self._max_us, float(late_us.max()))
        numbers = ticks["tick"].astype(np.int64)
        before = numbers[0] - 1 - int(ticks["skipped"][0]) if self._tick is None else self._tick
        missing = np.diff(numbers, prepend=before) - 1 - ticks["skipped"]
        missing[ticks["flags"] & _ENGAGED != 0] = 0  # engaging takes as many periods as it takes
        self._lost += int(missing[missing > 0].sum())
        self._tick = int(numbers[-1])
        self._heed_weights(int(ticks["weights"][-1]))

    def _heed_weights(self, weights: int) -> None:
        """Chunks of other weights drive. Zero: there is no chunk in use just now."""
        if weights in {0, self._weights}:
            return
        if self._weights:
            self._journal.note("swap", weights=weights)
        self._weights = weights

    def _sample(self) -> None:
        segments, shared_mb = shared_memory(self._namespace)
        tally = self._run.watch.tally
        self._journal.note(
            "sample",
            processes={name: asdict(used) for name, used in self._usages().items()},
            segments=segments,
            shared_mb=shared_mb,
            faults=len(tally.faults),
            bus_errors=tally.bus_errors,
            restarts={name: process.restarts for name, process in self._run.processes.items() if process.restarts},
        )

    def _end_block(self) -> None:
        busy, ours = busy_s(), self._cpu_s()
        self._journal.note(
            "block",
            seconds=self._block_s,
            missed=self._missed,
            lost=self._lost,
            max_us=self._max_us,
            bins=self._late.as_dict(),
            ours=(ours - self._ours_s) / self._block_s,
            others=max(0.0, busy - self._busy_s - (ours - self._ours_s)) / self._block_s,
        )
        self.recent = self._late
        self._late, self._missed, self._lost, self._max_us = Histogram(), 0, 0, 0.0
        self._busy_s, self._ours_s = busy, ours

    def _usages(self) -> dict[str, Usage]:
        pids = {**{name: process.pid for name, process in self._run.processes.items()}, **self._beside}
        found = {name: usage(pid) for name, pid in pids.items() if pid is not None}
        return {name: used for name, used in found.items() if used is not None}

    def _cpu_s(self) -> float:
        """Of all processes that are ours [s]; a restarted one begins anew, which no sound soak has."""
        return sum(used.cpu_s for used in self._usages().values())

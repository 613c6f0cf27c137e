"""The decisions of an episode again: the same states and inputs must give the same commands, to the last bit.

A tick record holds everything ``decide`` was told in that tick and everything it answered. A replay begins behind a
state on record (see :mod:`controller.snapshot`), feeds tick after tick, and compares. Where ticks are missing it goes
on behind the next state on record.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

from controller.decide import Decide
from controller.logged_tick import Difference, arrival, compare, engaged_before, inputs_of
from controller.recorded import recorded_robot
from controller.snapshot import STATE, restored, written
from controller.state import Command, State
from episodes.reader import Episode
from spec.arrays import frozen
from spec.chunk import Chunk
from spec.errors import CadenzaError
from spec.robot import Control


@dataclass(frozen=True, slots=True)
class Verdict:
    """What became of a replay."""

    ticks: int
    """On record."""
    before: int
    """Of them, before the first state on record."""
    compared: int
    differing: int
    """Of those compared."""
    states: int
    """States on record that were compared as a whole."""
    first: Difference | None
    gaps: tuple[str, ...]
    """What is missing on record, one line each, and how many ticks could not be compared on account of it."""

    @property
    def equal(self) -> bool:
        """Every tick from the first state on was compared, and is bit-equal."""
        return self.first is None and not self.gaps and self.compared > 0


def replay(episode: Episode, progress: Callable[[], None] = lambda: None) -> Verdict:
    """Decide every tick of an episode again.

    Args:
        episode: pictures are not needed.
        progress: called after each tick.

    Raises:
        CadenzaError: nothing to begin with: no ticks, no state on record, no robot file.
    """
    ticks = episode.ticks
    if not len(ticks):
        raise CadenzaError(f"{episode.path}: no ticks")
    with recorded_robot(episode) as robot:
        if robot.model is None and (robot.workspace is not None or robot.collision is not None):
            raise CadenzaError(f"{episode.path}: the model of the arm is not in it; its safety envelope needs it")
        decide = Decide.of(robot)
    run = _Run(episode, decide, robot.control, progress)
    return run.verdict()


class _Run:
    def __init__(self, episode: Episode, decide: Decide, control: Control, progress: Callable[[], None]) -> None:
        self._ticks, self._joints = episode.ticks, episode.joints
        self._decide, self._control, self._progress = decide, control, progress
        self._path = episode.path
        self._chunks = {
            chunk.sequence: Chunk(
                chunk.sequence, chunk.observed_ns, chunk.step_ns, frozen(chunk.targets), chunk.weights
            )
            for chunk in episode.chunks
        }
        self._states = {_tick_of(event.text): event.text for event in episode.events if event.kind == STATE}
        self._compared = self._differing = self._states_compared = 0
        self._first: Difference | None = None
        self._gaps: list[str] = []
        self._unusable: list[str] = []

    def verdict(self) -> Verdict:
        numbers = self._ticks["tick"].astype(np.int64)
        row, before = 0, None
        for start, state in self._starts(numbers):
            if start < row:
                continue  # passed already, and compared as a whole
            if before is None:
                before = start
            elif start > row:
                self._gaps[-1] += f"; {start - row} ticks behind it could not be compared"
            row = self._from(start, state)
            if row == len(numbers):
                break
        if before is None:
            raise CadenzaError(
                f"{self._path}: no state on record to begin with"
                + (f" ({self._unusable[0]})" if self._unusable else "")
            )
        if row < len(numbers):
            self._gaps[-1] += f"; {len(numbers) - row} ticks behind it could not be compared"
        return Verdict(
            len(numbers),
            before,
            self._compared,
            self._differing,
            self._states_compared,
            self._first,
            tuple(self._gaps),
        )

    def _starts(self, numbers: Any) -> Iterator[tuple[int, State]]:
        """Rows from which a replay can run, each with the state before it."""
        skipped = self._ticks["skipped"].astype(np.int64)
        if numbers[0] - skipped[0] == 1:
            yield 0, self._decide.initial()  # the very first tick of a run
        for tick, text in sorted(self._states.items()):
            if tick < 0:
                self._unusable.append("a state on record cannot be read")
                continue
            row = int(np.searchsorted(numbers, tick, side="right"))
            if row >= len(numbers) or self._lost(tick, row):
                continue
            try:
                _, state = restored(text, self._chunks, self._control)
            except CadenzaError as error:
                self._unusable.append(str(error))
                continue
            yield row, state

    def _lost(self, before: int, row: int) -> int:
        """How many ticks are missing between the number ``before`` and a row."""
        tick = self._ticks[row]
        return max(0, int(tick["tick"]) - before - 1 - int(tick["skipped"]))

    def _from(self, row: int, state: State) -> int:
        """Run until the end or the next gap; returns the row behind."""
        begin, number = row, int(self._ticks["tick"][row]) - 1
        while row < len(self._ticks):
            tick = self._ticks[row]
            if row > begin and (lost := self._lost(number, row)):
                self._gaps.append(f"tick {number + 1}: {lost} ticks are not on record")
                return row
            number = int(tick["tick"])
            arrived = arrival(tick)
            chunk = None if arrived is None else self._chunks.get(arrived)
            if arrived is not None and chunk is None:
                self._gaps.append(f"tick {number}: chunk {arrived} came, but is not on record")
                return row + 1
            state, command = self._decide(state, inputs_of(tick, chunk), int(tick["now_ns"]))
            self._compare(row, tick, command)
            self._compare_state(number, state)
            row += 1
            self._progress()
        return row

    def _compare(self, row: int, tick: Any, command: Command) -> None:
        self._compared += 1
        engaged_next = command.engage
        if row + 1 < len(self._ticks) and not self._lost(int(tick["tick"]), row + 1):
            engaged_next = engaged_before(self._ticks[row + 1])
        difference = compare(tick, command, engaged_next, self._joints)
        if difference is not None:
            self._differing += 1
            self._first = self._first or difference

    def _compare_state(self, number: int, state: State) -> None:
        logged = self._states.get(number)
        if logged is None:
            return
        self._states_compared += 1
        again = written(number, state)
        if again != logged and self._first is None:
            at = next((k for k, (a, b) in enumerate(zip(logged, again, strict=False)) if a != b), 0)
            near = slice(max(0, at - 20), at + 30)
            self._first = Difference(number, "state", f"...{logged[near]}...", f"...{again[near]}...")


def _tick_of(text: str) -> int:
    """Which tick left the state; an unreadable one counts as none, and is told of when it is needed."""
    try:
        return int(json.loads(text)["tick"])
    except (ValueError, TypeError, KeyError):
        return -1

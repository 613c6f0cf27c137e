"""The decisions of an episode again: the same states and inputs must give the same commands, to the last bit.

A tick record holds everything ``decide`` was told in that tick and everything it answered. A replay begins behind a
state on record (see :mod:`controller.snapshot`), feeds tick after tick, and compares. Where ticks are missing it goes
on behind the next state on record.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from controller.authority import Engagement
from controller.decide import Decide
from controller.recorded import recorded_robot
from controller.snapshot import STATE, restored, written
from controller.state import Command, Inputs, State
from drivers.arm import BusFault
from episodes.reader import Episode
from episodes.records import Driver, Flag, Mode, Order
from spec.arrays import Float, frozen
from spec.chunk import Chunk
from spec.errors import CadenzaError
from spec.robot import Control
from spec.teleop import TeleopSample

# What the loop adds to the flags of a decision.
_NOT_DECIDED = int(Flag.LATE | Flag.WRITE_FAILED)
_CAME = int(Flag.NEW_CHUNK | Flag.CHUNK_REFUSED)
_ENGAGEMENT = int(Flag.ENGAGED | Flag.ENGAGE_FAILED)
_VECTORS = ("asked", "limited", "limited_velocity", "limited_acceleration", "policy")
ENGAGE, STATE_ON_RECORD = "engage", "state"


@dataclass(frozen=True, slots=True)
class Difference:
    """The first thing that came out otherwise."""

    tick: int
    field: str
    """Of the tick record, with the joint's name where it has one; ``engage``: whether the servos were to be engaged
    after it; ``state``: the whole state behind it."""
    logged: str
    recomputed: str

    def __str__(self) -> str:
        return f"tick {self.tick}: {self.field}: logged {self.logged}, recomputed {self.recomputed}"


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
        if robot.workspace is not None and robot.model is None:
            raise CadenzaError(f"{episode.path}: the model of the arm is not in it; its workspace box needs it")
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
        if int(tick["flags"]) & _ENGAGEMENT:
            return 0  # engaging the servos took as many periods as it took
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
            inputs = self._inputs(tick)
            if inputs is None:
                self._gaps.append(f"tick {number}: chunk {int(tick['arrived'])} came, but is not on record")
                return row + 1
            state, command = self._decide(state, inputs, int(tick["now_ns"]))
            self._compare(row, tick, command)
            self._compare_state(number, state)
            row += 1
            self._progress()
        return row

    def _inputs(self, tick: Any) -> Inputs | None:
        """What that tick was told; None where a chunk it was told of is not on record."""
        flags = int(tick["flags"])
        chunk = None
        if flags & _CAME and (chunk := self._chunks.get(int(tick["arrived"]))) is None:
            return None
        engagement = Engagement.NONE
        if flags & _ENGAGEMENT:
            engagement = Engagement.DONE if flags & Flag.ENGAGED else Engagement.FAILED
        return Inputs(
            tick["position"],
            tick["velocity"],
            tick["effort"],
            tick["fresh"].astype(np.bool_),
            BusFault(int(tick["read_fault"])),
            chunk,
            Order(int(tick["order"])) if flags & Flag.ORDERED else None,
            engagement,
            bool(flags & Flag.UNSENT),
            _sample(tick) if flags & Flag.NEW_TELEOP else None,
        )

    def _compare(self, row: int, tick: Any, command: Command) -> None:
        self._compared += 1
        engaged_next = command.engage
        if row + 1 < len(self._ticks):
            engaged_next = bool(int(self._ticks["flags"][row + 1]) & _ENGAGEMENT)
        difference = _difference(tick, command, engaged_next, self._joints)
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
            self._first = Difference(number, STATE_ON_RECORD, f"...{logged[near]}...", f"...{again[near]}...")


def _tick_of(text: str) -> int:
    """Which tick left the state; an unreadable one counts as none, and is told of when it is needed."""
    try:
        return int(json.loads(text)["tick"])
    except (ValueError, TypeError, KeyError):
        return -1


def _sample(tick: Any) -> TeleopSample:
    return TeleopSample(
        int(tick["teleop"]),
        int(tick["teleop_ns"]),
        tuple(tick["human"].tolist()),
        tuple(tick["human_velocity"].tolist()),
        tuple(tick["human_effort"].tolist()),
        tuple(tick["human_goal"].tolist()),
        int(tick["buttons"]),
    )


def _difference(tick: Any, command: Command, engaged_next: bool, joints: tuple[str, ...]) -> Difference | None:
    """The first field of a tick that came out otherwise."""
    number = int(tick["tick"])
    flags = int(tick["flags"]) & ~_NOT_DECIDED
    if int(tick["mode"]) != command.mode:
        return Difference(number, "mode", Mode(int(tick["mode"])).name, command.mode.name)
    if flags != command.flags:
        return Difference(number, "flags", _flags(flags), _flags(command.flags))
    if int(tick["driver"]) != command.driver:
        return Difference(number, "driver", Driver(int(tick["driver"])).name, command.driver.name)
    for name, logged, again in (
        ("chunk", int(tick["chunk"]), command.chunk),
        ("weights", int(tick["weights"]), command.weights),
        ("alpha", float(tick["alpha"]), command.alpha),
        (ENGAGE, engaged_next, command.engage),
    ):
        if logged != again:
            return Difference(number, name, repr(logged), repr(again))
    for name, vector in _vectors(command).items():
        values = np.full(len(joints), np.nan) if vector is None else np.array(vector)
        if (joint := _first_other(tick[name], values)) is not None:
            logged_value, value = float(tick[name][joint]), float(values[joint])
            return Difference(number, f"{name} of {joints[joint]}", repr(logged_value), repr(value))
    return None


def _vectors(command: Command) -> Mapping[str, tuple[float, ...] | None]:
    commanded = command.commanded
    if commanded is None:
        return dict.fromkeys(_VECTORS) | {"policy": command.policy}
    motion = (command.asked, commanded.position, commanded.velocity, commanded.acceleration, command.policy)
    return dict(zip(_VECTORS, motion, strict=True))


def _first_other(logged: Float, again: Float) -> int | None:
    """The first joint whose bits differ. One NaN is as good as another."""
    same = (logged.view(np.int64) == again.view(np.int64)) | (np.isnan(logged) & np.isnan(again))
    return None if same.all() else int(np.argmin(same))


def _flags(flags: int) -> str:
    return " ".join(str(flag.name) for flag in Flag if flags & flag) or "none"

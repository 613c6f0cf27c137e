"""The ladder as one table: what goes wrong under the policy, what shows it in which tick, and what ends it.

Ticks are counted from the first one that it touches. The bounds are those of controller.authority.Bounds for this
robot: the arm brakes after 10 ticks of silence, engages anew after 15, a fault is latched after 100; the tail of a late
chunk is followed for 300 ms, 60 ticks.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pytest
from controller_plant import STEP_NS, SimulatedArm, chunk, sine
from motion_checks import check_motion
from recorded_life import Life

from controller.clock import VirtualClock
from controller.replay import replay
from drivers.arm import BusFault, Reading
from episodes.reader import read_episode
from episodes.records import Flag, Mode, Order
from spec.chunk import Chunk
from spec.teleop import TeleopSample

BEGIN, CLEAR, START, END = 200, 330, 340, 600
"""Ticks of the run: something goes wrong; the operator says that the cause is gone; and starts again."""
PERIOD_NS = 5_000_000

Sign = Flag | Mode
ITSELF, WORD = "by itself", "the operator's word"


class Arm(SimulatedArm):
    """Has its fate before each tick, and can also measure no number where nobody steers by it."""

    dizzy = False
    fate: Callable[[], None]

    def read(self, deadline_ns: int, meanwhile: Callable[[], None] | None = None) -> Reading:
        self.fate()
        reading = super().read(deadline_ns, meanwhile)
        if self.dizzy:
            reading.velocity[:], reading.effort[:] = math.nan, math.inf
        return reading


class Ordeal(Life):
    """Driven by a policy that sends a chunk every 20 ticks, until something goes wrong."""

    def __init__(self, rung: Rung) -> None:
        self.rung = rung
        word = {CLEAR: Order.CLEAR_FAULT, START: Order.START} if rung.ends == WORD else {}
        super().__init__(0, {3: Order.START, **word}, calm=True)
        self.spoil: Callable[[Chunk], Chunk | None] = lambda made: made
        self.delay = 0
        self.due: list[tuple[int, Chunk]] = []

    def _arm(self, clock: VirtualClock) -> SimulatedArm:
        arm = Arm(clock, np.array([0.1, 0.3]))
        arm.fate = self._fate
        return arm

    def _fate(self) -> None:
        if self._calls == BEGIN - 1:
            self.rung.harm(self)
        if self._calls == BEGIN - 1 + self.rung.lasts:
            self._heal()

    def _heal(self) -> None:
        arm = self.arm
        arm.silent, arm.nan, arm.gone = set(), set(), False
        arm.read_fault = arm.write_fault = BusFault.NONE
        assert isinstance(arm, Arm)
        arm.dizzy, self.delay, self.spoil = False, 0, lambda made: made

    def chunk(self) -> Chunk | None:
        if self._calls % 20 == 0:
            made = self.spoil(chunk(len(self.chunks), self.clock.now_ns(), sine(0.3)))
            if made is not None:
                self.chunks.append(made)
                self.due.append((self._calls + self.delay, made))
        return self.due.pop(0)[1] if self.due and self.due[0][0] <= self._calls else None

    def human(self) -> TeleopSample | None:
        return None

    def first(self, sign: Sign) -> int | None:
        """The tick, counted from 1 at the first that was touched, that shows it first; before anybody intervenes."""
        for number, tick in enumerate(self.ticks[BEGIN - 1 : CLEAR], 1):
            if tick.flags & sign if isinstance(sign, Flag) else tick.mode == sign:
                return number
        return None


@dataclass(frozen=True)
class Rung:
    name: str
    harm: Callable[[Ordeal], None]
    lasts: int
    """Ticks."""
    seen: dict[Sign, int]
    """What shows it, first in which tick."""
    never: tuple[Sign, ...]
    ends: str = ITSELF


def _arm(**what: object) -> Callable[[Ordeal], None]:
    def harm(life: Ordeal) -> None:
        for name, value in what.items():
            setattr(life.arm, name, value)

    return harm


def _policy(spoil: Callable[[Chunk], Chunk | None] = lambda made: made, delay: int = 0) -> Callable[[Ordeal], None]:
    def harm(life: Ordeal) -> None:
        life.spoil, life.delay = spoil, delay

    return harm


def _filled(value: float) -> Callable[[Chunk], Chunk]:
    return lambda made: replace(made, targets=np.full((10, 2), value))


STALE, NONFINITE, LATE, UNSENT = Flag.STALE_JOINT, Flag.NONFINITE, Flag.LATE, Flag.UNSENT
REFUSED, TAIL, ENGAGED, UNWRITTEN = Flag.CHUNK_REFUSED, Flag.TAIL, Flag.ENGAGED, Flag.WRITE_FAILED
HOLD, FAULT = Mode.HOLD, Mode.FAULT
NO_CHUNK = {TAIL: 22, HOLD: 82}
"""The last one came 20 ticks before."""

TABLE = [
    Rung("a lost packet", _arm(silent={1}), 1, {STALE: 1}, (HOLD, FAULT)),
    Rung("a servo silent for 9 ticks", _arm(silent={1}), 9, {STALE: 1}, (HOLD, FAULT)),
    Rung("a servo silent for 14 ticks", _arm(silent={1}), 14, {STALE: 1, HOLD: 10}, (ENGAGED, FAULT)),
    Rung("a servo silent for 99 ticks", _arm(silent={1}), 99, {HOLD: 10, ENGAGED: 101}, (FAULT,)),
    Rung("a servo silent for good", _arm(silent={1}), 120, {HOLD: 10, FAULT: 100}, (), WORD),
    Rung("all servos silent for good", _arm(silent={0, 1}), 120, {HOLD: 10, FAULT: 100}, (), WORD),
    Rung("the port gone", _arm(gone=True), 100, {FAULT: 1}, (HOLD,), WORD),
    Rung("a joint that measures no number", _arm(nan={0}), 120, {NONFINITE: 1, HOLD: 10, FAULT: 100}, (), WORD),
    Rung("velocity and effort that are no numbers", _arm(dizzy=True), 100, {}, (NONFINITE, HOLD, FAULT)),
    Rung("an alert twice", _arm(read_fault=BusFault.SERVO), 2, {}, (HOLD, FAULT)),
    Rung("a servo that shut down", _arm(read_fault=BusFault.SERVO), 100, {FAULT: 3}, (HOLD,), WORD),
    Rung("a write that never left", _arm(write_fault=BusFault.TIMEOUT), 1, {UNWRITTEN: 1, UNSENT: 2}, (HOLD, FAULT)),
    Rung("writes that never leave", _arm(write_fault=BusFault.SKIPPED), 50, {UNWRITTEN: 1, UNSENT: 2}, (FAULT,)),
    Rung("a loop away for 14 periods", _arm(stall_ns=14 * PERIOD_NS), 1, {LATE: 2}, (HOLD, FAULT)),
    Rung("a loop away for 20 periods", _arm(stall_ns=20 * PERIOD_NS), 1, {LATE: 2, HOLD: 2}, (FAULT,)),
    Rung("a loop away for 110 periods", _arm(stall_ns=110 * PERIOD_NS), 1, {LATE: 2, FAULT: 2}, (), WORD),
    Rung("a chunk 50 ticks late", _policy(delay=50), 50, {TAIL: 22}, (HOLD, FAULT)),
    Rung("no chunks", _policy(lambda _: None), 100, NO_CHUNK, (FAULT,)),
    Rung(
        "chunks for another arm",
        _policy(lambda made: replace(made, targets=np.zeros((10, 3)))),
        100,
        {REFUSED: 1, **NO_CHUNK},
        (FAULT,),
    ),
    Rung(
        "chunks of no length",
        _policy(lambda made: replace(made, targets=np.zeros((0, 2)))),
        100,
        {REFUSED: 1, **NO_CHUNK},
        (FAULT,),
    ),
    Rung(
        "chunks whose steps take no time",
        _policy(lambda made: replace(made, step_ns=0)),
        100,
        {REFUSED: 1, **NO_CHUNK},
        (FAULT,),
    ),
    Rung(
        "chunks whose steps take a year",
        _policy(lambda made: replace(made, step_ns=31_557_600 * 10**9)),
        100,
        {REFUSED: 1, **NO_CHUNK},
        (FAULT,),
    ),
    Rung(
        "chunks from the future",
        _policy(lambda made: replace(made, observed_ns=made.observed_ns + STEP_NS)),
        100,
        {REFUSED: 1, **NO_CHUNK},
        (FAULT,),
    ),
    Rung(
        "chunks of what was long ago",
        _policy(lambda made: replace(made, observed_ns=made.observed_ns - 20 * STEP_NS)),
        100,
        {REFUSED: 1, **NO_CHUNK},
        (FAULT,),
    ),
    Rung("chunks of no numbers", _policy(_filled(math.nan)), 100, {REFUSED: 1, NONFINITE: 1, FAULT: 41}, (HOLD,), WORD),
    Rung("chunks beyond any angle", _policy(_filled(1e5)), 100, {REFUSED: 1, NONFINITE: 1, FAULT: 41}, (HOLD,), WORD),
    Rung("goals outside the limits", _policy(_filled(9.0)), 100, {Flag.LIMITED: 2}, (HOLD, FAULT)),
]


@pytest.mark.parametrize("rung", TABLE, ids=[rung.name for rung in TABLE])
def test_every_rung_keeps_its_bound_in_ticks(rung: Rung, tmp_path: Path) -> None:
    life = Ordeal(rung).live(END)
    assert life.ticks[BEGIN - 2].mode == Mode.POLICY
    assert {sign: life.first(sign) for sign in rung.seen} == rung.seen
    assert {sign: life.first(sign) for sign in rung.never} == dict.fromkeys(rung.never)
    if rung.ends == WORD:
        assert {Mode(tick.mode) for tick in life.ticks[BEGIN + rung.lasts - 1 : CLEAR]} == {Mode.FAULT}
        assert {Mode(tick.mode) for tick in life.ticks[CLEAR : START - 1]} == {Mode.HOLD}
    assert life.ticks[-1].mode == Mode.POLICY
    flags = np.array([tick.flags for tick in life.ticks])
    check_motion(flags, np.array([tick.limited[:2] for tick in life.ticks]), life.robot)
    verdict = replay(read_episode(life.episode(tmp_path / "a.mcap")))
    assert verdict.equal, verdict

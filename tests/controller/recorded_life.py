"""An arm that has an eventful life in virtual time, and the episode that tells of it.

Everything that can happen to a tick happens: orders, chunks that come late, broken or twice, a person with a leader
arm, joints that fall silent or answer nonsense, writes that never leave, servos that refuse to be engaged.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import numpy as np
from controller_plant import STEP_NS, SimulatedArm, chunk, robot, sine

from controller.clock import VirtualClock
from controller.decide import Decide
from controller.eyes import Eyes
from controller.loop import ControlLoop
from controller.snapshot import STATE, written
from controller.state import State
from drivers.arm import BusFault
from episodes.records import ChunkRecord, Order, TickRecord
from episodes.writer import EpisodeWriter, Header
from spec.chunk import Chunk
from spec.robot import Robot
from spec.teleop import Button, TeleopSample

SILENT, NAN, UNSENT, ALERT, STALLED = "silent", "nan", "unsent", "alert", "stalled"


def machine(**control: object) -> Robot:
    """Two joints, a keyboard that stands for a leader arm, and thresholds for pulling at it."""
    plain = robot(**control)  # type: ignore[arg-type]
    teleop = {
        "device": "keyboard",
        "align_rad": 0.5,
        "takeover": {"position": {"j0": 0.2, "j1": 0.2}, "current": {"j0": 0.5, "j1": 0.5}, "lag_s": 0.02},
    }
    return Robot.model_validate({**plain.model_dump(mode="json"), "teleop": teleop})


class Life:
    """Its inbox, its faults and its record, all drawn from one seed.

    Args:
        seed: of everything that happens.
        orders: tick of the run → order; MARK puts the state on record.
        calm: nothing goes wrong.
        rig: the robot; None for that of :func:`machine`.
        port: of the arm, as the loop names it.
        eyes: see its cameras; None where it has none.
    """

    def __init__(
        self,
        seed: int,
        orders: dict[int, Order],
        calm: bool = False,
        rig: Robot | None = None,
        *,
        port: str = "",
        eyes: Eyes | None = None,
    ) -> None:
        self.robot = rig or machine()
        self.rng = np.random.default_rng(seed)
        self.clock = VirtualClock(10**9)
        self.arm = self._arm(self.clock)
        self.orders, self.calm = orders, calm
        self.ticks: list[TickRecord] = []
        self.chunks: list[Chunk] = []
        self.states: list[tuple[int, str]] = []
        self.notices: list[str] = []
        """What the loop said."""
        self._waiting: list[tuple[int, Chunk]] = []
        self._calls = self._samples = 0
        self._until = 0
        self._buttons = Button.NONE
        self._goal: float | None = None
        self.loop = ControlLoop(
            self.arm,
            Decide.of(self.robot),
            self.clock,
            self.robot.control.rate_hz,
            self,
            lambda record: self.ticks.append(TickRecord.from_buffer_copy(record)),
            self.notices.append,
            self._mark,
            port=port,
            eyes=eyes,
        )

    def _arm(self, clock: VirtualClock) -> SimulatedArm:
        return SimulatedArm(clock, np.array([0.1, 0.3]))

    def live(self, ticks: int) -> Life:
        self.loop.run(ticks)
        return self

    def _mark(self, tick: int, state: State) -> None:
        self.states.append((tick, written(tick, state)))

    # -- what the loop asks: an order first, then a chunk, then a person

    def order(self) -> Order | None:
        self._calls += 1
        if not self.calm:
            self._misfortune()
        return self.orders.get(self._calls)

    def chunk(self) -> Chunk | None:
        now = self.clock.now_ns()
        if self._calls % 20 == 0:
            count = len(self.chunks)
            made = chunk(count, now, sine(0.3, 0.3 + 0.05 * self.rng.random()), weights=7 + count // 12 % 3)
            if not self.calm and self.rng.random() < 0.05:
                made = Chunk(made.sequence, now, STEP_NS, np.full((10, 2), np.nan), made.weights)
            self.chunks.append(made)
            self._waiting.append((now + int(self.rng.integers(20e6, 150e6)), made))
        if self._waiting and self._waiting[0][0] <= now:
            return self._waiting.pop(0)[1]
        return None

    def human(self) -> TeleopSample | None:
        if self._calls % 4:
            return None
        self._samples += 1
        now = self.clock.now_ns()
        if self.rng.random() < 0.04:
            self._buttons = Button(int(self.rng.choice([0, 0, Button.TOGGLE, Button.TAKE, Button.RELEASE])))
        place = self.arm.position + 0.05 * np.sin(2.0 * now * 1e-9 + np.arange(2))
        if not self.calm and self.rng.random() < 0.01:
            place = place * np.nan
        if self.rng.random() < 0.02:
            self._goal = None if self._goal is not None else 0.0
        pulled = 0.4 if self.rng.random() < 0.01 else 0.0
        goal = (np.nan, np.nan) if self._goal is None else tuple((place + pulled).tolist())
        return TeleopSample(
            self._samples, now - 2_000_000, tuple(place.tolist()), (0.05, -0.05), (0.1, 0.1), goal, self._buttons
        )

    def _misfortune(self) -> None:
        arm = self.arm
        if self._calls < self._until:
            return
        arm.silent, arm.nan = set(), set()
        arm.read_fault = arm.write_fault = BusFault.NONE
        if self.rng.random() < 0.02:
            self._until = self._calls + int(self.rng.integers(1, 25))
            match self.rng.choice([SILENT, NAN, UNSENT, ALERT, STALLED]):
                case "silent":
                    arm.silent = {int(self.rng.integers(2))}
                case "nan":
                    arm.nan = {int(self.rng.integers(2))}
                case "unsent":
                    arm.write_fault = BusFault.SKIPPED
                case "alert":
                    arm.read_fault = BusFault.SERVO
                    self._until = self._calls + int(self.rng.integers(1, 4))
                case _:
                    arm.stall_ns = int(self.rng.integers(3e6, 40e6))

    # -- its record

    def episode(self, path: Path, begin: int = 0, without: Iterable[int] = (), chunks: bool = True) -> Path:
        """The episode of the ticks from index ``begin`` on, some of which are lost."""
        lost = set(without)
        kept = [bytes(tick) for k, tick in enumerate(self.ticks) if k >= begin and k not in lost]
        with EpisodeWriter(path, Header(self.robot)) as writer:
            for made in self.chunks if chunks else ():
                writer.chunk(record_of(made))
            writer.ticks(b"".join(kept))
            for tick, text in self.states:
                writer.event(tick, "control", STATE, text)
        return path


def record_of(made: Chunk) -> ChunkRecord:
    """A chunk as the inference process would have published it."""
    record = ChunkRecord(
        sequence=made.sequence,
        observed_ns=made.observed_ns,
        step_ns=made.step_ns,
        length=made.length,
        joints=made.targets.shape[1],
        weights=made.weights,
    )
    record.targets[: made.targets.size] = made.targets.ravel().tolist()
    return record

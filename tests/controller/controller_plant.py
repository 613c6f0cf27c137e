"""A small robot, chunks for it, and an arm at the level of the Arm contract with faults on command.

The arm is a plant, not a mock: what it is told is where it goes (a perfect servo), what it answers is where it is.
The byte-level virtual arm has its own tests; here the faults must fall on exact ticks.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import numpy as np

from controller.clock import VirtualClock
from drivers.arm import Applied, BusFault, Reading, ServoHealth
from spec.arrays import Bool, Float, frozen
from spec.chunk import Chunk
from spec.errors import DeviceError
from spec.robot import Robot

STEP_NS = 100_000_000

MODEL = """
<mujoco>
  <compiler angle="radian"/>
  <worldbody>
    <body name="upper"><joint name="j0" axis="0 1 0"/><geom size=".01"/>
      <body name="lower" pos=".1 0 0"><joint name="j1" axis="0 1 0"/><geom size=".01"/>
        <site name="tool" pos=".1 0 0"/>
      </body>
    </body>
  </worldbody>
</mujoco>
"""
"""Two links of 0.1 m: the tool is at x = 0.1 (cos a + cos(a + b)), z = -0.1 (sin a + sin(a + b))."""


def robot(
    joints: int = 2,
    *,
    model: Path | None = None,
    workspace: dict[str, Any] | None = None,
    teleop: dict[str, Any] | None = None,
    **control: Any,
) -> Robot:
    """A robot of ``joints`` equal joints, home at 0.2 rad; ``teleop`` says how a person may take it over."""
    limits = {"position": [-1.5, 1.5], "velocity": 3.0, "acceleration": 25.0, "jerk": 600.0, "home": 0.2}
    return Robot.model_validate(
        {
            "name": "test",
            "model": model,
            "workspace": workspace,
            "teleop": None if teleop is None else {"device": "gamepad", **teleop},
            "follower": {
                "serial": "test",
                "port": "none",
                "calibration": "none.json",
                "joints": {f"j{i}": {"id": i, "model": "XL330-M288", **limits} for i in range(joints)},
            },
            "control": {"rate_hz": 200, **control},
        }
    )


def chunk(
    sequence: int,
    observed_ns: int,
    curve: Callable[[float], float] = lambda _t: 0.3,
    *,
    joints: int = 2,
    length: int = 10,
    step_ns: int = STEP_NS,
    weights: int = 7,
) -> Chunk:
    """A chunk that samples ``curve`` (time [s] → angle [rad]) for every joint at the due times."""
    due = [(observed_ns + (k + 1) * step_ns) * 1e-9 for k in range(length)]
    targets = np.array([[curve(t)] * joints for t in due])
    return Chunk(sequence, observed_ns, step_ns, frozen(targets), weights)


def sine(amplitude: float = 0.4, hertz: float = 0.5) -> Callable[[float], float]:
    return lambda t: amplitude * math.sin(2.0 * math.pi * hertz * t)


class SimulatedArm:
    """A perfect servo on a virtual clock. The attributes are the faults; they last until changed."""

    def __init__(self, clock: VirtualClock, position: Float) -> None:
        self.clock, self.position = clock, np.array(position, dtype=np.float64)
        self._before = self.position.copy()
        self.held = self.closed = False
        self.sent: list[Float] = []
        self.silent: set[int] = set()
        self.read_fault = self.write_fault = BusFault.NONE
        self.nan: set[int] = set()
        self.refuses_hold = False
        self.alarming: tuple[str, ...] = ()
        self.gone = False
        self.recoveries = 0
        self.takes_ns = 500_000
        self.stall_ns = 0
        self.breaks: Exception | None = None
        self.reads = 0
        self.waits = False
        """Its servos take their time to answer, so it calls what can be done meanwhile."""

    @property
    def joints(self) -> tuple[str, ...]:
        return tuple(f"j{i}" for i in range(len(self.position)))

    def open(self) -> None: ...

    def hold(self) -> None:
        self.clock.advance(20_000_000)
        if self.refuses_hold:
            raise DeviceError("j0 (id 0): overload; reboot it")
        self.held = True

    def relax(self) -> None:
        self.held = False

    def recover(self, *, restart: bool) -> tuple[str, ...]:
        self.recoveries += 1
        if self.gone:
            raise DeviceError("none: the port is gone; check the cable and reconnect")
        if self.alarming and not restart:
            raise DeviceError("; ".join(self.alarming))
        if self.silent:
            raise DeviceError(f"j{min(self.silent)} (id {min(self.silent)}): no answer")
        restarted, self.alarming = self.alarming, ()
        return restarted

    def alarms(self, deadline_ns: int) -> tuple[str, ...]:
        return self.alarming

    def read(self, deadline_ns: int, meanwhile: Callable[[], None] | None = None) -> Reading:
        started = self.clock.now_ns()
        if meanwhile is not None and self.waits:
            meanwhile()
        self.reads += 1
        if self.breaks is not None:
            raise self.breaks
        self.clock.advance(self.takes_ns + self.stall_ns)
        self.stall_ns = 0
        fresh: Bool = np.array([i not in self.silent for i in range(len(self.position))])
        fault = self.read_fault if fresh.all() else self.read_fault | BusFault.TIMEOUT
        if self.gone:
            fresh[:], fault = False, BusFault.DISCONNECTED
        position = self.position.copy()
        position[list(self.nan)] = np.nan
        velocity = (self.position - self._before) * 200.0
        self._before = self.position.copy()
        raw = np.zeros((len(position), 3), dtype=np.int64)
        return Reading(position, velocity, np.zeros_like(position), fresh, raw, fault, started, self.clock.now_ns())

    def write(self, position: Float, deadline_ns: int) -> Applied:
        started = self.clock.now_ns()
        self.clock.advance(self.takes_ns // 2)
        fault = BusFault.DISCONNECTED if self.gone else self.write_fault
        if not fault:
            self.position = np.array(position)
        self.sent.append(np.array(position))
        ticks = np.round(position * 2048 / np.pi).astype(np.int64) + 2048
        return Applied(np.array(position), ticks, fault, started, self.clock.now_ns())

    def health(self) -> tuple[ServoHealth, ...]:
        return ()

    def close(self) -> None:
        self.closed = True

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

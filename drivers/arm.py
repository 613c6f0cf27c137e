"""The arm contract: what the control loop asks of any arm, real or virtual."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from enum import IntFlag
from types import TracebackType
from typing import Protocol, Self

from spec.arrays import Bool, Float, Int


class BusFault(IntFlag):
    """What went wrong in one bus exchange. Nothing here is raised inside a tick; it is logged and counted."""

    NONE = 0
    TIMEOUT = 1
    """No or not every answer before the deadline."""
    CORRUPT = 2
    """An answer with a wrong CRC or a broken frame."""
    DISCONNECTED = 4
    """The port itself is gone."""
    SERVO = 8
    """A servo raised its hardware-error alert bit."""
    SKIPPED = 16
    """Not tried: no time was left in the tick, or what is there is not known to be this arm."""


@dataclass(slots=True, eq=False)
class Reading:
    """Answer to one read of all joints. Arrays have shape (joints,); a silent joint keeps its last value."""

    position: Float
    """[rad]"""
    velocity: Float
    """[rad/s]"""
    effort: Float
    """Current [A] where the servo measures it, else load as a fraction of its maximum."""
    fresh: Bool
    """True where this very read brought the value."""
    raw: Int
    """Registers as they came: position [ticks], velocity and effort [register units], shape (joints, 3)."""
    fault: BusFault
    started_ns: int
    finished_ns: int


@dataclass(slots=True, eq=False)
class Applied:
    """What one write really sent, after quantisation. Arrays have shape (joints,)."""

    position: Float
    """[rad]"""
    ticks: Int
    fault: BusFault
    started_ns: int
    finished_ns: int


@dataclass(frozen=True, slots=True)
class ServoHealth:
    """Slow facts of one servo, read outside the tick."""

    joint: str
    model: str
    firmware: int
    voltage: float
    """[V]"""
    temperature: float
    """[°C]"""
    torque: bool
    errors: tuple[str, ...]
    """Names of the bits set in Hardware Error Status."""


class Arm(Protocol):
    """A follower or leader arm.

    ``open`` verifies identity, calibration and safety registers and leaves torque off. ``hold`` makes the present
    position the goal and only then enables torque, so nothing jumps. ``read`` and ``write`` never raise and never
    outlast their deadline. Leaving the context rests the arm: see ``close``.
    """

    @property
    def joints(self) -> tuple[str, ...]: ...

    def open(self) -> None:
        """Connect and check. Raises DeviceError or MisfitError with device, value and remedy."""
        ...

    def hold(self) -> None:
        """Goal := present position, then torque on. Raises DeviceError if a servo refuses."""
        ...

    def relax(self) -> None:
        """Torque off. Only on the operator's word: an arm in the air falls."""
        ...

    def recover(self, *, restart: bool) -> tuple[str, ...]:
        """Make the arm usable again after an outage or a fault: open the port if it is gone, check everything as
        ``open`` does. Nothing moves and nothing is let go: the torque of every servo stays as found. Then ``hold``.
        Where it fails, ``write`` sends nothing until an attempt succeeds. Not for the tick.

        ``restart``: restart limp servos with a hardware error; only on the operator's word. Without it they are
        refused. Returns what was restarted, and of which error, e.g. ``elbow_flex: overload``.

        Raises DeviceError or MisfitError saying which servo and why.
        """
        ...

    def alarms(self, deadline_ns: int) -> tuple[str, ...]:
        """Hardware errors, e.g. ``elbow_flex: overload``, by CLOCK_MONOTONIC ``deadline_ns``; () where there are none
        or nobody answered. Never raises."""
        ...

    def read(self, deadline_ns: int, meanwhile: Callable[[], None] | None = None) -> Reading:
        """Position, velocity and effort of all joints, by CLOCK_MONOTONIC ``deadline_ns``. An arm that has to wait for
        them calls ``meanwhile`` once: it must not raise, and what it takes beyond the wait delays the reading."""
        ...

    def write(self, position: Float, deadline_ns: int) -> Applied:
        """Send joint targets [rad], shape (joints,), by CLOCK_MONOTONIC ``deadline_ns``."""
        ...

    def health(self) -> tuple[ServoHealth, ...]:
        """Slow registers of every servo. Not for the tick."""
        ...

    def close(self) -> None:
        """Leave the arm standing where it is, torque on and held by the servos, and free the port."""
        ...

    def __enter__(self) -> Self: ...

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None: ...

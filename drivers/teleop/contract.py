"""The teleoperation contract: whatever a person moves the arm with."""

from __future__ import annotations

from dataclasses import dataclass
from types import TracebackType
from typing import Protocol, Self

from spec.arrays import Float
from spec.teleop import TeleopSample


@dataclass(frozen=True, slots=True, eq=False)
class Follow:
    """What the control loop did at its newest tick: what a device mirrors, moves on from, or gives way to."""

    now_ns: int
    """Instant of that tick, CLOCK_MONOTONIC [ns]."""
    position: Float
    """Commanded joint targets [rad], shape (joints,); NaN where the arm is not commanded."""
    velocity: Float
    """How fast they move [rad/s], shape (joints,)."""
    human: bool
    """A person drives, or the arm is passing into a person's hands."""


class Teleop(Protocol):
    """A device that says where a person wants the joints to be.

    ``open`` moves nothing. ``exchange`` is one cycle of a few milliseconds: while nobody drives by it the device
    follows the arm (a leader arm mirrors it under torque, a gamepad takes its target for its own), and while a person
    does it gives way. It never raises; a device that is gone shows by ``read_ns`` standing still. ``close`` leaves a
    leader arm held where it is.
    """

    @property
    def joints(self) -> tuple[str, ...]:
        """In the follower's order."""
        ...

    @property
    def trouble(self) -> str:
        """Why the device cannot be used at this moment, in one line; empty while all is well."""
        ...

    def open(self) -> None:
        """Connect and check. Raises DeviceError, MisfitError or SpecError with device, value and remedy."""
        ...

    def exchange(self, follow: Follow | None, deadline_ns: int) -> TeleopSample:
        """Take in what the arm does, and say what the person wants, by CLOCK_MONOTONIC ``deadline_ns``.

        Args:
            follow: the newest tick; None where none has come yet.
        """
        ...

    def pressed(self) -> tuple[str, ...]:
        """Names of session keys (see :class:`spec.robot.Key`) that went down since the last call."""
        ...

    def close(self) -> None: ...

    def __enter__(self) -> Self: ...

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None: ...

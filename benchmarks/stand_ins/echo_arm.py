"""An arm without a bus: it answers at once that it stands where it was last told to."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from types import TracebackType
from typing import Self

import numpy as np

from drivers.arm import Applied, BusFault, Reading, ServoHealth
from spec.arrays import Float
from spec.robot import Robot


@dataclass(frozen=True, slots=True)
class NoStatistics:
    """Of a bus that is not there."""

    silent: int = 0
    corrupt: int = 0
    stale: int = 0


class EchoArm:
    """Implements :class:`controller.workers.control_process.BusArm`."""

    fast_sync_read = False
    statistics = NoStatistics()

    def __init__(self, robot: Robot) -> None:
        self._names = robot.follower.names
        self._position = np.array(robot.limits().home)
        self._zero = np.zeros(len(self._names))
        self._fresh = np.ones(len(self._names), dtype=np.bool_)
        self._raw = np.zeros((len(self._names), 3), dtype=np.int64)
        self._ticks = np.zeros(len(self._names), dtype=np.int64)

    @property
    def joints(self) -> tuple[str, ...]:
        return self._names

    def open(self) -> None:
        """Nothing to connect."""

    def hold(self) -> None:
        """Holds already."""

    def relax(self) -> None:
        """Has no torque to switch off."""

    def recover(self, **_restart: bool) -> tuple[str, ...]:
        """Has nothing that could break."""
        return ()

    def alarms(self, _deadline_ns: int) -> tuple[str, ...]:
        return ()

    def read(self, deadline_ns: int, _meanwhile: Callable[[], None] | None = None) -> Reading:
        return Reading(
            self._position, self._zero, self._zero, self._fresh, self._raw, BusFault.NONE, deadline_ns, deadline_ns
        )

    def write(self, position: Float, deadline_ns: int) -> Applied:
        self._position = np.array(position)
        return Applied(self._position, self._ticks, BusFault.NONE, deadline_ns, deadline_ns)

    def health(self) -> tuple[ServoHealth, ...]:
        return ()

    def close(self) -> None:
        """Nothing to free."""

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Nothing to free."""

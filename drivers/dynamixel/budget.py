"""What one tick costs on the wire, and whether the wanted control rate fits. Pure arithmetic."""

from __future__ import annotations

from dataclasses import dataclass

from drivers.dynamixel.protocol import fast_status_size, request_size, status_size
from drivers.dynamixel.tables import models
from spec.errors import SpecError

READ_LENGTH = 10
"""Bytes read of each servo a tick: current or load (126, 2), velocity (128, 4), position (132, 4)."""
WRITE_LENGTH = 4
"""Bytes written to each servo a tick: goal position (116, 4)."""
_BITS_PER_BYTE = 10
_USABLE = 0.9
"""Share of the period the bus may fill; the rest is for waking up, deciding and one late byte."""


@dataclass(frozen=True, slots=True)
class BusBudget:
    """Time of one tick's exchanges [s]."""

    baud: int
    servos: int
    read: float
    """The request and every answer on the wire."""
    write: float
    return_delay: float
    """All servos' waits before answering."""
    latency: float
    """Most the USB adapter holds an answer back."""

    @property
    def total(self) -> float:
        return self.read + self.write + self.return_delay + self.latency

    @property
    def rate_hz(self) -> float:
        """Highest control rate the bus carries."""
        return _USABLE / self.total

    def __str__(self) -> str:
        return (
            f"{1e3 * self.total:.2f} ms a tick at {self.baud} baud (read {1e3 * self.read:.2f}, "
            f"write {1e3 * self.write:.2f}, return delay {1e3 * self.return_delay:.2f}, "
            f"USB latency {1e3 * self.latency:.2f})"
        )


def predict(
    baud: int, servos: int, *, return_delay_us: float = 0.0, latency_timer_ms: float = 0.0, fast: bool = True
) -> BusBudget:
    """Cost of reading and writing ``servos`` joints once, in the best case: nothing lost, nobody late.

    Args:
        baud: [bit/s]
        return_delay_us: Return Delay Time of each servo [µs]; a fast sync read waits only for the first.
        latency_timer_ms: of the USB adapter [ms].
        fast: one joint answer (fast sync read) rather than one packet a servo.
    """
    answer = fast_status_size(READ_LENGTH, servos) if fast else servos * status_size(READ_LENGTH)
    write = request_size(servos) + servos * WRITE_LENGTH  # each id is followed by its value
    byte = _BITS_PER_BYTE / baud
    return BusBudget(
        baud=baud,
        servos=servos,
        read=(request_size(servos) + answer) * byte,
        write=write * byte,
        return_delay=return_delay_us * 1e-6 * (1 if fast else servos),
        latency=latency_timer_ms * 1e-3,
    )


def check_rate(budget: BusBudget, rate_hz: float, *, where: str = "control.rate_hz") -> None:
    """Refuse a control rate the bus cannot carry.

    Raises:
        SpecError: with the time a tick needs, the period, and the baud rates that would do.
    """
    if budget.rate_hz >= rate_hz:
        return
    wire = (budget.read + budget.write) * budget.baud
    fixed = budget.return_delay + budget.latency
    known = sorted({baud for model in models().values() for baud in model.baud})
    enough = [baud for baud in known if wire / baud + fixed <= _USABLE / rate_hz]
    remedy = f"lower it to {int(budget.rate_hz)} or less"
    if enough:
        remedy += f", or raise the baud to {enough[0]}"
    raise SpecError(where, rate_hz, f"the bus needs {budget}, the period is {1e3 / rate_hz:.2f} ms; {remedy}")

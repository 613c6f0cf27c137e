"""What stands between the loop and the virtual arm in lock-step, and goes wrong on time: its clock and its arm."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from cadenza.faults.cases import Case, Trouble
from controller.clock import Clock
from drivers.arm import Applied, Arm, Reading
from drivers.virtual.lockstep import LockstepRobot
from spec.arrays import Float

_CALM: dict[str, Any] = {
    "loss": 0.0,
    "corrupt": 0.0,
    "repeat": 0.0,
    "noise": 0.0,
    "delay_ms": 0.0,
    "jitter_ms": 0.0,
    "silent_ids": [],
    "supply": 1.0,
    "unplug": False,
    "power": True,
}
_HOT, _COOL = 120.0, 32.0
"""Around a motor that overheats, and that does not [°C]; servos shut down at 70."""
_WEAK = 0.6
"""Supply of a case that does not say, as a share of the usual one: an XL330 reports its voltage and lets go, an XL430,
which bears 6.0 V of its 11.1, has nothing to report."""
OTHER_MODEL = "XM430-W350"
BACK = 0.5
"""Share of its time after which a swapped servo is plugged in."""


def injected(troubles: Sequence[Trouble], now_s: float, servos: Sequence[int]) -> dict[str, Any]:
    """What the virtual arm is to suffer from while all ``troubles`` are there; see drivers/virtual/mischief.py.

    Args:
        servos: ids of all.
    """
    faults, silent = dict(_CALM), set[int]()
    for trouble in troubles:
        values = trouble.values
        match trouble.kind:
            case "loss" | "burst":
                faults["loss"] = max(faults["loss"], values["share"])
            case "corruption":
                faults["corrupt"] = max(faults["corrupt"], values["share"])
            case "noise" | "repeat":
                faults[trouble.kind] = max(faults[trouble.kind], values["share"])
            case "late_packets":
                faults["delay_ms"] += values["ms"]
                faults["jitter_ms"] += values["jitter_ms"]
            case "one_silent":
                silent.add(values["servo"])
            case "some_silent":
                silent.update(values["servos"])
            case "all_silent":
                silent.update(servos)
            case "under_voltage":
                faults["supply"] = values.get("supply", _WEAK)
            case "unplug":
                faults["unplug"] = True
            case "unplug_power":
                faults |= {"unplug": True, "power": False}
            case "swapped" if now_s < swapped_in_s(trouble):
                faults |= {"unplug": True, "power": False}
    return {**faults, "silent_ids": sorted(silent)}


def swapped_in_s(trouble: Trouble) -> float:
    """When the other servo is there and the cable back [s]."""
    return trouble.at_s + BACK * trouble.for_s


class AfflictedClock:
    """The virtual clock, on which faults come and go and the loop is kept from running.

    Args:
        lock: the virtual arm; its own clock moves the physics.
        case: what goes wrong.
        servos: ids of all.
    """

    def __init__(self, lock: LockstepRobot, case: Case, servos: Sequence[int]) -> None:
        self._lock, self._inner, self._servos = lock, lock.clock, servos
        self._began_ns = self._inner.now_ns()
        self._troubles = case.troubles
        edges = {instant for t in case.troubles for instant in (t.at_s, t.ends_s)}
        edges |= {swapped_in_s(t) for t in case.troubles if t.kind == "swapped"}
        self._edges = sorted(self._began_ns + round(edge * 1e9) for edge in edges)
        self._begun: set[int] = set()
        self._swapped: set[int] = set()
        self._applied = dict(_CALM)

    def now_ns(self) -> int:
        return self._inner.now_ns()

    def sleep_until_ns(self, deadline_ns: int) -> None:
        while self._edges and self._edges[0] <= max(deadline_ns, self._inner.now_ns()):
            self._inner.sleep_until_ns(self._edges.pop(0))
            self._change()
        self._inner.sleep_until_ns(deadline_ns)

    def _change(self) -> None:
        now_s = (self._inner.now_ns() - self._began_ns) * 1e-9 + 1e-6
        self._swap(now_s)
        wanted = injected([t for t in self._troubles if t.at(now_s)], now_s, self._servos)
        self._lock.inject({name: value for name, value in wanted.items() if value != self._applied[name]})
        self._applied = wanted
        for index, trouble in enumerate(self._troubles):
            if index not in self._begun and trouble.at_s <= now_s:
                self._begun.add(index)
                self._strike(trouble)
            if trouble.kind == "over_temperature":
                self._lock.inject({"temperature": [trouble.values["servo"], _HOT if trouble.at(now_s) else _COOL]})

    def _swap(self, now_s: float) -> None:
        """Another servo in one's place, and that one back again."""
        for index, trouble in enumerate(self._troubles):
            there = trouble.kind == "swapped" and swapped_in_s(trouble) <= now_s < trouble.ends_s
            if there and index not in self._swapped:
                self._lock.inject({"swap": [trouble.values["servo"], OTHER_MODEL]})
                self._swapped.add(index)
            elif not there and index in self._swapped:
                self._lock.clear()
                self._applied = dict(_CALM)
                self._swapped.discard(index)

    def _strike(self, trouble: Trouble) -> None:
        """What happens at one instant and stays."""
        match trouble.kind:
            case "overload":
                self._lock.inject({"overload": trouble.values["servo"]})
            case "over_current":
                self._lock.inject({"overcurrent": trouble.values["servo"]})
            case "stall":
                self._inner.sleep_until_ns(self._inner.now_ns() + round(trouble.values["ms"] * 1e6))


class AfflictedArm:
    """The arm behind its contract, whose readings are no numbers now and then. Everything else is its own."""

    def __init__(self, arm: Arm, clock: Clock, case: Case) -> None:
        self._arm, self._clock, self._began_ns = arm, clock, clock.now_ns()
        self._troubles = [t for t in case.troubles if t.kind in {"nonfinite_reading", "nonfinite_beside"}]

    def read(self, deadline_ns: int, meanwhile: Callable[[], None] | None = None) -> Reading:
        reading = self._arm.read(deadline_ns, meanwhile)
        now_s = (self._clock.now_ns() - self._began_ns) * 1e-9
        for trouble in self._troubles:
            if trouble.at(now_s):
                _spoil(reading, trouble.values)
        return reading

    def write(self, position: Float, deadline_ns: int) -> Applied:
        return self._arm.write(position, deadline_ns)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._arm, name)


def _spoil(reading: Reading, values: Mapping[str, Any]) -> None:
    name = values.get("of", "position")
    array = np.array(getattr(reading, name), dtype=np.float64)
    array[int(values["joint"])] = float(values["value"])
    setattr(reading, name, array)

"""Taking hold of an arm and leaving it, without a jump and without letting it drop."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from drivers.dynamixel.bus import Bus
from drivers.dynamixel.tables import Model, Register
from drivers.dynamixel.units import Units
from spec.arrays import Int
from spec.errors import DeviceError

KEEP_GOAL_TICKS = 160
"""A joint that already holds keeps its goal when it stands this near (14 degrees): gravity pulls a proportional servo
off its goal, and making each sagged position the next goal would let the arm creep down."""
_FIRED = -1


def hold(bus: Bus, servos: Sequence[int], table: Model, units: Units, watchdog: int) -> Int:
    """Goal := present position, then torque on, then Bus Watchdog armed; each verified by reading back.

    Args:
        servos: ids in joint order.
        table: any of their control tables; the X series shares the addresses used here.
        watchdog: Bus Watchdog(98) value, 20 ms units; 0 for none.

    Returns:
        Goal positions [ticks], shape (joints,).

    Raises:
        DeviceError: a joint stands outside its limits, or a servo refuses.
    """
    goals = _goals(bus, servos, table, units)
    bus.write_all(table["bus_watchdog"], dict.fromkeys(servos, 0))
    bus.write_all(table["goal_position"], dict(zip(servos, goals.tolist(), strict=True)))
    bus.write_all(table["torque_enable"], dict.fromkeys(servos, 1))
    if watchdog:
        bus.write_all(table["bus_watchdog"], dict.fromkeys(servos, watchdog))
    return goals


def relax(bus: Bus, servos: Sequence[int], table: Model) -> None:
    """Torque off, watchdog off."""
    bus.write_all(table["torque_enable"], dict.fromkeys(servos, 0))
    bus.write_all(table["bus_watchdog"], dict.fromkeys(servos, 0))


def disarm(bus: Bus, servos: Sequence[int], table: Model, units: Units) -> None:
    """Watchdog off, torque as it is. A servo whose watchdog had fired gets its present position as goal, so that it
    does not set off for the old one."""
    (watchdog,) = _at_once(bus, servos, [table["bus_watchdog"]])
    fired = [servo for servo, value in zip(servos, watchdog, strict=True) if value == _FIRED]
    goals = dict(zip(servos, _goals(bus, servos, table, units).tolist(), strict=True)) if fired else {}
    bus.write_all(table["bus_watchdog"], dict.fromkeys(servos, 0))
    if fired:
        bus.write_all(table["goal_position"], {servo: goals[servo] for servo in fired})


def _goals(bus: Bus, servos: Sequence[int], table: Model, units: Units) -> Int:
    """Where each joint is to be held [ticks]: where it stands, or its goal where it already holds near that."""
    names = ("torque_enable", "bus_watchdog", "goal_position", "present_position")
    holding, watchdog, goal, present = _at_once(bus, servos, [table[name] for name in names])
    goals = np.empty(len(servos), dtype=np.int64)
    for k in range(len(servos)):
        ticks = present[k]
        lower, upper = int(units.lower_ticks[k]), int(units.upper_ticks[k])
        holds = bool(holding[k]) and watchdog[k] != _FIRED
        if holds and abs(goal[k] - ticks) <= KEEP_GOAL_TICKS and lower <= goal[k] <= upper:
            ticks = goal[k]
        elif not lower <= ticks <= upper:
            angle, ends = units.position(present)[k], units.limits(k)
            raise DeviceError(
                f"{bus.port.device}: {bus.name(servos[k])}: stands at {angle:.2f} rad, outside its limits "
                f"[{ends[0]:.2f}, {ends[1]:.2f}]; move it inside by hand, then try again"
            )
        goals[k] = ticks
    return goals


def _at_once(bus: Bus, servos: Sequence[int], registers: Sequence[Register]) -> list[Int]:
    """Each register of every servo, shape (joints,), all from one answer: a goal never passes for a position."""
    start, end = registers[0].address, registers[-1].end
    found = bus.read_all(servos, start, end - start)
    return [
        np.array([r.decode(found[s][r.address - start : r.end - start]) for s in servos], dtype=np.int64)
        for r in registers
    ]

"""How far past its deadline a wait for the servos ends on a busy machine, asking the port itself and waiting for an
event: the first waits for a worker of the kernel too.

Both read every joint of the virtual arm over its pseudo-terminal, in blocks that take turns.

python -m benchmarks --only serial_wait
"""

from __future__ import annotations

import json
import os
import select
import sys
import time

import numpy as np

from benchmarks.rig import apart, percentiles, settle, virtual_robot
from cadenza.certifying.stress import cores, interpreters
from controller.clock import MonotonicClock
from controller.realtime import enter_realtime
from drivers.dynamixel.port import Port
from drivers.dynamixel.sync import BusStatistics, SyncReader
from drivers.virtual import VirtualRobot
from spec.arrays import Float
from spec.robot import Realtime, Robot

_BLOCK_S, _PERIOD_NS, _DEADLINE_NS = 5.0, 5_000_000, 3_000_000
_ADDRESS, _LENGTH = 126, 10
"""Present current, velocity and position, e-manual of the X series."""
_LATE_US = 1000.0


class AskingPort(Port):
    """Waits in select() on the port."""

    def receive(self, deadline_ns: int, size: int = 4096) -> bytes:
        left = max(0, deadline_ns - time.monotonic_ns())
        if not select.select((self._fd,), (), (), left * 1e-9)[0]:
            return b""
        try:
            return os.read(self._fd, size)
        except BlockingIOError:
            return b""


def measure(seconds: float = 20.0) -> dict[str, object]:
    """Time past the deadline [µs] of the reads, share of them that end a millisecond late, joints that answered; and
    event / asking of the first two."""
    kinds: dict[str, type[Port]] = {"asking": AskingPort, "event": Port}
    blocks: dict[str, list[Float]] = {kind: [] for kind in kinds}
    with VirtualRobot(virtual_robot({})) as virtual, interpreters(2 * cores()):
        settle()
        for _ in range(max(1, round(seconds / 2 / _BLOCK_S))):
            for kind, port in kinds.items():
                blocks[kind].append(apart(_reads, virtual.robot, port))
    over = {kind: np.concatenate(found)[:, 0] for kind, found in blocks.items()}
    late = {kind: float(np.mean(found > _LATE_US)) for kind, found in over.items()}
    figures = {
        kind: {
            "reads": len(found),
            "past_deadline_us": percentiles(np.maximum(found, 0.0)),
            "late_share": late[kind],
            "answered_share": float(np.concatenate(blocks[kind])[:, 1].mean()),
        }
        for kind, found in over.items()
    }
    return {**figures, "load_processes": 2 * cores(), "late_ratio": late["event"] / max(late["asking"], 1e-6)}


def _reads(robot: Robot, kind: type[Port]) -> Float:
    """One block: how far past its deadline each read ended [µs], and which share of the joints had answered; (n, 2)."""
    servos = [joint.id for joint in robot.follower.joints.values()]
    port = kind(robot.follower.port, robot.follower.baud)
    port.open()
    reader = SyncReader(port, servos, _ADDRESS, _LENGTH, BusStatistics())
    into, fresh = bytearray(_LENGTH * len(servos)), [False] * len(servos)
    rows = np.empty((round(_BLOCK_S * 1e9 / _PERIOD_NS), 2))
    enter_realtime(Realtime.TRY, robot.control.priority, robot.control.cpu)
    clock = MonotonicClock()
    for row in rows:
        wakes_ns = clock.now_ns() + _PERIOD_NS - _DEADLINE_NS
        clock.sleep_until_ns(wakes_ns)
        deadline_ns = wakes_ns + _DEADLINE_NS
        reader.read(into, fresh, deadline_ns)
        row[:] = (clock.now_ns() - deadline_ns) * 1e-3, np.mean(fresh)
    port.close()
    return rows


if __name__ == "__main__":
    print(json.dumps(measure(float(sys.argv[1]) if len(sys.argv) > 1 else 20.0), indent=2))

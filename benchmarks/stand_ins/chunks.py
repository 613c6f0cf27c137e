"""A policy process without a policy: while it is told to, a chunk of a slow sine ten times a second."""

from __future__ import annotations

import math
import os
import sys
import time

import numpy as np

from controller.wiring.child import Child, run_child
from controller.wiring.placement import stay_off_control_core
from controller.wiring.topics import CHUNKS, TICKS
from episodes.records import ChunkRecord, TickRecord

STEP_S = 0.1
LENGTH = 16
_AMPLITUDE, _HZ = 0.1, 0.4


def work(child: Child) -> None:
    """Until told to stop."""
    robot = child.assignment.robot
    stay_off_control_core(robot.control)
    home = np.array(robot.limits().home)
    chunks, ticks = child.node.publisher(CHUNKS), child.node.subscriber(TICKS, TickRecord, 1)
    child.say("ready", pid=os.getpid())
    making, sequence = False, 0
    while not child.stopping:
        for command in child.commands():
            making, sequence = command["do"] == "resume", command.get("sequence", sequence)
        time.sleep(STEP_S)
        tick = ticks.receive()
        if not making or tick is None:
            continue
        due = (tick.now_ns + np.arange(1, LENGTH + 1) * round(STEP_S * 1e9)) * 1e-9
        targets = home + (_AMPLITUDE * np.sin(2.0 * math.pi * _HZ * due))[:, None]
        now = time.monotonic_ns()
        record = ChunkRecord(sequence, tick.now_ns, round(STEP_S * 1e9), now, now, LENGTH, len(home), 0, 0, tick.tick)
        record.targets[: targets.size] = targets.ravel().tolist()
        chunks.send(record)
        sequence += 1


if __name__ == "__main__":
    sys.exit(run_child("chunks", work))

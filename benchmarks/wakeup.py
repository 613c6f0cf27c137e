"""How late the control loop wakes up, beside cyclictest at the same priority, interval, core and load.

The two take turns in blocks of a few seconds, so that both see the same machine. The loop is the real one, deciding on
a full set of chunks; only the bus is missing, because cyclictest has none either.
"""

from __future__ import annotations

import json
import sys

import numpy as np

from benchmarks.rig import Ledger, SinePolicy, apart, percentiles, settle, virtual_robot
from benchmarks.stand_ins.echo_arm import EchoArm
from cadenza.certifying.cyclictest import cyclictest
from cadenza.certifying.stress import cores, interpreters
from controller.clock import MonotonicClock
from controller.decide import Decide
from controller.loop import ControlLoop
from controller.realtime import control_cpu, enter_realtime
from spec.arrays import Float
from spec.errors import CadenzaError
from spec.robot import Realtime, Robot

RATE_HZ = 500.0
PRIORITY = 80
BLOCK_S = 2.5


def measure(seconds: float = 20.0) -> dict[str, object]:
    """Lateness [µs] of both, and the ratio loop / cyclictest; half of ``seconds`` for each."""
    robot = virtual_robot({"control.rate_hz": str(RATE_HZ)})
    cpu = control_cpu(robot.control.cpu)
    blocks = max(2, round(seconds / 2 / BLOCK_S))
    ours: list[Float] = []
    theirs: list[Float] = []
    granted: list[str] = []
    skipped, refusal = 0.0, ""
    with interpreters(2 * cores()):
        settle()
        for _ in range(blocks):
            late, missed, granted = apart(_loop_block, robot, BLOCK_S)
            ours.append(late)
            skipped += missed
            try:
                with cyclictest(RATE_HZ, PRIORITY, cpu, BLOCK_S) as collect:
                    theirs.append(collect())
            except CadenzaError as error:
                refusal = str(error)
    result: dict[str, object] = {
        "rate_hz": RATE_HZ,
        "load_processes": 2 * cores(),
        "realtime": granted,
        "loop_us": percentiles(np.concatenate(ours)),
        "loop_ticks": sum(map(len, ours)),
        "loop_skipped_periods": skipped,
    }
    if not theirs:
        result["cyclictest"] = refusal
        return result
    loop, reference = percentiles(np.concatenate(ours)), percentiles(np.concatenate(theirs))
    return result | {
        "cyclictest_us": reference,
        "cyclictest_samples": sum(map(len, theirs)),
        "ratio": {key: loop[key] / max(reference[key], 1.0) for key in loop},
        "blocks_p99_us": {
            "loop": [float(np.percentile(block, 99)) for block in ours],
            "cyclictest": [float(np.percentile(block, 99)) for block in theirs],
        },
    }


def _loop_block(robot: Robot, seconds: float) -> tuple[Float, float, list[str]]:
    """One block of the control loop: lateness [µs], skipped periods, privileges."""
    ledger = Ledger(round(seconds * RATE_HZ))
    decide = Decide.of(robot)
    clock = MonotonicClock()
    report = enter_realtime(Realtime.TRY, PRIORITY, robot.control.cpu)
    loop = ControlLoop(EchoArm(robot), decide, clock, RATE_HZ, SinePolicy(robot), ledger)
    loop.run(round((seconds + 0.5) * RATE_HZ))
    late = (ledger.column("woke_ns") - ledger.column("deadline_ns")) / 1000.0
    return late, float(ledger.column("skipped").sum()), report.lines()


if __name__ == "__main__":
    print(json.dumps(measure(float(sys.argv[1]) if len(sys.argv) > 1 else 20.0), indent=2))

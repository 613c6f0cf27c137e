"""The highest control rate the bus sustains, at 1 and at 4 Mbps, on the virtual arm with true wire time.

Sustained means: over the whole trial no more than one tick in a thousand is skipped and no more than one read in a
thousand lacks a joint.
"""

from __future__ import annotations

import json
import sys

from benchmarks.rig import Ledger, SinePolicy, apart, percentiles, virtual_robot
from controller.clock import MonotonicClock
from controller.decide import Decide
from controller.loop import ControlLoop
from controller.realtime import enter_realtime
from drivers.arm import BusFault
from drivers.dynamixel.arm import DynamixelArm
from drivers.virtual import VirtualRobot
from spec.errors import SpecError
from spec.robot import Realtime, Robot

BAUDS = (1_000_000, 4_000_000)
RATES_HZ = (100, 200, 250, 300, 350, 400, 500, 600, 700, 800, 1000)
ALLOWED_SHARE = 1e-3
_SPOILT = BusFault.TIMEOUT | BusFault.CORRUPT | BusFault.SKIPPED | BusFault.DISCONNECTED


def measure(seconds: float = 20.0) -> dict[str, object]:
    """For each baud rate the highest rate sustained, and the trials on the way there."""
    trial_s = max(1.0, seconds / 2 / len(BAUDS) / 4)
    return {f"{baud // 1_000_000}_mbps": _climb(baud, trial_s) for baud in BAUDS}


def _climb(baud: int, trial_s: float) -> dict[str, object]:
    """Try one rate after the other until one is not sustained."""
    best, trials = 0, {}
    for rate in RATES_HZ:
        robot = virtual_robot({"follower.baud": str(baud), "control.rate_hz": str(rate)})
        try:
            with VirtualRobot(robot) as virtual:
                trials[f"{rate}_hz"] = trial = apart(_trial, virtual.robot, trial_s)
        except SpecError as error:
            trials[f"{rate}_hz"] = {"refused": str(error)}
            break
        if not trial["sustained"]:
            break
        best = rate
    return {"sustained_hz": best, "trials": trials}


def _trial(robot: Robot, seconds: float) -> dict[str, object]:
    rate_hz = robot.control.rate_hz
    ledger = Ledger(round(seconds * rate_hz))
    with DynamixelArm(robot.follower, rate_hz=rate_hz) as arm:
        decide = Decide.of(robot)
        enter_realtime(Realtime.TRY, robot.control.priority, robot.control.cpu)
        loop = ControlLoop(arm, decide, MonotonicClock(), rate_hz, SinePolicy(robot), ledger)
        loop.run(round((seconds + 2.0) * rate_hz))
    ticks = max(1, len(ledger))
    skipped = float(ledger.column("skipped").sum())
    spoilt = sum(bool(int(fault) & _SPOILT) for fault in ledger.column("read_fault"))
    return {
        "sustained": len(ledger) > 0 and max(skipped, spoilt) <= ALLOWED_SHARE * ticks,
        "ticks": len(ledger),
        "skipped": skipped,
        "spoilt_reads": spoilt,
        "exchange_us": percentiles((ledger.column("read_ns") - ledger.column("woke_ns")) / 1000.0),
        "tick_us": percentiles((ledger.column("written_ns") - ledger.column("woke_ns")) / 1000.0),
    }


if __name__ == "__main__":
    print(json.dumps(measure(float(sys.argv[1]) if len(sys.argv) > 1 else 20.0), indent=2))

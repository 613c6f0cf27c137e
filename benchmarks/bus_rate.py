"""The highest control rate the bus sustains, at 1 and at 4 Mbps, on the virtual arm with true wire time.

Sustained means: over the whole trial no more than one tick in a thousand (or one in all) is skipped, and no more than
one read in a hundred lacks a joint. The climb ends where two rates in a row fail or the driver refuses one.
"""

from __future__ import annotations

import json
import sys

from benchmarks.rig import Ledger, SinePolicy, apart, percentiles, virtual_robot
from controller.clock import MonotonicClock
from controller.decide import Decide
from controller.loop import ControlLoop
from controller.realtime import enter_realtime
from drivers.dynamixel.arm import DynamixelArm
from drivers.virtual import VirtualRobot
from spec.errors import DeviceError, SpecError
from spec.robot import Realtime, Robot

BAUDS = (1_000_000, 4_000_000)
RATES_HZ = (100, 200, 250, 300, 350, 400, 500, 600, 700, 800, 1000)
SKIPPED_SHARE, LACKING_SHARE = 1e-3, 1e-2
_GIVE_UP = 2


def measure(seconds: float = 20.0) -> dict[str, object]:
    """For each baud rate the highest rate sustained, and the trials on the way there."""
    trial_s = max(1.0, seconds / 2 / len(BAUDS) / 4)
    return {f"{baud // 1_000_000}_mbps": _climb(baud, trial_s) for baud in BAUDS}


def _climb(baud: int, trial_s: float) -> dict[str, object]:
    best, failed, trials = 0, 0, {}
    for rate in RATES_HZ:
        robot = virtual_robot({"follower.baud": str(baud), "control.rate_hz": str(rate)})
        try:
            with VirtualRobot(robot) as virtual:
                trials[f"{rate}_hz"] = trial = apart(_trial, virtual.robot, trial_s)
        except (SpecError, DeviceError) as error:
            trials[f"{rate}_hz"] = {"refused": str(error)}
            break
        if trial["sustained"]:
            best, failed = rate, 0
        elif (failed := failed + 1) == _GIVE_UP:
            break
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
    lacking = float(ledger.column("stale").sum())
    return {
        "sustained": len(ledger) > 0
        and skipped <= max(1.0, SKIPPED_SHARE * ticks)
        and lacking <= max(1.0, LACKING_SHARE * ticks),
        "ticks": len(ledger),
        "skipped": skipped,
        "reads_lacking_a_joint": lacking,
        "exchange_us": percentiles((ledger.column("read_ns") - ledger.column("woke_ns")) / 1000.0),
        "tick_us": percentiles((ledger.column("written_ns") - ledger.column("woke_ns")) / 1000.0),
    }


if __name__ == "__main__":
    print(json.dumps(measure(float(sys.argv[1]) if len(sys.argv) > 1 else 20.0), indent=2))

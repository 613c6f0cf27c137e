"""How late the control loop wakes up, beside cyclictest at the same priority, interval, core and load.

The two take turns in blocks of a few seconds, so that both see the same machine. The loop is the real one, deciding on
a full set of chunks; only the bus is missing, because cyclictest has none either.
"""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import numpy as np

from benchmarks.rig import Ledger, SinePolicy, apart, cores, load, percentiles, settle, virtual_robot
from controller.clock import MonotonicClock
from controller.decide import Decide
from controller.loop import ControlLoop
from controller.realtime import control_cpu, enter_realtime
from drivers.arm import Applied, BusFault, Reading, ServoHealth
from spec.arrays import Float
from spec.robot import Realtime, Robot

RATE_HZ = 500.0
PRIORITY = 80
BLOCK_S = 2.5


class EchoArm:
    """Answers at once that it stands where it was last told to: an arm without a bus."""

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

    def read(self, deadline_ns: int) -> Reading:
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


def measure(seconds: float = 20.0) -> dict[str, object]:
    """Lateness [µs] of both, and the ratio loop / cyclictest; half of ``seconds`` for each."""
    robot = virtual_robot({"control.rate_hz": str(RATE_HZ)})
    cyclictest = shutil.which("cyclictest")
    cpu = control_cpu(robot.control.cpu)
    blocks = max(2, round(seconds / 2 / BLOCK_S))
    ours: list[Float] = []
    theirs: list[Float] = []
    granted: list[str] = []
    skipped = 0.0
    with load(2 * cores()):
        settle()
        for _ in range(blocks):
            late, missed, granted = apart(_loop_block, robot, BLOCK_S)
            ours.append(late)
            skipped += missed
            if cyclictest is not None:
                theirs.append(_cyclictest_block(cyclictest, cpu, BLOCK_S))
    result: dict[str, object] = {
        "rate_hz": RATE_HZ,
        "load_processes": 2 * cores(),
        "realtime": granted,
        "loop_us": percentiles(np.concatenate(ours)),
        "loop_ticks": sum(map(len, ours)),
        "loop_skipped_periods": skipped,
    }
    if not theirs:
        result["cyclictest"] = "not installed, or refused its priority (Debian package rt-tests)"
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


def _cyclictest_block(program: str, cpu: int, seconds: float) -> Float:
    """One block of cyclictest: lateness [µs] of every wake-up, out of its histogram."""
    with tempfile.TemporaryDirectory(prefix="cadenza-cyclictest-") as folder:
        report = Path(folder) / "report.json"
        done = subprocess.run(
            [
                *(program, "--quiet", "--mlockall", f"--priority={PRIORITY}", "--policy=fifo", "--threads=1"),
                *(f"--affinity={cpu}", f"--interval={round(1e6 / RATE_HZ)}", f"--loops={round(seconds * RATE_HZ)}"),
                *("--histogram=100000", "--histfile=/dev/null", f"--json={report}"),
            ],
            capture_output=True,
            check=False,
            timeout=seconds + 60,
        )
        if done.returncode != 0 or not report.exists():
            return np.zeros(0)
        thread: dict[str, Any] = json.loads(report.read_text())["thread"]["0"]
    counts = {int(late): int(count) for late, count in thread["histogram"].items()}
    values = np.repeat(np.array(list(counts), dtype=np.float64), list(counts.values()))
    beyond = int(thread["cycles"]) - len(values)
    return np.concatenate([values, np.full(max(0, beyond), float(thread["max"]))])


if __name__ == "__main__":
    print(json.dumps(measure(float(sys.argv[1]) if len(sys.argv) > 1 else 20.0), indent=2))

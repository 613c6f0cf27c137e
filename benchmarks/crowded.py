"""500 ticks a second at 4 Mbit/s with two cameras, inference and recorder, all on two cores, beside the loop alone.

Twice: with the virtual arm, whose servos answer real bytes in real wire time but find their processor time on the same
two cores, as do physics and rendering; and with an arm and cameras that are not there (benchmarks.stand_ins) and take
the time that real ones would. Blocks with the crowd and blocks without cameras and policy take turns; what counts is
the ratio of the two.

python -m benchmarks --only crowded --seconds 120
"""

from __future__ import annotations

import json
import os
import sys
import tempfile
from collections import defaultdict
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.rig import ROBOT_FILE, percentiles, virtual_robot
from benchmarks.stand_ins.daemon import STAND_INS
from cadenza.certifying.blocks import LoopBlock, loop_block
from cadenza.certifying.daemon import CertifiedDaemon
from cadenza.certifying.sway import sway
from controller.realtime import control_cpu
from controller.sources import playback_source, policy_source
from controller.supervisor import Supervisor
from controller.workers.playback import write_motion
from drivers.virtual import VirtualRobot
from export.bundle import Bundle
from export.exporter import export_checkpoint
from spec.robot import Robot

RATE_HZ, BAUD, CORES = 500, 4_000_000, 2
BAR = 1.2
"""Lateness p99.9 in the crowd, as a multiple of that alone."""
_BLOCK_S, _FEWEST = 10.0, 2


class _StandInDaemon(CertifiedDaemon):
    """Its arm and its cameras are stand-ins."""

    def _add(self, name: str, module: str, *arguments: str) -> None:
        Supervisor._add(self, name, STAND_INS.get(module, module), *arguments)


def measure(seconds: float = 60.0) -> dict[str, object]:
    """Lateness [µs], missed ticks, bus success and drops, in the crowd and alone, and the ratios."""
    robot = virtual_robot({"control.rate_hz": str(RATE_HZ), "follower.baud": str(BAUD)})
    pairs = max(_FEWEST, round(seconds / 4 / _BLOCK_S))
    with tempfile.TemporaryDirectory(prefix="cadenza-bench-") as folder, _two_cores(robot):
        bundle = export_checkpoint(ROBOT_FILE.parents[1] / "assets/policy/push", Path(folder) / "bundle")
        stand_ins = _turns(_StandInDaemon, robot, bundle, Path(folder), pairs)
        with VirtualRobot(robot) as virtual:
            real_bytes = _turns(CertifiedDaemon, virtual.robot, bundle, Path(folder), pairs)
    return {"rate_hz": RATE_HZ, "baud": BAUD, "cores": CORES, "stand_ins": stand_ins, "virtual_arm": real_bytes}


@contextmanager
def _two_cores(robot: Robot) -> Iterator[None]:
    """Whatever is started within has the control core and one other, however many there are."""
    every = os.sched_getaffinity(0)
    core = control_cpu(robot.control.cpu)
    os.sched_setaffinity(0, {core, *sorted(every - {core})[: CORES - 1]})
    try:
        yield
    finally:
        os.sched_setaffinity(0, every)


def _turns(daemon: type[CertifiedDaemon], robot: Robot, bundle: Bundle, folder: Path, pairs: int) -> dict[str, object]:
    blocks: dict[str, list[LoopBlock]] = defaultdict(list)
    dropped: dict[str, int] = defaultdict(int)
    motion = write_motion(sway(robot.limits(), _BLOCK_S + 60.0).motion, folder / "motion.npz")
    alone = robot.model_copy(update={"cameras": {}})
    kinds: dict[str, tuple[Any, ...]] = {
        "alone": (alone, playback_source(motion), None),
        "crowded": (robot, policy_source(bundle), bundle),
    }
    for _ in range(pairs):
        for kind, (which, source, drives) in kinds.items():
            with daemon(which, source, folder / "run", lambda _: None, bundle=drives) as run:
                ticks = run.block(_BLOCK_S, lambda: None)
                dropped[kind] += run.dropped
            blocks[kind].append(loop_block(ticks, {}, 0, stressed=False))
    found = {kind: _figures(blocks[kind], dropped[kind]) for kind in kinds}
    late = {kind: percentiles(_joined(blocks[kind], "lateness")) for kind in kinds}
    ratio = {name: late["crowded"][name] / max(1.0, late["alone"][name]) for name in late["alone"]}
    return {**found, "ratio": ratio, "bar": BAR, "within_bar": ratio["p99_9"] <= BAR}


def _figures(blocks: Sequence[LoopBlock], dropped: int) -> dict[str, object]:
    ticks = sum(len(block.lateness_us) for block in blocks)
    missed = sum(block.missed for block in blocks)
    return {
        "late_us": percentiles(_joined(blocks, "lateness")),
        "exchange_us": percentiles(_joined(blocks, "read")),
        "ticks": ticks,
        "missed_share": missed / max(1, ticks + missed),
        "bus_success": 1.0 - sum(block.lost for block in blocks) / max(1, ticks),
        "followed_share": sum(block.driven for block in blocks) / max(1, ticks),
        "records_dropped": dropped,
    }


def _joined(blocks: Sequence[LoopBlock], what: str) -> Any:
    return np.concatenate([block.lateness_us if what == "lateness" else block.phases_us[what] for block in blocks])


if __name__ == "__main__":
    print(json.dumps(measure(float(sys.argv[1]) if len(sys.argv) > 1 else 60.0), indent=2))

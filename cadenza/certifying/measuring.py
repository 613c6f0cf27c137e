"""Blocks of the daemon with cyclictest beside it, plain and under stress in turns, so that both see the same machine.

cyclictest runs on the loop's core, at its interval, over the very same seconds: what the machine does to the one, a
host that takes the processor away above all, it does to the other. At one priority each would wait for the other's
turn, so cyclictest has the next higher one: the loop never delays it, and it costs the loop some microseconds a period.
Both can only make the reference better and the loop worse.
"""

from __future__ import annotations

import contextlib
import math
import multiprocessing
import os
import signal
import time
from collections.abc import Callable, Mapping
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from cadenza.certifying.blocks import IN_REPORT, LoopBlock, ReferenceBlock, loop_block
from cadenza.certifying.cyclictest import cyclictest, samples_of
from cadenza.certifying.daemon import CertifiedDaemon
from cadenza.certifying.stress import stress
from controller.realtime import control_cpu, enter_realtime
from controller.sources import ChunkSource
from controller.wiring.vigil import CONTROL
from export.bundle import Bundle
from spec.arrays import Float
from spec.errors import CadenzaError
from spec.robot import Realtime, Robot

HIGHEST_PRIORITY = os.sched_get_priority_max(os.SCHED_FIFO) - 1
"""Of a loop that can be certified: cyclictest has the next higher one."""
BLOCK_S = 30.0
"""Longest block [s]."""
_FEWEST = 2
"""Blocks of each kind."""
_EACH_START_S = 7.0
"""A daemon takes so long to start, to go to the start pose and to end, roughly [s]."""


@dataclass(frozen=True, slots=True)
class Setting:
    """What is certified."""

    robot: Robot
    """With real ports."""
    source: ChunkSource | None
    """What the arm follows; None: it only holds."""
    bundle: Bundle | None
    out: Path
    say: Callable[[str], None]


@dataclass(frozen=True, slots=True)
class Measured:
    """Everything that was seen."""

    loop: tuple[LoopBlock, ...]
    reference: tuple[ReferenceBlock, ...]


def granted_privileges(robot: Robot) -> tuple[str, ...]:
    """What real time needs, granted; asked for in a process that is gone afterwards.

    Raises:
        CadenzaError: one that a punctual loop cannot do without is not; says how to get it.
    """
    control = robot.control
    # A process that still imports would print a traceback.
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn")) as pool:
            return pool.submit(_granted, control.priority, control.cpu).result()
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _granted(priority: int, cpu: int | None) -> tuple[str, ...]:
    report = enter_realtime(Realtime.ENFORCE, priority, cpu)
    return tuple(privilege.name for privilege in report.privileges if privilege.granted)


def plan(minutes: float) -> tuple[int, float]:
    """Blocks of each kind, plain and stressed each, and their length [s], for so many minutes of the loop."""
    each_s = minutes * 60.0 / 2
    count = max(_FEWEST, math.ceil(each_s / BLOCK_S))
    return count, each_s / count


def expected_minutes(minutes: float) -> float:
    """How long it takes altogether [min]."""
    count, seconds = plan(minutes)
    return 2 * count * (seconds + _EACH_START_S) / 60.0


def measure(setting: Setting, minutes: float, done: Callable[[str], None]) -> Measured:
    """Let them take turns.

    Args:
        setting: what is certified.
        minutes: for which the loop runs altogether [min].
        done: told what comes next, before each of two blocks a round.

    Raises:
        CadenzaError: the arm faulted, a process is gone, or cyclictest cannot run.
        KeyboardInterrupt: somebody wants the end.
    """
    count, seconds = plan(minutes)
    began_ns = time.monotonic_ns()
    loop: list[LoopBlock] = []
    reference: list[ReferenceBlock] = []
    for number in range(count):
        for stressed in (False, True):
            what = f"block {number + 1} of {count}, {'under stress' if stressed else 'plain'}"
            done(what)
            try:
                with stress(setting.out) if stressed else contextlib.nullcontext():
                    loop_and_reference = _block(setting, seconds, began_ns, stressed)
            except CadenzaError as error:
                raise CadenzaError(f"{what}: {error}") from None
            loop.append(loop_and_reference[0])
            reference.append(loop_and_reference[1])
    return Measured(tuple(loop), tuple(reference))


def _block(setting: Setting, seconds: float, began_ns: int, stressed: bool) -> tuple[LoopBlock, ReferenceBlock]:
    control, from_s = setting.robot.control, 0.0
    collect: Callable[[], Float] | None = None
    daemon = CertifiedDaemon(setting.robot, setting.source, setting.out, setting.say, bundle=setting.bundle)
    with daemon, contextlib.ExitStack() as beside:

        def begin() -> None:
            nonlocal from_s, collect
            from_s = (time.monotonic_ns() - began_ns) * 1e-9
            core, tick = control_cpu(control.cpu), daemon.watch.tick
            in_step_ns = None if tick is None else tick.deadline_ns
            reference = cyclictest(control.rate_hz, control.priority + 1, core, seconds, in_step_ns)
            collect = beside.enter_context(reference)

        ticks = daemon.block(seconds, begin)
        lateness = np.zeros(0) if collect is None else collect()
    if daemon.interrupted:  # while cyclictest ended, or the daemon itself did
        raise KeyboardInterrupt
    return (
        loop_block(ticks, _spent(daemon.processes[CONTROL].report), began_ns, stressed=stressed),
        ReferenceBlock(stressed, from_s, from_s + seconds, lateness),
    )


def _spent(report: Mapping[str, Any]) -> dict[str, Float]:
    counted = report.get("spent_us", {})
    return {phase: samples_of(counted.get(phase, {})) for phase in IN_REPORT}

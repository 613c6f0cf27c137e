"""cyclictest as the reference: how late this kernel wakes a C program that does nothing else.

Debian package rt-tests; https://wiki.linuxfoundation.org/realtime/documentation/howto/tools/cyclictest/start
"""

from __future__ import annotations

import contextlib
import json
import subprocess
import tempfile
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import numpy as np

from cadenza.certifying.programs import CYCLICTEST, bound, end, find_program
from spec.arrays import Float
from spec.errors import CadenzaError

_HISTOGRAM_US = 100_000
_PATIENCE_S = 60.0
_AFTER_NS = 50_000
"""So much after a tick's instant it wakes: the tick has begun by then. One pause makes both as late."""


@contextlib.contextmanager
def cyclictest(
    rate_hz: float, priority: int, core: int, seconds: float, tick_ns: int | None = None
) -> Iterator[Callable[[], Float]]:
    """Start it; what is yielded waits for its end. It does not outlive the context, nor this process.

    Args:
        rate_hz: of its wake-ups.
        priority: SCHED_FIFO.
        core: it runs on.
        seconds: for so long.
        tick_ns: instant of any tick that it is to be in step with [ns]; where the period divides a second it stays so.

    What it brings is the lateness [µs] of every wake-up, rising; cyclictest counts whole microseconds.

    Raises:
        CadenzaError: not installed; or, while it is waited for, that the kernel refuses it the priority.
    """
    with tempfile.TemporaryFile(prefix="cadenza-cyclictest-") as report:  # of no name: nothing is left of it
        words = [
            *(
                find_program(CYCLICTEST),
                "--quiet",
                "--mlockall",
                f"--priority={priority}",
                "--policy=fifo",
                "--threads=1",
            ),
            *(f"--affinity={core}", f"--interval={round(1e6 / rate_hz)}", f"--loops={round(seconds * rate_hz)}"),
            *(f"--histogram={_HISTOGRAM_US}", "--histfile=/dev/null", f"--json=/dev/fd/{report.fileno()}"),
            *([] if tick_ns is None else [f"--secaligned={(tick_ns + _AFTER_NS) % 1_000_000_000 // 1000}"]),
        ]
        process = subprocess.Popen(
            bound(words),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            pass_fds=(report.fileno(),),
            process_group=0,
        )

        def collect() -> Float:
            try:
                said = process.communicate(timeout=seconds + _PATIENCE_S)[1].decode(errors="replace").split("\n")
            except subprocess.TimeoutExpired:
                raise CadenzaError(f"cyclictest: not finished after {seconds + _PATIENCE_S:.0f} s") from None
            found = report.read()  # from its beginning: cyclictest opens it anew
            if process.returncode != 0 or not found:
                words = [line for line in said if line] or [f"status {process.returncode}"]
                raise CadenzaError(f"cyclictest: {words[-1]}")
            return _lateness_us(json.loads(found)["thread"]["0"])

        try:
            yield collect
        finally:
            end(process)


def _lateness_us(thread: Mapping[str, Any]) -> Float:
    """Of one thread's report; those beyond its histogram count as the largest."""
    counted = samples_of(thread["histogram"])
    beyond = max(0, int(thread["cycles"]) - len(counted))
    return np.concatenate([counted, np.full(beyond, float(thread["max"]))])


def samples_of(histogram: Mapping[str, int]) -> Float:
    """Every sample that was counted, rising: ``{"3": 2}`` is 3, 3."""
    counts = sorted((int(value), int(count)) for value, count in histogram.items())
    return np.repeat(np.array([value for value, _ in counts], dtype=np.float64), [count for _, count in counts])

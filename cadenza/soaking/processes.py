"""What processes hold, as the kernel tells it: memory, descriptors, threads, processor time, shared memory."""

from __future__ import annotations

import os
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from controller.wiring.room import SHARED_MEMORY

_TICK_S = 1.0 / os.sysconf("SC_CLK_TCK")


@dataclass(frozen=True, slots=True)
class Usage:
    """Of one process, proc_pid_status(5)."""

    pid: int
    rss_mb: float
    """Resident memory, shared pages included [MB]."""
    descriptors: int
    threads: int
    cpu_s: float
    """Processor time since its start [s]."""


def usage(pid: int) -> Usage | None:
    """Of one process; None once it is gone."""
    try:
        process = Path(f"/proc/{pid}")
        facts = dict(line.split(":\t", 1) for line in (process / "status").read_text().splitlines() if ":\t" in line)
        fields = (process / "stat").read_text().rpartition(")")[2].split()
        return Usage(
            pid,
            _mb(facts["VmRSS"]),
            sum(1 for _ in (process / "fd").iterdir()),
            int(facts["Threads"]),
            (int(fields[11]) + int(fields[12])) * _TICK_S,
        )
    except (OSError, KeyError, IndexError):  # it ended while we looked
        return None


def shared_memory(namespace: str) -> tuple[int, float]:
    """Segments of one run, and their size [MB]."""
    sizes = []
    for path in SHARED_MEMORY.glob(f"cadenza_{namespace}_*"):
        with suppress(OSError):
            sizes.append(path.stat().st_blocks * 512)
    return len(sizes), sum(sizes) / 1e6


def busy_s() -> float:
    """Processor time of everything on this machine since it started [s], proc_stat(5)."""
    user, nice, system, _, _, irq, softirq, steal = map(int, Path("/proc/stat").read_text().split(maxsplit=9)[1:9])
    return (user + nice + system + irq + softirq + steal) * _TICK_S


def _mb(kilobytes: str) -> float:
    return int(kilobytes.split(maxsplit=1)[0]) * 1024 / 1e6

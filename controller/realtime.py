"""Asking the kernel for what a hard-timed process needs, and saying plainly what it did not grant and why."""

from __future__ import annotations

import ctypes
import gc
import os
import struct
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from spec.errors import CadenzaError
from spec.robot import Realtime

_MCL_CURRENT_AND_FUTURE = 3  # sys/mman.h
DMA_LATENCY = Path("/dev/cpu_dma_latency")
_ISOLATED = Path("/sys/devices/system/cpu/isolated")


@dataclass(frozen=True, slots=True)
class Privilege:
    """One thing asked for."""

    name: str
    granted: bool
    detail: str
    """What was granted, or why not and how to get it."""

    def __str__(self) -> str:
        return f"{self.name}: {'' if self.granted else 'NOT '}granted, {self.detail}"


@dataclass(frozen=True, slots=True)
class RealtimeReport:
    """What was obtained. Keep it alive as long as the loop runs: it holds the power-management request open."""

    wanted: Realtime
    privileges: tuple[Privilege, ...] = ()
    latency_request: int = -1
    """File descriptor of /dev/cpu_dma_latency; closing it withdraws the request."""

    @property
    def missing(self) -> tuple[Privilege, ...]:
        return tuple(privilege for privilege in self.privileges if not privilege.granted)

    def lines(self) -> list[str]:
        """For people, one line each."""
        return [str(privilege) for privilege in self.privileges] or ["real time: not asked for"]


def control_cpu(wanted: int | None) -> int:
    """The core the control process is meant for: the one named, else the last this process may use.

    Raises:
        CadenzaError: no such core here.
    """
    if wanted is None:
        return max(os.sched_getaffinity(0))
    usable = usable_cores()
    if wanted not in usable:
        raise CadenzaError(f"control.cpu: {wanted}: not a core this process may use (valid: {_listed(usable)})")
    return wanted


def usable_cores() -> list[int]:
    """Those this process may use, and those the scheduler leaves to whoever asks for them by name (isolcpus)."""
    try:
        isolated = _ISOLATED.read_text(encoding="ascii")
    except OSError:
        isolated = ""
    return sorted(os.sched_getaffinity(0) | cores_of(isolated))


def cores_of(text: str) -> set[int]:
    """A list of cores as the kernel writes it: ``0,2-4``."""
    found: set[int] = set()
    for part in text.split(","):
        first, _, last = part.strip().partition("-")
        if first.isdecimal():
            found |= set(range(int(first), int(last if last.isdecimal() else first) + 1))
    return found


def enter_realtime(wanted: Realtime, priority: int, cpu: int | None) -> RealtimeReport:
    """Make this process as punctual as the kernel allows.

    Start helper processes and threads before: they inherit the scheduling policy and the core.

    Args:
        wanted: ENFORCE refuses to go on when a privilege is missing, TRY reports it, OFF asks for nothing.
        priority: SCHED_FIFO priority, 1 to 99.
        cpu: core to pin to; None picks the last one.

    Raises:
        CadenzaError: with ENFORCE, names every privilege that is missing and how to get it.
    """
    if wanted is Realtime.OFF:
        return RealtimeReport(wanted)
    core = control_cpu(cpu)
    privileges = [
        _attempt("memory locked", _lock_memory, "give CAP_IPC_LOCK or 'memlock unlimited' in limits.d"),
        _attempt(f"pinned to core {core}", lambda: os.sched_setaffinity(0, {core}), "name another control.cpu"),
        _attempt(
            f"SCHED_FIFO {priority}",
            lambda: os.sched_setscheduler(0, os.SCHED_FIFO, os.sched_param(priority)),
            f"give CAP_SYS_NICE or 'rtprio {priority}' in limits.d; inside a container also --ulimit rtprio",
        ),
    ]
    request, power = _hold_latency()
    privileges.append(power)
    privileges.append(_freeze_garbage())
    report = RealtimeReport(wanted, tuple(privileges), request)
    # Power management is not a privilege to insist on: many machines have no idle states to forbid.
    lacking = [privilege for privilege in report.missing if privilege is not power]
    if wanted is Realtime.ENFORCE and lacking:
        raise CadenzaError(f"control.realtime: 'enforce': {'; '.join(map(str, lacking))}")
    return report


def _attempt(name: str, action: Callable[[], None], remedy: str) -> Privilege:
    try:
        action()
    except OSError as error:
        return Privilege(name, False, f"{error.strerror or error}; {remedy}")
    return Privilege(name, True, "as asked")


def _lock_memory() -> None:
    """mlockall: a page fault in the loop costs a disk read."""
    library = ctypes.CDLL(None, use_errno=True)
    if library.mlockall(_MCL_CURRENT_AND_FUTURE) != 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))


def _hold_latency() -> tuple[int, Privilege]:
    """Ask for no deep idle states for as long as the file stays open (kernel doc: PM Quality of Service)."""
    name = "idle latency 0 µs"
    try:
        descriptor = os.open(DMA_LATENCY, os.O_WRONLY | os.O_CLOEXEC)
    except OSError as error:
        return -1, Privilege(name, False, f"{DMA_LATENCY}: {error.strerror}; wake-ups may take longer")
    try:
        os.write(descriptor, struct.pack("i", 0))
    except OSError as error:
        os.close(descriptor)
        return -1, Privilege(name, False, f"{DMA_LATENCY}: {error.strerror}; wake-ups may take longer")
    return descriptor, Privilege(name, True, "as asked")


def _freeze_garbage() -> Privilege:
    """A full collection of 10⁶ objects takes 140 ms; frozen and disabled it takes nothing. A tick makes no cycles."""
    gc.collect()
    gc.freeze()
    gc.disable()
    return Privilege("garbage collector off", True, f"{gc.get_freeze_count()} objects frozen")


def _listed(cores: list[int]) -> str:
    return ", ".join(map(str, cores))

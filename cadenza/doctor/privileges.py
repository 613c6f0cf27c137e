"""What this user may ask of the kernel: real-time priority and locked memory. And how to be allowed."""

from __future__ import annotations

import os
import resource
import threading
from dataclasses import dataclass
from pathlib import Path

from cadenza.doctor.finding import Finding, failure, text_of, warning, well
from spec.robot import Control, Realtime

_SYS_NICE, _IPC_LOCK = 23, 14  # linux/capability.h
_ENOUGH_LOCKED = 1 << 31
"""Memory the control process locks [B]: some 150 MB resident, and what its libraries map beside."""
_FILES, _FILES_ENOUGH = 64, 256
"""With two cameras and a leader arm the supervisor has 63 open and the control process 59; with 48 no run starts, with
56 only one without a leader. The limits of most machines begin at 1024."""


@dataclass(frozen=True, slots=True)
class Rights:
    """Of this process, as the kernel has them."""

    priority: int
    """Highest real-time priority by RLIMIT_RTPRIO."""
    locked: int
    """Memory it may lock [B]; -1 for any."""
    capabilities: int
    """Effective ones, a bit mask."""
    granted: bool
    """Whether the kernel gave the priority when asked."""

    @classmethod
    def here(cls, priority: int) -> Rights:
        """Ask the kernel."""
        status = dict(line.split(":\t", 1) for line in text_of(Path("/proc/self/status")).splitlines() if ":\t" in line)
        return cls(
            resource.getrlimit(resource.RLIMIT_RTPRIO)[0],
            resource.getrlimit(resource.RLIMIT_MEMLOCK)[0],
            int(status.get("CapEff", "0"), 16),
            _granted(priority),
        )

    def may(self, capability: int) -> bool:
        return bool(self.capabilities >> capability & 1)


def check_privileges(rights: Rights, control: Control) -> list[Finding]:
    """Both, as bad as the robot file takes them to be."""
    bad = failure if control.realtime is Realtime.ENFORCE else warning
    lines = f"'@realtime - rtprio {control.priority}' '@realtime - memlock unlimited'"
    fix = (
        f"printf '%s\\n' {lines} | sudo tee /etc/security/limits.d/90-cadenza.conf; sudo groupadd -f realtime; "
        "sudo usermod -aG realtime $USER; log out and in. A service gets both: cadenza service install"
    )
    wanted = f"SCHED_FIFO {control.priority}"
    if rights.granted:
        findings = [well("real-time priority", wanted)]
    elif rights.may(_SYS_NICE) or rights.priority >= control.priority:
        why = "the rights are there, the kernel refuses all the same: a container or group without real-time share"
        findings = [bad("real-time priority", f"no {wanted}", why, "docker: --cap-add sys_nice --ulimit rtprio=99")]
    else:
        value = f"up to {rights.priority}, {control.priority} wanted"
        findings = [bad("real-time priority", value, "any busy process can keep the loop from its core", fix)]
    if rights.may(_IPC_LOCK) or rights.locked in {-1, resource.RLIM_INFINITY} or rights.locked >= _ENOUGH_LOCKED:
        findings.append(well("locked memory", "as much as it takes"))
    else:
        value = f"{rights.locked / 1e6:.0f} MB"
        findings.append(bad("locked memory", value, "a page that was swapped out costs a tick a read from disk", fix))
    return findings


def check_files(limit: int | None = None) -> Finding:
    """How many files a process may have open: every topic, process and device of a run is one or two.

    Args:
        limit: RLIMIT_NOFILE; None for this process's own.
    """
    soft = resource.getrlimit(resource.RLIMIT_NOFILE)[0] if limit is None else limit
    if soft == resource.RLIM_INFINITY or soft >= _FILES_ENOUGH:
        return well("open files", "any number" if soft == resource.RLIM_INFINITY else f"up to {soft}")
    fix = (
        "ulimit -n 1024; for good: echo '* - nofile 1024' | sudo tee /etc/security/limits.d/91-cadenza-files.conf; "
        "log out and in. A service: LimitNOFILE=1024"
    )
    if soft < _FILES:
        return failure("open files", f"up to {soft}", f"a run needs {_FILES}, and could not start", fix)
    return warning("open files", f"up to {soft}", "more cameras, a leader arm, a swap of weights need more", fix)


def _granted(priority: int) -> bool:
    """Try it in a thread that ends at once."""
    tried: list[bool] = []

    def attempt() -> None:
        try:
            os.sched_setscheduler(0, os.SCHED_FIFO, os.sched_param(priority))
        except OSError:
            tried.append(False)
        else:
            tried.append(True)

    thread = threading.Thread(target=attempt)
    thread.start()
    thread.join()
    return tried[0]

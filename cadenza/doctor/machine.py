"""Room to record in, memory to share, and the versions of what a run stands on."""

from __future__ import annotations

import os
import platform
import shlex
import shutil
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import numpy as np

from cadenza.doctor.finding import Finding, failure, warning, well
from controller.dictation import LEAST_FREE_BYTES
from controller.wiring.room import SHARED_MEMORY, free_bytes

_PLENTY_BYTES = 20_000_000_000
"""Some hours of two cameras and every tick."""
_RATE_MB_S = 20.0
"""Two cameras and the ticks come to about 2 MB/s; a disk that is ten times faster has others to serve as well."""
_SYNC_S = 0.5
"""The recorder syncs every second; what it may lose at a power cut grows with the time that takes [s]."""
_RUNS = 2
"""So many runs should have room in shared memory: a second beside the first, or what one that was killed left there."""
_NO_RECORDING, _ELSEWHERE = "nothing can be recorded there", "another folder: --out /another/disk/run"
_SYNCS, _BLOCK, _BLOCKS = 20, 1 << 20, 32
PACKAGES = ("numpy", "onnxruntime-gpu", "onnxruntime", "opencv-python-headless", "iceoryx2", "dynamixel-sdk", "mujoco")


@dataclass(frozen=True, slots=True)
class DiskSpeed:
    """Of a folder, measured."""

    mb_s: float
    """Written and synced."""
    sync_s: tuple[float, ...]
    """Time of each fdatasync after 64 KiB [s]."""


def measure_disk(folder: Path) -> DiskSpeed:
    """Write 32 MB and sync, then sync small pieces. Raises OSError."""
    block = os.urandom(_BLOCK)
    with tempfile.TemporaryFile(dir=folder) as file:
        began = time.monotonic()
        for _ in range(_BLOCKS):
            file.write(block)
        file.flush()
        os.fdatasync(file.fileno())
        took = time.monotonic() - began
        syncs: list[float] = []
        for _ in range(_SYNCS):
            file.write(block[: _BLOCK // 16])
            file.flush()
            began = time.monotonic()
            os.fdatasync(file.fileno())
            syncs.append(time.monotonic() - began)
    return DiskSpeed(_BLOCK * _BLOCKS / 1e6 / took, tuple(syncs))


def check_disk(folder: Path, free: int, speed: DiskSpeed | OSError) -> list[Finding]:
    """Whether episodes can be recorded there.

    Args:
        folder: where runs go.
        free: [B]
        speed: as measured, or why it could not be.
    """
    room = f"{free / 1e9:.1f} GB free for {folder}"
    prune = "cadenza episodes prune FOLDER --keep-gb 20; or another --out"
    if free < LEAST_FREE_BYTES:
        findings = [failure("disk room", room, "an episode would not be begun", prune)]
    elif free < _PLENTY_BYTES:
        findings = [warning("disk room", room, "recording ends when it is full", prune)]
    else:
        findings = [well("disk room", room)]
    if isinstance(speed, OSError):
        named = shlex.quote(str(folder))
        forbidden = isinstance(speed, PermissionError)
        fix = f"sudo mkdir -p {named}; sudo chown $USER {named}" if forbidden else _ELSEWHERE
        return [*findings, failure("disk speed", speed.strerror or str(speed), _NO_RECORDING, fix)]
    slowest = max(speed.sync_s)
    value = f"{speed.mb_s:.0f} MB/s, sync {1e3 * float(np.median(speed.sync_s)):.1f} ms, slowest {1e3 * slowest:.0f} ms"
    if speed.mb_s < _RATE_MB_S or slowest > _SYNC_S:
        why = "a slow disk lets the recorder fall behind, and drop"
        return [*findings, warning("disk speed", value, why, "record to an SSD: --out /another/disk/run")]
    return [*findings, well("disk speed", value)]


def disk_of(folder: Path) -> list[Finding]:
    """The disk of a folder, or of the nearest above it that is there."""
    wanted = folder.absolute()
    there = next(path for path in (wanted, *wanted.parents) if path.exists())
    if not there.is_dir():
        return [failure("disk room", f"{there} is no folder", _NO_RECORDING, _ELSEWHERE)]
    usage = shutil.disk_usage(there)
    if not usage.total:  # /proc, /sys
        return [failure("disk room", f"{there} is no disk, but the kernel's", _NO_RECORDING, _ELSEWHERE)]
    try:
        speed: DiskSpeed | OSError = measure_disk(there)
    except OSError as error:
        speed = error
    return check_disk(wanted, usage.free, speed)


def check_shared(free: int | OSError, run: int) -> Finding:
    """Memory through which ticks and pictures go.

    Args:
        free: [bytes], or why nobody can tell.
        run: what one run takes [bytes].
    """
    name, fix = "shared memory", f"sudo mount -o remount,size=1G {SHARED_MEMORY}; docker: --shm-size=1g"
    if isinstance(free, OSError):
        return failure(name, f"{SHARED_MEMORY}: {free.strerror}", "the processes of a run could not start", fix)
    value = f"{free / 1e6:.0f} MB free, {run / 1e6:.0f} MB needed for a run"
    if free < run:
        return failure(name, value, "the processes of a run could not start", fix)
    if free < _RUNS * run:
        return warning(name, value, "a second run beside the first would be refused", fix)
    return well(name, value)


def _shared() -> int | OSError:
    try:
        return free_bytes()
    except OSError as error:
        return error


def check_resolution(seconds: float) -> Finding:
    """Of CLOCK_MONOTONIC [s]."""
    if seconds <= 1e-6:
        return well("clock resolution", f"{seconds * 1e9:g} ns")
    why = "sleeps end at the next timer interrupt, not at their time"
    return failure("clock resolution", f"{seconds * 1e6:g} µs", why, "remove highres=off and nohz=off from the kernel")


def check_versions(packages: Sequence[str] = PACKAGES) -> Finding:
    """What is installed, for a report of trouble."""
    found = {package: _version(package) for package in packages}
    listed = ", ".join(f"{name} {number}" for name, number in found.items() if number)
    return well("versions", f"Python {platform.python_version()}, Linux {platform.release()}, {listed}")


def check_machine(folder: Path, run: int) -> list[Finding]:
    """All of it.

    Args:
        folder: where runs go.
        run: what one takes of shared memory [bytes].
    """
    return [
        *disk_of(folder),
        check_shared(_shared(), run),
        check_resolution(time.clock_getres(time.CLOCK_MONOTONIC)),
        check_versions(),
    ]


def _version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None

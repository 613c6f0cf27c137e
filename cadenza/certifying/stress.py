"""Load for a machine that is to show its timing: processor, memory, disk, and interpreters.

Cameras, inference and recorder are the daemon's own load and not made here. Debian package stress-ng.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

from cadenza.certifying.programs import STRESS_NG, bound, end, find_program
from spec.errors import CadenzaError

_VM_BYTES, _HDD_BYTES = "256m", "64m"
_SETTLE_S = 0.5
_LONGEST_S = 1200
"""No block takes so long, however patient it is with the arm; then stress-ng ends by itself [s]."""
_LEFT = "tmp-stress-ng-*"
"""What stress-ng makes in its folder, and leaves there if it is killed."""


@contextlib.contextmanager
def stress(folder: Path) -> Iterator[None]:
    """Keep every core busy twice over, memory and disk as well, at normal priority.

    Args:
        folder: on the disk to write to and sync.

    It ends with this process, however that ends: stress-ng ends its own children, and removes what it wrote.

    Raises:
        CadenzaError: there was no load, or not until the end.
    """
    program, count = find_program(STRESS_NG), cores()
    folder.mkdir(parents=True, exist_ok=True)
    with interpreters(count):
        words = [
            *(program, "--quiet", "--temp-path", str(folder), "--oom-avoid", "--timeout", str(_LONGEST_S)),
            *("--cpu", str(count)),
            *("--vm", "1", "--vm-bytes", _VM_BYTES, "--hdd", "1", "--hdd-bytes", _HDD_BYTES, "--hdd-opts", "fsync"),
        ]
        process = _start(words)
        try:
            time.sleep(_SETTLE_S)
            if process.poll() is not None:
                raise CadenzaError(f"stress-ng: ended at once with status {process.returncode}")
            yield
            if process.poll() is not None:
                raise CadenzaError(f"stress-ng: ended before the block did, with status {process.returncode}")
        finally:
            end(process)
            for left in folder.glob(_LEFT):
                shutil.rmtree(left, ignore_errors=True)


@contextlib.contextmanager
def interpreters(count: int) -> Iterator[None]:
    """Keep ``count`` Python interpreters busy at normal priority."""
    code = "x = 0\nwhile True:\n    x = (x * 1103515245 + 12345) % 2147483648"
    busy = [_start([sys.executable, "-c", code]) for _ in range(count)]
    try:
        yield
    finally:
        for process in busy:
            process.kill()
            process.wait()


def _start(words: Sequence[str]) -> subprocess.Popen[bytes]:
    silent = subprocess.DEVNULL
    return subprocess.Popen(bound(words), stdin=silent, stdout=silent, stderr=silent, process_group=0)


def cores() -> int:
    """Cores this process may use."""
    return len(os.sched_getaffinity(0))

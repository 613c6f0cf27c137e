"""Small file systems of a live campaign's own, in a mount namespace of its own: to be filled, and made read-only.

Nothing of the machine's is touched, and whatever ends the campaign, the kernel takes them away with its last process.
"""

from __future__ import annotations

import contextlib
import shutil
import subprocess
from pathlib import Path

from controller.wiring.room import SHARED_MEMORY

UNSHARE = ("unshare", "--mount", "--propagation", "private")
_DISK_MB, _MEMORY_MB = 1500, 512
"""Sizes; memory is taken only for what is written [MB]. No recording begins with less than 500 MB free."""
_SPARE_BYTES = 2_000_000
"""What others may write between a look at what is used and the new size."""
_FILLER = "filler"


def can_mount() -> str | None:
    """Why no file system of one's own can be had here; None where it can."""
    command = [*UNSHARE, "mount", "-t", "tmpfs", "tmpfs", "/mnt"]
    try:
        tried = subprocess.run(command, capture_output=True, text=True, check=False)
    except OSError as error:
        return f"unshare: {error.strerror}"
    return None if tried.returncode == 0 else (tried.stderr.strip().splitlines() or ["unshare refuses"])[-1]


def furnish(folder: Path) -> None:
    """Mount a disk at ``folder`` and a shared memory, both small. For a process that :data:`UNSHARE` started."""
    folder.mkdir(parents=True, exist_ok=True)
    _mount("-t", "tmpfs", "-o", f"size={_DISK_MB}m", "tmpfs", str(folder))
    _mount("-t", "tmpfs", "-o", f"size={_MEMORY_MB}m", "tmpfs", str(SHARED_MEMORY))


def fill(folder: Path) -> None:
    """No byte more fits. Takes little memory itself: first the room is made small."""
    used = shutil.disk_usage(folder).used
    _mount("-o", f"remount,size={used + _SPARE_BYTES}", str(folder))
    with contextlib.suppress(OSError), (folder / _FILLER).open("wb", buffering=0) as file:
        while file.write(bytes(4096)):
            pass


def empty(folder: Path) -> None:
    """There is room again."""
    (folder / _FILLER).unlink(missing_ok=True)
    _mount("-o", f"remount,size={_MEMORY_MB if folder == SHARED_MEMORY else _DISK_MB}m", str(folder))


def lock(folder: Path) -> None:
    """Make it read-only; nobody may have a file open in it for writing."""
    _mount("--bind", str(folder), str(folder))
    _mount("-o", "remount,bind,ro", str(folder))


def unlock(folder: Path) -> None:
    """As it was before :func:`lock`."""
    subprocess.run(["umount", str(folder)], check=True, capture_output=True)


def _mount(*arguments: str) -> None:
    subprocess.run(["mount", *arguments], check=True, capture_output=True)

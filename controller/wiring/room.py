"""Room in shared memory, had before it is used.

The files behind shared memory are sparse: a full /dev/shm shows at the first write to a page, as SIGBUS, which kills
the writer. So whoever makes something there looks first whether there is room for it, and has the kernel set all of it
aside at once. What was set aside works for ever, however full it gets.
"""

from __future__ import annotations

import ctypes
import os
from pathlib import Path

from controller.wiring.topics import EVENTS, Topic, topics
from spec.errors import DeviceError
from spec.robot import Robot

SHARED_MEMORY = Path("/dev/shm")  # noqa: S108 (where iceoryx2 keeps its segments)
LINK_BYTES = 1_000_000
"""Ample for what ties one process to a topic, or to a run [bytes]; usual is 23 kB for each of its peers."""
_BESIDE_CAMERAS = 5
"""Processes of a run: supervisor, control, what makes chunks, teleop, recorder."""
_HELD = 4
"""Samples a publisher and each of its subscribers may hold beside those that wait."""
_HEADER_BYTES = 64
"""Of a sample."""


class NoRoomError(DeviceError):
    """Shared memory is full, now; it may be otherwise a moment later."""


def need(wanted: int, what: str) -> None:
    """Raise NoRoomError unless there are so many bytes."""
    try:
        free = free_bytes()
    except OSError as error:
        raise DeviceError(f"{SHARED_MEMORY}: {error.strerror}; the processes of a run meet there") from None
    if free < wanted:
        raise NoRoomError(
            f"{SHARED_MEMORY}: {free / 1e6:.1f} MB free, {wanted / 1e6:.1f} MB needed for {what}; "
            f"see what is in it (ls -lS {SHARED_MEMORY}), or enlarge it (mount -o remount,size=1G {SHARED_MEMORY})"
        )


def free_bytes() -> int:
    """How much is left. Raises OSError."""
    found = os.statvfs(SHARED_MEMORY)
    return found.f_bavail * found.f_frsize


def publisher_bytes(topic: Topic, length: int | None = None) -> int:
    """What one publisher of a topic takes; ``length``: of its longest byte string, where that is known."""
    sample = ctypes.sizeof(topic.payload) if topic.payload is not None else power_of_two(length or topic.first_bytes)
    return LINK_BYTES + (topic.subscribers * (topic.depth + _HELD) + _HELD) * (sample + _HEADER_BYTES)


def run_bytes(robot: Robot) -> int:
    """What a run takes: one publisher a topic, but events come from everybody."""
    processes = _BESIDE_CAMERAS + len(robot.cameras)
    senders = {EVENTS: processes}
    publishers = sum(publisher_bytes(topic) * senders.get(topic.name, 1) for topic in topics(robot).values())
    return LINK_BYTES * processes + publishers


def set_aside(prefix: str) -> None:
    """Have all that was made under a prefix filled with real memory.

    Raises:
        NoRoomError: there is not that much.
    """
    for path in SHARED_MEMORY.glob(f"{prefix}*"):
        try:
            descriptor = os.open(path, os.O_RDWR)
        except OSError:  # gone again, or another user's
            continue
        try:
            status = os.fstat(descriptor)
            if status.st_blocks * 512 < status.st_size:
                os.posix_fallocate(descriptor, 0, status.st_size)
        except OSError as error:
            raise NoRoomError(f"{SHARED_MEMORY}: {error.strerror}; see what is in it: ls -lS {SHARED_MEMORY}") from None
        finally:
            os.close(descriptor)


def power_of_two(length: int) -> int:
    """The next one, which byte strings of a length are given room for."""
    return 1 << max(0, length - 1).bit_length()

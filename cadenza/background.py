"""Work beside a robot that must not disturb it: long, heavy, and never in a hurry."""

from __future__ import annotations

import os
from contextlib import suppress
from pathlib import Path

from controller.wiring.placement import stay_off_control_core
from spec.robotfile import load_robot

_AUTOGROUP = Path("/proc/self/autogroup")


def give_way(nice: int, robot: Path | None = None) -> None:
    """Let every other program of this machine go first, the robot's above all.

    Threads and processes started afterwards do likewise. Where the kernel groups processes by session (autogroup, the
    default of most distributions) niceness counts within a session alone, and that of the session as a whole counts
    between them; so that is lowered too. It stays so for the terminal this was started from.

    Args:
        nice: niceness, 0 to 19; one that is higher already stays.
        robot: file of the robot that this machine controls: its control core is left alone. None: no robot here.

    Raises:
        SpecError: not a robot file.
    """
    os.nice(max(0, nice - os.getpriority(os.PRIO_PROCESS, 0)))
    if nice > 0:
        with suppress(OSError):  # a kernel without, or one that was asked a moment ago
            _AUTOGROUP.write_text(str(os.getpriority(os.PRIO_PROCESS, 0)), encoding="ascii")
    if robot is not None:
        stay_off_control_core(load_robot(robot).control)

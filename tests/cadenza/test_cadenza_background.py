"""A learner beside a robot."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from controller.realtime import control_cpu
from spec.robotfile import load_robot

ROBOT = Path("robots/virtual.yaml")
AUTOGROUP = Path("/proc/self/autogroup")
_ASK = """
import os
from pathlib import Path
from cadenza.background import give_way
give_way(7, Path("robots/virtual.yaml"))
give_way(3)
print(os.getpriority(os.PRIO_PROCESS, 0))
print(*sorted(os.sched_getaffinity(0)))
print(Path("/proc/self/autogroup").read_text() if Path("/proc/self/autogroup").exists() else "")
"""


def test_it_is_nice_to_its_own_session_and_to_others_and_leaves_the_control_core_alone() -> None:
    # In a session of its own: what is done to that must not be done to the tests'.
    command = [sys.executable, "-c", _ASK]
    said = subprocess.run(command, capture_output=True, text=True, check=True, start_new_session=True).stdout
    nice, cores, group = said.splitlines()[:3]
    before = os.getpriority(os.PRIO_PROCESS, 0)
    assert int(nice) == max(7, before)
    usable = os.sched_getaffinity(0)
    control = control_cpu(load_robot(ROBOT).control.cpu)
    assert {int(core) for core in cores.split()} == (usable - {control} or usable)
    if not AUTOGROUP.exists() or not os.access(AUTOGROUP, os.W_OK):
        pytest.skip("this kernel has no autogroups")
    assert group.endswith(f"nice {max(7, before)}")

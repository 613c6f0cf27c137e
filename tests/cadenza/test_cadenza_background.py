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
_ASK = """
import os
from pathlib import Path
from cadenza.background import give_way
give_way(7, Path("robots/virtual.yaml"))
give_way(3)
print(os.getpriority(os.PRIO_PROCESS, 0), *sorted(os.sched_getaffinity(0)))
"""


@pytest.mark.skipif(len(os.sched_getaffinity(0)) < 2, reason="needs two cores")
def test_it_is_nice_and_leaves_the_control_core_alone() -> None:
    said = subprocess.run([sys.executable, "-c", _ASK], capture_output=True, text=True, check=True).stdout.split()
    assert int(said[0]) == max(7, os.getpriority(os.PRIO_PROCESS, 0))
    control = control_cpu(load_robot(ROBOT).control.cpu)
    assert {int(core) for core in said[1:]} == os.sched_getaffinity(0) - {control}

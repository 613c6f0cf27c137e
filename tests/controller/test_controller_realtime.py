"""Privileges are asked for in a process of their own: they cannot be given back."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from controller.realtime import control_cpu, cores_of, enter_realtime
from spec.errors import CadenzaError
from spec.robot import Realtime


def _elsewhere(code: str, *before: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [*before, sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=False
    )


ENTER = """
import gc, os, resource
from controller.realtime import enter_realtime
from spec.errors import CadenzaError
from spec.robot import Realtime
{first}
try:
    report = enter_realtime(Realtime.{wanted}, 50, None)
except CadenzaError as error:
    print("refused", error)
else:
    print("\\n".join(report.lines()))
    print(os.sched_getscheduler(0), gc.isenabled(), len(os.sched_getaffinity(0)))
"""

WITHOUT_PRIVILEGES = """
resource.setrlimit(resource.RLIMIT_RTPRIO, (0, 0))
resource.setrlimit(resource.RLIMIT_MEMLOCK, (0, 0))
if os.getuid() == 0:
    os.setresuid(65534, 65534, 65534)
"""


def test_off_asks_for_nothing() -> None:
    scheduler = os.sched_getscheduler(0)
    report = enter_realtime(Realtime.OFF, 50, None)
    assert report.privileges == ()
    assert os.sched_getscheduler(0) == scheduler


def test_try_reports_each_privilege_and_what_was_obtained_is_true() -> None:
    done = _elsewhere(ENTER.format(wanted="TRY", first=""))
    *lines, facts = done.stdout.splitlines()
    scheduler, collecting, cores = facts.split()
    fifo = next(line for line in lines if line.startswith("SCHED_FIFO 50"))
    assert ("NOT granted" not in fifo) == (int(scheduler) == os.SCHED_FIFO)
    assert collecting == "False"
    assert cores == "1"


def test_try_without_privileges_says_how_to_get_them() -> None:
    done = _elsewhere(ENTER.format(wanted="TRY", first=WITHOUT_PRIVILEGES))
    assert "SCHED_FIFO 50: NOT granted" in done.stdout, done.stderr
    assert "CAP_SYS_NICE" in done.stdout
    assert "memory locked: NOT granted" in done.stdout
    assert "CAP_IPC_LOCK" in done.stdout


def test_enforce_without_privileges_refuses_in_one_line() -> None:
    done = _elsewhere(ENTER.format(wanted="ENFORCE", first=WITHOUT_PRIVILEGES))
    assert done.stdout.startswith("refused control.realtime: 'enforce':"), done.stderr
    assert "CAP_SYS_NICE" in done.stdout
    assert done.stdout.count("\n") == 1


def test_the_last_core_unless_another_is_named() -> None:
    usable = sorted(os.sched_getaffinity(0))
    assert control_cpu(None) == usable[-1]
    assert control_cpu(usable[0]) == usable[0]
    with pytest.raises(CadenzaError, match=r"control\.cpu: 4096: .*valid: "):
        control_cpu(4096)


def test_a_core_the_scheduler_leaves_alone_may_be_named(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """An isolated core (isolcpus) is in nobody's affinity: naming it was refused."""
    own = os.sched_getaffinity(0)
    isolated = max(own) + 2
    (tmp_path / "isolated").write_text(f"{isolated - 1}-{isolated}\n")
    monkeypatch.setattr("controller.realtime._ISOLATED", tmp_path / "isolated")
    assert control_cpu(isolated) == isolated
    assert control_cpu(None) == max(own)
    with pytest.raises(CadenzaError, match=str(isolated)):
        control_cpu(isolated + 1)


@pytest.mark.parametrize(
    ("text", "cores"), [("", set()), ("(null)", set()), ("0", {0}), ("0,2-4\n", {0, 2, 3, 4}), ("nohz,1", {1})]
)
def test_lists_of_cores(text: str, cores: set[int]) -> None:
    assert cores_of(text) == cores

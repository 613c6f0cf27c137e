"""Episode after episode: what befalls one of them is no matter for the next."""

from __future__ import annotations

import json
import os
import pty
import signal
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

import pytest
from daemon_kit import Script, eventually, kill, run_one
from tiny_bundle import write_tiny_bundle

import controller.dictation
from controller.dictation import RECORDER
from controller.session import Session
from controller.sources import policy_source
from controller.supervisor import Supervisor
from drivers.virtual import VirtualRobot
from episodes.check import check
from episodes.outcome import Outcome, Termination
from episodes.reader import read_episode
from export.bundle import Bundle

pytestmark = pytest.mark.daemon


class Killer(Script):
    """Kills the recorder before the recording of the first episode begins."""

    def __init__(self, supervisor: Supervisor) -> None:
        super().__init__(lambda _: True)
        self._supervisor = supervisor

    def prepare(self, episode: int) -> Mapping[str, str]:
        if episode == 0:
            kill(self._supervisor.processes[RECORDER])
        return super().prepare(episode)


def test_a_recorder_that_dies_between_episodes_costs_none(
    virtual: VirtualRobot, bundle: Bundle, tmp_path: Path
) -> None:
    """Its death used to be remembered for ever: every further episode was broken off as it began."""
    with Supervisor(virtual.robot, policy_source(bundle), tmp_path, lambda _: None, bundle=bundle) as supervisor:
        session = Session(supervisor, Killer(supervisor), 20.0)
        results = [session.episode(number) for number in range(2)]
    assert [result.termination for result in results] == [Termination.DONE] * 2
    assert [result.path and check(result.path) for result in results] == [[], []]
    assert supervisor.report()["restarts"] == {RECORDER: 1}


def test_a_disk_that_fills_up_ends_the_episode_not_the_program(
    virtual: VirtualRobot, bundle: Bundle, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    lines: list[str] = []
    with Supervisor(virtual.robot, policy_source(bundle), tmp_path, lines.append, bundle=bundle) as supervisor:
        monkeypatch.setattr(controller.dictation, "LEAST_FREE_BYTES", 1 << 60)
        result = run_one(supervisor, Script(lambda _: True))
    assert (result.outcome, result.termination, result.path) == (Outcome.ABORTED, Termination.DISK_FULL, None)
    assert any("MB needed to record" in line for line in lines)


def test_a_policy_that_says_nan_ends_in_a_fault(virtual: VirtualRobot, tmp_path: Path) -> None:
    bundle = write_tiny_bundle(tmp_path / "nan", virtual.robot.follower.names, ramp=float("nan"))
    with Supervisor(
        virtual.robot, policy_source(bundle), tmp_path / "run", lambda _: None, bundle=bundle
    ) as supervisor:
        result = run_one(supervisor, Script(lambda _: False))
    assert result.termination is Termination.FAULT
    assert any("NONFINITE" in fault for fault in supervisor.report()["faults"])


@pytest.mark.usefixtures("hears_hangups")
def test_a_closed_terminal_ends_the_run_in_order(bundle: Bundle, tmp_path: Path) -> None:
    """There was no report, and the socket of the run stayed."""
    command = ["-m", "cadenza", "run", "--bundle", str(bundle.folder), "--out", str(tmp_path), "--realtime", "off"]
    terminal, side = pty.openpty()
    child = subprocess.Popen(
        ["setsid", "--ctty", sys.executable, *command, "--robot.control.rate_hz", "100"],
        stdin=side,
        stdout=side,
        stderr=side,
    )
    os.close(side)
    part, whole = (tmp_path / "episodes" / f"episode-000000.mcap{end}" for end in (".part", ""))
    assert eventually(lambda: part.exists() and part.stat().st_size > 200_000, 60.0)
    os.close(terminal)
    assert child.wait(60) == 130
    assert read_episode(whole).termination is Termination.OPERATOR
    assert json.loads((tmp_path / "report.json").read_text())["run"]["faults"] == []
    assert not (tmp_path / "run.sock").exists()


def test_ctrl_c_ends_the_episode_in_order(bundle: Bundle, tmp_path: Path) -> None:
    """A terminal sends it to the whole group: the virtual arm used to vanish under a controller about to brake, and
    there was no report where ``| tee`` ended first."""
    command = ["-m", "cadenza", "run", "--bundle", str(bundle.folder), "--out", str(tmp_path), "--realtime", "off"]
    rate = ["--robot.control.rate_hz", "100"]
    reader, pipe = os.pipe()
    child = subprocess.Popen([sys.executable, *command, *rate], stdout=pipe, stderr=pipe, start_new_session=True)
    os.close(pipe)
    part, whole = (tmp_path / "episodes" / f"episode-000000.mcap{end}" for end in (".part", ""))
    assert eventually(lambda: part.exists() and part.stat().st_size > 200_000, 60.0)
    os.close(reader)
    os.killpg(child.pid, signal.SIGINT)
    assert child.wait(60) == 130
    assert read_episode(whole).termination is Termination.OPERATOR
    run = json.loads((tmp_path / "report.json").read_text())["run"]
    assert run["faults"] == []
    assert not [event for event in run["events"] if event.endswith("camera_lost")]

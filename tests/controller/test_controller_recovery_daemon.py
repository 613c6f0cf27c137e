"""A run after a fault, or the death of its control process: it goes on when somebody says so, and never before."""

from __future__ import annotations

import time
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from daemon_kit import Script, eventually, kill, run_one, stop

from cadenza.cli import main
from controller.session import Session
from controller.sources import INFERENCE, policy_source
from controller.supervisor import Supervisor
from controller.wiring.child import ALONE_S
from controller.wiring.vigil import BOUNDS, CONTROL, Bound
from drivers.virtual import VirtualRobot
from episodes.check import check
from episodes.outcome import Termination
from episodes.reader import read_episode
from episodes.records import Mode
from export.bundle import Bundle

pytestmark = pytest.mark.daemon

STANDS_RAD = 0.01
"""So much an arm that is held may give."""


def pose(virtual: VirtualRobot) -> list[float]:
    return list(virtual.client.state()["joints"]["follower"].values())


def test_a_control_process_that_is_gone_comes_back_on_the_operators_word_only(
    virtual: VirtualRobot, bundle: Bundle, tmp_path: Path
) -> None:
    with Supervisor(virtual.robot, policy_source(bundle), tmp_path, lambda _: None, bundle=bundle) as supervisor:

        def act(asked: int) -> bool:
            if asked == 40:
                kill(supervisor.processes[CONTROL])
            return False

        session = Session(supervisor, Script(act), 20.0)
        first = session.episode(0)
        assert first.termination is Termination.CONTROL_DIED
        for _ in range(30):  # the servos' Bus Watchdog stops the arm, and its weight settles
            supervisor.poll()
        stood = pose(virtual)
        assert not supervisor.driving
        assert supervisor.recover(30.0) is None
        assert supervisor.watch.mode in {Mode.IDLE, Mode.HOLD}
        assert np.abs(np.subtract(pose(virtual), stood)).max() < STANDS_RAD
        session._judge = Script(lambda asked: asked > 20)
        second = session.episode(1)
    assert second.termination is Termination.DONE
    assert second.path is not None
    assert check(second.path) == []
    acceleration = virtual.robot.limits().acceleration
    episode = read_episode(second.path)
    assert (np.abs(episode.ticks["limited_acceleration"]) <= acceleration * (1 + 1e-6)).all()
    assert supervisor.report()["restarts"] == {CONTROL: 1}


def asked(folder: Path, *command: str) -> Future[int]:
    """A command in another terminal."""
    return ThreadPoolExecutor(1).submit(main, [*command, str(folder)])


def test_a_fault_is_told_and_recovered_from_another_terminal(
    virtual: VirtualRobot, bundle: Bundle, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with Supervisor(virtual.robot, policy_source(bundle), tmp_path, lambda _: None, bundle=bundle) as supervisor:

        def act(asked: int) -> bool:
            if asked == 40:
                virtual.client.inject({"silent_ids": [3]})
            return False

        session = Session(supervisor, Script(act), 20.0)
        try:
            assert session.episode(0).termination is Termination.FAULT
            refused = asked(tmp_path, "recover")
            assert eventually(lambda: supervisor.poll() is None or refused.done())
            assert refused.result() == 1
            told = asked(tmp_path, "status")
            assert eventually(lambda: supervisor.poll() is None or told.done())
            assert told.result() == 1
        finally:
            virtual.client.clear()
        words = capsys.readouterr().out
        assert "not recovered: " in words
        assert "a joint did not answer for too long: STALE_JOINT: elbow_flex" in words
        assert f"cadenza recover {tmp_path}" in words
        recovering = asked(tmp_path, "recover")
        assert session.wait_for_recovery()
        assert eventually(lambda: supervisor.poll() is None or recovering.done())
        assert recovering.result() == 0
        assert supervisor.watch.mode is Mode.HOLD
        session._judge = Script(lambda asked: asked > 20)
        assert session.episode(1).termination is Termination.DONE
        idle = asked(tmp_path, "recover")
        assert eventually(lambda: supervisor.poll() is None or idle.done())
        assert idle.result() == 2
    assert "there is no fault to recover from" in capsys.readouterr().err


def test_a_camera_that_hangs_is_replaced(
    virtual: VirtualRobot, bundle: Bundle, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It used to hang until the end of the run, whose policy held the arm for as long."""
    monkeypatch.setitem(BOUNDS, "camera", Bound(1.0, "sooner than in earnest"))
    lines: list[str] = []
    with Supervisor(virtual.robot, policy_source(bundle), tmp_path, lines.append, bundle=bundle) as supervisor:

        def act(asked: int) -> bool:
            if asked == 20:
                stop(supervisor.processes["camera top"])
            return supervisor.processes["camera top"].restarts == 1 and supervisor.watch.mode is Mode.POLICY

        result = run_one(supervisor, Script(act))
    assert result.termination is Termination.DONE
    assert result.path is not None
    events = [(event.kind, event.text) for event in read_episode(result.path).events]
    assert ("ended", "camera top: no sign of life for 1 s") in events
    assert "camera top: no sign of life for 1 s; ending it" in lines


def test_without_a_supervisor_that_is_heard_no_policy_drives(
    virtual: VirtualRobot, bundle: Bundle, tmp_path: Path
) -> None:
    """As when its terminal stops it with Ctrl-Z: nobody could end what the policy does."""
    with Supervisor(virtual.robot, policy_source(bundle), tmp_path, lambda _: None, bundle=bundle) as supervisor:

        def act(asked: int) -> bool:
            if asked == 40:
                time.sleep(ALONE_S + 1.5)
            return asked > 60

        result = run_one(supervisor, Script(act))
    assert result.termination is Termination.DONE
    assert result.path is not None
    episode = read_episode(result.path)
    events = [event for event in episode.events if event.source == INFERENCE]
    assert [event.kind for event in events if event.kind.startswith("supervisor")] == [
        "supervisor_silent",
        "supervisor_back",
    ]
    silent_ns, back_ns = (event.time_ns for event in events if event.kind.startswith("supervisor"))
    inside = (episode.ticks["now_ns"] > silent_ns) & (episode.ticks["now_ns"] < back_ns)
    assert Mode.HOLD in episode.ticks["mode"][inside]
    assert not [chunk for chunk in episode.chunks if silent_ns < chunk.started_ns < back_ns]
    assert episode.ticks["mode"][-1] in {Mode.POLICY, Mode.HOLD}

"""All processes on a bad bus: every loss is counted, no limit is violated, and a dead loop stops the arm."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from daemon_kit import Script, eventually, kill, run_one
from dynamixel_sdk import COMM_SUCCESS, PacketHandler
from motion_checks import check_motion
from sdk_port import PatientPort

from controller.sources import policy_source
from controller.supervisor import Supervisor
from controller.wiring.vigil import CONTROL
from drivers.arm import BusFault
from drivers.virtual import VirtualRobot
from episodes.check import check
from episodes.outcome import Outcome, Termination
from episodes.reader import read_episode
from episodes.records import Flag, Mode
from export.bundle import Bundle
from spec.errors import DeviceError

pytestmark = pytest.mark.daemon

BUS_WATCHDOG = 98
FIRED = 0xFF  # -1, e-manual of the X series, Bus Watchdog(98)
TICK_RAD = 2 * np.pi / 4096


def test_a_lossy_bus_is_counted_and_survived(virtual: VirtualRobot, bundle: Bundle, tmp_path: Path) -> None:
    before = virtual.client.statistics()["follower"]

    def act(asked: int) -> bool:
        if asked == 1:
            virtual.client.inject({"loss": 0.05, "corrupt": 0.01})
        if asked == 120:
            virtual.client.clear()
        return asked > 130

    try:
        with Supervisor(virtual.robot, policy_source(bundle), tmp_path, lambda _: None, bundle=bundle) as supervisor:
            result = run_one(supervisor, Script(act))
    finally:
        virtual.client.clear()
    assert result.termination is Termination.DONE
    assert result.path is not None
    episode, report = read_episode(result.path), supervisor.report()
    assert report["faults"] == []
    check_motion(episode.ticks["flags"], episode.ticks["limited"], virtual.robot)
    sent, limited = episode.ticks["sent"], episode.ticks["limited"]
    failed = (episode.ticks["flags"] & int(Flag.WRITE_FAILED)) > 0  # there ``sent`` is the goal before it
    written = np.isfinite(sent).all(axis=1) & ~failed
    assert written.sum() > 100
    assert (np.abs(sent - limited)[written] <= TICK_RAD).all()

    after = virtual.client.statistics()["follower"]
    harmed = {name: count - before.get(name, 0) for name, count in after.items() if "lost" in name or "corr" in name}
    # A sync write has no answer, so the client cannot know of a lost one; everything else it must have noticed.
    unseen = sum(harmed.get(f"requests_{how}.SYNC_WRITE", 0) for how in ("lost", "corrupted"))
    asked = sum(harmed.get(f"requests_{how}", 0) for how in ("lost", "corrupted")) - unseen
    answered = sum(harmed.get(f"answers_{how}", 0) for how in ("lost", "corrupted"))
    bus = report["processes"]["control"]["bus"]
    assert harmed["answers_lost"] > 0
    assert bus["silent"] + bus["corrupt"] >= asked + answered
    flagged = (episode.ticks["read_fault"] & int(BusFault.TIMEOUT | BusFault.CORRUPT)) != 0
    assert flagged.any()
    assert 0 < int(episode.ticks["bus_errors"][-1]) <= report["bus_errors"]  # the loop goes on after the episode


def test_servos_stop_by_themselves_when_the_loop_is_killed(
    virtual: VirtualRobot, bundle: Bundle, tmp_path: Path
) -> None:
    """The policy is moving the arm when its process dies: the Bus Watchdog of every servo fires, torque stays on."""
    with Supervisor(virtual.robot, policy_source(bundle), tmp_path, lambda _: None, bundle=bundle) as supervisor:

        def act(asked: int) -> bool:
            if asked == 20:
                assert supervisor.watch.mode is Mode.POLICY
                kill(supervisor.processes[CONTROL])
            return False

        result = run_one(supervisor, Script(act))
    assert result.termination is Termination.CONTROL_DIED
    assert all(virtual.client.state()["torque"]["follower"])
    port, packets = PatientPort(virtual.robot.follower.port), PacketHandler(2.0)
    assert port.openPort()
    assert port.setBaudRate(virtual.robot.follower.baud)
    try:
        servos = [joint.id for joint in virtual.robot.follower.joints.values()]
        assert [packets.read1ByteTxRx(port, servo, BUS_WATCHDOG) for servo in servos] == [(FIRED, COMM_SUCCESS, 0)] * 6
    finally:
        port.closePort()
    fired = virtual.client.state()["time_s"]
    assert eventually(lambda: virtual.client.state()["time_s"] > fired + 0.5)  # what sagged has settled
    then = virtual.client.state()
    assert eventually(lambda: virtual.client.state()["time_s"] > then["time_s"] + 0.3)
    assert virtual.client.state()["joints"]["follower"] == pytest.approx(then["joints"]["follower"], abs=2 * TICK_RAD)


def test_a_judge_that_can_no_longer_judge_ends_the_episode_in_order(
    virtual: VirtualRobot, bundle: Bundle, tmp_path: Path
) -> None:
    """As when the virtual arm is killed: what was recorded is closed, and the run can still report."""
    lines: list[str] = []

    def act(asked: int) -> bool:
        if asked == 20:
            raise DeviceError("virtual arm: no answer")
        return False

    with Supervisor(virtual.robot, policy_source(bundle), tmp_path, lines.append, bundle=bundle) as supervisor:
        result = run_one(supervisor, Script(act))
    assert (result.outcome, result.termination) == (Outcome.ABORTED, Termination.ERROR)
    assert "virtual arm: no answer" in lines
    assert result.path is not None
    assert check(result.path) == []

"""Episodes of real processes in which the bus fails: the decisions replay to the bit all the same."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from daemon_kit import Script, run_one

from controller.replay import replay
from controller.sources import policy_source
from controller.supervisor import Supervisor
from drivers.virtual import VirtualRobot
from episodes.outcome import Termination
from episodes.reader import read_episode
from episodes.records import Flag, Mode
from export.bundle import Bundle

pytestmark = pytest.mark.daemon


def test_lost_packets_a_silent_servo_and_a_fault_at_the_end(
    virtual: VirtualRobot, bundle: Bundle, tmp_path: Path
) -> None:
    faults = {20: {"loss": 0.1}, 60: {"silent_ids": [2]}, 120: {"unplug": True}}

    def act(asked: int) -> bool:
        if asked in faults:
            virtual.client.inject(faults[asked])
        if asked == 90:
            virtual.client.clear()
        return False

    try:
        with Supervisor(virtual.robot, policy_source(bundle), tmp_path, lambda _: None, bundle=bundle) as supervisor:
            result = run_one(supervisor, Script(act))
    finally:
        virtual.client.clear()
    assert result.termination is Termination.FAULT
    assert result.path is not None
    episode = read_episode(result.path, cameras=())
    ticks = episode.ticks
    assert ticks["mode"][-1] == Mode.FAULT
    for flag in (Flag.READ_FAILED, Flag.WRITE_FAILED, Flag.UNSENT, Flag.STALE_JOINT, Flag.FAULT_LATCHED):
        assert np.count_nonzero(ticks["flags"] & int(flag)) > 0, flag
    assert Mode.HOLD in ticks["mode"][np.argmax(ticks["mode"] == Mode.POLICY) :]
    verdict = replay(episode)
    assert verdict.equal, verdict

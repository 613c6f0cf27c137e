"""The daemon that is certified, the whole of it for a block."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from cadenza.certifying.blocks import IN_REPORT
from cadenza.certifying.daemon import CertifiedDaemon
from cadenza.certifying.sway import sway
from controller.sources import playback_source
from controller.wiring.vigil import CONTROL
from controller.workers.playback import write_motion
from drivers.virtual import VirtualRobot
from episodes.records import Driver, Mode
from spec.robot import Robot
from spec.robotfile import load_robot

pytestmark = pytest.mark.daemon

BLOCK_S = 1.5


@pytest.fixture(scope="module")
def robot() -> Robot:
    robot = load_robot(Path("robots/virtual.yaml"), {"control.realtime": "try"})
    return robot.model_copy(update={"cameras": {}})


def _nothing() -> None: ...


def test_it_holds_then_follows_and_counts_what_it_spends(robot: Robot, tmp_path: Path) -> None:
    motion = write_motion(sway(robot.limits(), 30.0).motion, tmp_path / "motion.npz")
    with VirtualRobot(robot, 0) as virtual:
        with CertifiedDaemon(virtual.robot, playback_source(motion), tmp_path / "run", lambda _: None) as daemon:
            ticks = daemon.block(BLOCK_S, _nothing)
        modes = ticks["mode"]
        assert modes[0] == Mode.HOLD
        assert np.count_nonzero(ticks["driver"] == Driver.POLICY) > 0.3 * BLOCK_S * robot.control.rate_hz
        spent = daemon.processes[CONTROL].report["spent_us"]
        assert set(spent) == set(IN_REPORT)
        assert sum(spent["tick"].values()) >= len(ticks)
        assert not list(daemon.episodes_folder.glob("*"))

        # Only holding, the arm stays where it is: here, where the last block has left it.
        with CertifiedDaemon(virtual.robot, None, tmp_path / "still", lambda _: None) as daemon:
            ticks = daemon.block(0.5, _nothing)
        joints = len(robot.follower.names)
        assert set(ticks["mode"]) == {int(Mode.HOLD)}
        assert np.ptp(ticks["sent"][:, :joints], axis=0).max() == 0.0

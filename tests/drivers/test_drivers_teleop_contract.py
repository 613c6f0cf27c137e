"""What every teleoperation device does alike: leader on the virtual arm, gamepad, keyboard and pedal on fake wires."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
from input_wire import InputWire

from drivers.teleop import Follow, Teleop, teleop_device
from drivers.virtual import VirtualRobot
from spec.arrays import Float
from spec.robot import GiveWay, Key, Robot, TeleopDevice
from spec.robotfile import load_robot
from spec.teleop import TeleopSample

PERIOD_NS = 20_000_000
POSE = np.array([0.1, -0.2, 0.2, -0.8, 0.1, -0.6])
STILL = np.zeros(6)
LOST = np.full(6, np.nan)


@dataclass
class Rig:
    """One device and the means to pull its plug."""

    robot: Robot
    device: Teleop
    unplug: Callable[[], None]
    plug: Callable[[], None]
    settle_s: float
    """Longest time it may take to be where the arm is."""

    def cycles(self, seconds: float, position: Float | None = POSE, *, human: bool = False) -> list[TeleopSample]:
        """Exchange at 50 Hz with an arm that stands at ``position``; None: no tick has come yet."""
        samples = []
        until = time.monotonic() + seconds
        while (now := time.monotonic()) < until:
            now_ns = time.monotonic_ns()
            follow = None if position is None else Follow(now_ns, position, STILL, human)
            samples.append(self.device.exchange(follow, now_ns + 16_000_000))
            time.sleep(max(0.0, now + PERIOD_NS * 1e-9 - time.monotonic()))
        return samples

    def until(self, done: Callable[[TeleopSample], bool], seconds: float = 10.0) -> list[TeleopSample]:
        samples: list[TeleopSample] = []
        deadline = time.monotonic() + seconds
        while not (samples and done(samples[-1])):
            assert time.monotonic() < deadline, samples[-1:]
            samples += self.cycles(0.05)
        return samples


@pytest.fixture(scope="module")
def virtual() -> Iterator[VirtualRobot]:
    robot = load_robot(Path("robots/virtual.yaml"))
    with VirtualRobot(robot.model_copy(update={"cameras": {}}), 0) as running:
        yield running


@pytest.fixture(params=["leader", "light leader and pedal", "gamepad", "keyboard"])
def rig(request: pytest.FixtureRequest, virtual: VirtualRobot, tmp_path: Path) -> Iterator[Rig]:
    kind, base = request.param, virtual.robot.teleop
    assert base is not None
    wire = InputWire(tmp_path / "wire")
    if "leader" in kind:
        buttons = {wire.path: {"KEY_B": Key.TOGGLE}} if "pedal" in kind else {}
        settings = base.model_copy(
            update={"buttons": buttons, "give_way": GiveWay.LIGHT if "light" in kind else GiveWay.OFF}
        )
    else:
        settings = base.model_copy(update={"device": TeleopDevice(kind), "input": wire.path})
    robot = virtual.robot.model_copy(update={"teleop": settings})

    def leader(unplugged: bool) -> Callable[[], None]:
        return lambda: virtual.client.inject({"arm": "leader", "unplug": unplugged})

    on_bus = "leader" in kind
    with teleop_device(robot) as device:
        yield Rig(
            robot,
            device,
            leader(True) if on_bus else wire.unplug,
            leader(False) if on_bus else wire.plug,
            settle_s=3.0 if on_bus else 0.1,
        )
        virtual.client.clear()
    wire.unplug()


def test_joints_are_those_of_the_follower(rig: Rig) -> None:
    assert rig.device.joints == rig.robot.follower.names


def test_before_the_first_tick_nothing_moves_and_nothing_is_pressed(rig: Rig) -> None:
    for position in (None, LOST):
        samples = rig.cycles(0.3, position)
        assert all(sample.buttons == 0 for sample in samples)
        assert np.isnan([sample.goal for sample in samples]).all()
        angles = np.array([sample.position for sample in samples])
        assert np.isnan(angles).all() or np.ptp(angles, axis=0).max() < 0.1


def test_samples_count_up_and_each_is_younger(rig: Rig) -> None:
    samples = rig.cycles(1.0)
    assert [sample.sequence for sample in samples] == list(range(1, len(samples) + 1))
    read = np.diff([sample.read_ns for sample in samples[5:]])
    assert (read >= 0).all()
    assert np.count_nonzero(read) > 0.8 * len(read)
    assert rig.device.trouble == ""
    assert rig.device.pressed() == ()


def test_while_nobody_drives_it_is_where_the_arm_is(rig: Rig) -> None:
    rig.cycles(rig.settle_s)
    sample = rig.cycles(0.1)[-1]
    assert np.abs(np.array(sample.position) - POSE).max() < 0.05


def test_a_person_is_given_way_and_an_idle_one_moves_nothing(rig: Rig) -> None:
    rig.cycles(rig.settle_s)
    samples = rig.cycles(0.4, human=True)
    assert np.isnan(samples[2].goal).all(), "within two cycles"
    assert np.abs(np.array(samples[-1].position) - POSE).max() < 0.25
    assert np.isfinite([sample.velocity for sample in samples]).all()


def test_an_arm_that_stops_being_commanded_is_no_reason_to_move(rig: Rig) -> None:
    rig.cycles(rig.settle_s)
    before = rig.cycles(0.1)[-1]
    after = rig.cycles(0.5, LOST)[-1]
    assert np.abs(np.array(after.position) - before.position).max() < 0.05


def test_a_device_that_goes_falls_silent_and_is_found_again(rig: Rig) -> None:
    rig.cycles(0.5)
    rig.unplug()
    silent = rig.cycles(1.0)  # never raises
    assert rig.device.trouble
    assert "\n" not in rig.device.trouble
    assert len({sample.read_ns for sample in silent[-5:]}) == 1
    assert all(sample.buttons == 0 for sample in silent)
    rig.plug()
    rig.until(lambda sample: sample.read_ns > silent[-1].read_ns)
    rig.cycles(0.1)
    assert rig.device.trouble == ""


def test_it_can_be_closed_and_opened_again(rig: Rig) -> None:
    rig.cycles(0.3)
    rig.device.close()
    rig.device.open()
    assert rig.cycles(0.3)[-1].read_ns > 0

"""The teleoperation process on the virtual arm: a leader that mirrors, gives way, survives kills and unplugging."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest

from controller.wiring.ipc import Node, Subscriber, new_namespace, remove_namespace
from controller.wiring.process import Process
from controller.wiring.topics import EVENTS, TELEOP, TICKS, topics
from drivers.teleop.inputs import EV_KEY, EVENT
from drivers.virtual import VirtualRobot
from episodes.records import Driver, TeleopRecord, TickRecord
from episodes.schema.cadenza_pb2 import Event
from spec.arrays import Float
from spec.robot import Key, Robot
from spec.robotfile import load_robot

pytestmark = pytest.mark.daemon

RATE_HZ = 50.0
BASE = np.array([0.0, -0.3, 0.2, -0.8, 0.0, -0.6])


class Follower:
    """Stands in for the control process: publishes ticks at 100 Hz and hears what the person says."""

    def __init__(self, robot: Robot, folder: Path) -> None:
        self.robot = robot
        namespace = new_namespace()
        self._namespace = namespace
        self._node = Node(namespace, topics(robot), "test")
        self._ticks = self._node.publisher(TICKS)
        self.samples: Subscriber[TeleopRecord] = self._node.subscriber(TELEOP, TeleopRecord)
        self._events = self._node.bytes_subscriber(EVENTS)
        self.events: list[Event] = []
        self.said: list[dict[str, object]] = []
        self.heard: list[TeleopRecord] = []
        self._sent = 0
        file = folder / "robot.json"
        file.write_text(robot.model_dump_json())
        arguments = ("--robot", str(file), "--namespace", namespace)
        self.process = Process("teleop", "controller.workers.teleop_process", arguments, folder / "teleop.log")

    def run(self, seconds: float, at: Callable[[float], Float] | Float = BASE, driver: Driver = Driver.POLICY) -> None:
        """Let time pass with the arm commanded along ``at(time [s])``."""
        until = time.monotonic() + seconds
        while (now := time.monotonic()) < until:
            position, ahead = (at(now), at(now + 1e-3)) if callable(at) else (at, at)
            tick = TickRecord(tick=self._sent, now_ns=round(now * 1e9), joints=6, driver=driver)
            tick.limited[:6], tick.limited_velocity[:6] = position.tolist(), ((ahead - position) * 1e3).tolist()
            self._ticks.send(tick)
            self._sent += 1
            time.sleep(0.01)
            self.listen()

    def listen(self) -> None:
        self.heard += self.samples.drain()
        self.said += self.process.listen()
        while (data := self._events.receive()) is not None:
            self.events.append(Event.FromString(data))

    def until(self, done: Callable[[], bool], seconds: float = 20.0, driver: Driver = Driver.POLICY) -> None:
        deadline = time.monotonic() + seconds
        while not done():
            assert time.monotonic() < deadline, self.process.ending() if not self.process.alive else self.process.log
            self.run(0.02, driver=driver)

    def start(self) -> None:
        self.process.start()
        self.until(lambda: self.process.ready is not None or not self.process.alive)

    def close(self) -> None:
        self.process.terminate()
        self.process.wait(5.0)
        self._node.close()
        remove_namespace(self._namespace)


@pytest.fixture(scope="module")
def virtual() -> Iterator[VirtualRobot]:
    robot = load_robot(Path("robots/virtual.yaml"), {"teleop.rate_hz": str(RATE_HZ)})
    with VirtualRobot(robot.model_copy(update={"cameras": {}}), 0) as running:
        yield running


@pytest.fixture
def follower(virtual: VirtualRobot, tmp_path: Path) -> Iterator[Follower]:
    following = Follower(virtual.robot, tmp_path)
    following.start()
    yield following
    following.close()
    virtual.client.clear()
    virtual.client.hand(None)


def torque(virtual: VirtualRobot) -> list[bool]:
    return list(virtual.client.state()["torque"]["leader"])


def off_goal(record: TeleopRecord) -> Float:
    return np.abs(np.array(record.position[:6]) - np.array(record.goal[:6]))


def test_the_leader_mirrors_a_moving_follower(virtual: VirtualRobot, follower: Follower) -> None:
    def at(now: float) -> Float:
        return BASE + 0.3 * np.sin(2.0 * now + np.arange(6))

    follower.run(2.5, at)
    follower.heard.clear()
    follower.run(3.0, at)
    lags = np.arange(0.0, 0.12, 0.01)
    times = [record.read_ns * 1e-9 for record in follower.heard]
    positions = np.array([record.position[:6] for record in follower.heard])
    errors = [np.abs(positions - np.array([at(t - lag) for t in times])).max() for lag in lags]
    assert min(errors) < 0.05
    assert len(follower.heard) > 0.8 * 3.0 * RATE_HZ
    sequences = [record.sequence for record in follower.heard]
    assert sequences == sorted(set(sequences))


def test_it_gives_way_and_comes_back_without_a_jump(virtual: VirtualRobot, follower: Follower) -> None:
    follower.run(3.0)
    assert all(torque(virtual))
    follower.heard.clear()
    follower.until(lambda: not any(torque(virtual)), driver=Driver.HUMAN)
    follower.run(0.1, driver=Driver.HUMAN)
    assert np.isnan(follower.heard[-1].goal[:6]).all()
    virtual.client.hand({"shoulder_pan": 0.4, "elbow_flex": -0.3})
    follower.run(1.0, driver=Driver.HUMAN)
    virtual.client.hand(None)
    before = np.array(follower.heard[-1].position[:6])
    assert abs(before[0] - 0.4) < 0.1
    follower.heard.clear()
    follower.run(3.0)
    assert all(torque(virtual))
    path = np.array([before, *(record.position[:6] for record in follower.heard)])
    fastest = np.abs(np.diff(path, axis=0)).max() * RATE_HZ
    assert fastest < 2.0  # [rad/s]; a goal written at once would be reached at the servo's 3.75
    assert off_goal(follower.heard[-1]).max() < 0.05
    assert abs(follower.heard[-1].position[0]) < 0.05


def test_it_is_held_after_the_end(virtual: VirtualRobot, follower: Follower) -> None:
    follower.until(lambda: all(torque(virtual)))
    follower.until(lambda: not any(torque(virtual)), driver=Driver.HUMAN)
    follower.process.terminate()
    follower.until(lambda: not follower.process.alive, driver=Driver.HUMAN)
    assert follower.process.status == 0
    assert all(torque(virtual))
    stood = np.array(list(virtual.client.state()["joints"]["leader"].values()))
    time.sleep(1.0)
    stands = np.array(list(virtual.client.state()["joints"]["leader"].values()))
    assert np.abs(stands - stood).max() < 0.5


def test_an_unplugged_leader_falls_silent_and_comes_back(virtual: VirtualRobot, follower: Follower) -> None:
    follower.run(1.0)
    virtual.client.inject({"arm": "leader", "unplug": True})
    follower.until(lambda: any(event.kind == "teleop_lost" for event in follower.events))
    last = follower.heard[-1]
    follower.heard.clear()
    follower.run(0.3)
    assert follower.heard, "the process goes on"
    assert {record.read_ns for record in follower.heard} == {last.read_ns}
    virtual.client.inject({"arm": "leader", "unplug": False})
    follower.until(lambda: any(event.kind == "teleop_back" for event in follower.events))
    follower.heard.clear()
    follower.until(lambda: bool(follower.heard) and bool(np.isfinite(follower.heard[-1].goal[:6]).all()))
    assert follower.heard[-1].read_ns > last.read_ns


def test_an_overloaded_servo_is_restarted(virtual: VirtualRobot, follower: Follower) -> None:
    follower.run(1.0)
    virtual.client.inject({"arm": "leader", "overload": 3})
    follower.until(lambda: any(event.kind == "teleop_lost" for event in follower.events))
    follower.until(lambda: any(event.kind == "teleop_back" for event in follower.events))
    follower.until(lambda: all(torque(virtual)))
    lost = next(event for event in follower.events if event.kind == "teleop_lost")
    assert "joint elbow_flex: overload" in lost.text


def test_a_stalled_process_takes_hold_again_though_the_watchdog_has_fired(
    virtual: VirtualRobot, follower: Follower
) -> None:
    follower.run(1.5)
    assert follower.process.pid is not None
    os.kill(follower.process.pid, signal.SIGSTOP)
    time.sleep(0.4)
    os.kill(follower.process.pid, signal.SIGCONT)
    follower.heard.clear()
    follower.until(lambda: bool(follower.heard) and bool(np.isfinite(follower.heard[-1].goal[:6]).all()))
    follower.run(1.0)
    assert off_goal(follower.heard[-1]).max() < 0.1
    assert not follower.events, "nothing was lost"


def test_a_killed_process_is_followed_by_one_that_takes_over_where_it_stands(
    virtual: VirtualRobot, follower: Follower
) -> None:
    follower.run(3.0)
    assert follower.process.pid is not None
    os.kill(follower.process.pid, signal.SIGKILL)
    follower.until(lambda: not follower.process.alive)
    assert all(torque(virtual)), "the servos hold by themselves"
    follower.process.restart()
    follower.heard.clear()
    follower.until(lambda: len(follower.heard) > 20)
    moved = [np.abs(np.array(record.position[:6]) - BASE).max() for record in follower.heard]
    assert max(moved) < 0.5


def test_a_device_that_cannot_be_is_refused_in_one_line(virtual: VirtualRobot, tmp_path: Path) -> None:
    teleop = virtual.robot.teleop
    assert teleop is not None
    pedal = teleop.model_copy(update={"buttons": {"/dev/input/by-id/none": {"KEY_B": Key.TOGGLE}}})
    follower = Follower(virtual.robot.model_copy(update={"teleop": pedal}), tmp_path)
    follower.start()
    follower.listen()
    assert follower.process.refusal is not None
    assert "/dev/input/by-id/none: no such input device" in follower.process.refusal
    assert "\n" not in follower.process.refusal
    follower.close()


def test_a_pedal_beside_the_leader_says_session_keys_and_buttons(virtual: VirtualRobot, tmp_path: Path) -> None:
    wire = tmp_path / "pedal"
    os.mkfifo(wire)
    teleop = virtual.robot.teleop
    assert teleop is not None
    pedal = teleop.model_copy(update={"buttons": {str(wire): {"KEY_B": Key.SUCCESS, "KEY_C": Key.TOGGLE}}})
    follower = Follower(virtual.robot.model_copy(update={"teleop": pedal}), tmp_path)
    writer = os.open(wire, os.O_RDWR)
    follower.start()
    for code in (48, 46):
        for value in (1, 0):
            os.write(writer, EVENT.pack(0, 0, EV_KEY, code, value))
    follower.run(0.5)
    assert {"kind": "key", "key": "success"} in follower.said
    assert any(record.buttons for record in follower.heard)
    assert not follower.heard[-1].buttons
    follower.close()
    os.close(writer)

"""The virtual arm as a process: foreign clients on its ports, its cameras, faults, its end."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path

import cv2
import numpy as np
import pytest
import serial
from dynamixel_sdk import (
    COMM_RX_TIMEOUT,
    COMM_SUCCESS,
    GroupBulkRead,
    GroupBulkWrite,
    GroupSyncRead,
    GroupSyncWrite,
    PacketHandler,
)
from sdk_port import PatientPort

from drivers.virtual import SimClient, VirtualRobot
from drivers.virtual.live.scratch import OWNER_PREFIX
from spec.errors import DeviceError, SpecError
from spec.robot import Robot
from spec.robotfile import load_robot

ROBOT_FILE = Path(__file__).parents[2] / "robots" / "virtual.yaml"
IDS = (1, 2, 3, 4, 5, 6)
POSITION, GOAL, TORQUE = 132, 116, 64


def robot(**overrides: str) -> Robot:
    return load_robot(ROBOT_FILE, overrides)


@pytest.fixture(scope="module")
def shared() -> Iterator[VirtualRobot]:
    with VirtualRobot(robot(), seed=3) as virtual:
        yield virtual


@pytest.fixture
def virtual(shared: VirtualRobot) -> Iterator[VirtualRobot]:
    """The one process of this module, well again after each test."""
    yield shared
    shared.client.clear()


@pytest.fixture
def port(virtual: VirtualRobot) -> Iterator[PatientPort]:
    """The SDK's own port on the follower, torque off and return delay 0 when it starts and ends."""
    handler = PatientPort(virtual.robot.follower.port)
    assert handler.openPort()
    assert handler.setBaudRate(1_000_000)
    packets = PacketHandler(2.0)
    for servo in IDS:
        packets.write1ByteTxRx(handler, servo, TORQUE, 0)
        packets.write1ByteTxRx(handler, servo, 9, 0)
    yield handler
    virtual.client.clear()
    for servo in IDS:
        packets.write1ByteTxRx(handler, servo, TORQUE, 0)
    handler.closePort()


def eventually(happened: Callable[[], bool]) -> None:
    """Wait for something the virtual arm does in its own time."""
    deadline = time.monotonic() + 20
    while not happened():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def positions(port: PatientPort) -> dict[int, int]:
    group = GroupSyncRead(port, PacketHandler(2.0), POSITION, 4)
    for servo in IDS:
        group.addParam(servo)
    assert group.txRxPacket() == COMM_SUCCESS
    return {servo: group.getData(servo, POSITION, 4) for servo in IDS}


def test_the_sdk_pings_and_finds_everybody(port: PatientPort) -> None:
    packets = PacketHandler(2.0)
    assert packets.ping(port, 1) == (1060, COMM_SUCCESS, 0)
    assert packets.ping(port, 3) == (1200, COMM_SUCCESS, 0)
    assert packets.ping(port, 42)[1] == COMM_RX_TIMEOUT
    found, result = packets.broadcastPing(port)
    assert result == COMM_SUCCESS
    assert {servo: entry[0] for servo, entry in found.items()} == dict(zip(IDS, [1060] * 2 + [1200] * 4, strict=True))


def test_the_sdk_moves_the_arm_with_sync_write_and_sees_it_with_every_kind_of_read(port: PatientPort) -> None:
    packets = PacketHandler(2.0)
    start = positions(port)
    goals = {servo: start[servo] for servo in IDS} | {6: start[6] + 150}
    write = GroupSyncWrite(port, packets, GOAL, 4)
    for servo in IDS:
        write.addParam(servo, list(goals[servo].to_bytes(4, "little")))
    assert write.txPacket() == COMM_SUCCESS
    for servo in IDS:
        assert packets.write1ByteTxRx(port, servo, TORQUE, 1) == (COMM_SUCCESS, 0)
    eventually(lambda: abs(positions(port)[6] - goals[6]) <= 20)
    eventually(lambda: packets.read1ByteTxRx(port, 6, 122)[0] == 0)  # Moving
    settled = positions(port)
    fast = GroupSyncRead(port, packets, 126, 10)
    bulk = GroupBulkRead(port, packets)
    for servo in IDS:
        fast.addParam(servo)
        bulk.addParam(servo, POSITION, 4)
    assert fast.fastSyncRead() == COMM_SUCCESS
    assert bulk.txRxPacket() == COMM_SUCCESS
    for servo in IDS:
        assert abs(fast.getData(servo, POSITION, 4) - settled[servo]) <= 4
        assert abs(bulk.getData(servo, POSITION, 4) - settled[servo]) <= 4
    assert bulk.fastBulkRead() == COMM_SUCCESS
    for servo in IDS:
        assert abs(bulk.getData(servo, POSITION, 4) - settled[servo]) <= 4


def test_the_sdk_s_reg_write_action_bulk_write_reboot_and_errors(port: PatientPort) -> None:
    packets = PacketHandler(2.0)
    assert packets.regWriteTxRx(port, 4, 65, 1, [1]) == (COMM_SUCCESS, 0)
    assert packets.read1ByteTxRx(port, 4, 65)[0] == 0
    packets.action(port, 0xFE)  # the SDK does not wait for an answer, so only the silent broadcast is safe
    assert packets.read1ByteTxRx(port, 4, 65)[0] == 1
    write = GroupBulkWrite(port, packets)
    write.addParam(4, 65, 1, [0])
    write.addParam(5, 112, 4, [9, 0, 0, 0])
    assert write.txPacket() == COMM_SUCCESS
    assert packets.read1ByteTxRx(port, 4, 65)[0] == 0
    assert packets.read4ByteTxRx(port, 5, 112)[0] == 9
    assert packets.write2ByteTxRx(port, 4, GOAL, 0) == (COMM_SUCCESS, 5)  # data length error
    assert packets.reboot(port, 5) == (COMM_SUCCESS, 0)
    eventually(lambda: packets.ping(port, 5)[1] == COMM_SUCCESS)
    assert packets.read4ByteTxRx(port, 5, 112)[0] == 0


def test_a_client_at_the_wrong_baud_rate_hears_nothing(port: PatientPort) -> None:
    packets = PacketHandler(2.0)
    port.setBaudRate(57_600)
    assert packets.ping(port, 1)[1] == COMM_RX_TIMEOUT
    port.setBaudRate(1_000_000)
    assert packets.ping(port, 1)[1] == COMM_SUCCESS


def test_state_survives_a_client_that_leaves(virtual: VirtualRobot) -> None:
    packets = PacketHandler(2.0)
    for led in (1, 0):
        handler = PatientPort(virtual.robot.follower.port)
        handler.setBaudRate(1_000_000)
        assert packets.read1ByteTxRx(handler, 2, 65)[0] == 1 - led
        packets.write1ByteTxRx(handler, 2, 65, led)
        handler.closePort()


def test_the_leader_answers_on_its_own_port(virtual: VirtualRobot) -> None:
    leader = virtual.robot.leader
    assert leader is not None
    handler = PatientPort(leader.port)
    handler.setBaudRate(1_000_000)
    assert PacketHandler(2.0).ping(handler, 6) == (1190, COMM_SUCCESS, 0)
    before = positions(handler)[1]
    virtual.client.hand({"shoulder_pan": 0.5})
    # 0.5 rad are 326 pulses; mounted the other way round, so they count down.
    eventually(lambda: abs(before - positions(handler)[1] - 326) <= 5)
    virtual.client.hand(None)
    handler.closePort()


def test_every_lost_answer_is_counted(virtual: VirtualRobot, port: PatientPort) -> None:
    """Not by anyone's patience: on a busy machine an answer may come after that, and is not lost."""
    ping, answer_bytes, sent = bytes((0xFF, 0xFF, 0xFD, 0, 1, 3, 0, 1, 0x19, 0x4E)), 14, 60

    def counts() -> Counter[str]:
        return Counter(virtual.client.statistics()["follower"])

    before = counts()
    virtual.client.inject({"loss": 0.2})
    for number in range(1, sent + 1):
        port.writePort(ping)
        eventually(lambda number=number: counts()["requests"] == before["requests"] + number)
    lost = sum(counts()[kind] - before[kind] for kind in ("requests_lost", "answers_lost"))
    eventually(lambda: port.getBytesAvailable() == (sent - lost) * answer_bytes)
    assert 0 < lost < sent


def test_silent_servos_and_hardware_errors(virtual: VirtualRobot, port: PatientPort) -> None:
    packets = PacketHandler(2.0)
    virtual.client.inject({"silent_ids": [2], "overload": 4})
    assert packets.ping(port, 2)[1] == COMM_RX_TIMEOUT
    assert packets.ping(port, 4)[2] == 0x80
    assert packets.read1ByteTxRx(port, 4, 70)[0] == 32
    packets.reboot(port, 4)


def test_unplugging_hangs_up_and_plugging_in_gives_the_same_path(virtual: VirtualRobot) -> None:
    path = virtual.robot.follower.port
    with serial.Serial(path, 1_000_000, timeout=1) as device:
        virtual.client.inject({"unplug": True})
        with pytest.raises(serial.SerialException):
            device.read(1)
        assert not Path(path).exists()
    virtual.client.inject({"unplug": False})
    handler = PatientPort(path)
    handler.setBaudRate(1_000_000)
    assert PacketHandler(2.0).ping(handler, 1)[1] == COMM_SUCCESS
    handler.closePort()


def test_cameras_are_ordinary_streams_and_can_freeze(virtual: VirtualRobot) -> None:
    source = virtual.robot.cameras["top"].source
    capture = cv2.VideoCapture(source)
    assert capture.isOpened()
    done, image = capture.read()
    assert done
    assert image.shape == (240, 320, 3)
    assert image.std() > 10  # not a blank picture
    virtual.client.inject({"freeze_camera": "top"})
    virtual.client.reset(1)
    for _ in range(6):
        _, frozen = capture.read()
    virtual.client.reset(2)
    for _ in range(6):
        _, still = capture.read()
    np.testing.assert_array_equal(frozen, still)
    virtual.client.clear()
    for _ in range(6):
        _, moved = capture.read()
    assert np.abs(moved.astype(int) - still).max() > 50
    virtual.client.inject({"drop_camera": ["top"]})
    eventually(lambda: not capture.read()[0])
    capture.release()
    with urllib.request.urlopen(virtual.robot.cameras["front"].source.replace(".mjpg", ".jpg")) as answer:  # noqa: S310  loopback
        assert answer.read(2) == b"\xff\xd8"


def test_reset_puts_the_cube_where_the_seed_says_and_leaves_the_arm(virtual: VirtualRobot) -> None:
    before = virtual.client.state()["joints"]["follower"]
    one, other, again = (virtual.client.reset(seed)["cube"] for seed in (11, 12, 11))
    assert one == again != other
    after = virtual.client.state()
    for name, angle in before.items():
        assert after["joints"]["follower"][name] == pytest.approx(angle, abs=0.02)
    assert after["success"] is False


def test_wrong_requests_are_one_line_errors(virtual: VirtualRobot) -> None:
    with pytest.raises(DeviceError, match="loss: 2: must be a number from 0 to 1"):
        virtual.client.inject({"loss": 2})
    with pytest.raises(DeviceError, match="valid: follower, leader"):
        virtual.client.inject({"arm": "third"})
    with pytest.raises(DeviceError, match="no such id on this bus"):
        virtual.client.inject({"overload": 99})
    with pytest.raises(DeviceError, match="OverflowError"):  # it ended the virtual arm
        virtual.client.inject({"hardware_error": [1, 4096]})
    assert virtual.client.state()


def test_a_robot_the_virtual_arm_cannot_be_is_refused_in_one_line() -> None:
    for overrides, words in (
        ({"virtual.task": "juggle"}, "no such scene"),
        ({"follower.baud": "12345"}, "no such rate"),
        ({"follower.joints.gripper.model": "AX-12A"}, "AX-12A"),
        ({"cameras.wrist.source": "virtual"}, "the scene has none of that name"),
    ):
        with pytest.raises(DeviceError, match=words) as refused, VirtualRobot(load_robot(ROBOT_FILE, overrides)):
            pass
        assert "\n" not in str(refused.value)
        assert "Error" not in str(refused.value)  # no name of ours from a child process


def test_the_command_writes_its_ready_file_and_cleans_up(tmp_path: Path) -> None:
    ready = tmp_path / "ready.json"
    command = [sys.executable, "-m", "cadenza", "sim", "--ready-file", str(ready), "--config", str(ROBOT_FILE)]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL)
    try:
        deadline = time.monotonic() + 60
        while not ready.exists() and time.monotonic() < deadline and process.poll() is None:
            time.sleep(0.05)
        with SimClient(ready) as client:
            folder = Path(client.ready["control"]).parent
            assert client.ready["pid"] == process.pid
            assert set(client.ready["cameras"]) == {"top", "front"}
        attached = load_robot(ROBOT_FILE, {"virtual.attach": str(ready)})
        with VirtualRobot(attached) as virtual:
            assert virtual.robot.follower.port == virtual.client.ready["follower"]
        assert process.poll() is None  # it was not ours to stop
    finally:
        process.send_signal(signal.SIGINT)
        assert process.wait(timeout=20) == 0
    assert not ready.exists()
    assert not folder.exists()
    with pytest.raises(SpecError, match="no virtual arm is running there"):
        SimClient(ready)


def test_the_virtual_arm_dies_with_its_parent() -> None:
    script = (
        "import os, sys; from pathlib import Path; from spec.robotfile import load_robot;"
        "from drivers.virtual import VirtualRobot;"
        f"v = VirtualRobot(load_robot(Path({str(ROBOT_FILE)!r}))); v.start();"
        "print(v.pid, v.ready_file.parent, flush=True); os.kill(os.getpid(), 9)"
    )
    found = subprocess.run([sys.executable, "-c", script], stdout=subprocess.PIPE, check=False)
    pid, folder = found.stdout.split()
    eventually(lambda: gone(int(pid)))
    eventually(lambda: not Path(folder.decode()).exists())


def test_what_a_killed_virtual_arm_left_is_removed_by_the_next(monkeypatch: pytest.MonkeyPatch) -> None:
    folder = Path(tempfile.mkdtemp())  # a socket's path must be short
    monkeypatch.setenv("TMPDIR", str(folder))
    monkeypatch.setattr(tempfile, "tempdir", None)
    blind = robot(cameras="{}")  # starts faster
    with VirtualRobot(blind) as alive:
        with VirtualRobot(blind) as victim:
            os.kill(victim.pid, signal.SIGKILL)
            victim.ready_file.parent.rename(folder / f"{OWNER_PREFIX}orphan")  # out of reach of the one who started it
        assert len(list(folder.iterdir())) == 2
        with VirtualRobot(blind):
            assert not (folder / f"{OWNER_PREFIX}orphan").exists()
        assert alive.ready_file.exists()
    assert list(folder.iterdir()) == []
    folder.rmdir()


def gone(pid: int) -> bool:
    """No such process, or only its exit status waits for someone to fetch it."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z"
    except FileNotFoundError:
        return True

"""Answers that come too late: how long they are waited for, and that none is ever taken for another."""

from __future__ import annotations

import pytest
from dynamixel_wire import TimedLine
from hypothesis import given
from hypothesis import strategies as st

from drivers.arm import BusFault
from drivers.dynamixel import DynamixelArm
from drivers.dynamixel.bus import Bus, ServoError
from drivers.dynamixel.line import PATIENCE_NS
from drivers.dynamixel.protocol import STATUS, packet, sync_read
from drivers.dynamixel.sync import BusStatistics, SyncReader, wait_until_ns
from drivers.dynamixel.tables import model
from spec.calibration import Calibration, JointCalibration
from spec.robot import Arm

MS = 1_000_000
TABLE = model("XL330-M288")


def soon(line: TimedLine, seconds: float = 0.2) -> int:
    """A deadline far enough away."""
    return line.now_ns() + round(seconds * 1e9)


def opened(line: TimedLine) -> DynamixelArm:
    """An arm of one joint."""
    joint = {"id": 1, "model": "XL330-M288", "position": (-1, 1), "velocity": 3, "acceleration": 25, "jerk": 600}
    spec = Arm.model_validate({"serial": "test", "port": "x", "calibration": "x", "joints": {"j1": joint}})
    stands = JointCalibration(id=1, model="XL330-M288", inverted=False, zero_ticks=2048, range_ticks=(0, 4095))
    arm = DynamixelArm(spec, calibration=Calibration(serial="test", joints={"j1": stands}), line=line)
    arm.open()
    return arm


def test_a_retry_comes_at_the_last_moment_it_fits() -> None:
    # The Koch at 100 Hz and 1 Mbps: 1.12 ms an exchange, 7 ms for reading.
    assert wait_until_ns(1_120_000, 7_000_000, 1_120_000) == 5_380_000


def test_without_time_for_a_retry_only_the_deadline_ends_the_wait() -> None:
    assert wait_until_ns(1_120_000, 3_500_000, 1_120_000) == 3_500_000  # at 200 Hz
    assert wait_until_ns(1_120_000, 3_500_000, None) == 3_500_000


@given(st.integers(0, 100 * MS), st.integers(0, 200 * MS), st.integers(0, 100 * MS))
def test_the_wait(due: int, spare: int, retry: int) -> None:
    deadline = due + spare
    until = wait_until_ns(due, deadline, retry)
    assert due <= until <= min(deadline, due + PATIENCE_NS)
    assert until == min(deadline, due + PATIENCE_NS) or until + retry < deadline


@pytest.mark.parametrize("fast", [True, False])
def test_an_answer_is_waited_for_while_there_is_time(fast: bool) -> None:
    """It was asked for again after a millisecond, which counted a time-out and left an answer on the line."""
    line = TimedLine({1: "XL330-M288"}, fast=fast)
    reader = SyncReader(line, [1], 132, 10, BusStatistics(), fast=fast)
    fresh = [False]
    line.delays = [0.015]
    assert reader.read(bytearray(10), fresh, soon(line)) == BusFault.NONE
    assert fresh == [True]
    assert reader.statistics.requests == 1


def test_who_falls_silent_in_a_joint_answer_is_not_waited_for() -> None:
    """All the time went into waiting for the rest of it, and none was left to ask the others."""
    line = TimedLine(dict.fromkeys((1, 2, 3), "XL330-M288"))
    line.mute.add(2)
    spoken: list[int] = []
    line.fault = lambda _servo, answer: (spoken.append(line.now_ns()), answer)[1]
    reader = SyncReader(line, [1, 2, 3], 132, 10, BusStatistics(), fast=True)
    fresh = [False]
    reader.read(bytearray(30), fresh, soon(line, 1.0))
    assert fresh == [True, False, True]
    assert spoken[1] - spoken[0] < 3 * MS


@pytest.mark.parametrize("together", [True, False])
def test_a_late_goal_is_not_taken_for_a_position(together: bool) -> None:
    """Held at its old goal as if it stood there, an arm jumps."""
    line = TimedLine({1: "XL330-M288"}, fast=False)
    line.servos[1].put("goal_position", 1000)
    line.servos[1].put("present_position", 2000)
    bus = Bus(line, {})

    def read(name: str) -> int:
        register = TABLE[name]
        return register.decode(bus.read_all([1], register.address, 4)[1]) if together else bus.read(1, register)

    line.delays = [0.060, 0.030]  # the retry is answered by the first answer, the second comes after it
    assert read("goal_position") == 1000
    assert read("present_position") == 2000


@pytest.mark.parametrize("fast", [True, False])
def test_a_late_answer_of_the_watchdog_is_no_hardware_error(fast: bool) -> None:
    """Both were a single byte, and just after an outage both are asked for."""
    line = TimedLine({1: "XL330-M288"}, fast=fast)
    arm = opened(line)
    line.servos[1].put("bus_watchdog", 50)
    line.delays = [0.050]
    watchdog = sync_read(TABLE["bus_watchdog"].address, 1, [1], fast=fast)
    line.send(watchdog)
    line.sleep_s(0.049)
    assert arm.alarms(soon(line)) == ()
    line.servos[1].put("hardware_error_status", 1 << 5)
    assert arm.alarms(soon(line)) == ("j1: overload",)


@pytest.mark.parametrize("late_s", [0.010, 0.030, 0.070, 0.150, 0.210])
def test_a_late_position_is_not_taken_for_a_model(late_s: float) -> None:
    """An arm whose last tick had an answer under way was refused as another one."""
    line = TimedLine({1: "XL330-M288"}, fast=False)
    arm = opened(line)
    arm.read(soon(line))
    line.delays = [late_s]
    line.send(sync_read(TABLE["present_position"].address, 4, [1], fast=False))
    assert arm.recover(restart=False) == ()


@pytest.mark.parametrize("asked", ["bus_watchdog", "homing_offset"])
def test_an_answer_of_another_length_is_passed_over(asked: str) -> None:
    """The SDK takes it, and where it is too short its checksum for data."""
    line = TimedLine({1: "XL330-M288"}, fast=False)
    line.servos[1].put("present_input_voltage", 50)
    line.delays = [0.005]
    line.send(sync_read(TABLE[asked].address, TABLE[asked].size, [1]))
    assert Bus(line, {}).read(1, TABLE["present_input_voltage"]) == 50


class Babble(TimedLine):
    """Says something faster than it can be listened to."""

    answer = b""

    def receive(self, deadline_ns: int, size: int = 4096) -> bytes:
        assert self.now_ns() < deadline_ns + MS, "still listened to"
        self.sleep_s(1e-5)
        if not self.getBytesAvailable():
            self._coming.insert(0, (self.now_ns(), self.answer))
        return super().receive(deadline_ns, size)


@pytest.mark.parametrize(("servo", "length"), [(1, 1), (2, 2)])
def test_a_line_that_never_stops_answering_something_else_is_given_up(servo: int, length: int) -> None:
    line = Babble({1: "XL330-M288"}, fast=False)
    line.answer = packet(servo, STATUS, bytes(1 + length))
    line.mute.add(1)
    with pytest.raises(ServoError, match="does not answer"):
        Bus(line, {}).read(1, TABLE["present_input_voltage"])


def test_a_late_refusal_is_no_model() -> None:
    line = TimedLine({1: "XL330-M288"}, fast=False)
    line.delays = [0.005]
    line.say(packet(1, STATUS, bytes((3,))))
    assert Bus(line, {}).ping(1) == TABLE.number


def test_after_a_retry_the_line_is_free() -> None:
    """The late answer to the first request ends the read; that to the second would meet the next write."""
    line = TimedLine({1: "XL330-M288"}, fast=False, baud=9600)
    reader = SyncReader(line, [1], 64, 72, BusStatistics())
    fresh = [False]
    line.delays = [0.050]  # it takes 102 ms on the wire, and is asked for again at 142 ms
    reader.read(bytearray(72), fresh, soon(line, 1.0))
    assert fresh == [True]
    assert reader.statistics.retries == 1
    assert line.receive(soon(line)) == b""

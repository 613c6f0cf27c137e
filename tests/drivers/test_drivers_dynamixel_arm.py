"""The arm over bytes: what is programmed, what is refused, what a lost packet costs, and that nothing jumps."""

from __future__ import annotations

import termios
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from dynamixel_wire import Servo, Wire, soon

from drivers.arm import BusFault
from drivers.dynamixel import DynamixelArm
from drivers.dynamixel.protocol import packet
from spec.calibration import Calibration, JointCalibration
from spec.errors import DeviceError, MisfitError, SpecError
from spec.robot import Arm

pytestmark = pytest.mark.daemon

MODELS = {1: "XL430-W250", 2: "XL430-W250", 3: "XL330-M288", 4: "XL330-M288"}
ZEROS = {1: 2048, 2: 1900, 3: 2100, 4: 2048}


def section(wire: Wire, **changes: Any) -> Arm:
    joints = {
        f"j{number}": {
            "id": number,
            "model": model,
            "inverted": number == 2,
            "position": (-1.5, 1.5),
            "velocity": 3.0,
            "acceleration": 25.0,
            "jerk": 600.0,
            "current": 1.0 if model.startswith("XL330") else None,
        }
        for number, model in MODELS.items()
    }
    return Arm.model_validate(
        {"serial": "test", "port": wire.path, "calibration": Path("x"), "joints": joints, **changes}
    )


def arm_on(wire: Wire, **changes: Any) -> DynamixelArm:
    options = {name: changes.pop(name) for name in ("rate_hz", "may_relax") if name in changes}
    spec = section(wire, **changes)
    calibration = Calibration(
        serial="test",
        joints={
            name: JointCalibration(
                id=j.id, model=j.model, inverted=j.inverted, zero_ticks=ZEROS[j.id], range_ticks=(-500, 4500)
            )
            for name, j in spec.joints.items()
        },
    )
    return DynamixelArm(spec, calibration=calibration, **options)


@pytest.fixture
def wire() -> Iterator[Wire]:
    with Wire(MODELS) as servos:
        yield servos


def all_of(wire: Wire, register: str) -> list[int]:
    return [servo.get(register) for servo in wire.servos.values()]


# Opening


def test_open_programs_every_safety_register(wire: Wire) -> None:
    for servo in wire.servos.values():
        servo.put("drive_mode", 1)
        servo.put("homing_offset", 77)
        servo.put("operating_mode", 4)
    with arm_on(wire):
        assert (
            all_of(wire, "drive_mode") == all_of(wire, "homing_offset") == all_of(wire, "return_delay_time") == [0] * 4
        )
        assert all_of(wire, "operating_mode") == [3] * 4
        assert all_of(wire, "torque_enable") == [0] * 4
        assert all_of(wire, "profile_velocity") == [157] * 4  # 1.25 * 3 rad/s in 0.229 rev/min
        lower, upper = wire.servos[2].get("min_position_limit"), wire.servos[2].get("max_position_limit")
        assert (lower, upper) == (1900 - 1011, 1900 + 1011)  # 1.55 rad
        assert wire.servos[3].get("current_limit") == 1000


def test_eeprom_is_written_only_where_it_differs(wire: Wire) -> None:
    arm_on(wire).open()
    wire.requests.clear()
    with arm_on(wire):
        pass
    written = {request[8] | request[9] << 8 for request in wire.requests if request[7] == 3}
    assert written
    assert min(written) >= 64


def test_eeprom_is_read_once_before_and_once_after(wire: Wire) -> None:
    with arm_on(wire):
        assert sum(request[7] == 2 and request[8] == 9 for request in wire.requests) == 2 * len(MODELS)


def test_a_register_that_does_not_take_its_value_is_refused(wire: Wire, monkeypatch: pytest.MonkeyPatch) -> None:
    obey = wire._write

    def stubborn(servo: Servo, address: int, data: bytes) -> None:
        obey(servo, address, data)
        servo.put("max_position_limit", 4095)

    monkeypatch.setattr(wire, "_write", stubborn)
    with pytest.raises(DeviceError, match=r"j1 \(id 1\): max_position_limit\(48\) reads 4095 after 3059 was written"):
        arm_on(wire).open()


def test_an_arm_found_holding_is_not_dropped(wire: Wire) -> None:
    with arm_on(wire) as arm:
        arm.hold()
    assert all_of(wire, "torque_enable") == [1] * 4
    wire.requests.clear()
    with arm_on(wire):
        pass
    assert not any(request[7] == 3 and request[8] == 64 for request in wire.requests)
    wire.servos[3].put("homing_offset", 5)
    with pytest.raises(DeviceError, match=r"j3 \(id 3\): holds torque, and homing_offset must become 0"):
        arm_on(wire).open()
    assert all_of(wire, "torque_enable") == [1] * 4
    wire.servos[3].put("present_position", 2222)
    with arm_on(wire, may_relax=True):
        assert wire.servos[3].get("homing_offset") == 0
        assert wire.servos[3].get("torque_enable") == 1
        assert wire.servos[3].get("goal_position") == 2222


def test_an_arm_that_could_not_be_held_again_is_not_let_go(wire: Wire) -> None:
    """Its goal was refused after torque had gone off: the arm fell."""
    wire.servos[3].put("operating_mode", 4)
    wire.servos[3].put("present_position", 4096 + 200)
    wire.servos[3].put("torque_enable", 1)
    with pytest.raises(DeviceError, match=r"j3 \(id 3\): holds torque at tick 200, outside its limits \[1089, 3111\]"):
        arm_on(wire, may_relax=True).open()
    assert wire.servos[3].get("torque_enable") == 1


def test_a_missing_servo_says_who_is_there(wire: Wire) -> None:
    wire.mute.add(3)
    with pytest.raises(DeviceError, match=r"j3 \(id 3\): no answer at 1000000 baud; on the bus: 1 \(XL430-W250\), 2"):
        arm_on(wire).open()


def test_the_wrong_baud_says_which_is_right(wire: Wire) -> None:
    wire.speed = termios.B57600
    with pytest.raises(DeviceError, match=r"no servo answers at 1000000 baud, but they do at 57600"):
        arm_on(wire).open()


def test_another_model_is_named() -> None:
    with (
        Wire({**MODELS, 4: "XL330-M077"}) as wire,
        pytest.raises(MisfitError, match=r"j4.*is XL330-M077.*says XL330-M288"),
    ):
        arm_on(wire).open()


def test_old_firmware_without_watchdog_is_refused(wire: Wire) -> None:
    wire.servos[1].put("firmware_version", 37)
    with pytest.raises(MisfitError, match=r"j1.*firmware 37 has no Bus Watchdog"):
        arm_on(wire).open()
    with arm_on(wire, bus_watchdog_ms=None):
        pass


def test_a_hardware_error_is_named_and_rebooted_away(wire: Wire) -> None:
    wire.servos[4].put("hardware_error_status", 0b100100)
    with pytest.raises(DeviceError, match=r"j4 \(id 4\): hardware error: overheating, overload"):
        arm_on(wire).open()
    wire.servos[4].put("hardware_error_status", 0)
    with arm_on(wire) as arm:
        wire.servos[4].put("hardware_error_status", 1 << 5)
        assert arm.health()[3].errors == ("overload",)
        arm.reboot("j4")
        assert arm.health()[3].errors == ()


def test_a_reboot_forgets_whole_turns(wire: Wire) -> None:
    joints = section(wire).model_dump()["joints"]
    joints["j1"]["position"] = (-3.2, 3.2)  # more than a turn of the encoder holds
    wire.servos[1].put("present_position", ZEROS[1] + 4096)
    with arm_on(wire, joints=joints) as arm:
        assert arm.where()["j1"] == pytest.approx(0.0)
        wire.servos[1].put("present_position", ZEROS[1])
        arm.reboot("j1")
        assert arm.where()["j1"] == pytest.approx(0.0)


def test_a_current_limit_needs_a_servo_that_has_one(wire: Wire) -> None:
    joints = section(wire).model_dump()["joints"]
    joints["j1"]["current"] = 1.0
    with pytest.raises(MisfitError, match=r"joint j1: current 1.0: XL430-W250 measures no current"):
        arm_on(wire, joints=joints).open()


def test_an_impossible_rate_is_refused_and_the_port_freed(wire: Wire) -> None:
    with pytest.raises(SpecError, match=r"control.rate_hz: 2000.*ms a tick"):
        arm_on(wire, rate_hz=2000.0).open()
    with arm_on(wire, rate_hz=200.0) as arm:
        assert arm.fast_sync_read


# Reading


def place(wire: Wire, offset: int = 0) -> None:
    for number, servo in wire.servos.items():
        servo.put("present_position", ZEROS[number] + 100 * number + offset)
        servo.put("present_velocity", 10)


@pytest.mark.parametrize("fast", [True, False])
def test_a_reading(fast: bool) -> None:
    with Wire(MODELS, fast=fast) as wire, arm_on(wire) as arm:
        assert arm.fast_sync_read is fast
        place(wire)
        wire.servos[3].put("present_current", 250)
        wire.servos[1].put("present_load", -100)
        reading = arm.read(soon())
        assert reading.fault == BusFault.NONE
        assert reading.fresh.all()
        assert reading.position == pytest.approx(np.array([100, -200, 300, 400]) * 2 * np.pi / 4096)
        assert reading.velocity == pytest.approx(np.array([1, -1, 1, 1]) * 10 * 0.229 * 2 * np.pi / 60)
        assert reading.effort == pytest.approx([-0.1, 0, 0.25, 0])
        assert reading.raw[2].tolist() == [2400, 10, 250]
        assert reading.started_ns <= reading.finished_ns


def test_an_unlucky_packet_does_not_cost_fast_sync_read(wire: Wire) -> None:
    lost = iter([True, False])
    wire.fault = lambda servo, answer: b"" if servo == 0xFE and next(lost, False) else answer
    with arm_on(wire) as arm:
        assert arm.fast_sync_read


@pytest.mark.parametrize("fast", [True, False])
def test_a_lost_answer_is_asked_for_again_and_counted(fast: bool) -> None:
    with Wire(MODELS, fast=fast) as wire, arm_on(wire) as arm:
        place(wire)
        victims = iter([0xFE] if fast else [3])
        victim = next(victims)
        lost: list[int] = []

        def lose_once(servo: int, answer: bytes) -> bytes:
            if servo == victim and not lost:
                lost.append(servo)
                return b""
            return answer

        wire.fault = lose_once
        before = arm.statistics.silent
        reading = arm.read(soon())
        assert reading.fresh.all()
        assert reading.fault == BusFault.TIMEOUT
        assert arm.statistics.silent - before == (4 if fast else 1)
        assert arm.statistics.retries == 1


@pytest.mark.parametrize("fast", [True, False])
def test_a_corrupt_answer_is_asked_for_again_and_counted(fast: bool) -> None:
    with Wire(MODELS, fast=fast) as wire, arm_on(wire) as arm:
        place(wire)
        spoilt: list[int] = []

        def spoil_once(servo: int, answer: bytes) -> bytes:
            if servo in {0xFE, 3} and not spoilt:
                spoilt.append(servo)
                position = -8 if servo == 3 else 8 + 2 * 14 + 7
                return answer[:position] + bytes((answer[position] ^ 0x10,)) + answer[position + 1 or None :]
            return answer

        wire.fault = spoil_once
        reading = arm.read(soon())
        assert reading.fresh.all()
        assert reading.fault == BusFault.CORRUPT
        assert arm.statistics.corrupt == 1
        assert arm.statistics.silent == 0


@pytest.mark.parametrize("fast", [True, False])
def test_a_silent_servo_keeps_its_last_value_and_leaves_the_others_alone(fast: bool) -> None:
    with Wire(MODELS, fast=fast) as wire, arm_on(wire) as arm:
        place(wire)
        before = arm.read(soon())
        wire.mute.add(2)
        place(wire, offset=8)
        reading = arm.read(soon(0.1))
        assert reading.fresh.tolist() == [True, False, True, True]
        assert reading.fault == BusFault.TIMEOUT
        assert reading.position[1] == before.position[1]
        assert (reading.raw[:, 0] - before.raw[:, 0]).tolist() == [8, 0, 8, 8]
        assert arm.statistics.stale == 1


@pytest.mark.parametrize("fast", [True, False])
def test_an_answer_that_came_too_late_is_not_taken_for_the_next(fast: bool) -> None:
    with Wire(MODELS, fast=fast) as wire, arm_on(wire) as arm:
        place(wire)
        current = wire.servos[4].get("present_position")
        old = (0).to_bytes(6, "little") + (1234).to_bytes(4, "little")
        wire.say(packet(4, 0x55, b"\x00" + old))
        reading = arm.read(soon())
        assert reading.raw[3, 0] == current
        assert reading.fault == BusFault.NONE


def test_a_late_joint_answer_in_front_of_the_asked_one_is_passed_over(wire: Wire) -> None:
    with arm_on(wire) as arm:
        late: list[bytes] = []
        wire.fault = lambda _servo, answer: (late.append(answer), answer)[1]
        arm.read(soon())
        place(wire)
        wire.fault = lambda _servo, answer: late[0][20:] + late[0] + answer
        reading = arm.read(soon())
        assert reading.raw[:, 0].tolist() == all_of(wire, "present_position")
        assert reading.fault == BusFault.NONE
        assert reading.fresh.all()


def test_a_refusal_is_no_value() -> None:
    with Wire(MODELS, fast=False) as wire, arm_on(wire) as arm:
        place(wire)
        refusal = packet(3, 0x55, b"\x07" + bytes(10))
        wire.fault = lambda servo, answer: refusal if servo == 3 else answer
        reading = arm.read(soon(0.05))
        assert reading.fresh.tolist() == [True, True, False, True]
        assert reading.raw[2, 0] == 2048


def test_a_joint_answer_waits_for_one_return_delay_only(wire: Wire) -> None:
    """Four were reckoned with, and the read skipped for lack of time though the bus carries the rate."""
    with arm_on(wire, return_delay_us=500, rate_hz=200.0) as arm:
        assert arm.fast_sync_read
        assert not arm.read(time.monotonic_ns() + 2_500_000).fault & BusFault.SKIPPED


def test_reads_and_writes_without_time_are_skipped(wire: Wire) -> None:
    with arm_on(wire) as arm:
        place(wire)
        wire.requests.clear()
        reading = arm.read(time.monotonic_ns() - 1)
        assert reading.fault == BusFault.SKIPPED
        assert not reading.fresh.any()
        assert arm.write(reading.position, time.monotonic_ns() - 1).fault == BusFault.SKIPPED
        assert wire.requests == []


def test_the_alert_bit_is_reported(wire: Wire) -> None:
    with arm_on(wire) as arm:
        wire.servos[2].alert = True
        reading = arm.read(soon())
        assert reading.fault == BusFault.SERVO
        assert reading.fresh.all()


def test_unplugging_never_raises_inside_a_tick(wire: Wire) -> None:
    arm = arm_on(wire)
    arm.open()
    arm.hold()
    wire.unplug()
    reading = arm.read(soon())
    assert reading.fault & BusFault.DISCONNECTED
    assert not reading.fresh.any()
    assert arm.write(reading.position, soon()).fault & BusFault.DISCONNECTED
    arm.close()
    with pytest.raises(DeviceError):
        arm.reconnect()


# Writing and holding


def test_a_write_says_what_was_sent(wire: Wire) -> None:
    with arm_on(wire) as arm:
        arm.hold()
        wanted = np.array([0.3, -0.2, 0.1, 9.0])
        applied = arm.write(wanted, soon())
        arm.read(soon())  # the wire is in order: once this is answered, that was obeyed
        assert all_of(wire, "goal_position") == applied.ticks.tolist()
        assert applied.position[:3] == pytest.approx(wanted[:3], abs=np.pi / 4096)
        assert applied.position[3] == pytest.approx(1.55, abs=0.002)  # the servo-side limit
        assert applied.ticks[1] == round(1900 + 0.2 * 4096 / (2 * np.pi))


def test_a_non_finite_target_is_not_sent(wire: Wire) -> None:
    with arm_on(wire) as arm:
        arm.hold()
        before = all_of(wire, "goal_position")
        applied = arm.write(np.array([0.0, np.nan, 0.0, 0.0]), soon())
        arm.read(soon())
        assert applied.fault == BusFault.SKIPPED
        assert applied.ticks.tolist() == before == all_of(wire, "goal_position")


def test_hold_makes_the_present_position_the_goal_before_torque(wire: Wire) -> None:
    place(wire)
    with arm_on(wire) as arm:
        wire.requests.clear()
        arm.hold()
        assert all_of(wire, "goal_position") == all_of(wire, "present_position")
        assert all_of(wire, "torque_enable") == [1] * 4
        assert all_of(wire, "bus_watchdog") == [5] * 4
        writes = [request[8] for request in wire.requests if request[7] == 0x83]
        assert writes == [98, 116, 64, 98]


def test_holding_again_does_not_creep(wire: Wire) -> None:
    place(wire)
    with arm_on(wire) as arm:
        arm.hold()
        goal = all_of(wire, "goal_position")
        place(wire, offset=-15)  # gravity
        arm.hold()
        assert all_of(wire, "goal_position") == goal
        place(wire, offset=-200)  # somebody moved it
        arm.hold()
        assert all_of(wire, "goal_position") == all_of(wire, "present_position")


def test_hold_refuses_a_joint_outside_its_limits(wire: Wire) -> None:
    wire.servos[1].put("present_position", ZEROS[1] + 1200)
    with arm_on(wire) as arm:
        with pytest.raises(DeviceError, match=r"j1 \(id 1\): stands at 1.84 rad, outside its limits \[-1.55, 1.55\]"):
            arm.hold()
        assert all_of(wire, "torque_enable") == [0] * 4


def test_close_leaves_it_held_and_the_watchdog_disarmed(wire: Wire) -> None:
    place(wire)
    with arm_on(wire) as arm:
        arm.hold()
    assert all_of(wire, "torque_enable") == [1] * 4
    assert all_of(wire, "bus_watchdog") == [0] * 4
    arm.close()


def test_relax(wire: Wire) -> None:
    with arm_on(wire) as arm:
        arm.hold()
        arm.relax()
        assert all_of(wire, "torque_enable") == all_of(wire, "bus_watchdog") == [0] * 4


def test_a_fired_watchdog_is_noticed_after_a_silence_and_cleared_by_hold(wire: Wire) -> None:
    place(wire)
    with arm_on(wire, bus_watchdog_ms=20) as arm:
        arm.hold()
        assert arm.read(soon()).fault == BusFault.NONE
        time.sleep(0.03)
        wire.servos[3].put("bus_watchdog", -1)
        wire.servos[3].put("present_position", 2390)  # it stopped there, a little short of its goal
        assert arm.read(soon()).fault == BusFault.SERVO
        assert arm.read(soon()).fault == BusFault.SERVO
        arm.hold()
        assert wire.servos[3].get("goal_position") == 2390
        assert wire.servos[3].get("bus_watchdog") == 1
        assert arm.read(soon()).fault == BusFault.NONE


def test_a_fired_watchdog_is_noticed_after_a_servo_was_silent(wire: Wire) -> None:
    """A servo with a loose plug hears nothing, though we speak: its goals were locked for good, unnoticed."""
    place(wire)
    with arm_on(wire) as arm:
        arm.hold()
        wire.mute.add(3)
        for _ in range(8):
            assert not arm.read(soon(0.015)).fault & BusFault.SERVO
        wire.servos[3].put("bus_watchdog", -1)
        wire.mute.clear()
        assert arm.read(soon()).fault & BusFault.SERVO


def test_closing_on_a_fired_watchdog_does_not_set_off_for_the_old_goal(wire: Wire) -> None:
    place(wire)
    with arm_on(wire) as arm:
        arm.hold()
        wire.servos[3].put("bus_watchdog", -1)
        wire.servos[3].put("present_position", 2000)
    assert wire.servos[3].get("goal_position") == 2000
    assert all_of(wire, "bus_watchdog") == [0] * 4

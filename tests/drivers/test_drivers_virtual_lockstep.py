"""The driver on the virtual arm in simulated time: everything that can go wrong, and the way back, twice the same."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from drivers.arm import BusFault
from drivers.dynamixel import DynamixelArm
from drivers.dynamixel.line import PortGoneError
from drivers.virtual.lockstep import LockstepRobot
from spec.arrays import Float
from spec.errors import DeviceError, MisfitError, SpecError
from spec.robotfile import load_robot

ROBOT = load_robot(Path(__file__).parents[2] / "robots/virtual.yaml")
PERIOD_NS = round(1e9 / ROBOT.control.rate_hz)
ELBOW = ROBOT.follower.joints["elbow_flex"].id


class Bench:
    """An open arm in lock-step, ticked by hand; every byte that the servos show is digested."""

    def __init__(self, seed: int = 1) -> None:
        self.robot = LockstepRobot(ROBOT, seed)
        self.arm = DynamixelArm(self.robot.robot.follower, line=self.robot.line("follower"))
        self.arm.open()
        self.arm.hold()
        self.goal = self.arm.read(self.soon()).position.copy()
        self.digest = hashlib.sha256()

    def soon(self) -> int:
        return self.robot.clock.now_ns() + PERIOD_NS

    def tick(self, count: int = 1) -> BusFault:
        """All that went wrong in ``count`` ticks."""
        faults = BusFault.NONE
        for _ in range(count):
            end = self.soon()
            reading = self.arm.read(end)
            applied = self.arm.write(self.goal, end)
            faults |= reading.fault | applied.fault
            for part in (reading.raw, reading.fresh, np.array([reading.fault, reading.finished_ns])):
                self.digest.update(part.tobytes())
            self.robot.clock.sleep_until_ns(end)
        return faults

    def truth(self) -> Float:
        joints = self.robot.state()["joints"]["follower"]
        return np.array([joints[name] for name in ROBOT.follower.names])

    def torque(self) -> list[bool]:
        return list(self.robot.state()["torque"]["follower"])

    def back(self) -> None:
        """What the operator's word does."""
        self.arm.recover(restart=True)
        self.arm.hold()
        self.goal = self.arm.read(self.soon()).position.copy()


@pytest.fixture
def bench() -> Iterator[Bench]:
    made = Bench()
    yield made
    made.arm.close()


def test_joints_go_where_they_are_sent(bench: Bench) -> None:
    bench.goal[0] += 0.2
    assert bench.tick(100) == BusFault.NONE
    assert bench.truth() == pytest.approx(bench.goal, abs=0.06)
    assert bench.arm.read(bench.soon()).position == pytest.approx(bench.truth(), abs=0.002)


def test_a_tick_takes_what_the_wire_takes(bench: Bench) -> None:
    reading = bench.arm.read(bench.soon())
    line = bench.arm.port
    assert line.wire_ns(80) < reading.finished_ns - reading.started_ns < line.wire_ns(130)


def story(seed: int) -> str:
    """A life full of faults, as a digest of every tick."""
    bench = Bench(seed)
    bench.goal[0] += 0.2
    for faults in (
        {"loss": 0.1, "corrupt": 0.05},
        {"noise": 0.5, "repeat": 0.3, "jitter_ms": 6},
        {"silent_ids": [ELBOW]},
        {"unplug": True},
        {"overload": ELBOW},
    ):
        bench.robot.inject(faults)
        bench.tick(40)
        bench.robot.clear()
        if "unplug" in faults or "overload" in faults:
            bench.back()
        bench.tick(20)
    bench.arm.close()
    return bench.digest.hexdigest()


def test_the_same_seed_gives_the_same_bytes() -> None:
    assert story(3) == story(3) != story(4)


def test_harm_on_the_line_harms_no_value(bench: Bench) -> None:
    bench.robot.inject({"loss": 0.1, "corrupt": 0.1, "noise": 0.5})
    faults = bench.tick(200)
    counts = bench.robot.statistics()["follower"]
    assert all(counts[harm] for harm in ("requests_lost", "answers_lost", "answers_corrupted", "noises"))
    assert faults & BusFault.TIMEOUT
    assert not faults & (BusFault.SERVO | BusFault.DISCONNECTED)
    assert bench.truth() == pytest.approx(bench.goal, abs=0.06)


def test_heat_and_supply_leave_each_other_alone(bench: Bench) -> None:
    usual = bench.arm.health()[2].voltage
    bench.robot.inject({"supply": 0.6})
    bench.robot.inject({"temperature": [ELBOW, 50]})
    bench.robot.inject({"supply": 0.7})
    bench.tick()
    found = bench.arm.health()[2]
    assert found.temperature == pytest.approx(50.0, abs=2.0)
    assert found.voltage == pytest.approx(0.7 * usual, rel=0.05)


def test_an_answer_that_comes_twice_is_taken_once(bench: Bench) -> None:
    bench.robot.inject({"repeat": 1.0})
    bench.tick(50)
    assert bench.robot.statistics()["follower"]["answers_repeated"] >= 50
    assert bench.arm.read(bench.soon()).position == pytest.approx(bench.truth(), abs=0.01)


def test_one_silent_servo_leaves_the_others_alive(bench: Bench) -> None:
    bench.robot.inject({"silent_ids": [ELBOW]})
    bench.tick()
    fresh = bench.arm.read(bench.soon()).fresh
    assert fresh.tolist() == [name != "elbow_flex" for name in ROBOT.follower.names]


def test_an_unplugged_arm_holds_and_comes_back(bench: Bench) -> None:
    bench.tick(20)
    stood = bench.truth()
    bench.robot.inject({"unplug": True})
    assert bench.tick(50) & BusFault.DISCONNECTED
    bench.robot.clear()
    assert bench.tick() & BusFault.DISCONNECTED, "it comes back by nobody's word"
    bench.robot.inject({"unplug": True})
    with pytest.raises(DeviceError, match="no such port"):
        bench.arm.recover(restart=True)
    bench.robot.clear()
    bench.back()
    assert bench.tick(50) == BusFault.NONE
    assert bench.truth() == pytest.approx(stood, abs=0.02)
    assert all(bench.torque())


def test_an_arm_without_power_forgets_and_is_programmed_anew(bench: Bench) -> None:
    bench.robot.inject({"power": False})
    assert bench.tick(60) & BusFault.TIMEOUT
    assert not any(bench.torque())
    with pytest.raises(DeviceError, match="is the arm powered"):
        bench.arm.recover(restart=True)
    bench.robot.clear()
    bench.tick(60)
    assert not any(bench.torque()), "power alone makes nothing stiff"
    lay, servos = bench.truth(), bench.robot.world.follower.bus.servos
    assert {servo.memory["profile_velocity"] for servo in servos} == {0}
    bench.back()
    assert all(servo.memory["profile_velocity"] for servo in servos)
    assert bench.tick(50) == BusFault.NONE
    assert all(bench.torque())
    assert bench.truth() == pytest.approx(lay, abs=0.15)


@pytest.mark.parametrize("fault", ["overload", "overcurrent"])
def test_a_servo_that_shut_down_is_restarted_and_no_other_let_go(bench: Bench, fault: str) -> None:
    bench.robot.inject({fault: ELBOW})
    assert bench.tick() & BusFault.SERVO
    name = {"overload": "overload", "overcurrent": "electrical shock"}[fault]
    assert bench.arm.alarms(bench.soon()) == (f"elbow_flex: {name}",)
    held = [joint != "elbow_flex" for joint in ROBOT.follower.names]
    assert bench.torque() == held
    with pytest.raises(DeviceError, match=f"elbow_flex: {name}: .*only on the operator's word"):
        bench.arm.recover(restart=False)
    assert bench.arm.alarms(bench.soon()) == (f"elbow_flex: {name}",)
    assert bench.torque() == held
    assert bench.arm.recover(restart=True) == (f"elbow_flex: {name}",)
    assert bench.torque() == held
    bench.arm.hold()
    assert bench.arm.alarms(bench.soon()) == ()
    assert all(bench.torque())


def test_a_servo_still_too_hot_is_not_taken_back(bench: Bench) -> None:
    bench.robot.inject({"temperature": [ELBOW, 95]})
    bench.tick(5)
    assert bench.arm.alarms(bench.soon()) == ("elbow_flex: overheating",)
    with pytest.raises(DeviceError, match=r"elbow_flex .*overheating"):
        bench.arm.recover(restart=True)
    bench.robot.clear()
    bench.back()
    assert bench.tick(10) == BusFault.NONE


def test_too_little_voltage_lets_go_who_says_so_and_the_rest_is_never_let_go_by_us(bench: Bench) -> None:
    bench.robot.inject({"supply": 0.5})
    bench.tick(5)
    assert len(bench.arm.alarms(bench.soon())) == len(ROBOT.follower.names)
    # Shutdown(63) of an XL330 names input voltage, that of an XL430 does not.
    held = [joint.model.startswith("XL430") for joint in ROBOT.follower.joints.values()]
    assert bench.torque() == held
    bench.robot.clear()
    with pytest.raises(DeviceError, match="still holds, and only a restart clears it"):
        bench.arm.recover(restart=True)
    assert bench.torque() == held
    bench.robot.inject({"power": False})
    bench.tick(30)
    bench.robot.clear()
    bench.tick(60)
    bench.back()
    assert bench.tick(10) == BusFault.NONE


def test_a_servo_that_never_held_is_not_said_to_have_let_go(bench: Bench) -> None:
    """Shutdown(63) of an XL430 does not name input voltage."""
    bench.arm.relax()
    bench.robot.inject({"supply": 0.5})
    bench.tick(5)
    bench.robot.clear()
    with pytest.raises(DeviceError, match=r"shoulder_pan: input voltage; .*: without torque; restarted only on"):
        bench.arm.recover(restart=False)
    bench.back()
    assert all(bench.torque())


def test_another_servo_in_its_place_is_refused(bench: Bench) -> None:
    bench.robot.inject({"swap": [ELBOW, "XC430-W150"]})
    with pytest.raises(MisfitError, match=r"elbow_flex .*is XC430-W150"):
        bench.arm.recover(restart=True)
    bench.robot.clear()
    bench.robot.inject({"renumber": [ELBOW, 33]})
    with pytest.raises(DeviceError, match=r"elbow_flex .*no answer.*33"):
        bench.arm.recover(restart=True)
    bench.robot.clear()
    bench.back()


def test_a_servo_that_was_reset_is_refused(bench: Bench) -> None:
    servo = next(s for s in bench.robot.world.follower.bus.servos if s.id == ELBOW)
    before, servo.memory["max_position_limit"] = servo.memory["max_position_limit"], 4095
    with pytest.raises(MisfitError, match=f"max_position_limit reads 4095, not the {before} it had before"):
        bench.arm.recover(restart=True)


def test_a_joint_that_holds_elsewhere_is_refused(bench: Bench) -> None:
    bench.tick(10)
    bench.robot.inject({"unplug": True})
    bench.tick(30)
    bench.robot.clear()
    servo = bench.robot.world.follower.bus.servos[0]
    servo.memory["goal_position"] += 400  # as if another arm, held elsewhere, were plugged in
    servo._coupling.apply_goal()
    bench.robot.clock.sleep_until_ns(bench.robot.clock.now_ns() + 10**9)
    with pytest.raises(MisfitError, match=r"shoulder_pan .*holds at tick \d+, 0\.\d\d rad from where it was left"):
        bench.arm.recover(restart=True)


def test_an_arm_that_was_not_recognised_is_read_but_never_led(bench: Bench) -> None:
    """Another arm, which holds, is plugged in instead: the loop goes on sending where the first one was to stand."""
    bench.robot.inject({"unplug": True})
    bench.tick(2)
    bench.robot.clear()
    servos = bench.robot.world.follower.bus.servos
    for servo in servos:
        servo.memory["bus_watchdog"] = 0
    bench.robot.inject({"swap": [ELBOW, "XC430-W150"]})
    with pytest.raises(MisfitError, match=r"elbow_flex .*is XC430-W150"):
        bench.arm.recover(restart=True)
    goals = [servo.memory["goal_position"] for servo in servos]
    bench.goal += 0.2
    assert bench.tick(10) == BusFault.SKIPPED
    assert [servo.memory["goal_position"] for servo in servos] == goals
    assert all(bench.arm.read(bench.soon()).fresh)
    bench.robot.clear()
    bench.back()
    assert bench.tick(10) == BusFault.NONE


@pytest.mark.parametrize(("takes_ns", "loss"), [(0, 0.0), (300_000, 0.0), (2_500_000, 0.0), (0, 0.3)])
def test_the_wait_for_an_answer_can_be_used_once(bench: Bench, takes_ns: int, loss: float) -> None:
    """Longer than the wait, too: what came meanwhile is there."""
    bench.robot.inject({"loss": loss})
    clock, called = bench.robot.clock, []
    for tick in range(20):
        end = bench.soon()

        def meanwhile() -> None:
            called.append(clock.now_ns())
            clock.sleep_until_ns(clock.now_ns() + takes_ns)

        reading = bench.arm.read(end, meanwhile)
        assert len(called) == tick + 1
        assert reading.started_ns <= called[-1] < reading.finished_ns <= end
        assert loss or reading.fresh.all()
        clock.sleep_until_ns(end)


def test_a_wait_too_short_to_be_used_is_not() -> None:
    follower = ROBOT.follower.model_copy(update={"baud": 4_000_000})
    robot = LockstepRobot(ROBOT.model_copy(update={"follower": follower}))
    with DynamixelArm(follower, line=robot.line("follower")) as arm:
        reading = arm.read(robot.clock.now_ns() + PERIOD_NS, lambda: pytest.fail("called"))
    assert reading.fresh.all()


def test_the_line_refuses_what_a_port_refuses() -> None:
    line = LockstepRobot(ROBOT).line("follower")
    with pytest.raises(PortGoneError):
        line.send(b"\xff")


@pytest.mark.parametrize("faults", [{"loss": 2}, {"los": 0.1}, {"arm": "leader"}, {"overload": 99}, {"supply": 0}])
def test_faults_that_do_not_exist_are_refused(faults: dict[str, object]) -> None:
    with pytest.raises(SpecError):
        LockstepRobot(ROBOT).inject(faults)


def test_a_hand_carries_the_joints_that_nothing_holds_until_their_servos_do(bench: Bench) -> None:
    home, before = ROBOT.limits().home, bench.truth()
    bench.robot.inject({"overload": ELBOW})
    bench.robot.world.follower.place(home)
    bench.robot.clock.sleep_until_ns(bench.robot.clock.now_ns() + 500_000_000)
    aside = np.abs(bench.truth() - np.where(bench.torque(), before, home))
    assert aside[2] < 0.02  # it does not fall
    assert aside.max() < 0.1  # the others hold, and are pulled at a little
    bench.robot.inject({"power": False})
    bench.robot.world.follower.place(home)
    bench.robot.clock.sleep_until_ns(bench.robot.clock.now_ns() + 500_000_000)
    assert np.abs(bench.truth() - home).max() < 0.02
    bench.robot.inject({"power": True})
    bench.robot.clock.sleep_until_ns(bench.robot.clock.now_ns() + 500_000_000)
    bench.back()
    bench.tick(20)
    assert np.abs(bench.truth() - home).max() < 0.1
    bench.robot.inject({"power": False})
    bench.robot.clock.sleep_until_ns(bench.robot.clock.now_ns() + 500_000_000)
    assert np.abs(bench.truth() - home).max() > 0.2  # the hand is gone

"""Servos on their bus, without a port or a clock: instructions in, answers and motion out."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from drivers.dynamixel.tables import models
from drivers.virtual.live.world import World
from drivers.virtual.servos.bus import Bus, wire_ns
from drivers.virtual.servos.packet import BROADCAST, Error, Instruction, Packet, Receiver, packet_bytes
from drivers.virtual.servos.servo import BOOT_NS, HardwareError
from spec.robotfile import load_robot

ROBOT = load_robot(Path(__file__).parents[2] / "robots" / "virtual.yaml")
BAUD = 1_000_000
TORQUE, GOAL, POSITION, WATCHDOG, RETURN_LEVEL = 64, 116, 132, 98, 68
MODE, HOMING, DRIVE_MODE, MIN_POSITION, MAX_POSITION, DELAY = 11, 20, 10, 52, 48, 9


class Client:
    """Speaks to a bus in simulated time."""

    def __init__(self) -> None:
        self.world = World(ROBOT, seed=0)
        self.arm = self.world.follower
        self.bus: Bus = self.arm.bus
        self.now_ns = 1_000_000_000

    def send(self, servo: int, instruction: int, parameters: bytes = b"", baud: int = BAUD) -> list[Packet]:
        answers = self.bus.receive(packet_bytes(servo, instruction, parameters), baud, self.now_ns)
        receiver = Receiver()
        return [packet for answer in answers for packet in receiver.feed(answer.data)]

    def write(self, servo: int, address: int, value: int, size: int) -> int:
        """Returns the error byte."""
        data = value.to_bytes(size, "little", signed=value < 0)
        (answer,) = self.send(servo, Instruction.WRITE, address.to_bytes(2, "little") + data)
        return answer.parameters[0]

    def read(self, servo: int, address: int, size: int) -> int:
        parameters = address.to_bytes(2, "little") + size.to_bytes(2, "little")
        (answer,) = self.send(servo, Instruction.READ, parameters)
        return int.from_bytes(answer.parameters[1:], "little", signed=True)

    def run(self, seconds: float) -> None:
        """Let time pass."""
        for _ in range(round(seconds / self.world.dt)):
            self.world.step()
            self.now_ns += round(self.world.dt * 1e9)
            self.bus.supervise(self.now_ns)

    def power(self, servo: int) -> None:
        """Torque on without a jump."""
        assert self.write(servo, GOAL, self.read(servo, POSITION, 4), 4) == Error.NONE
        assert self.write(servo, TORQUE, 1, 1) == Error.NONE


@pytest.fixture
def client() -> Client:
    return Client()


def test_every_register_of_the_table_has_its_factory_value_and_access(client: Client) -> None:
    shaped = {"id", "baud_rate", "firmware_version"}  # set when the arm was put together
    for servo in client.bus.servos:
        for register in servo.model.registers.values():
            if register.default is not None and register.name not in shaped and register.address < 120:
                assert servo.memory[register.name] == register.default, register.name
            if not register.writable:
                value = register.encode(0)
                assert servo.write(register.address, value, 0) == Error.ACCESS, register.name


def test_ping_tells_model_and_firmware(client: Client) -> None:
    (answer,) = client.send(1, Instruction.PING)
    assert answer.parameters == b"\x00" + (1060).to_bytes(2, "little") + b"\x2e"
    assert [a.id for a in client.send(BROADCAST, Instruction.PING)] == [1, 2, 3, 4, 5, 6]
    assert client.send(9, Instruction.PING) == []


@pytest.mark.parametrize(
    ("address", "data", "error"),
    [
        (0, b"\x01\x00", Error.ACCESS),  # Model Number is read only
        (15, b"\x00", Error.ACCESS),  # no register there
        (9000, b"\x00", Error.ACCESS),
        (GOAL, b"\x00\x08", Error.DATA_LENGTH),  # half a register
        (GOAL + 2, b"\x00\x00", Error.DATA_LENGTH),
        (65, b"\x02", Error.DATA_RANGE),  # LED is 0 or 1
        (GOAL, (5000).to_bytes(4, "little"), Error.DATA_LIMIT),  # beyond Max Position Limit
        (GOAL, (-1).to_bytes(4, "little", signed=True), Error.DATA_LIMIT),
        (MODE, b"\x02", Error.DATA_RANGE),  # between the modes
        (MODE, b"\x00", Error.DATA_RANGE),  # XL430 has no current mode
        (65, b"\x01", Error.NONE),
    ],
)
def test_writes_are_refused_as_the_manual_says(client: Client, address: int, data: bytes, error: Error) -> None:
    (answer,) = client.send(1, Instruction.WRITE, address.to_bytes(2, "little") + data)
    assert answer.parameters[0] == error


def test_a_refused_write_changes_nothing(client: Client) -> None:
    """Profile Velocity is fine, Goal Position behind it is not: neither is taken."""
    data = (100).to_bytes(4, "little") + (9999).to_bytes(4, "little")
    (answer,) = client.send(1, Instruction.WRITE, (112).to_bytes(2, "little") + data)
    assert answer.parameters[0] == Error.DATA_LIMIT
    assert client.read(1, 112, 4) == 0


def test_eeprom_is_locked_while_torque_is_on(client: Client) -> None:
    client.power(1)
    assert client.write(1, DELAY, 0, 1) == Error.ACCESS
    assert client.write(1, TORQUE, 0, 1) == Error.NONE
    assert client.write(1, DELAY, 0, 1) == Error.NONE


def test_wrong_checksum_and_unknown_instruction_are_reported(client: Client) -> None:
    raw = bytearray(packet_bytes(1, Instruction.PING, b""))
    raw[-1] ^= 0xFF
    (answer,) = client.bus.receive(bytes(raw), BAUD, client.now_ns)
    assert Receiver().feed(answer.data)[0].parameters == bytes((Error.CRC,))
    (unknown,) = client.send(1, 0x77)
    assert unknown.parameters == bytes((Error.INSTRUCTION,))
    (action,) = client.send(1, Instruction.ACTION)
    assert action.parameters == bytes((Error.INSTRUCTION,))  # nothing was registered


@pytest.mark.parametrize(("level", "ping", "read", "write"), [(0, 1, 0, 0), (1, 1, 1, 0), (2, 1, 1, 1)])
def test_status_return_level(client: Client, level: int, ping: int, read: int, write: int) -> None:
    client.send(1, Instruction.WRITE, bytes((RETURN_LEVEL, 0, level)))
    assert len(client.send(1, Instruction.PING)) == ping
    assert len(client.send(1, Instruction.READ, b"\x84\x00\x04\x00")) == read
    assert len(client.send(1, Instruction.WRITE, b"\x41\x00\x01")) == write


def test_reg_write_waits_for_action(client: Client) -> None:
    client.send(1, Instruction.REG_WRITE, b"\x41\x00\x01")
    assert (client.read(1, 65, 1), client.read(1, 69, 1)) == (0, 1)
    assert client.send(BROADCAST, Instruction.ACTION) == []
    assert (client.read(1, 65, 1), client.read(1, 69, 1)) == (1, 0)


def test_a_servo_at_another_baud_rate_hears_nothing(client: Client) -> None:
    assert client.send(1, Instruction.PING, baud=57_600) == []
    assert client.write(1, 8, 1, 1) == Error.NONE  # answered at the old rate, then 57,600
    assert client.send(1, Instruction.PING) == []
    assert len(client.send(1, Instruction.PING, baud=57_600)) == 1
    assert len(client.send(2, Instruction.PING)) == 1


def test_reading_order_and_silent_servos_in_sync_reads(client: Client) -> None:
    client.bus.faults.inject({"silent_ids": [2]})
    asked = b"\x84\x00\x04\x00" + bytes((3, 2, 1))
    assert [p.id for p in client.send(BROADCAST, Instruction.SYNC_READ, asked)] == [3, 1]
    answers = client.bus.receive(packet_bytes(BROADCAST, Instruction.FAST_SYNC_READ, asked), BAUD, client.now_ns)
    # The joint answer breaks off where the silent servo's part should be, so its head promises more than comes.
    (answer,) = answers
    assert int.from_bytes(answer.data[5:7], "little") + 7 > len(answer.data)
    assert answer.data[9] == 3


def test_bulk_read_and_bulk_write(client: Client) -> None:
    writes = bytes((1, 65, 0, 1, 0, 1)) + bytes((2, 112, 0, 4, 0)) + (77).to_bytes(4, "little")
    assert client.send(BROADCAST, Instruction.BULK_WRITE, writes) == []
    reads = bytes((2, 112, 0, 4, 0, 1, 65, 0, 1, 0))
    answers = client.send(BROADCAST, Instruction.BULK_READ, reads)
    assert [(p.id, int.from_bytes(p.parameters[1:], "little")) for p in answers] == [(2, 77), (1, 1)]
    answers = client.send(BROADCAST, Instruction.FAST_BULK_READ, reads)
    assert answers[0].parameters[1:6] == b"\x02" + (77).to_bytes(4, "little")


def test_the_servo_goes_to_its_goal_and_says_so(client: Client) -> None:
    for servo in range(1, 7):
        client.power(servo)
    here = client.read(6, POSITION, 4)
    assert client.write(6, GOAL, here + 200, 4) == Error.NONE
    client.run(0.02)
    assert client.read(6, 122, 1) == 1  # Moving
    client.run(1.0)
    assert abs(client.read(6, POSITION, 4) - here - 200) < 20
    assert client.read(6, 122, 1) == 0


def test_stale_goal_makes_a_servo_jump_at_torque_on(client: Client) -> None:
    """As real ones do; the driver has to write the goal first."""
    here = client.read(6, POSITION, 4)
    client.write(6, GOAL, here + 300, 4)
    client.write(6, TORQUE, 1, 1)
    client.run(1.0)
    assert abs(client.read(6, POSITION, 4) - here) > 200


def test_profile_velocity_limits_the_speed(client: Client) -> None:
    client.power(6)
    client.write(6, 112, 20, 4)  # 4.58 rev/min
    here = client.read(6, POSITION, 4)
    client.write(6, GOAL, here + 300, 4)
    fastest = 0
    for _ in range(50):
        client.run(0.01)
        fastest = max(fastest, abs(client.read(6, 128, 4)))
    assert 15 <= fastest <= 30
    assert 120 < client.read(6, POSITION, 4) - here < 170  # 0.5 s at 20 × 0.229 rev/min is 156 pulses


def test_bus_watchdog_stops_the_servo_and_locks_its_goals(client: Client) -> None:
    client.power(6)
    here = client.read(6, POSITION, 4)
    client.write(6, 112, 20, 4)
    client.write(6, GOAL, here + 600, 4)
    client.write(6, WATCHDOG, 5, 1)  # 100 ms
    client.run(0.08)
    client.send(1, Instruction.PING)  # any instruction packet keeps every servo going
    client.run(0.08)
    assert client.read(6, WATCHDOG, 1) == 5
    client.run(0.3)
    stopped = client.read(6, POSITION, 4)
    assert client.read(6, WATCHDOG, 1) == -1
    assert client.read(6, TORQUE, 1) == 1  # stops, but does not go limp
    client.run(0.5)
    assert abs(client.read(6, POSITION, 4) - stopped) <= 3
    assert stopped - here < 200
    assert client.write(6, GOAL, here, 4) == Error.DATA_RANGE
    assert client.write(6, WATCHDOG, 0, 1) == Error.NONE
    assert client.write(6, GOAL, here, 4) == Error.NONE


def test_bus_watchdog_does_not_trip_without_torque(client: Client) -> None:
    client.write(6, WATCHDOG, 1, 1)
    client.run(0.5)
    assert client.read(6, WATCHDOG, 1) == 1


def test_overload_shuts_down_until_a_reboot(client: Client) -> None:
    client.power(6)
    client.write(6, GOAL, client.read(6, POSITION, 4), 4)
    servo = client.bus.servos[5]
    servo.fail(HardwareError.OVERLOAD)
    (answer,) = client.send(6, Instruction.PING)
    assert answer.parameters[0] == 0x80
    assert client.read(6, 70, 1) == HardwareError.OVERLOAD
    assert client.read(6, TORQUE, 1) == 0
    assert client.write(6, TORQUE, 1, 1) & 0x7F == Error.RESULT_FAIL
    client.send(6, Instruction.REBOOT)
    assert client.send(6, Instruction.PING) == []  # still booting
    client.now_ns += BOOT_NS
    assert client.read(6, 70, 1) == 0
    client.power(6)


def test_pushing_against_a_stop_overloads(client: Client) -> None:
    """The gripper held shut far beyond its mechanical stop at full duty."""
    client.write(6, 84, 16383, 2)  # P gain: full duty at the smallest error
    client.power(6)
    client.write(6, GOAL, 1300, 4)  # stop is near 1490
    client.run(4.0)
    assert client.read(6, 70, 1) == HardwareError.OVERLOAD
    assert client.read(6, TORQUE, 1) == 0


def test_homing_offset_and_reverse_mode_move_the_scale_not_the_arm(client: Client) -> None:
    before = client.read(1, POSITION, 4)
    client.write(1, HOMING, 100, 4)
    assert client.read(1, POSITION, 4) == before + 100
    client.write(1, HOMING, 0, 4)
    client.write(1, DRIVE_MODE, 1, 1)
    assert abs(client.read(1, POSITION, 4) - (4095 - before)) <= 1
    client.power(1)
    angle = client.arm.joints()["shoulder_pan"]
    client.run(0.5)
    assert abs(client.arm.joints()["shoulder_pan"] - angle) < 0.02


@pytest.mark.parametrize("mode", [1, 16])
def test_velocity_and_pwm_mode_turn_the_shaft(client: Client, mode: int) -> None:
    client.write(6, MODE, mode, 1)
    client.write(6, TORQUE, 1, 1)
    address, size, value = {1: (104, 4, 30), 16: (100, 2, 150)}[mode]
    before = client.read(6, POSITION, 4)
    client.write(6, address, value, size)
    client.run(0.5)
    assert client.read(6, POSITION, 4) > before + 50


def test_current_limit_bounds_the_measured_current(client: Client) -> None:
    client.write(6, 38, 100, 2)
    client.power(6)
    client.write(6, GOAL, client.read(6, POSITION, 4) + 500, 4)
    for _ in range(30):
        client.run(0.01)
        assert abs(client.read(6, 126, 2)) <= 101


def test_a_reboot_forgets_the_profile(client: Client) -> None:
    client.write(6, 112, 5, 4)
    client.send(6, Instruction.REBOOT)
    client.now_ns += BOOT_NS
    client.power(6)
    here = client.read(6, POSITION, 4)
    client.write(6, GOAL, here + 200, 4)
    client.run(0.5)
    assert client.read(6, POSITION, 4) > here + 150


def test_factory_reset_keeps_what_was_asked(client: Client) -> None:
    client.write(6, DELAY, 0, 1)
    client.power(6)
    (refused,) = client.send(6, Instruction.FACTORY_RESET, b"\x02")
    assert refused.parameters[0] == Error.RESULT_FAIL  # torque is on
    client.write(6, TORQUE, 0, 1)
    client.send(6, Instruction.FACTORY_RESET, b"\x02")
    client.now_ns += BOOT_NS
    assert client.read(6, DELAY, 1) & 0xFF == 250
    client.send(6, Instruction.FACTORY_RESET, b"\xff")
    client.now_ns += BOOT_NS
    assert client.bus.servos[5].id == 1
    assert client.bus.servos[5].baud == 57_600


def test_backup_restores_the_table(client: Client) -> None:
    client.write(6, 84, 555, 2)
    client.send(6, Instruction.BACKUP, b"\x01CTRL")
    client.write(6, 84, 111, 2)
    client.write(6, DELAY, 7, 1)
    client.send(6, Instruction.BACKUP, b"\x02CTRL")
    client.now_ns += BOOT_NS
    assert client.read(6, DELAY, 1) & 0xFF == 250


def test_clear_brings_the_position_back_into_one_turn(client: Client) -> None:
    client.write(1, MODE, 4, 1)
    client.write(1, HOMING, 0, 4)
    turned = client.bus.servos[0]
    turned._coupling.turns = 3
    assert client.read(1, POSITION, 4) > 3 * 4096
    (answer,) = client.send(1, Instruction.CLEAR, b"\x01\x44\x58\x4c\x22")
    assert answer.parameters[0] == Error.NONE
    assert 0 <= client.read(1, POSITION, 4) < 4096


def test_indirect_addresses_show_other_registers(client: Client) -> None:
    for k, target in enumerate((132, 133, 134, 135)):
        assert client.write(1, 168 + 2 * k, target, 2) == Error.NONE
    assert client.read(1, 224, 4) == client.read(1, POSITION, 4)
    for k, target in enumerate((116, 117, 118, 119)):
        client.write(1, 168 + 2 * k, target, 2)
    here = client.read(1, POSITION, 4)
    assert client.write(1, 224, here + 5, 4) == Error.NONE
    assert client.read(1, GOAL, 4) == here + 5
    assert client.write(1, 224, 9999, 4) == Error.DATA_LIMIT


def test_the_whole_permitted_range_lies_inside_one_turn(client: Client) -> None:
    for arm in client.world.arms.values():
        for servo, joint in zip(arm.bus.servos, arm.arm.joints.values(), strict=True):
            for angle in joint.position:
                assert 0 < servo._shaft.pulses(angle) < 4095


def test_wire_time() -> None:
    assert wire_ns(14, 1_000_000) == 140_000
    assert wire_ns(1, 57_600) == 173_611


def test_answers_come_when_the_wire_would_have_carried_them(client: Client) -> None:
    """Sync read of 10 bytes from 6 servos: request 20 bytes, six answers of 21, return delay 500 µs each."""
    request = packet_bytes(BROADCAST, Instruction.SYNC_READ, bytes((126, 0, 10, 0, 1, 2, 3, 4, 5, 6)))
    (answer,) = client.bus.receive(request, BAUD, client.now_ns)
    assert len(answer.data) == 6 * 21
    assert answer.due_ns - client.now_ns == wire_ns(len(request), BAUD) + 6 * (500_000 + wire_ns(21, BAUD))
    # The next request has to wait for the line.
    (later,) = client.bus.receive(packet_bytes(1, Instruction.PING, b""), BAUD, client.now_ns)
    assert later.due_ns == answer.due_ns + wire_ns(10, BAUD) + 500_000 + wire_ns(14, BAUD)


def test_faults_are_counted_one_by_one(client: Client) -> None:
    client.bus.faults.inject({"loss": 0.3, "corrupt": 0.2})
    sound = crc_errors = 0
    for _ in range(300):
        for packet in client.send(1, Instruction.PING):
            sound += packet.sound and packet.parameters[0] == 0
            crc_errors += packet.sound and packet.parameters[0] == Error.CRC
        client.now_ns += 1_000_000
    counts = client.bus.faults.counts
    assert counts["requests"] == 300
    lost_requests = counts["requests_lost"] + counts["requests_corrupted"]
    unanswered = 300 - counts["answers"]
    assert 0 <= lost_requests - unanswered <= counts["requests_corrupted"]  # some broken requests get a CRC error
    assert sound + crc_errors == counts["answers"] - counts["answers_lost"] - counts["answers_corrupted"]
    assert 50 < counts["requests_lost"] < 130
    assert counts["requests_lost.PING"] == counts["requests_lost"]


@settings(max_examples=60, deadline=None)
@given(st.lists(st.binary(max_size=40) | st.tuples(st.integers(0, 254), st.integers(0, 255), st.binary(max_size=12))))
def test_no_bytes_whatever_bring_the_servos_down(sent: list[bytes | tuple[int, int, bytes]]) -> None:
    bus = _SHARED.bus
    for item in sent:
        data = item if isinstance(item, bytes) else packet_bytes(*item)
        for answer in bus.receive(data, BAUD, _SHARED.now_ns):
            assert answer.due_ns >= _SHARED.now_ns
        _SHARED.now_ns += 60_000_000
        bus.supervise(_SHARED.now_ns)
        _SHARED.world.step()


_SHARED = Client()


def test_every_model_with_motor_figures_starts() -> None:
    """The virtual arm can be built of any servo we have tables and motors for."""
    for name, table in models().items():
        overrides = {f"follower.joints.gripper.{field}": value for field, value in (("model", name),)}
        robot = load_robot(Path(__file__).parents[2] / "robots" / "virtual.yaml", overrides)
        world = World(robot, seed=0)
        assert world.follower.bus.servos[5].model is table

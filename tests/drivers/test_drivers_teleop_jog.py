"""Gamepad, keyboard and pedals on fake wires: what turns which joint, how fast, how far, and what a lost key costs."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from input_wire import InputWire

from drivers.teleop import Follow, teleop_device
from drivers.teleop.inputs import EV_KEY, EVENT, InputEvent
from drivers.teleop.jog import LEASH_S
from drivers.teleop.keys import ABS_RZ, ABS_X, ABS_Z, CODES
from drivers.teleop.presses import SHOWN_NS, Presses
from spec.arrays import Float
from spec.errors import DeviceError, SpecError
from spec.robot import Key, Robot, Teleop, TeleopDevice
from spec.robotfile import load_robot
from spec.teleop import Button, TeleopSample

ROBOT = load_robot(Path("robots/virtual.yaml"))
HOME = ROBOT.follower.each("home")
SPEED = 0.5


def with_device(wire: InputWire, device: TeleopDevice, **more: object) -> Robot:
    teleop = Teleop(device=device, input=wire.path, speed=SPEED, **more)  # type: ignore[arg-type]
    return ROBOT.model_copy(update={"teleop": teleop})


@pytest.fixture
def wire(tmp_path: Path) -> Iterator[InputWire]:
    made = InputWire(tmp_path / "wire")
    yield made
    made.unplug()


class Arm:
    """A follower that goes exactly where it is told, while a person drives."""

    def __init__(self, robot: Robot) -> None:
        self.device = teleop_device(robot)
        self.device.open()
        self.position: Float = HOME.copy()
        self.samples: list[TeleopSample] = []

    def run(self, seconds: float, *, human: bool = True, stuck: bool = False) -> TeleopSample:
        until = time.monotonic() + seconds
        while time.monotonic() < until:
            now = time.monotonic_ns()
            sample = self.device.exchange(Follow(now, self.position, np.zeros(6), human), now + 10_000_000)
            if human and not stuck and np.isfinite(sample.position).all():
                self.position = np.array(sample.position)
            self.samples.append(sample)
            time.sleep(0.01)
        return self.samples[-1]


def test_a_key_turns_its_joint_at_the_set_speed_and_no_other(wire: InputWire) -> None:
    arm = Arm(with_device(wire, TeleopDevice.KEYBOARD))
    arm.run(0.05, human=False)
    first = arm.run(0.05)
    wire.key("KEY_S", 1)
    last = arm.run(0.3)
    seconds = (last.read_ns - first.read_ns) * 1e-9
    moved = np.array(last.position) - first.position
    assert moved[1] == pytest.approx(-SPEED * seconds)
    assert last.velocity == (0.0, -SPEED, 0.0, 0.0, 0.0, 0.0)
    assert not moved[[0, 2, 3, 4, 5]].any()
    wire.key("KEY_S", 0)
    arm.run(0.05)
    stopped = arm.position.copy()
    assert arm.run(0.1).velocity == (0.0,) * 6
    assert (arm.position == stopped).all()


def test_the_target_stops_at_the_joint_limit_and_says_so(wire: InputWire) -> None:
    arm = Arm(with_device(wire, TeleopDevice.KEYBOARD))
    limits = ROBOT.limits()
    arm.position[1] = limits.upper[1] - 0.05
    arm.run(0.05, human=False)
    wire.key("KEY_W", 1)
    sample = arm.run(0.5)
    assert arm.position[1] == pytest.approx(limits.upper[1])
    assert sample.velocity[1] == 0.0


def test_a_held_back_arm_is_not_outrun(wire: InputWire) -> None:
    arm = Arm(with_device(wire, TeleopDevice.KEYBOARD))
    arm.run(0.05, human=False)
    wire.key("KEY_Q", 1)
    sample = arm.run(0.8, stuck=True)
    assert sample.position[0] - HOME[0] == pytest.approx(LEASH_S * SPEED)


def test_while_the_policy_drives_keys_move_nothing(wire: InputWire) -> None:
    arm = Arm(with_device(wire, TeleopDevice.KEYBOARD))
    wire.key("KEY_Q", 1)
    sample = arm.run(0.2, human=False)
    assert sample.position == tuple(HOME.tolist())
    assert sample.velocity == (0.0,) * 6


def test_sticks_have_a_dead_zone_and_full_speed_at_the_end(wire: InputWire) -> None:
    arm = Arm(with_device(wire, TeleopDevice.GAMEPAD))
    arm.run(0.05, human=False)
    wire.axis(ABS_X, 3000)  # 9 % off the middle: a worn stick at rest
    assert arm.run(0.05).velocity[0] == 0.0
    wire.axis(ABS_X, 32767)
    assert arm.run(0.05).velocity[0] == pytest.approx(SPEED)
    wire.axis(ABS_X, -32768)
    assert arm.run(0.05).velocity[0] == pytest.approx(-SPEED)
    wire.axis(ABS_X, 0)
    wire.axis(ABS_RZ, 32767)
    assert arm.run(0.05).velocity[5] == pytest.approx(SPEED)
    wire.axis(ABS_Z, 32767)
    assert arm.run(0.05).velocity[5] == 0.0


@pytest.mark.parametrize("loss", ["unplug", "overrun"])
def test_a_key_that_was_down_when_the_device_went_is_up(wire: InputWire, loss: str) -> None:
    arm = Arm(with_device(wire, TeleopDevice.KEYBOARD, dead_man=True))
    arm.run(0.05, human=False)
    wire.key("KEY_SPACE", 1)
    wire.key("KEY_Q", 1)
    assert arm.run(0.1).buttons == Button.DEAD_MAN
    wire.unplug() if loss == "unplug" else wire.drop()
    sample = arm.run(0.1)
    assert sample.buttons == 0
    assert sample.velocity == (0.0,) * 6


def test_records_cut_in_two_on_the_way_are_put_together(wire: InputWire) -> None:
    arm = Arm(with_device(wire, TeleopDevice.KEYBOARD, buttons={wire.path: {"KEY_ENTER": Key.START_STOP}}))
    arm.run(0.02)
    record = EVENT.pack(0, 0, EV_KEY, CODES["KEY_ENTER"], 1)
    wire.raw(record[:10])
    arm.run(0.03)
    assert arm.device.pressed() == ()
    wire.raw(record[10:])
    arm.run(0.03)
    assert arm.device.pressed() == ("start_stop",)


def test_a_quick_press_is_seen_by_whoever_looks_now_and_then(wire: InputWire) -> None:
    arm = Arm(with_device(wire, TeleopDevice.GAMEPAD))
    arm.run(0.02, human=False)
    wire.tap("BTN_SOUTH")
    arm.run(0.3, human=False)
    shown = [sample for sample in arm.samples if sample.buttons & Button.TOGGLE]
    assert len(shown) >= 3
    assert not arm.samples[-1].buttons


def test_repeats_of_a_held_key_are_one_press(wire: InputWire) -> None:
    arm = Arm(with_device(wire, TeleopDevice.KEYBOARD, buttons={wire.path: {"KEY_ENTER": Key.SUCCESS}}))
    for value in (1, 2, 2, 2, 0):
        wire.key("KEY_ENTER", value)
    arm.run(0.05)
    assert arm.device.pressed() == ("success",)


def test_ctrl_c_on_a_grabbed_keyboard_still_ends_the_session(wire: InputWire) -> None:
    arm = Arm(with_device(wire, TeleopDevice.KEYBOARD))
    wire.key("KEY_LEFTCTRL", 1)
    wire.key("KEY_C", 1)
    arm.run(0.05)
    assert arm.device.pressed() == ("quit",)


@pytest.mark.parametrize(
    ("name", "said"),
    [("KEY_ENTRE", "KEY_ENTER"), ("nonsense", "evtest shows the names"), ("B", "valid: ")],
)
def test_unknown_keys_are_refused_with_those_that_come_near(wire: InputWire, name: str, said: str) -> None:
    device = teleop_device(with_device(wire, TeleopDevice.GAMEPAD, buttons={wire.path: {name: Key.TOGGLE}}))
    with pytest.raises(SpecError, match=name) as caught:
        device.open()
    assert said in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_key_may_go_by_its_number(wire: InputWire) -> None:
    arm = Arm(with_device(wire, TeleopDevice.GAMEPAD, buttons={wire.path: {"744": Key.REDO}}))
    wire.send((EV_KEY, 744, 1))
    arm.run(0.05)
    assert arm.device.pressed() == ("redo",)


@pytest.mark.parametrize(("path", "said"), [("/dev/input/by-id/gone", "no such input device"), ("/dev/null", "not an")])
def test_what_is_no_input_device_is_refused(path: str, said: str) -> None:
    robot = ROBOT.model_copy(update={"teleop": Teleop(device=TeleopDevice.GAMEPAD, input=path)})
    with pytest.raises(DeviceError, match=said):
        teleop_device(robot).open()


def test_no_device_named_and_none_there_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("drivers.teleop.jog.input_devices", lambda kind: [f"/dev/input/by-id/{k}-{kind}" for k in "ab"])
    robot = ROBOT.model_copy(update={"teleop": Teleop(device=TeleopDevice.KEYBOARD)})
    with pytest.raises(SpecError, match=r"teleop\.input.*a-kbd, /dev/input/by-id/b-kbd"):
        teleop_device(robot)


@given(st.lists(st.tuples(st.sampled_from([30, 31, 32]), st.sampled_from([0, 1, 2]), st.integers(0, 10**8))))
def test_buttons_show_every_press_and_end_with_the_last_release(moves: list[tuple[int, int, int]]) -> None:
    presses = Presses({30: Key.TAKE, 31: Key.DEAD_MAN, 32: Key.SUCCESS})
    now, held, pressed = 0, set[int](), 0
    for code, value, later in moves:
        now += later
        presses.see(InputEvent(EV_KEY, code, value), now)
        held = held | {code} if value == 1 else held - {code} if value == 0 else held
        pressed += code == 32 and value == 1
        buttons = presses.buttons(now)
        assert bool(buttons & Button.DEAD_MAN) == (31 in held)
        if code == 30 and value == 1:
            assert buttons & Button.TAKE
    assert presses.pressed() == ("success",) * pressed
    assert bool(presses.buttons(now + SHOWN_NS) & Button.TAKE) == (30 in held)
    presses.release_all()
    assert presses.buttons(now + SHOWN_NS) is Button.NONE

"""The robot file: every mistake is one line that names the field, the value, the reason and the choices."""

import multiprocessing
import os
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

import pytest
import yaml

from spec.errors import SpecError
from spec.robot import Realtime
from spec.robotfile import load_robot, robot_hash

ROBOTS = Path(__file__).parents[2] / "robots"
VIRTUAL = ROBOTS / "virtual.yaml"


@pytest.mark.parametrize("path", sorted(ROBOTS.glob("*.yaml")), ids=lambda path: path.name)
def test_every_shipped_robot_file_loads(path: Path) -> None:
    robot = load_robot(path)
    assert robot.limits().lower.shape == (len(robot.follower.joints),)


def test_paths_are_relative_to_the_file() -> None:
    robot = load_robot(VIRTUAL)
    assert robot.follower.calibration.is_absolute()
    assert robot.follower.calibration.parent == ROBOTS / "calibration"
    assert robot.model is not None
    assert robot.model.resolve().is_file()


def test_override_changes_one_field_only() -> None:
    plain, changed = load_robot(VIRTUAL), load_robot(VIRTUAL, {"cameras.top.fps": "60"})
    assert changed.cameras["top"].fps == 60
    assert changed.cameras["front"] == plain.cameras["front"]
    assert robot_hash(plain) != robot_hash(changed)


def test_off_means_off_though_yaml_reads_a_boolean() -> None:
    assert load_robot(VIRTUAL, {"control.realtime": "off"}).control.realtime is Realtime.OFF


@pytest.mark.parametrize(
    ("field", "text", "says"),
    [
        ("cameras.top.fp", "60", "cameras.top.fp: 60: no such field (valid: fps, height"),
        (
            "follower.joints.gripper.id",
            "300",
            "follower.joints.gripper.id: 300: input should be less than or equal to 252",
        ),
        ("follower.joints.gripper.id", "5", "joints wrist_roll and gripper share id 5"),
        ("follower.joints.gripper.position", "[1, -1]", "position: [1, -1]: the first number must be below the second"),
        ("follower.joints.gripper.home", "3.0", "home 3.0 lies outside position"),
        ("follower.bus_watchdog_ms", "50", "bus_watchdog_ms: 50: input should be a multiple of 20"),
        ("control.mode", "fastest", "'fastest': input should be 'first', 'open_loop', 'ensemble' or 'latest'"),
        ("control.rate_hz", "-1", "control.rate_hz: -1"),
        ("control.rate_hz", ".nan", "control.rate_hz: nan"),
        ("control.rate_hz", ".inf", "control.rate_hz: inf"),
        ("follower.joints.gripper.velocity", ".inf", "follower.joints.gripper.velocity: inf"),
        ("follower.joints.gripper.velocity", "1.0e-8", "gripper.velocity: 1e-08: input should be greater than"),
        ("follower.joints.gripper.velocity", ".nan", "gripper.velocity: nan"),
        ("follower.joints.gripper.acceleration", "1.0e+300", "gripper.acceleration: 1e+300: input should be less than"),
        ("follower.joints.gripper.jerk", "1.0e-300", "gripper.jerk: 1e-300: input should be greater than"),
        ("follower.joints.gripper.jerk", "0.02", "takes 28.3 s to stop from with acceleration 40 and jerk 0.02"),
        ("follower.joints.gripper.position", "[-1.0e+300, 0]", "gripper.position.0: -1e+300: input should be"),
        ("follower.joints.gripper.position", "[-800, 0]", "takes 200 s to cross position [-800.0, 0.0]: at most 150"),
        ("cameras.top.width", "1000000", "cameras.top.width: 1000000: input should be less than or equal to 8192"),
        ("cameras.top.fps", "1.0e+6", "cameras.top.fps: 1000000.0: input should be less than or equal to 1000"),
        ("virtual.seed", "-1", "virtual.seed: -1"),
        ("name", "lab/arm", "name: 'lab/arm': may not be empty, and has neither a slash"),
        ("name", '"a\\0"', "name: 'a\\x00': may not be empty"),
        ("follower.serial", "../../etc", "follower.serial"),
        ("name.deeper", "1", "--robot.name.deeper: 'name': holds a value, not fields"),
        ("control", "{rate_hz: [", "--robot.control: '{rate_hz: [': not a valid YAML value"),
    ],
)
def test_a_bad_value_is_one_line(field: str, text: str, says: str) -> None:
    with pytest.raises(SpecError) as refused:
        load_robot(VIRTUAL, {field: text})
    message = str(refused.value)
    assert says in message
    assert "\n" not in message


@pytest.mark.parametrize(
    "content",
    [b"", b"- a\n- b\n", b"\xff\xfe\x00", b"a: [1, 2", b"a: &x [*x, *x]\n", b"12", b"a: !!python/object:os.system x"],
)
def test_a_file_that_is_no_robot_file_is_refused(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "robot.yaml"
    path.write_bytes(content)
    with pytest.raises(SpecError, match=r"robot\.yaml"):
        load_robot(path)


def test_a_missing_file_is_refused(tmp_path: Path) -> None:
    with pytest.raises(SpecError, match="cannot read the robot file"):
        load_robot(tmp_path / "none.yaml")


def test_a_pipe_or_a_device_is_no_robot_file(tmp_path: Path) -> None:
    """Nobody writes into the one, and the other has no end."""
    os.mkfifo(tmp_path / "robot.yaml")
    for path in (tmp_path / "robot.yaml", Path("/dev/zero")):
        with pytest.raises(SpecError, match="'not a regular file': cannot be a robot file"):
            load_robot(path)


def test_a_name_fits_into_the_names_of_files() -> None:
    """The certificate of a longer one could not be kept, which was said once all was measured."""
    assert load_robot(VIRTUAL, {"name": "k" * 100}).name == "k" * 100
    with pytest.raises(SpecError, match=r"name: .*at most 100 characters"):
        load_robot(VIRTUAL, {"name": "k" * 101})


def test_a_missing_field_is_named(tmp_path: Path) -> None:
    document = yaml.safe_load(VIRTUAL.read_text())
    del document["follower"]["port"]
    path = tmp_path / "robot.yaml"
    path.write_text(yaml.safe_dump(document))
    with pytest.raises(SpecError, match=r"follower\.port: None: field required"):
        load_robot(path)


def test_a_key_that_stands_twice_is_refused_where_it_stands(tmp_path: Path) -> None:
    path = tmp_path / "robot.yaml"
    path.write_text(VIRTUAL.read_text() + "\nname: another\n")
    line = len(path.read_text().splitlines())
    with pytest.raises(SpecError, match=rf"robot\.yaml:{line}:1: \"'name' stands twice\": not valid YAML"):
        load_robot(path)


def test_a_refusal_survives_the_way_from_another_process() -> None:
    refusal = SpecError("control.rate_hz", 500, "too fast", ["100", "200"])
    with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn")) as pool:
        arrived = pool.submit(repr, refusal).result()
    assert arrived == repr(refusal)
    with (
        ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn")) as pool,
        pytest.raises(SpecError, match="cannot read the robot file"),
    ):
        pool.submit(load_robot, Path("nowhere.yaml")).result()


@pytest.mark.parametrize(
    "content",
    [
        pytest.param(b"{[]}", id="was a TypeError: a list as a name"),
        pytest.param(b"a: !!bool x", id="was a KeyError: no such truth"),
        pytest.param(b"!!map [a]", id="was a TypeError: a list that says it is a mapping"),
        pytest.param(b'name: "\\ud800"', id="was taken, and could be written to no log"),
        pytest.param(b'? "a\\nb"\n: 1\n? "a\\nb"\n: 2', id="was refused in two lines"),
    ],
)
def test_what_a_fuzzer_found_is_refused_in_a_line(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "robot.yaml"
    path.write_bytes(content)
    with pytest.raises(SpecError) as refused:
        load_robot(path)
    assert str(refused.value).isprintable()


def test_an_override_with_a_wrong_tag_is_refused() -> None:
    """Was a KeyError, and a ValueError for a day that there is not."""
    for text in ("!!bool x", "2020-13-45"):
        with pytest.raises(SpecError, match="not a valid YAML value"):
            load_robot(Path("robots/virtual.yaml"), {"control.rate_hz": text})


def test_a_list_of_lists_of_aliases_does_not_fill_the_memory(tmp_path: Path) -> None:
    """Written out, the name would be 9 to the power of 20 numbers long; so was the refusal."""
    path = tmp_path / "robot.yaml"
    lines = ["l0: &l0 [1, 1]", *(f"l{k}: &l{k} [{', '.join([f'*l{k - 1}'] * 9)}]" for k in range(1, 20)), "name: *l19"]
    path.write_text("\n".join(lines), encoding="utf-8")
    with pytest.raises(SpecError) as refused:
        load_robot(path)
    assert len(str(refused.value)) < 20_000

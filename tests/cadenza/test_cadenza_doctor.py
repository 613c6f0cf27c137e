"""The doctor's findings in every bad state, and the whole command on the virtual arm."""

from __future__ import annotations

import errno
import io
import json
import os
import select
import struct
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import onnxruntime
import pytest
from rich.console import Console

from cadenza.cli import main
from cadenza.commands.doctor import Args, areas
from cadenza.doctor.cameras import Pictures, check_camera
from cadenza.doctor.finding import Finding, Level, failure, warning, well
from cadenza.doctor.inference import check_inference, computes
from cadenza.doctor.kernel import clock, governor, hand_over, idle, isolation, preemption, throttling, virtual_machine
from cadenza.doctor.machine import DiskSpeed, check_disk, check_resolution, check_shared, disk_of
from cadenza.doctor.motion import check_start_pose
from cadenza.doctor.ports import adapters, check_ports, udev_rules
from cadenza.doctor.privileges import Rights, check_files, check_privileges
from cadenza.doctor.servos import Scan, ServoState, check_arm, check_calibration, check_scan
from cadenza.doctor.timing import check_certificate
from cadenza.doctor.v4l2 import modes
from cadenza.doctor.view import print_area
from controller.supervisor import Supervisor
from controller.wiring.room import NoRoomError
from drivers.dynamixel.port import Port
from drivers.dynamixel.tables import models
from spec.errors import DeviceError
from spec.robot import Camera, Control, Realtime, Workspace
from spec.robotfile import load_robot

OK, WARN, FAIL = Level.OK, Level.WARN, Level.FAIL
KOCH = load_robot(Path("robots/koch.yaml"))
ARM = KOCH.follower
CPU3 = "sys/devices/system/cpu/cpu3"


def machine(root: Path, files: dict[str, str]) -> Path:
    """A root file system with these files."""
    for name, text in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return root


@pytest.mark.parametrize(
    ("look", "files", "level", "says"),
    [
        (preemption, {"sys/kernel/realtime": "1\n"}, OK, "PREEMPT_RT"),
        (preemption, {"proc/version": "Linux 6.1 #1 SMP PREEMPT_RT"}, OK, "PREEMPT_RT"),
        (preemption, {"proc/version": "Linux #1 SMP PREEMPT_DYNAMIC", "proc/cmdline": "preempt=full"}, WARN, "full"),
        (preemption, {"proc/version": "Linux #1 SMP"}, WARN, "voluntary or none"),
        (throttling, {}, OK, "not limited"),
        (throttling, {"proc/sys/kernel/sched_rt_runtime_us": "-1"}, OK, "not limited"),
        (clock, {"sys/devices/system/clocksource/clocksource0/current_clocksource": "tsc\n"}, OK, "tsc"),
        (clock, {"sys/devices/system/clocksource/clocksource0/current_clocksource": "hpet\n"}, WARN, "hpet"),
    ],
)
def test_kernel(
    look: Callable[[Path], Finding], files: dict[str, str], level: Level, says: str, tmp_path: Path
) -> None:
    finding = look(machine(tmp_path, files))
    assert (finding.level, says in finding.value) == (level, True)
    assert bool(finding.fix) is (level is not OK)


@pytest.mark.parametrize(("runtime", "level"), [("950000", OK), ("-1", OK), ("10000", FAIL), ("0", FAIL)])
def test_real_time_share(runtime: str, level: Level, tmp_path: Path) -> None:
    folder = "proc/sys/kernel/"
    files = {folder + "sched_rt_runtime_us": runtime, folder + "sched_rt_period_us": "1000000"}
    assert throttling(machine(tmp_path, files)).level is level


@pytest.mark.parametrize(
    ("isolated", "nohz", "cmdline", "level", "missing"),
    [
        ("2-3", "2-3", "rcu_nocbs=2-3", OK, ""),
        ("3", "3", "quiet rcu_nocbs=all", OK, ""),
        ("", "", "", WARN, "isolcpus, nohz_full, rcu_nocbs"),
        ("3", "", "rcu_nocbs=3", WARN, "without nohz_full"),
        ("1-2", "3", "rcu_nocbs=3", WARN, "1, 2 would be"),
    ],
)
def test_isolation(isolated: str, nohz: str, cmdline: str, level: Level, missing: str, tmp_path: Path) -> None:
    cpu = "sys/devices/system/cpu/"
    root = machine(tmp_path, {cpu + "isolated": isolated, cpu + "nohz_full": nohz, "proc/cmdline": cmdline})
    finding = isolation(root, 3)
    assert finding.level is level
    assert missing in finding.value


@pytest.mark.parametrize(("chosen", "level"), [("performance", OK), ("powersave", WARN), ("", OK)])
def test_governor(chosen: str, level: Level, tmp_path: Path) -> None:
    assert governor(machine(tmp_path, {f"{CPU3}/cpufreq/scaling_governor": chosen}), 3).level is level


@pytest.mark.parametrize(
    ("cpuinfo", "stat", "level", "says"),
    [
        ("Features\t: fp asimd", "cpu  100 0 100 800 0 0 0 0 0 0", OK, "cannot be told"),
        ("flags\t\t: fpu tsc", "cpu  100 0 100 800 0 0 0 0 0 0", OK, "none"),
        ("flags\t\t: fpu hypervisor tsc", "cpu  5000 0 4999 90000 10 0 0 0 0 0\ncpu0 1 1", OK, "0.00%"),
        ("flags\t\t: fpu hypervisor tsc", "cpu  5000 0 4900 90000 900 0 0 100 2000 0\ncpu0 1 1", WARN, "1.00%"),
    ],
)
def test_a_host_that_takes_the_processor_away(cpuinfo: str, stat: str, level: Level, says: str, tmp_path: Path) -> None:
    finding = virtual_machine(machine(tmp_path, {"proc/cpuinfo": f"model\t: x\n{cpuinfo}\n", "proc/stat": stat}))
    assert finding.level is level
    assert says in finding.value


@pytest.mark.parametrize(
    ("policies", "level", "says"),
    [((), OK, "not seen"), ((1, 2), OK, "real-time"), ((1, 0, 0), WARN, "2 of 3")],
)
def test_who_hands_on_what_the_servos_answered(
    policies: tuple[int, ...], level: Level, says: str, tmp_path: Path
) -> None:
    numbers = " ".join(str(field) for field in range(4, 40))  # and behind them rt_priority and policy
    files = {f"proc/{k}/stat": f"{k} (kworker/u8:{k}) I {numbers} 2 {p} 0 0" for k, p in enumerate(policies, 10)}
    others = {"proc/1/stat": f"1 (a) b) S {numbers} 0 0 0 0", "proc/2/stat": f"2 (kworker/0:1) I {numbers} 0 0 0 0"}
    finding = hand_over(machine(tmp_path, {**files, **others}))
    assert finding.level is level
    assert says in finding.value


def test_deep_idle_states_matter_where_nobody_may_forbid_them(tmp_path: Path) -> None:
    root = machine(tmp_path, {f"{CPU3}/cpuidle/state0/latency": "2", f"{CPU3}/cpuidle/state3/latency": "890"})
    assert idle(root, 3).level is WARN
    machine(root, {"dev/cpu_dma_latency": ""})
    assert idle(root, 3).level is OK
    (root / "dev/cpu_dma_latency").unlink()
    machine(root, {f"{CPU3}/cpuidle/state3/disable": "1"})
    assert idle(root, 3).level is OK


@pytest.mark.parametrize(
    ("rights", "levels"),
    [
        (Rights(99, -1, 0, True), [OK, OK]),
        (Rights(0, 65536, 0, False), [WARN, WARN]),
        (Rights(0, 65536, 1 << 23 | 1 << 14, False), [WARN, OK]),  # root in a container
    ],
)
def test_privileges(rights: Rights, levels: list[Level]) -> None:
    assert [finding.level for finding in check_privileges(rights, Control())] == levels
    enforced = check_privileges(rights, Control(realtime=Realtime.ENFORCE))
    assert [finding.level for finding in enforced] == [FAIL if level is WARN else level for level in levels]


def test_the_way_to_the_rights_names_the_priority_of_the_robot_file() -> None:
    finding = check_privileges(Rights(0, 0, 0, False), Control(priority=71))[0]
    assert "'@realtime - rtprio 71' '@realtime - memlock unlimited'" in finding.fix


@pytest.mark.parametrize(
    ("free", "speed", "levels"),
    [
        (50e9, DiskSpeed(300.0, (0.001, 0.004)), [OK, OK]),
        (5e9, DiskSpeed(5.0, (0.001,)), [WARN, WARN]),
        (1e5, DiskSpeed(300.0, (0.9, 0.001)), [FAIL, WARN]),
        (50e9, OSError(errno.EROFS, "Read-only file system"), [OK, FAIL]),
    ],
)
def test_disk(free: float, speed: DiskSpeed | OSError, levels: list[Level]) -> None:
    assert [finding.level for finding in check_disk(Path("/runs"), int(free), speed)] == levels


@pytest.mark.parametrize("folder", ["README.md", "README.md/runs", "/proc/runs", "/sys"])
def test_runs_go_into_a_folder_on_a_disk(folder: str) -> None:
    """A file was well, and of the kernel's own file system one was to become the owner."""
    (finding,) = disk_of(Path(folder))
    assert (finding.level, finding.why) == (FAIL, "nothing can be recorded there")
    assert "chown" not in finding.fix


def test_only_where_rights_are_missing_they_are_to_be_given() -> None:
    """And to the folder of the runs alone, not to the one it is to be made in."""
    forbidden, broken = (
        check_disk(Path("/srv/my runs"), 10**11, OSError(number, "no"))[-1].fix for number in (errno.EACCES, errno.EIO)
    )
    assert forbidden == "sudo mkdir -p '/srv/my runs'; sudo chown $USER '/srv/my runs'"
    assert "chown" not in broken


def test_a_run_needs_files_open() -> None:
    """With too few of them a run ended with whatever came to nothing first."""
    findings = [check_files(limit) for limit in (40, 128, 1024, -1)]
    assert [finding.level for finding in findings] == [FAIL, WARN, OK, OK]
    assert "ulimit -n" in findings[0].fix
    assert check_files().name == "open files"


def test_memory_and_clock() -> None:
    run = 50_000_000
    assert [check_shared(free, run).level for free in (49_000_000, 99_000_000, 101_000_000)] == [FAIL, WARN, OK]
    assert check_shared(49_000_000, run).value == "49 MB free, 50 MB needed for a run"
    assert "No such" in check_shared(FileNotFoundError(2, "No such file or directory"), run).value
    assert [check_resolution(seconds).level for seconds in (1e-9, 4e-3)] == [OK, FAIL]


def usb(root: Path, name: str, serial: str, timer: str | None) -> None:
    """A serial adapter as sysfs shows one."""
    device = f"sys/devices/usb1/1-1/1-1.{name[-1]}"
    machine(
        root,
        {f"{device}/idVendor": "0403\n", f"{device}/idProduct": "6014\n", f"{device}/tty/x": "", f"dev/{name}": ""},
    )
    if serial:
        machine(root, {f"{device}/serial": serial, f"dev/serial/by-id/usb-{serial}": ""})
        link = root / f"dev/serial/by-id/usb-{serial}"
        link.unlink()
        link.symlink_to(f"../../{name}")
    if timer is not None:
        machine(root, {f"sys/bus/usb-serial/devices/{name}/latency_timer": timer})
    (root / f"sys/class/tty/{name}").mkdir(parents=True)
    (root / f"sys/class/tty/{name}/device").symlink_to(root / device / "tty")


def test_ports_and_the_rules_that_name_them(tmp_path: Path) -> None:
    usb(tmp_path, "ttyUSB0", "FT8A", "16")
    usb(tmp_path, "ttyUSB1", "", None)
    found = adapters(tmp_path)
    arms = {"follower": "/dev/serial/by-id/usb-FT8A", "leader": "/dev/ttyUSB1"}
    findings = {finding.name: finding for finding in check_ports(tmp_path, arms, found)}
    assert {name: finding.level for name, finding in findings.items()} == {
        "follower port": OK,
        "follower latency timer": WARN,
        "leader port": WARN,  # by the order of plugging
    }
    rules = udev_rules(arms, found, tmp_path).splitlines()[2:]
    adapter = 'ATTRS{idVendor}=="0403", ATTRS{idProduct}=="6014"'
    permitted = 'GROUP="dialout", MODE="0660"'
    assert rules == [
        f'SUBSYSTEM=="tty", {adapter}, ATTRS{{serial}}=="FT8A", SYMLINK+="cadenza-follower", {permitted}',
        f'SUBSYSTEM=="usb-serial", ACTION=="add", {adapter}, ATTRS{{serial}}=="FT8A", ATTR{{latency_timer}}="1"',
        f'SUBSYSTEM=="tty", {adapter}, KERNELS=="1-1.1", SYMLINK+="cadenza-leader", {permitted}',
    ]
    (missing,) = check_ports(tmp_path, {"follower": "/dev/serial/by-id/usb-OTHER"}, found)
    assert missing.level is FAIL
    assert "/dev/serial/by-id/usb-FT8A" in missing.fix


LETS_GO = ("overheating", "electrical shock", "overload")
"""At these the servos switch themselves off; the XL330 also at a wrong voltage."""
GOOD = ServoState(
    models()["XL330-M288"].number, 46, 5.0, (3.5, 7.0), 32, 70, (), ("input voltage", *LETS_GO), torque=False
)
XL430 = replace(
    GOOD, model=models()["XL430-W250"].number, voltage_v=11.5, voltage_range_v=(9.5, 16.0), shutdown=LETS_GO
)


def scanned(joint: str, state: ServoState) -> list[Finding]:
    """What is said of a servo in such a state."""
    found = {ARM.baud: {joint.id: models()[joint.model].number for joint in ARM.joints.values()}}
    states = {ARM.joints[joint].id: state}
    return [one for one in check_scan("follower", ARM, Scan(found, states)) if one.name.endswith(joint)]


@pytest.mark.parametrize(
    ("changes", "level", "says"),
    [
        ({}, OK, ""),
        ({"model": models()["XL330-M077"].number}, FAIL, "robot file says XL330-M288"),
        ({"errors": ("overload",)}, FAIL, "overload; it has switched itself off"),
        ({"voltage_v": 3.3}, FAIL, "supply outside 3.5 to 7 V: it switches itself off"),
        ({"voltage_v": 3.7}, WARN, "close to its limits"),
        ({"temperature_c": 65}, WARN, "at 70 °C"),
    ],
)
def test_servos(changes: dict[str, Any], level: Level, says: str) -> None:
    (finding,) = scanned("elbow_flex", replace(GOOD, **changes))
    assert finding.level is level
    assert says in finding.why


def test_firmware_without_a_bus_watchdog_is_not_good_enough() -> None:
    (finding,) = scanned("shoulder_pan", replace(XL430, firmware=37))
    assert (finding.level, finding.why[:22]) == (FAIL, "no Bus Watchdog below ")
    (finding,) = scanned("shoulder_pan", XL430)
    assert finding.level is OK


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"errors": ("input voltage",), "torque": True}, "input voltage; it still holds, and only a restart clears it"),
        ({"errors": ("input voltage",)}, "input voltage; only a restart clears it"),
        ({"errors": ("input voltage", "overload")}, "overload; it has switched itself off"),
        ({"voltage_v": 8.0, "torque": True}, "supply outside 9.5 to 16 V: it only reports an error"),
    ],
)
def test_a_servo_that_holds_at_a_wrong_voltage_is_not_said_to_have_let_go(changes: dict[str, Any], says: str) -> None:
    finding = scanned("shoulder_pan", replace(XL430, **changes))[0]
    assert finding.level is FAIL
    assert finding.why.endswith(says)


def test_servos_that_are_missing_elsewhere_double_or_strange() -> None:
    numbers = {joint.id: models()[joint.model].number for joint in ARM.joints.values()}
    here = {servo: number for servo, number in numbers.items() if servo not in {2, 6}} | {9: numbers[1]}
    result = Scan({ARM.baud: here, 57600: {6: numbers[6]}}, {}, frozenset({3}))
    findings = {finding.name: finding for finding in check_scan("follower", ARM, result)}
    assert "answers at no baud" in findings["follower shoulder_lift"].value
    assert "57600 baud" in findings["follower gripper"].value
    assert findings["follower gripper"].fix.startswith("put follower.baud: 57600")
    assert "two servos with one id" in findings["follower elbow_flex"].why
    assert findings["follower others"].value.startswith("9 (")


def test_a_start_pose_that_a_run_would_refuse() -> None:
    assert check_start_pose(KOCH).level is OK
    finding = check_start_pose(KOCH.model_copy(update={"workspace": Workspace(x=(0, 1), y=(0, 1), z=(0.3, 1))}))
    assert finding.level is FAIL
    assert "workspace box, by" in finding.why
    assert check_start_pose(KOCH.model_copy(update={"model": Path("/none.xml")})).name == "model"


def test_calibration_and_certificate(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path))
    assert check_calibration("follower", ARM).level is FAIL  # this arm was never measured
    assert check_calibration("follower", load_robot(Path("robots/virtual.yaml")).follower).level is OK
    assert check_certificate(KOCH).level is WARN
    assert check_certificate(load_robot(Path("robots/koch.yaml"), {"control.realtime": "enforce"})).level is FAIL


@pytest.mark.parametrize(
    ("seen", "level"),
    [
        (Pictures(29.9, 0.05), OK),
        (Pictures(14.9, 0.07), WARN),
        (Pictures(29.0, 0.9), WARN),  # a stall longer than stale_after_ms
        (Pictures(30.0, 0.03, frozen=True), FAIL),
        (Pictures(0.0, 2.0), FAIL),
        (DeviceError("camera top: no such device"), FAIL),
    ],
)
def test_cameras(seen: Pictures | DeviceError, level: Level) -> None:
    def look(_name: str, _camera: Camera) -> Pictures:
        if isinstance(seen, DeviceError):
            raise seen
        return seen

    assert check_camera("top", Camera(source="http://127.0.0.1/top"), look).level is level


@pytest.mark.parametrize(
    ("seen", "fix"),
    [
        (Pictures(14.9, 0.07), "more light; v4l2-ctl -c exposure_dynamic_framerate=0; or cameras.top.fps 15"),
        (Pictures(29.0, 0.9), "another USB port (not a hub shared with the other camera); more light"),
        (Pictures(0.0, 2.0), "unplug it, plug it in"),
    ],
)
def test_advice_for_a_camera_is_for_its_kind(seen: Pictures, fix: str) -> None:
    """More light was advised for a camera of the virtual arm."""
    plugged = check_camera("top", Camera(source="/dev/v4l/by-path/none"), lambda *_: seen)
    streamed = check_camera("top", Camera(source="http://127.0.0.1/top"), lambda *_: seen)
    assert plugged.fix == fix
    assert streamed.fix.startswith("end what else keeps the machine busy")
    assert plugged.level is streamed.level


def test_shared_memory_is_asked_for_as_a_run_asks(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """It was a figure of its own, which runs outgrew."""
    asked: list[int] = []

    def need(wanted: int, _: str) -> None:
        asked.append(wanted)
        raise NoRoomError("enough was seen")

    monkeypatch.setattr("controller.supervisor.need", need)
    with pytest.raises(NoRoomError), Supervisor(KOCH, None, tmp_path / "run", lambda _: None):
        pass
    machine = dict(areas(KOCH, Args(runs=tmp_path), lambda _: None))["machine"]()
    value = next(finding.value for finding in machine if finding.name == "shared memory")
    assert value.endswith(f", {asked[0] / 1e6:.0f} MB needed for a run")


def test_modes_of_a_camera(tmp_path: Path) -> None:
    """A driver with one format of two sizes, as the kernel would answer."""
    sizes, rates = [(640, 480), (1280, 720)], {640: [(1, 30), (1, 60)], 1280: [(1, 10)]}
    mjpg = int.from_bytes(b"MJPG", "little")

    def driver(_descriptor: int, request: int, packed: bytearray) -> int:
        (index,) = struct.unpack_from("=I", packed)
        width = struct.unpack_from("=I", packed, 8)[0]
        answers = {2: [mjpg], 74: sizes, 75: rates.get(width, [])}[request & 0xFF]
        assert request >> 16 & 0x3FFF == len(packed)
        if index >= len(answers):
            raise OSError(errno.EINVAL, "no more")
        match request & 0xFF:
            case 2:
                struct.pack_into("=I", packed, 44, mjpg)
            case 74:
                struct.pack_into("=III", packed, 8, 1, *sizes[index])
            case _:
                struct.pack_into("=III", packed, 16, 1, *rates[width][index])
        return 0

    device = tmp_path / "video0"
    device.write_bytes(b"")
    listed = ["MJPG 640x480 at 60 Hz", "MJPG 1280x720 at 10 Hz"]
    assert [str(mode) for mode in modes(device, driver)] == listed
    assert modes(tmp_path / "none", driver) == []


def test_a_provider_that_is_listed_and_falls_back_is_not_usable(tmp_path: Path) -> None:
    assert computes("CPUExecutionProvider") is None
    assert computes("NoSuchExecutionProvider") is not None
    if "CUDAExecutionProvider" in onnxruntime.get_available_providers() and not Path("/dev/nvidiactl").exists():
        assert computes("CUDAExecutionProvider") is not None
    machine(tmp_path, {"dev/nvidiactl": ""})
    both = ["CUDAExecutionProvider", "CPUExecutionProvider"]
    usable = check_inference(tmp_path, both, lambda _: None)
    broken = check_inference(tmp_path, both, lambda name: "no libcudnn" if "CUDA" in name else None)
    unused = check_inference(tmp_path, both[1:], lambda _: None)
    assert [[finding.level for finding in findings] for findings in (usable, broken, unused)] == [
        [OK, OK],
        [OK, WARN],
        [OK, WARN],
    ]
    assert broken[1].why == "no libcudnn"


def test_findings_fit_a_terminal_of_100_columns() -> None:
    shown = io.StringIO()
    findings = [well("a", "b " * 80), warning("c", "d", "e " * 80, "sudo x"), failure("f", "g", "h", "i")]
    print_area(Console(file=shown, width=100), "title", findings)
    lines = shown.getvalue().splitlines()
    assert max(map(len, lines)) <= 100
    assert "          -> sudo x" in lines


def test_findings_fit_a_narrow_terminal() -> None:
    """They came in lines of 60, which such a terminal broke again."""
    shown = io.StringIO()
    findings = [well("real-time priority", "b " * 80), warning("c", "d", "e " * 80), failure("f", "g", "h", "i")]
    print_area(Console(file=shown, width=40), "title", findings)
    assert max(map(len, shown.getvalue().splitlines())) <= 40


@pytest.mark.daemon
def test_the_virtual_arm_is_looked_at_like_any_other(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("cadenza.doctor.cameras.WATCH_S", 0.3)
    argv = ["doctor", "--json", "--runs", str(tmp_path), "--robot.cameras", "{}"]
    status = main(argv)
    areas = json.loads(capsys.readouterr().out)
    follower = {one["name"]: one for one in areas["follower"]}
    assert follower["follower bus"]["value"] == "6 servos answer at 1000000 baud"
    assert follower["follower shoulder_pan"]["level"] == "ok"
    assert "torque off" in follower["follower shoulder_pan"]["value"]
    levels = [one["level"] for findings in areas.values() for one in findings]
    assert status == int("fail" in levels)


def test_a_bus_that_a_run_has_is_left_alone(tmp_path: Path) -> None:
    master, slave = os.openpty()
    arm = ARM.model_copy(update={"port": os.ttyname(slave), "calibration": tmp_path / "none"})
    port = Port(arm.port, arm.baud)
    port.open()
    try:
        bus, _ = check_arm("follower", arm, lambda _: None)
        assert not select.select([master], [], [], 0)[0]  # not a byte of ours
    finally:
        port.close()
        os.close(master)
        os.close(slave)
    assert (bus.level, bus.value) == (FAIL, "not scanned")
    assert "in use" in bus.why


def test_rules_are_written_where_they_were_asked_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    usb(tmp_path, "ttyUSB0", "FT8A", "16")
    monkeypatch.setattr("cadenza.commands.doctor.ROOT", tmp_path)
    rules = tmp_path / "cadenza.rules"
    assert main(["doctor", "--config", "robots/koch.yaml", "--write-udev", str(rules)]) == 0
    assert rules.read_text().startswith("# Serial ports of arms")
    assert "udevadm" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("adapter", "file", "says"),
    [
        (False, "cadenza.rules", "--write-udev: there is nothing to write"),
        (True, ".", "is a folder; name a file"),
    ],
)
def test_rules_that_say_nothing_or_have_no_name_are_not_written(
    adapter: bool,
    file: str,
    says: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    if adapter:
        usb(tmp_path, "ttyUSB0", "FT8A", "16")
    monkeypatch.setattr("cadenza.commands.doctor.ROOT", tmp_path)
    rules = tmp_path / file
    assert main(["doctor", "--config", "robots/koch.yaml", "--write-udev", str(rules)]) == 2
    captured = capsys.readouterr()
    assert says in captured.err
    assert "sudo" not in captured.out
    assert not rules.is_file()

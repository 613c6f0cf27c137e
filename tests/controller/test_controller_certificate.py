"""The certificate of timing: bound to the machine and to what in the robot file matters, and left by live figures."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pytest

from controller.certificate import (
    Certificate,
    Lateness,
    Machine,
    check_folder,
    demand,
    folder,
    read_certificate,
    timing_facts,
)
from controller.certificate import write_certificate as write
from controller.punctuality import Punctuality
from controller.realtime import control_cpu
from controller.supervisor import Supervisor
from controller.watch import Tally, Watch
from spec.arrays import Float
from spec.errors import CadenzaError, SpecError
from spec.robot import Robot
from spec.robotfile import load_robot

PROJECT = Path(__file__).parents[2]


@pytest.fixture(autouse=True)
def _own_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))


def robot_with(overrides: Mapping[str, str] | None = None) -> Robot:
    return load_robot(PROJECT / "robots/virtual.yaml", overrides)


def certificate_of(robot: Robot, **changes: object) -> Certificate:
    core = control_cpu(robot.control.cpu)
    made = Certificate(
        made="2026-01-01T00:00:00Z",
        robot=robot.name,
        facts=timing_facts(robot),
        rate_hz=robot.control.rate_hz,
        machine=Machine.here(core),
        core=core,
        priority=robot.control.priority,
        privileges=("memory locked",),
        minutes=5.0,
        drove="policy",
        plain=Lateness(p99=20.0, p99_9=40.0, max=80.0, missed_share=0.0),
        stress=Lateness(p99=60.0, p99_9=100.0, max=900.0, missed_share=0.0),
    )
    return made.model_copy(update=changes)


def test_what_was_written_is_read_again_and_valid_here() -> None:
    robot = robot_with()
    path = write(certificate_of(robot))
    assert path.parent == folder()
    read = read_certificate(robot)
    assert read == certificate_of(robot)
    assert read.valid_for(robot) is None


@pytest.mark.parametrize(
    ("overrides", "why"),
    [
        ({"follower.baud": "4000000"}, "follower.baud is 4000000, certified with 1000000"),
        ({"cameras.top.width": "640"}, "cameras.top is 640x240 at 30 Hz, certified with 320x240 at 30 Hz"),
        ({"control.rate_hz": "500"}, "control.rate_hz is 500, certified up to 100"),
        ({"control.priority": "40"}, "priority is 40, certified with 80"),
    ],
)
def test_another_robot_file_is_told_what_changed(overrides: dict[str, str], why: str) -> None:
    write(certificate_of(robot_with()))
    changed = robot_with(overrides)
    certificate = read_certificate(changed)
    assert certificate is not None
    assert certificate.valid_for(changed) == why


@pytest.mark.parametrize(
    "overrides",
    [
        {"virtual.seed": "7"},
        {"follower.port": "/dev/ttyACM3"},
        {"cameras.top.source": "/dev/video9"},
        {"follower.joints.gripper.velocity": "2.0"},
        {"control.realtime": "enforce"},
        {"control.rate_hz": "50"},
    ],
)
def test_what_costs_no_time_may_change_and_a_lower_rate_is_covered(overrides: dict[str, str]) -> None:
    write(certificate_of(robot_with()))
    assert demand(robot_with(overrides)).rate_hz == 100.0


@pytest.mark.parametrize("field", ["kernel", "cpu", "cores", "isolated", "governor", "idle"])
def test_another_machine_needs_one_of_its_own(field: str) -> None:
    robot = robot_with()
    there = certificate_of(robot)
    certificate = there.model_copy(update={"machine": there.machine.model_copy(update={field: "another"})})
    assert str(certificate.valid_for(robot)).startswith(f"{field} is ")


def test_of_several_rates_the_nearest_that_covers_it() -> None:
    for rate in (100, 500, 200):
        write(certificate_of(robot_with({"control.rate_hz": str(rate)})))
    read = [read_certificate(robot_with({"control.rate_hz": str(rate)})) for rate in (150, 400, 800)]
    assert [one and one.rate_hz for one in read] == [200.0, 500.0, 500.0]


@pytest.mark.parametrize("spoilt", ["stale", "broken", "edited"])
def test_one_of_a_higher_rate_stands_in_for_a_nearer_one_that_is_not_valid(spoilt: str) -> None:
    """The nearest rate alone used to be looked at, and a file that cannot be read to spoil all others."""
    near = certificate_of(robot_with())
    stale = {"machine": near.machine.model_copy(update={"kernel": "old"})}
    path = write(near.model_copy(update={"stale": stale, "broken": {"broken": ("late",)}}.get(spoilt, {})))
    write(certificate_of(robot_with({"control.rate_hz": "200"})))
    if spoilt == "edited":
        path.write_text("{}")
    assert demand(robot_with()).rate_hz == 200.0


def test_one_that_missed_the_bar_is_refused() -> None:
    robot = robot_with()
    write(certificate_of(robot, broken=("wake-ups later than cyclictest's",)))
    with pytest.raises(CadenzaError, match=r"the bar was missed.*wake-ups later"):
        demand(robot)


def test_an_edited_one_is_noticed() -> None:
    robot = robot_with()
    path = write(certificate_of(robot))
    document = json.loads(path.read_text())
    document["stress"]["p99_9"] = 300.0
    path.write_text(json.dumps(document))
    with pytest.raises(SpecError, match="does not match the content"):
        demand(robot)


def test_enforce_refuses_a_run_without_one_before_anything_starts(tmp_path: Path) -> None:
    robot = robot_with({"control.realtime": "enforce"})
    run = Supervisor(robot, None, tmp_path / "run", lambda _: None)
    with pytest.raises(CadenzaError, match=r"no valid certificate.*make one: cadenza certify"), run:
        pass
    assert not run.processes


def test_enforce_with_one_and_try_without_one_go_on() -> None:
    assert Punctuality.of(robot_with()).status == "no certificate: none was made"
    write(certificate_of(robot_with()))
    assert "within" in Punctuality.of(robot_with({"control.realtime": "enforce"})).status


class _Seen(Watch):
    """A watch that has seen what it is told."""

    def __init__(self) -> None:
        self.tally = Tally()
        self.late_us = np.full(1000, 30.0)

    def pass_second(self, missed: int = 0) -> None:
        self.tally.ticks += 100
        self.tally.late_periods += missed

    def recent_lateness(self) -> Float:
        return self.late_us


def test_leaving_it_is_told_once_and_so_is_coming_back() -> None:
    watch, timing, told = _Seen(), Punctuality(certificate_of(robot_with())), []
    for second in range(40):
        watch.late_us = np.full(1000, 500.0 if 10 <= second < 20 else 30.0)
        watch.pass_second()
        told.append(timing.look(watch, 100.0 + second))
    lines = {second: line for second, line in enumerate(told) if line}
    assert list(lines) == [10, 25]
    assert (
        lines[10] == "timing leaves its certificate: wake-ups 500 µs late (p99), certified 100 µs (p99.9, under stress)"
    )
    assert "back" in lines[25]
    assert "within" in timing.status


@pytest.mark.parametrize("rate_hz", [20, 50, 100])
def test_lateness_is_compared_at_every_rate(rate_hz: int) -> None:
    """500 wake-ups were asked for, of five seconds: below 100 Hz nothing was ever compared."""
    certificate = certificate_of(robot_with())
    late = np.full(5 * rate_hz - 1, 30.0)
    late[:3] = 50_000.0
    assert certificate.departure(late, 0, len(late)) is None
    late[:6] = 500.0
    assert "wake-ups 500 µs late" in str(certificate.departure(late, 0, len(late)))


def test_missed_ticks_leave_it_and_one_stall_does_not() -> None:
    certificate = certificate_of(robot_with())
    quiet = np.full(1000, 30.0)
    assert certificate.departure(quiet, 3, 1000) is None
    assert "missed" in str(certificate.departure(quiet, 10, 1000))
    late = quiet.copy()
    late[:9] = 5000.0
    assert certificate.departure(late, 0, 1000) is None


def sealed(robot: Robot, **changes: object) -> Path:
    """A certificate with such values, and the digest that goes with them."""
    made = certificate_of(robot)
    fields = {name: getattr(made, name) for name in type(made).model_fields}
    return write(Certificate.model_construct(**{**fields, **changes}))


@pytest.mark.parametrize(
    ("changes", "why"),
    [
        ({"stress": Lateness.model_construct(p99=-9.0, p99_9=-5.0, max=0.0, missed_share=0.0)}, "stress.p99: -9.0"),
        ({"stress": Lateness.model_construct(p99=9.0, p99_9=5.0, max=9.0, missed_share=0.0)}, "have to rise"),
        ({"minutes": -1.0}, "minutes: -1.0"),
        ({"rate_hz": 1e9}, "rate_hz"),
        ({"made": "2999-01-01T00:00:00Z"}, "in the future"),
        ({"made": "\x1b[31mred"}, "made: '.x1b.31mred'"),
        ({"made": "2026-1-1T00:00:00Z"}, "not a date"),
        ({"facts": {"a": "\x1b[31m"}}, "no text"),
        ({"drove": "a car"}, "drove"),
    ],
)
def test_values_that_make_no_sense_are_refused_whatever_the_digest_says(changes: dict[str, object], why: str) -> None:
    """Who recomputed the digest could certify anything, and paint the terminal of doctor."""
    robot = robot_with()
    sealed(robot, **changes)
    with pytest.raises(SpecError, match=why):
        demand(robot)


@pytest.mark.parametrize("what", ["pipe", "device", "folder", "nowhere", "long"])
def test_only_a_file_of_a_sane_size_is_read(what: str) -> None:
    """A pipe was waited for, and a device without end read to its end."""
    robot = robot_with()
    path = write(certificate_of(robot))
    path.unlink()
    if what == "pipe":
        os.mkfifo(path)
    elif what == "folder":
        path.mkdir()
    elif what == "long":
        path.write_bytes(b" " * 100_001)
    else:
        path.symlink_to("/dev/zero" if what == "device" else "/nowhere")
    with pytest.raises(SpecError, match="cannot read the certificate; certify again"):
        demand(robot)


def test_a_run_that_may_go_on_says_that_its_certificate_is_damaged() -> None:
    robot = robot_with()
    path = write(certificate_of(robot))
    path.write_text("{}")
    assert Punctuality.of(robot).status.startswith(f"no certificate: one cannot be used: {path}: ")


def test_a_folder_that_takes_no_certificate_is_known_before_it_is_made(monkeypatch: pytest.MonkeyPatch) -> None:
    check_folder(robot_with())
    assert not list(folder().iterdir())
    monkeypatch.setenv("XDG_STATE_HOME", "/proc/x")
    with pytest.raises(SpecError, match=r"^XDG_STATE_HOME: '/proc/x/.*no certificate can be kept there"):
        check_folder(robot_with())


def test_a_name_that_no_certificate_can_bear_is_refused_before() -> None:
    with pytest.raises(SpecError, match="no text"):
        check_folder(robot_with({"cameras": '{"red\u200beye": {source: x}}'}))

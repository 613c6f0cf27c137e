"""``cadenza doctor``: looks at machine, ports, servos and cameras, and says what to type."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from itertools import starmap
from pathlib import Path

from rich.console import Console

from cadenza.arguments import parse, split_robot_overrides
from cadenza.connection import connected
from cadenza.doctor.cameras import check_camera
from cadenza.doctor.finding import Finding, Level
from cadenza.doctor.inference import check_inference
from cadenza.doctor.kernel import check_kernel
from cadenza.doctor.machine import check_machine
from cadenza.doctor.motion import check_start_pose
from cadenza.doctor.ports import adapters, arms_of, check_ports, udev_rules
from cadenza.doctor.privileges import Rights, check_files, check_privileges
from cadenza.doctor.servos import check_arm
from cadenza.doctor.timing import check_certificate
from cadenza.doctor.view import print_area, print_verdict
from controller.realtime import control_cpu
from controller.wiring.room import run_bytes
from spec.errors import CadenzaError, SpecError
from spec.files import write_atomically
from spec.robot import Robot
from spec.robotfile import load_robot

ROOT = Path("/")


@dataclass(frozen=True, slots=True)
class Args:
    """Look at everything that a run stands on, and say what is wrong with it and what to type about it.

    Only reads: no torque is switched, nothing is written into a servo, nothing moves. A bus that another program has is
    left alone. The virtual arm of a robot file is started, and looked at like any other.

    Exit status: 0 nothing is broken, 1 something is.

    cadenza doctor
    cadenza doctor --config robots/koch.yaml
    cadenza doctor --config robots/koch.yaml --json
    cadenza doctor --config robots/koch.yaml --write-udev cadenza.rules
    """

    config: Path = Path("robots/virtual.yaml")
    """Robot file."""
    runs: Path = Path("runs")
    """Folder that runs are recorded in; its disk is measured."""
    write_udev: Path | None = None
    """Write the udev rules for the serial adapters that are plugged in to this file, and do nothing else."""
    json: bool = False
    """Print the findings as JSON and nothing else on standard output."""


Area = tuple[str, Callable[[], list[Finding]]]


def main(argv: Sequence[str]) -> int:
    """Run the command."""
    rest, overrides = split_robot_overrides(argv)
    args = parse(Args, rest, "doctor")
    robot = load_robot(args.config, overrides)
    if args.write_udev is not None:
        _write_rules(args.write_udev, robot)
        return 0
    console = Console(stderr=args.json)
    found: dict[str, list[Finding]] = {}
    with connected(robot) as (real, _), _telling(console) as told:
        for title, look in areas(real, args, told):
            told(title)
            found[title] = [replace(one, fix=one.fix.replace("ROBOT_FILE", str(args.config))) for one in look()]
            if found[title] and not args.json:
                print_area(console, title, found[title])
    everything = [finding for findings in found.values() for finding in findings]
    if args.json:
        print(json.dumps({title: [one.as_dict() for one in findings] for title, findings in found.items()}, indent=2))
    else:
        print_verdict(console, everything)
    return int(any(finding.level is Level.FAIL for finding in everything))


def _write_rules(path: Path, robot: Robot) -> None:
    """And what is typed then. Raises SpecError, CadenzaError."""
    if path.is_dir():
        raise SpecError("--write-udev", str(path), "is a folder; name a file, e.g. cadenza.rules")
    found = adapters(ROOT)
    if not found:
        raise CadenzaError("--write-udev: there is nothing to write: no USB serial adapter is plugged in")
    write_atomically(path, udev_rules(arms_of(robot), found).encode())
    print(f"sudo cp {path} /etc/udev/rules.d/90-cadenza.rules")
    print("sudo udevadm control --reload; sudo udevadm trigger")


def areas(robot: Robot, args: Args, told: Callable[[str], None]) -> Iterator[Area]:
    """What is looked at, in the order in which trouble is best sought.

    Args:
        robot: with real ports.
        args: of the command.
        told: takes what is being done.
    """
    core = control_cpu(robot.control.cpu)
    yield "kernel", lambda: check_kernel(ROOT, core)
    yield "rights", lambda: [*check_privileges(Rights.here(robot.control.priority), robot.control), check_files()]
    yield "timing", lambda: [check_certificate(robot)]
    yield "motion", lambda: [check_start_pose(robot)]
    yield "machine", lambda: check_machine(args.runs, run_bytes(robot))
    yield "inference", lambda: check_inference(ROOT)
    yield "ports", lambda: check_ports(ROOT, arms_of(robot), adapters(ROOT))
    yield "follower", lambda: check_arm("follower", robot.follower, told)
    if (leader := robot.leader) is not None:
        yield "leader", lambda: check_arm("leader", leader, told)
    yield "cameras", lambda: list(starmap(check_camera, robot.cameras.items()))


@contextmanager
def _telling(console: Console) -> Iterator[Callable[[str], None]]:
    """A line that says what is being looked at; nothing of it where nobody watches."""
    if not console.is_terminal:
        yield lambda _: None
        return
    with console.status("starting") as status:
        yield status.update

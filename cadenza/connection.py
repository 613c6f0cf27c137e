"""What every command that measures an arm needs: the arm itself, and the person next to it."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager

from rich.console import Console

from drivers.virtual import SimClient, VirtualRobot
from spec.errors import CadenzaError
from spec.robot import Robot


@contextmanager
def connected(robot: Robot) -> Iterator[tuple[Robot, SimClient | None]]:
    """The robot with real ports: the virtual arm is started where the robot file asks for one."""
    if robot.virtual is None:
        yield robot, None
        return
    with VirtualRobot(robot, robot.virtual.seed) as virtual:
        yield virtual.robot, virtual.client


def confirm(console: Console, text: str) -> None:
    """Say what happens next, and wait for Enter."""
    console.print(f"{text} Then press Enter.")
    if not sys.stdin.readline():
        raise CadenzaError("calibrate: input ended; calibrating needs a person at a terminal")

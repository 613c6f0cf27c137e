"""``cadenza sim``: start the virtual arm and keep it running."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from cadenza.arguments import parse, split_robot_overrides
from drivers.virtual.live.host import Host
from drivers.virtual.live.parent import die_with_parent
from spec.robotfile import load_robot


@dataclass
class Args:
    """Start the virtual Koch: servos on pseudo-terminals, cameras as MJPEG, physics in real time.

    Any Dynamixel client and any camera program can use it. Runs until Ctrl-C. Any field of the robot file can be
    overridden with --robot.FIELD VALUE.

    For example:

        cadenza sim --ready-file /tmp/koch.json
        cadenza sim --ready-file /tmp/koch.json --seed 7 --robot.cameras.top.fps 60
        cadenza run --bundle DIR --config robots/virtual.yaml --robot.virtual.attach /tmp/koch.json
    """

    ready_file: Path
    """Written once everything answers: {"follower": port, "leader": port, "cameras": {name: url}, ...}."""
    config: Path = Path("robots/virtual.yaml")
    """Robot file."""
    seed: int | None = None
    """Of the cube's place and of injected faults; default: the robot file's."""
    parent_death: bool = False
    """Stop when the process that started this one ends."""


def main(argv: Sequence[str]) -> int:
    """Run until SIGINT or SIGTERM; returns the exit status."""
    rest, overrides = split_robot_overrides(argv)
    args = parse(Args, rest, "sim")
    if args.parent_death:
        die_with_parent(os.getppid())
    if args.seed is not None:
        overrides = {**overrides, "virtual.seed": str(args.seed)}
    robot = load_robot(args.config, overrides)
    host = Host(robot, robot.virtual.seed if robot.virtual else 0, args.ready_file.absolute())
    print(
        f"virtual arm {robot.name}: starting; {args.ready_file} appears when it is ready, Ctrl-C stops it", flush=True
    )
    host.run()
    return 0

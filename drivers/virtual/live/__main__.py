"""``python -m drivers.virtual.live``: the process of the virtual arm."""

from __future__ import annotations

import argparse
import shutil
import sys
from pathlib import Path

from drivers.virtual.live.host import Host
from drivers.virtual.live.parent import die_with_parent
from spec.errors import CadenzaError
from spec.robot import Robot


def main() -> int:
    parser = argparse.ArgumentParser()
    parser.add_argument("--robot", type=Path, required=True)
    parser.add_argument("--ready-file", type=Path, required=True)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--parent", type=int, help="stop when this process, our parent, ends")
    parser.add_argument("--scratch", type=Path, help="folder to remove at the end: our parent may not live to do it")
    arguments = parser.parse_args()
    if arguments.parent is not None:
        die_with_parent(arguments.parent)
    try:
        robot = Robot.model_validate_json(arguments.robot.read_bytes())
        Host(robot, arguments.seed, arguments.ready_file.absolute(), arguments.scratch).run()
    except CadenzaError as error:
        print(error, file=sys.stderr)
        return 2
    if arguments.scratch is not None:
        shutil.rmtree(arguments.scratch, ignore_errors=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())

"""What every process below the supervisor has in common: how it is told things, how it reports, how it ends.

Orders come as JSON lines on standard input, reports go as JSON lines to standard output, free text to standard error.
The end of standard input means that the supervisor is gone.
"""

from __future__ import annotations

import argparse
import ctypes
import json
import os
import select
import signal
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from controller.exploration import Exploration
from controller.wiring.ipc import Node
from controller.wiring.topics import EVENTS, topics
from episodes.schema.cadenza_pb2 import Event
from spec.errors import CadenzaError, SpecError
from spec.robot import Robot
from spec.robotfile import validated

_PR_SET_PDEATHSIG = 1  # <linux/prctl.h>
REFUSED = 2
"""Exit status of a process that says why it cannot work; it is not restarted."""


@dataclass(frozen=True, slots=True)
class Assignment:
    """What one process is told at its start."""

    robot: Robot
    namespace: str
    bundle: Path | None
    camera: str | None
    sha256: str | None = None
    """Of the bundle's manifest, as it was when somebody looked at it."""
    motion: Path | None = None
    """File of a recorded motion, see :mod:`controller.workers.playback`."""
    explore: Exploration | None = None
    """How the policy explores."""


class Child:
    """This process, seen by its supervisor."""

    def __init__(self, name: str, assignment: Assignment) -> None:
        self.name = name
        self.assignment = assignment
        self.stopping = False
        self.node = Node(assignment.namespace, topics(assignment.robot), name)
        self._events = self.node.publisher(EVENTS)
        self._input = b""
        self._open = True
        signal.signal(signal.SIGTERM, self._stop)
        signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches the whole group; the supervisor answers it

    def _stop(self, *_: object) -> None:
        self.stopping = True

    def commands(self) -> list[dict[str, Any]]:
        """Orders that have come since the last call; never blocks."""
        while self._open and select.select([0], [], [], 0)[0]:
            data = os.read(0, 65536)
            if not data:
                self._open, self.stopping = False, True
            self._input += data
        *lines, self._input = self._input.split(b"\n")
        return [json.loads(line) for line in lines if line.strip()]

    def say(self, kind: str, **facts: Any) -> None:
        """Report to the supervisor."""
        try:
            os.write(1, json.dumps({"kind": kind, **facts}).encode() + b"\n")
        except (BrokenPipeError, BlockingIOError):
            self.stopping = True

    def event(self, time_ns: int, kind: str, text: str) -> None:
        """Put something noteworthy on record: it reaches the episode and the supervisor."""
        self._events.send_bytes(Event(time_ns=time_ns, source=self.name, kind=kind, text=text).SerializeToString())

    def close(self) -> None:
        self.node.close()


def die_with_parent(parent: int) -> None:
    """Ask the kernel for SIGTERM when the supervisor dies, however it dies."""
    libc = ctypes.CDLL(None, use_errno=True)
    libc.prctl(_PR_SET_PDEATHSIG, signal.SIGTERM, 0, 0, 0)
    if os.getppid() != parent:  # it died before we asked
        sys.exit(REFUSED)


def run_child(name: str, work: Callable[[Child], None], argv: Sequence[str] | None = None) -> int:
    """Read the command line, set this process up, do its work, give everything back.

    Args:
        name: of the process.
        work: returns when :attr:`Child.stopping` is set.
        argv: command line; that of the process by default.

    Returns:
        Exit status: 0 ended in order, 2 refused.
    """
    parser = argparse.ArgumentParser(prog=f"controller.{name}")
    parser.add_argument("--robot", type=Path, required=True, help="resolved robot file (JSON)")
    parser.add_argument("--namespace", required=True)
    parser.add_argument("--parent", type=int, required=True, help="process id of the supervisor")
    parser.add_argument("--bundle", type=Path)
    parser.add_argument("--sha256")
    parser.add_argument("--camera")
    parser.add_argument("--motion", type=Path)
    parser.add_argument("--explore", nargs=2, metavar=("SCALE", "SEED"))
    args = parser.parse_args(argv)
    die_with_parent(args.parent)
    child: Child | None = None
    try:
        explore = None if args.explore is None else Exploration(float(args.explore[0]), int(args.explore[1]))
        robot = read_resolved(args.robot)
        assignment = Assignment(robot, args.namespace, args.bundle, args.camera, args.sha256, args.motion, explore)
        label = name if args.camera is None else f"{name} {args.camera}"
        child = Child(label, assignment)
        work(child)
    except CadenzaError as error:
        print(error, file=sys.stderr, flush=True)
        if child is not None:
            child.say("refused", text=str(error))
        return REFUSED
    finally:
        if child is not None:
            child.close()
    return 0


def read_resolved(path: Path) -> Robot:
    """The robot file as the supervisor resolved it: overrides applied, paths absolute, ports and addresses real."""
    try:
        return validated(Robot, json.loads(path.read_bytes()), str(path))
    except (OSError, ValueError) as error:
        raise SpecError(str(path), str(error), "cannot read the resolved robot file") from None

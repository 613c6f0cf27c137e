"""What every process below the supervisor has in common: how it is told things, how it reports, how it ends.

Orders come as JSON lines on standard input, reports go as JSON lines to standard output, free text to standard error.
The end of standard input means that the supervisor is gone; long silence on it, that the supervisor hangs.
"""

from __future__ import annotations

import argparse
import ctypes
import json
import os
import select
import signal
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from controller.exploration import Exploration
from controller.wiring.ipc import Node
from controller.wiring.room import NoRoomError
from controller.wiring.silence import Silence
from controller.wiring.topics import EVENTS, topics
from episodes.schema.cadenza_pb2 import Event
from spec.errors import CadenzaError, SpecError
from spec.robot import Robot
from spec.robotfile import validated

_PR_SET_PDEATHSIG = 1  # <linux/prctl.h>
REFUSED = 2
"""Exit status of a process that says why it cannot work; it is not restarted."""
NO_ROOM = 3
"""Exit status of one that finds shared memory full; there may be room for its successor."""
ALONE_S = 2.0
"""A supervisor that has not been heard for so long hangs, or was stopped [s]; it asks for a sign of life eight times in
that time."""
_TURN_S = 1.5
"""One turn of a process's loop, such as a step of its policy, counts for at most this much of the supervisor's silence
[s]. What was asked meanwhile waits in the pipe, so the turn tells as much as if it had been listened to; a longer one
may have been a machine that slept, after which the supervisor has the rest of :data:`ALONE_S` to ask again."""


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
        self.vitals: dict[str, Any] = {}
        """What goes with every sign of life, for whoever asks how the run is; JSON-able."""
        self.node = Node(assignment.namespace, topics(assignment.robot), name)
        self._events = self.node.publisher(EVENTS)
        self._input = b""
        self._open = True
        self._heard = 0
        self._silence = Silence(_TURN_S)
        self._alone = False
        signal.signal(signal.SIGTERM, self._stop)
        signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches the whole group; the supervisor answers it

    def _stop(self, *_: object) -> None:
        self.stopping = True

    def commands(self) -> list[dict[str, Any]]:
        """Orders that have come since the last call; never blocks. To be called in every turn of a process's loop:
        it is what gives the supervisor the sign of life it asks for."""
        while self._open and select.select([0], [], [], 0)[0]:
            data = os.read(0, 65536)
            if not data:
                self._open, self.stopping = False, True
            self._input += data
        *lines, self._input = self._input.split(b"\n")
        heard = [json.loads(line) for line in lines if line.strip()]
        orders = [command for command in heard if command["do"] != "beat"]
        if len(orders) < len(heard):
            self._heard += 1
            self.say("beat", **self.vitals)
        self._silence.look(self._heard, time.monotonic())
        return orders

    def left_alone(self, consequence: str) -> bool:
        """Whether nobody supervises this process any more, although it lives; both changes go on record.

        Args:
            consequence: of that, in words.
        """
        alone = self._heard > 0 and self._silence.seconds > ALONE_S
        if alone is not self._alone:
            self._alone = alone
            now_ns = time.monotonic_ns()
            if alone:
                self.event(now_ns, "supervisor_silent", f"for {ALONE_S:g} s; {consequence}")
            else:
                self.event(now_ns, "supervisor_back", "it is heard again")
        return alone

    def say(self, kind: str, **facts: Any) -> None:
        """Report to the supervisor."""
        try:
            os.write(1, json.dumps({"kind": kind, **facts}).encode() + b"\n")
        except (BrokenPipeError, BlockingIOError):
            self.stopping = True

    def event(self, time_ns: int, kind: str, text: str) -> None:
        """Put something noteworthy on record: it reaches the episode and the supervisor."""
        self._events.send_bytes(self.remark(time_ns, kind, text))

    def remark(self, time_ns: int, kind: str, text: str) -> bytes:
        """An event of this process, as it travels."""
        return Event(time_ns=time_ns, source=self.name, kind=kind, text=text).SerializeToString()

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
        Exit status: 0 ended in order, 2 refused, 3 no room in shared memory.
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
    except NoRoomError as error:
        print(error, file=sys.stderr, flush=True)
        return NO_ROOM
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

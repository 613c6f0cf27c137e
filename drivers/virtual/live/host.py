"""The event loop of the virtual arm: one thread steps the physics, answers both buses and the control socket.

One thread, because every other Python thread beside it would delay an answer by its turn at the interpreter; the
cameras, which burn CPU, live in their own process.
"""

from __future__ import annotations

import contextlib
import gc
import json
import os
import select
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Collection
from pathlib import Path
from typing import Any

from drivers.virtual.live.control import ControlServer
from drivers.virtual.live.parent import exact_timers
from drivers.virtual.live.scratch import CONTROL, make_folder
from drivers.virtual.live.stage import Stage
from drivers.virtual.live.terminal import Terminal
from drivers.virtual.live.world import Leader, VirtualArm, World
from drivers.virtual.mischief import Mischief
from drivers.virtual.servos.bus import Outbox
from spec.errors import DeviceError, SpecError
from spec.files import write_atomically
from spec.robot import Robot

PRIORITY = 70
"""SCHED_FIFO priority asked for: above everything ordinary, below the control loop it serves."""
_BEAT_NS = 5_000_000
"""Physics runs when a packet comes in, and at least this often."""
_SUPERVISE_NS = 10_000_000
_MOST_STEPS = 40
"""Steps made up for at once after the machine stalled; beyond that simulated time slips, counted."""


class Line:
    """One bus with the terminal it is reached through and the answers on their way."""

    def __init__(self, arm: VirtualArm, terminal: Terminal) -> None:
        self.arm, self.terminal = arm, terminal
        self._outbox = Outbox()
        self.present = False

    def look(self) -> None:
        """Notice whether a client has the device open; a new one finds no stale bytes."""
        present = self.terminal.plugged and self.terminal.open_elsewhere()
        if present != self.present:
            self._outbox.clear()
        self.present = present

    def hear(self, now_ns: int) -> None:
        data = self.terminal.read()
        if data:
            self._outbox.put(self.arm.bus.receive(data, self.terminal.baud(), now_ns))
        else:
            self.look()

    def due_ns(self) -> int | None:
        return self._outbox.due_ns()

    def speak(self, now_ns: int) -> None:
        if data := self._outbox.take(now_ns):
            self.terminal.write(data)


class Host:
    """Everything of one virtual robot that runs in this process."""

    def __init__(self, robot: Robot, seed: int, ready_file: Path, scratch: Path | None = None) -> None:
        """
        Args:
            scratch: where to make the folder of device links; None takes the system's temporary one.

        Raises:
            SpecError, MisfitError, DeviceError: the virtual arm cannot be this robot.
        """
        self._robot, self._ready_file = robot, ready_file
        self.world = World(robot, seed)
        self._folder = make_folder(scratch)
        self.lines = {name: Line(arm, Terminal(self._folder / name)) for name, arm in self.world.arms.items()}
        self._stage = Stage.create(self.world.follower.model.nq)
        self._mischief = Mischief(self.world, robot.cameras)
        self._control = ControlServer(self._folder / CONTROL, self)
        self._camera_process: subprocess.Popen[bytes] | None = None
        self._stopped = False
        self.slipped_steps = 0
        self._next_step_ns = self._next_beat_ns = self._next_supervise_ns = 0

    # Requests of the control socket

    def reset(self, seed: int) -> dict[str, Any]:
        """New place for the cube."""
        self.world.reset(seed)
        return self.state()

    def state(self) -> dict[str, Any]:
        return {**self.world.state(), "slipped_steps": self.slipped_steps}

    def inject(self, faults: dict[str, Any]) -> None:
        """See drivers/virtual/mischief.py."""
        self._mischief.inject(faults, time.monotonic_ns())
        self._plug()

    def clear(self) -> None:
        """All faults off, power and adapters back. Latched hardware errors stay, as they would."""
        self._mischief.clear(time.monotonic_ns())
        self._plug()

    def _plug(self) -> None:
        for name, line in self.lines.items():
            (line.terminal.unplug if name in self._mischief.unplugged else line.terminal.plug)()
            line.look()

    def statistics(self) -> dict[str, dict[str, int]]:
        return self._mischief.statistics()

    def hand(self, joints: dict[str, float] | None, seconds: float = 0.3) -> None:
        """A person's hand takes, moves or leaves the leader."""
        self._leader().hand(joints, seconds)

    def push(self, joints: dict[str, float], seconds: float) -> None:
        """A person pushes at the leader."""
        self._leader().push(joints, seconds)

    def _leader(self) -> Leader:
        if self.world.leader is None:
            raise DeviceError("no leader arm")
        return self.world.leader

    def _bits(self, names: Collection[str]) -> int:
        return sum(1 << k for k, name in enumerate(self._robot.cameras) if name in names)

    # Life

    def run(self) -> None:
        """Start everything, write the ready file, run until SIGINT or SIGTERM."""
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, lambda *_: setattr(self, "_stopped", True))
        try:
            port = self._start_cameras()
            self._become_prompt()
            self._announce(port)
            self._loop()
        finally:
            self._close()

    def _start_cameras(self) -> int | None:
        """Start the camera process; returns its HTTP port once it serves."""
        if not self._robot.cameras:
            return None
        description = self._folder / "robot.json"
        description.write_text(self._robot.model_dump_json())
        self._show()
        stage = self._stage.descriptor
        command = [sys.executable, "-m", "drivers.virtual.live.cameras", "--robot", str(description)]
        # Into a file: nobody would read a pipe later, and a full one stops the process that complains into it.
        with tempfile.TemporaryFile() as complaints:
            self._camera_process = subprocess.Popen(
                [*command, "--stage", str(stage), "--parent", str(os.getpid())],
                stdout=subprocess.PIPE,
                stderr=complaints,
                stdin=subprocess.DEVNULL,
                pass_fds=(stage,),
            )
            assert self._camera_process.stdout is not None  # noqa: S101
            line = self._camera_process.stdout.readline()
            if not line:
                self._camera_process.wait()
                complaints.seek(0)
                words = complaints.read().decode(errors="replace").strip().splitlines()
                raise DeviceError(words[-1] if words else "virtual cameras: the process ended without a word")
        return int(json.loads(line)["port"])

    def _become_prompt(self) -> None:
        """Ask for real-time scheduling; without it answers come late when the machine is busy, that is all."""
        exact_timers()
        try:
            os.sched_setscheduler(0, os.SCHED_FIFO, os.sched_param(PRIORITY))
            self._realtime = True
        except (PermissionError, OSError):
            self._realtime = False

    def _announce(self, port: int | None) -> None:
        try:
            write_atomically(self._ready_file, (json.dumps(self._ready(port), indent=2) + "\n").encode())
        except OSError as error:
            raise SpecError(str(self._ready_file), error.strerror, "cannot write the ready file") from None

    def _ready(self, port: int | None) -> dict[str, Any]:
        ports: dict[str, str] = {name: str(self._folder / name) for name in self.lines}
        cameras = {name: f"http://127.0.0.1:{port}/{name}.mjpg" for name in self._robot.cameras}
        return {
            **ports,
            "cameras": cameras,
            "control": str(self._folder / CONTROL),
            "pid": os.getpid(),
            "realtime": self._realtime,
        }

    def _loop(self) -> None:
        gc.collect()
        gc.freeze()
        self._next_step_ns = self._next_beat_ns = self._next_supervise_ns = time.monotonic_ns()
        while not self._stopped:
            waiting: list[Any] = [line.terminal for line in self.lines.values() if line.present]
            timeout = max(0, self._next_due_ns() - time.monotonic_ns()) * 1e-9
            ready, _, _ = select.select([*waiting, *self._control.waiting()], [], [], timeout)
            now = time.monotonic_ns()
            for line in self.lines.values():
                line.speak(now)  # before the physics: what is due has been worked out already
            if ready or now >= self._next_beat_ns:
                self._advance(now)
            for line in self.lines.values():
                if line.terminal in ready:
                    line.hear(now)
            self._control.serve(ready)
            if now >= self._next_beat_ns:
                self._next_beat_ns = now + _BEAT_NS
                self._beat(now)

    def _next_due_ns(self) -> int:
        due = [self._next_beat_ns, *(d for line in self.lines.values() if (d := line.due_ns()) is not None)]
        return min(due)

    def _advance(self, now: int) -> None:
        """Physics up to ``now``: before a packet is looked at, so that every step ran under the goals of its time."""
        step_ns = round(self.world.dt * 1e9)
        steps = max(0, (now - self._next_step_ns) // step_ns + 1)
        if steps > _MOST_STEPS:
            self.slipped_steps += steps - _MOST_STEPS
            self._next_step_ns += (steps - _MOST_STEPS) * step_ns
            steps = _MOST_STEPS
        for _ in range(steps):
            self.world.step()
        self._next_step_ns += steps * step_ns

    def _beat(self, now: int) -> None:
        """What needs no exact time: watchdogs, cameras, clients coming and going."""
        self._show()
        for line in self.lines.values():
            if not line.present:
                line.look()
        if now >= self._next_supervise_ns:
            self._next_supervise_ns = now + _SUPERVISE_NS
            for line in self.lines.values():
                line.arm.bus.supervise(now)

    def _show(self) -> None:
        data = self.world.follower.data
        frozen, dropped = self._bits(self._mischief.frozen), self._bits(self._mischief.dropped)
        self._stage.show(data.time, frozen, dropped, data.qpos)

    def _close(self) -> None:
        with contextlib.suppress(OSError):
            self._ready_file.unlink(missing_ok=True)
        if self._camera_process is not None:
            self._camera_process.terminate()
            try:
                self._camera_process.wait(timeout=3)
            except subprocess.TimeoutExpired:
                self._camera_process.kill()
                self._camera_process.wait()
        self._control.close()
        for line in self.lines.values():
            line.terminal.unplug()
        for path in self._folder.iterdir():
            path.unlink()
        self._folder.rmdir()

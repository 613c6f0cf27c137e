"""A virtual arm of one's own: started as a process, stopped with the context, or attached to where one runs."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from types import TracebackType
from typing import Self

from drivers.virtual.client import SimClient, read_ready_file
from drivers.virtual.live.scratch import OWNER_PREFIX
from spec.errors import DeviceError
from spec.robot import Robot

_START_S = 60.0
_STOP_S = 8.0


class VirtualRobot:
    """Context manager: inside it ``robot`` is the robot file with real ports and camera addresses filled in."""

    def __init__(self, robot: Robot, seed: int | None = None) -> None:
        """
        Args:
            robot: robot file; ``virtual.attach`` names the ready file of a virtual arm to use instead of a new one.
            seed: of the cube's first place and of faults; None takes ``virtual.seed``.
        """
        self._description = robot
        attach = robot.virtual.attach if robot.virtual else None
        self._attach = attach
        configured = robot.virtual.seed if robot.virtual else 0
        self._seed = configured if seed is None else seed
        self._process: subprocess.Popen[bytes] | None = None
        self._folder: tempfile.TemporaryDirectory[str] | None = None
        self.robot = robot
        self.client: SimClient
        self.ready_file: Path

    def start(self) -> None:
        """Start or attach. Raises CadenzaError with the virtual arm's own words where it does not come up."""
        if self._attach is not None:
            self.ready_file = self._attach
        else:
            self._folder = tempfile.TemporaryDirectory(prefix=OWNER_PREFIX, ignore_cleanup_errors=True)
            self.ready_file = Path(self._folder.name) / "ready.json"
            try:
                self._launch(Path(self._folder.name))
            except BaseException:
                self.stop()
                raise
        self.robot = with_ready_file(self._description, self.ready_file)
        self.client = SimClient(self.ready_file)

    def stop(self) -> None:
        """Stop the process; an attached one keeps running."""
        if hasattr(self, "client"):
            self.client.close()
        if self._process is not None:
            self._process.send_signal(signal.SIGTERM)
            with contextlib.suppress(subprocess.TimeoutExpired):
                self._process.wait(timeout=_STOP_S)
            if self._process.poll() is None:
                self._process.kill()
                self._process.wait()
            self._process = None
        if self._folder is not None:
            self._folder.cleanup()
            self._folder = None

    @property
    def pid(self) -> int:
        """Process id of the virtual arm."""
        return int(self.client.ready["pid"])

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    def _launch(self, folder: Path) -> None:
        description = folder / "robot.json"
        description.write_text(self._description.model_dump_json())
        complaints = folder / "errors.txt"
        with complaints.open("wb") as errors:
            self._process = subprocess.Popen(
                [
                    *(sys.executable, "-m", "drivers.virtual.live", "--robot", str(description)),
                    *("--ready-file", str(self.ready_file), "--seed", str(self._seed)),
                    *("--parent", str(os.getpid()), "--scratch", str(folder)),
                ],
                stdin=subprocess.DEVNULL,
                stderr=errors,
                # Ctrl-C is for whoever drives the arm: it must still be there to be braked and held.
                start_new_session=True,
            )
        deadline = time.monotonic() + _START_S
        while not self.ready_file.exists():
            if self._process.poll() is not None:
                words = complaints.read_text(errors="replace").strip().splitlines()
                raise DeviceError(words[-1] if words else "virtual arm: ended before it was ready")
            if time.monotonic() > deadline:
                raise DeviceError(f"virtual arm: not ready after {_START_S:.0f} s")
            time.sleep(0.02)


def with_ready_file(robot: Robot, ready_file: Path) -> Robot:
    """The robot file with the ports and camera addresses of a running virtual arm.

    Raises:
        SpecError: the ready file is missing, or lacks an arm or camera of this robot.
    """
    ready = read_ready_file(ready_file)
    updates: dict[str, object] = {"follower": robot.follower.model_copy(update={"port": ready["follower"]})}
    if robot.leader is not None and "leader" in ready:
        updates["leader"] = robot.leader.model_copy(update={"port": ready["leader"]})
    updates["cameras"] = {
        name: camera.model_copy(update={"source": ready["cameras"].get(name, camera.source)})
        for name, camera in robot.cameras.items()
    }
    return robot.model_copy(update=updates)

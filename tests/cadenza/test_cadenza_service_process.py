"""A whole service process against a real notify socket: what the manager hears, and what its signals do to the arm."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from tiny_bundle import write_tiny_bundle

from cadenza.cli import main
from drivers.virtual import VirtualRobot
from episodes.outcome import Outcome, Termination
from episodes.reader import read_episode
from spec.robotfile import load_robot

pytestmark = pytest.mark.daemon
ROBOT = Path("robots/virtual.yaml")
BLIND = {"cameras": "{}", "control.rate_hz": "50"}
"""Nothing here looks at pictures or timing."""
WATCHDOG_S = 3.0


@pytest.fixture(scope="module")
def virtual() -> Iterator[VirtualRobot]:
    with VirtualRobot(load_robot(ROBOT, BLIND), 0) as virtual:
        yield virtual


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory, virtual: VirtualRobot) -> Path:
    folder = tmp_path_factory.mktemp("bundle") / "tiny"
    write_tiny_bundle(folder, virtual.robot.follower.names, ramp=-0.005, cameras=())
    return folder


class Service:
    """``cadenza run --service`` under a manager that is this test."""

    def __init__(self, virtual: VirtualRobot, bundle: Path, out: Path, seconds: float) -> None:
        self.out, self.heard = out, [(0.0, "")]
        self._manager = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        address = f"\0cadenza-{os.getpid()}-{out.name}"
        self._manager.bind(address)
        self._manager.settimeout(0.05)
        overrides = {**BLIND, "virtual.attach": str(virtual.ready_file)}
        options = [word for field, value in overrides.items() for word in (f"--robot.{field}", value)]
        self.process = subprocess.Popen(
            [
                *(sys.executable, "-m", "cadenza", "run", "--service", "--bundle", str(bundle), "--out", str(out)),
                *("--episode-seconds", str(seconds), *options),
            ],
            env={
                **os.environ,
                "NOTIFY_SOCKET": address.replace("\0", "@"),
                "WATCHDOG_USEC": str(round(WATCHDOG_S * 1e6)),
            },
        )

    def listen(self, done: Callable[[], bool], seconds: float = 60.0) -> bool:
        """Until ``done``, or for so long."""
        until = time.monotonic() + seconds
        while not done() and time.monotonic() < until and (self.process.poll() is None or seconds < 1.0):
            try:
                self.heard += [(time.monotonic(), line) for line in self._manager.recv(4096).decode().splitlines()]
            except TimeoutError:
                continue
        return done()

    def said(self, text: str) -> bool:
        return any(text in line for _, line in self.heard)

    def life_signs(self) -> list[float]:
        return [when for when, line in self.heard if line == "WATCHDOG=1"]

    def status(self) -> str:
        return next((line for _, line in reversed(self.heard) if line.startswith("STATUS=")), "")

    def child(self, module: str) -> int:
        """Process id of the worker that runs a module."""
        for entry in Path("/proc").glob("[0-9]*"):
            try:
                words = (entry / "cmdline").read_bytes().decode().split("\0")
                parent = int((entry / "stat").read_text().rpartition(")")[2].split()[1])
            except OSError:
                continue
            if module in words and parent == self.process.pid:
                return int(entry.name)
        raise AssertionError(module)

    def end(self) -> None:
        if self.process.poll() is None:
            self.process.kill()
            self.process.wait()
        self._manager.close()


@contextmanager
def service(virtual: VirtualRobot, bundle: Path, out: Path, seconds: float = 2.0) -> Iterator[Service]:
    one = Service(virtual, bundle, out, seconds)
    try:
        yield one
    finally:
        one.end()


def driving(one: Service) -> bool:
    return any(one.out.glob("episodes/*.part"))


def ended(one: Service) -> bool:
    return one.process.poll() is not None


def test_a_service_from_a_death_to_an_orderly_end(virtual: VirtualRobot, bundle: Path, tmp_path: Path) -> None:
    """First the control loop hangs: no more life signs, however well the supervisor is, until the manager kills it.

    The next run holds the arm until a person says to go on. Told to end, it ends the episode first.
    """
    with service(virtual, bundle, tmp_path / "first", seconds=60.0) as one:
        assert one.listen(lambda: driving(one) and len(one.life_signs()) > 0)
        assert "READY=1" in [line for _, line in one.heard[:2]]  # before any life sign
        os.kill(one.child("controller.workers.control_process"), signal.SIGSTOP)
        assert one.listen(lambda: "cadenza recover" in one.status())
        last = one.life_signs()[-1]
        one.listen(lambda: False, WATCHDOG_S)
        assert one.life_signs()[-1] == last
        one.process.kill()
        one.process.wait()
    assert list(tmp_path.glob(".*.unfinished"))
    with service(virtual, bundle, tmp_path / "second") as one:
        assert one.listen(lambda: "did not end in order" in one.status())
        assert one.said("READY=1")
        where = virtual.client.state()["joints"]["follower"]
        assert one.listen(lambda: len(one.life_signs()) > 1)  # it holds, and lives
        now = virtual.client.state()
        assert now["joints"]["follower"] == pytest.approx(where, abs=2e-3)
        assert all(now["torque"]["follower"])
        assert not driving(one)
        assert main(["recover", str(one.out)]) == 0
        assert one.listen(lambda: driving(one))
        one.process.send_signal(signal.SIGTERM)
        assert one.listen(lambda: one.said("STOPPING=1"))
        one.process.send_signal(signal.SIGTERM)  # to ask again while it ends changes nothing
        assert one.listen(lambda: ended(one))
        one.listen(lambda: False, 0.2)
        assert one.process.returncode == 0
        assert one.heard[-2][1] == "STOPPING=1"
    (path,) = (tmp_path / "second/episodes").iterdir()
    episode = read_episode(path, cameras=())
    assert (episode.outcome, episode.termination) == (Outcome.FAIL, Termination.TIME_LIMIT)  # to its own end
    assert all(virtual.client.state()["torque"]["follower"])
    assert json.loads((tmp_path / "second/report.json").read_text())["outcomes"] == {"fail": 1}
    assert not list(tmp_path.glob(".*.unfinished"))

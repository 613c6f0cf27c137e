"""The age of the pictures in the tick: a flag while a camera is too old, a line when that begins and when it ends."""

from __future__ import annotations

from collections import deque
from pathlib import Path
from types import SimpleNamespace
from typing import cast

from recorded_life import Life

from controller.clock import Clock
from controller.eyes import FIRST_NS, Eyes
from controller.replay import replay
from controller.wiring.ipc import Node
from controller.wiring.topics import SIGHTS
from controller.workers.control_process import eyes_of
from episodes.reader import read_episode
from episodes.records import Flag, FrameHeader, Mode, Order
from spec.robotfile import load_robot
from spec.teleop import TeleopSample

STALE_NS = 250_000_000
STALE_TICKS = 50


def _eyes() -> tuple[Eyes, deque[FrameHeader]]:
    waiting: deque[FrameHeader] = deque()
    stale_ns = {"front": STALE_NS, "wrist": 2 * STALE_NS}
    return Eyes(stale_ns, lambda: waiting.popleft() if waiting else None, 0), waiting


def _seen(waiting: deque[FrameHeader], now_ns: int, *cameras: int) -> None:
    waiting.extend(FrameHeader(camera=camera, captured_ns=now_ns) for camera in cameras)


def test_each_camera_has_its_own_bound_and_is_told_of_once() -> None:
    eyes, waiting = _eyes()
    said: list[str] = []
    _seen(waiting, 0, 0, 1)
    assert not eyes.look(STALE_NS, said.append)
    assert eyes.look(STALE_NS + 1, said.append)
    assert eyes.look(2 * STALE_NS, said.append)
    assert said == ["camera front: no new picture for 250 ms"]
    assert eyes.look(2 * STALE_NS + 1, said.append)
    _seen(waiting, 2 * STALE_NS + 1, 0)
    assert eyes.look(2 * STALE_NS + 2, said.append)  # the other one still is
    _seen(waiting, 2 * STALE_NS + 2, 1)
    assert not eyes.look(2 * STALE_NS + 3, said.append)
    assert said[1:] == [
        "camera wrist: no new picture for 500 ms",
        "camera front: seen again",
        "camera wrist: seen again",
    ]
    assert not eyes.look(3 * STALE_NS, said.append)


def test_a_camera_that_never_shows_anything_is_stale_after_a_while() -> None:
    eyes, waiting = _eyes()
    said: list[str] = []
    _seen(waiting, FIRST_NS + STALE_NS, 0)
    assert not eyes.look(FIRST_NS + STALE_NS, said.append)
    _seen(waiting, FIRST_NS + 2 * STALE_NS, 0)
    assert eyes.look(FIRST_NS + 2 * STALE_NS + 1, said.append)
    assert said == ["camera wrist: no new picture for 500 ms"]


def test_the_control_process_looks_by_the_robot_file_from_when_it_begins_to() -> None:
    """A monotonic clock begins anywhere: counted from zero, every camera would be lost at the first tick."""
    robot = load_robot(Path("robots/virtual.yaml"))
    waiting: deque[FrameHeader] = deque()
    asked: list[tuple[str, type]] = []

    def subscriber(topic: str, record: type) -> SimpleNamespace:
        asked.append((topic, record))
        return SimpleNamespace(receive=lambda: waiting.popleft() if waiting else None)

    node = cast("Node", SimpleNamespace(subscriber=subscriber))
    start_ns = 10**15
    clock = cast("Clock", SimpleNamespace(now_ns=lambda: start_ns))
    assert eyes_of(robot.model_copy(update={"cameras": {}}), node, clock) is None
    assert asked == []
    eyes = eyes_of(robot, node, clock)
    assert eyes is not None
    assert asked == [(SIGHTS, FrameHeader)]
    bounds_ns = {name: camera.stale_ns for name, camera in robot.cameras.items()}
    said: list[str] = []
    assert not eyes.look(start_ns + FIRST_NS + min(bounds_ns.values()), said.append)
    assert eyes.look(start_ns + FIRST_NS + max(bounds_ns.values()) + 1, said.append)
    assert said == [f"camera {name}: no new picture for {bound * 1e-6:.0f} ms" for name, bound in bounds_ns.items()]
    _seen(waiting, start_ns + 10 * FIRST_NS, *range(len(bounds_ns)))
    assert not eyes.look(start_ns + 10 * FIRST_NS, said.append)


def test_headers_that_cannot_be_do_no_harm() -> None:
    """A camera nobody knows, and a picture from the future, which would look new for ever."""
    eyes, waiting = _eyes()
    _seen(waiting, 0, 0, 1, 2**32 - 1)
    waiting.append(FrameHeader(camera=0, captured_ns=2**62))
    assert not eyes.look(10, lambda _: None)
    assert eyes.look(10 + STALE_NS + 1, lambda _: None)


class Watched(Life):
    """A calm life under two cameras, of which the first stops between two ticks."""

    def __init__(self, stops: int, returns: int) -> None:
        eyes, self.waiting = _eyes()
        super().__init__(3, {3: Order.START}, calm=True, eyes=eyes)
        self.frozen = range(stops, returns)

    def order(self) -> Order | None:
        order = super().order()
        _seen(self.waiting, self.clock.now_ns(), *((1,) if self._calls in self.frozen else (0, 1)))
        return order

    def human(self) -> TeleopSample | None:
        return None


def test_a_frozen_camera_shows_in_the_ticks_and_the_record_replays(tmp_path: Path) -> None:
    stops, returns = 400, 520
    life = Watched(stops, returns).live(600)
    engaged = 4  # periods, in which there was no tick
    stale = [number for number, tick in enumerate(life.ticks, 1) if tick.flags & Flag.STALE_CAMERA]
    assert stale == list(range(stops + STALE_TICKS - 1, returns))
    assert [line for line in life.notices if "camera" in line] == [
        "camera front: no new picture for 250 ms",
        "camera front: seen again",
    ]
    assert life.ticks[-1].mode == Mode.POLICY  # what that means for the policy is for its own process to say
    assert life.loop.skipped == engaged
    verdict = replay(read_episode(life.episode(tmp_path / "a.mcap")))
    assert verdict.equal, verdict

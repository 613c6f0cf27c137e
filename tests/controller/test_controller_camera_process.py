"""What a camera's process tells of its pictures."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import numpy as np
import pytest

from controller.wiring.child import Child
from controller.wiring.topics import SIGHTS
from controller.workers import camera_process
from spec.robotfile import load_robot

ROBOT = load_robot(Path("robots/virtual.yaml"))
NAME = next(iter(ROBOT.cameras))


class Camera:
    """Gives pictures until the process is told to stop."""

    frozen, reconnections = False, 0

    def __init__(self, child: SimpleNamespace, pictures: int) -> None:
        self._child, self._left = child, pictures

    def __enter__(self) -> Camera:
        return self

    def __exit__(self, *_: object) -> None: ...

    def read(self) -> SimpleNamespace:
        self._left -= 1
        self._child.stopping = self._left == 0
        return SimpleNamespace(image=np.zeros((4, 4, 3), np.uint8), sequence=self._left, captured_ns=100 - self._left)


def test_a_picture_that_nobody_got_is_not_fresh(monkeypatch: pytest.MonkeyPatch) -> None:
    """With shared memory full the tick went on believing that the policy saw what it did not."""
    seen: list[int] = []
    room = [True, False, False]
    ports = {SIGHTS: SimpleNamespace(send=lambda header: seen.append(header.captured_ns))}
    pictures = SimpleNamespace(send_bytes=lambda *_: room.pop(0))
    said: list[dict[str, Any]] = []
    child = SimpleNamespace(
        assignment=SimpleNamespace(robot=ROBOT, camera=NAME),
        node=SimpleNamespace(publisher=lambda topic: ports.get(topic, pictures)),
        stopping=False,
        vitals={},
        commands=list,
        event=lambda *_: None,
        say=lambda kind, **facts: said.append({"kind": kind, **facts}),
    )
    monkeypatch.setattr(camera_process, "OpenCVCamera", lambda *_: Camera(child, len(room)))
    monkeypatch.setattr(camera_process, "stay_off_control_core", lambda _: None)
    monkeypatch.setattr("controller.workers.camera_process.gc.freeze", lambda: None)
    camera_process.work(cast("Child", child))
    assert (seen, child.vitals) == ([98], {"captured_ns": 98})
    assert said[-1]["frames"] == 1

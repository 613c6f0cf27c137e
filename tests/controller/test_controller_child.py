"""A process below the supervisor: for how long it goes on when nobody supervises it any more."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

import pytest

from controller.wiring import child as wiring
from controller.wiring.child import ALONE_S, Assignment, Child
from controller.wiring.vigil import BEAT_S
from spec.robotfile import load_robot


class World:
    """Everything around a process: an instant, what is asked of it, what it puts on record."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.now_s = 1000.0
        self.asked = b""
        self.sent: list[bytes] = []
        publisher = SimpleNamespace(send_bytes=self.sent.append)
        clock = SimpleNamespace(monotonic=lambda: self.now_s, monotonic_ns=lambda: round(self.now_s * 1e9))
        for name, stand_in in {
            "Node": lambda *_: SimpleNamespace(publisher=lambda _: publisher),
            "signal": SimpleNamespace(signal=lambda *_: None, SIGTERM=15, SIGINT=2, SIG_IGN=1),
            "select": SimpleNamespace(select=lambda *_: ([0] if self.asked else [], [], [])),
            "os": SimpleNamespace(read=self._read, write=lambda *_: None),
            "time": clock,
        }.items():
            monkeypatch.setattr(wiring, name, stand_in)
        self.child = Child("inference", Assignment(load_robot(Path("robots/virtual.yaml")), "1_test", None, None))

    def _read(self, *_: int) -> bytes:
        asked, self.asked = self.asked, b""
        return asked

    def turn(self, seconds: float, beats: int = 0) -> bool:
        """One turn of the process's loop that took so long, asked so often meanwhile. Returns whether it is alone."""
        self.now_s += seconds
        self.asked = b'{"do": "beat"}\n' * beats
        self.child.commands()
        return self.child.left_alone("it stands")


@pytest.mark.parametrize("turn_s", [0.02, 0.1, 0.4, 0.9, 1.4])
def test_however_long_its_turns_it_is_alone_after_the_same_time(turn_s: float, monkeypatch: pytest.MonkeyPatch) -> None:
    """A policy that took 0.4 s a step used to go on for 8 s, since a turn counted for 0.1 s at most."""
    world = World(monkeypatch)
    assert not any(world.turn(turn_s, beats=1) for _ in range(10))
    heard_s = world.now_s
    while not world.turn(turn_s):
        pass
    assert ALONE_S < world.now_s - heard_s < ALONE_S + 1.001 * turn_s
    assert len(world.sent) == 1
    assert not world.turn(turn_s, beats=1)
    assert len(world.sent) == 2


def test_longer_turns_leave_it_alone_after_two(monkeypatch: pytest.MonkeyPatch) -> None:
    world = World(monkeypatch)
    assert not world.turn(5.0, beats=20)
    assert [world.turn(5.0), world.turn(5.0)] == [False, True]


def test_a_machine_that_slept_leaves_nobody_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    """Both were away; the supervisor has its turn within one interval of asking."""
    world = World(monkeypatch)
    world.turn(0.02, beats=1)
    assert not world.turn(BEAT_S)
    assert not world.turn(100.0)
    assert not world.turn(0.9 * BEAT_S)
    assert not world.turn(0.02, beats=1)
    assert not world.sent

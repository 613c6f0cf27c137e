"""A policy that is to drive and says nothing, by a clock moved by hand."""

from __future__ import annotations

from collections import Counter
from types import SimpleNamespace
from typing import Any, cast

from controller.drought import Drought
from controller.watch import Watch
from episodes.records import Flag, Mode

SILENT, AGAIN = "no chunk from inference for 1.0 s; the arm holds", "chunks from inference again"


class Scene:
    """A run that follows its policy, at fifty looks a second."""

    def __init__(self) -> None:
        self.drought, self.now_s = Drought("inference"), 100.0
        self.following, self.ready = True, True
        self.tally = SimpleNamespace(chunks=0, events=Counter[str]())

    def passes(self, seconds: float, *, making: bool = False, refuses: str = "") -> list[str]:
        """What is said meanwhile. The arm holds 0.6 s after the last chunk."""
        lines = []
        for turn in range(round(seconds / 0.02)):
            self.now_s += 0.02
            self.tally.chunks += making
            if refuses and turn % 50 == 0:
                self.tally.events[f"inference: {refuses}"] += 1
            dry = not making and turn > 30
            tick: Any = SimpleNamespace(mode=Mode.HOLD if dry else Mode.POLICY, flags=Flag.NO_CHUNK if dry else 0)
            watch = cast("Watch", SimpleNamespace(tick=tick, tally=self.tally))
            lines.append(self.drought.look(watch, self.following, self.ready, self.now_s))
        return [line for line in lines if line is not None]


def test_a_policy_that_hangs_for_a_while_is_named_once_and_so_is_its_end() -> None:
    """The arm held for as long, and no line said why."""
    scene = Scene()
    for _ in range(2):
        assert scene.passes(5.0, making=True) == []
        assert scene.passes(0.9) == []
        assert scene.drought.words is None
        assert scene.passes(5.0) == [SILENT]
        assert scene.drought.words == "no chunk from inference for 5.9 s"
        assert scene.passes(1.0, making=True) == [AGAIN]
        assert scene.drought.words is None


def test_one_that_says_itself_why_it_makes_none_is_left_to_that() -> None:
    """As where a camera is frozen: that has its own line."""
    scene = Scene()
    scene.passes(1.0, making=True)
    assert scene.passes(5.0, refuses="no_chunk_stale_camera") == []
    assert scene.drought.words == "no chunk from inference for 5.0 s"
    assert scene.passes(1.0, making=True) == []


def test_nothing_is_missed_where_nothing_was_asked_for() -> None:
    """Between episodes, and while another process takes the place of a dead one."""
    scene = Scene()
    scene.passes(1.0, making=True)
    scene.following = False
    assert scene.passes(5.0) == []
    scene.following, scene.ready = True, False
    assert scene.passes(5.0) == []
    scene.ready = True
    assert scene.passes(2.0) == [SILENT]
    scene.ready = False
    assert scene.passes(5.0) == []
    scene.ready = True
    assert scene.passes(0.5) == []
    assert scene.passes(0.5, making=True) == [AGAIN]

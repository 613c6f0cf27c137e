"""What the demo holds its last part against."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from cadenza.commands.collect import Collected
from cadenza.commands.demo import REPLAY_MM, LastPart, judge_last
from cadenza.intervention import Intervention
from controller.collection.ledger import Line
from controller.collection.machine import End

LINE = Line(0, "success", "done", 4.0, ("episodes/episode-000000.mcap",), interventions=1, human_seconds=1.5)
TICKS = {"bit_equal": 11, "bit_equal_ticks": 3823, "episodes": [{}] * 11}


def arm(rms: float | None = 2.0, *, finished: bool = True) -> dict[str, Any]:
    deviation = None if rms is None else {"tool_mm": {"measured": {"rms": rms}}}
    return {"deviation": deviation, "finished": finished, "termination": "done"}


def last(line: Line | None = LINE, ticks: dict[str, Any] | None = TICKS, replayed: dict[str, Any] | None = None) -> Any:
    path = None if line is None else Path("a.mcap")
    return LastPart(Intervention(line, path, Collected(End.COMPLETE, {})), ticks, replayed or arm())


def broken(part: LastPart) -> set[str]:
    return {bar.name for bar in judge_last(part) if not bar.held}


def test_all_of_it_is_shown_and_held() -> None:
    assert [bar.name for bar in judge_last(last())] == ["intervention", "ticks replayed", "arm replayed"]
    assert broken(last()) == set()


@pytest.mark.parametrize(
    ("part", "names"),
    [
        (last(None), {"intervention"}),
        (last(Line(0, "success", "done", 4.0, ("a",))), {"intervention"}),
        (last(Line(0, "fail", "time_limit", 20.0, ("a",), interventions=1)), {"intervention"}),
        (last(ticks={**TICKS, "bit_equal": 10}), {"ticks replayed"}),
        (last(replayed=arm(REPLAY_MM * 1.01)), {"arm replayed"}),
        (last(replayed=arm(None)), {"arm replayed"}),
        (last(replayed=arm(finished=False)), {"arm replayed"}),
    ],
)
def test_each_thing_that_goes_wrong_breaks_its_bar(part: LastPart, names: set[str]) -> None:
    assert broken(part) == names


def test_an_intervention_that_was_not_saved_leaves_nothing_to_replay() -> None:
    part = LastPart(Intervention(None, None, Collected(End.INTERRUPTED, {})), None, None)
    assert [bar.name for bar in judge_last(part)] == ["intervention"]
    assert part.interrupted

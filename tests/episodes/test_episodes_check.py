"""The check says what does not fit together, and says nothing about what does."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path

import pytest

from episodes.check import check, examine
from episodes.records import ChunkRecord, Driver, Flag, Mode, TickRecord
from episodes.writer import EpisodeWriter, Header
from spec.robot import Robot
from spec.robotfile import load_robot


@pytest.fixture(scope="module")
def robot() -> Robot:
    return load_robot(Path("robots/virtual.yaml"))


def story() -> list[TickRecord]:
    """Hold, policy, takeover, person, release, hold, policy again."""
    parts = [
        (Mode.HOLD, Driver.NONE, 0.0),
        (Mode.POLICY, Driver.POLICY, 0.0),
        (Mode.BLEND, Driver.HUMAN, 0.5),
        (Mode.HUMAN, Driver.HUMAN, 1.0),
        (Mode.HOLD, Driver.NONE, 1.0),
        (Mode.BLEND, Driver.POLICY, 0.5),
        (Mode.POLICY, Driver.POLICY, 0.0),
    ]
    ticks = []
    for number in range(70):
        mode, driver, alpha = parts[number // 10]
        chunk = number // 10 if driver is Driver.POLICY else -1
        record = TickRecord(
            tick=number, now_ns=number + 1, joints=6, mode=mode, driver=driver, alpha=alpha, chunk=chunk
        )
        if number % 10 == 0 and chunk >= 0:
            record.flags, record.arrived = int(Flag.NEW_CHUNK), chunk
        ticks.append(record)
    return ticks


def written(robot: Robot, path: Path, ticks: list[TickRecord], chunks: range = range(7), state: bool = True) -> Path:
    with EpisodeWriter(path, Header(robot)) as writer:
        for sequence in chunks:
            writer.chunk(ChunkRecord(sequence=sequence, joints=6, length=1))
        if state:
            writer.event(1, "control", "state", "{}")
        writer.ticks(b"".join(map(bytes, ticks)))
    return path


def test_a_sound_story_is_found_sound(robot: Robot, tmp_path: Path) -> None:
    verdict = examine(written(robot, tmp_path / "a.mcap", story()))
    assert (verdict.wrong, verdict.notes) == ([], [])


def _set(index: int, **fields: object) -> Callable[[list[TickRecord]], None]:
    def change(ticks: list[TickRecord]) -> None:
        for name, value in fields.items():
            setattr(ticks[index], name, value)

    return change


def _want_nothing(ticks: list[TickRecord]) -> None:
    ticks[33].human[2] = math.nan


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (_set(35, driver=int(Driver.POLICY)), "mode HUMAN, but a person does not drive: 1 ticks, the first is tick 35"),
        (_set(35, alpha=0.9), "mode HUMAN, but a person does not drive"),
        (_set(12, driver=int(Driver.NONE)), "mode POLICY, but the policy does not drive"),
        (_set(12, alpha=0.1), "mode POLICY, but the policy does not drive"),
        (_set(22, driver=int(Driver.NONE)), "mode BLEND towards nobody"),
        (_set(5, driver=int(Driver.HUMAN)), "somebody drives in a mode in which nobody does"),
        (_set(5, alpha=math.nan), "a weight of the person outside 0 to 1"),
        (_set(5, alpha=1.5), "a weight of the person outside 0 to 1"),
        (_set(5, mode=17), "a mode or driver that there is not"),
        (_want_nothing, "a person drives, but what they want is not a number: 1 ticks, the first is tick 33"),
        (_set(12, flags=int(Flag.NEW_CHUNK), arrived=99), "a chunk that came is not on record: 1 ticks"),
        (_set(12, chunk=99), "a chunk in use is not on record: 1 ticks"),
        (lambda ticks: ticks.pop(40), "1 ticks are missing, the first after tick 39"),
    ],
)
def test_what_does_not_fit_is_named(
    robot: Robot, tmp_path: Path, change: Callable[[list[TickRecord]], None], says: str
) -> None:
    ticks = story()
    change(ticks)
    found = check(written(robot, tmp_path / "a.mcap", ticks))
    assert any(says in line for line in found), found
    assert len(found) <= 2


def test_periods_that_were_never_ticked_are_not_missing(robot: Robot, tmp_path: Path) -> None:
    ticks = story()
    for record in ticks[20:]:
        record.tick += 5
    for record in ticks[50:]:
        record.tick += 100
    ticks[20].skipped = 5
    ticks[50].flags = int(Flag.ENGAGED)
    assert check(written(robot, tmp_path / "a.mcap", ticks)) == []


def test_what_a_sound_episode_lacks_is_a_note(robot: Robot, tmp_path: Path) -> None:
    verdict = examine(written(robot, tmp_path / "a.mcap", story(), chunks=range(5, 7), state=False))
    assert verdict.wrong == ["a chunk that came is not on record: 1 ticks, the first is tick 10"]
    assert len(verdict.notes) == 2
    assert any("no state on record" in note for note in verdict.notes)
    assert any("before the recorder ran" in note for note in verdict.notes)

"""Reward, termination and truncation are three things."""

from __future__ import annotations

from itertools import product
from pathlib import Path

import pytest

from episodes.outcome import Ending, Outcome, Termination, ending, ending_facts, reward_of
from episodes.reader import read_episode
from episodes.records import TickRecord
from episodes.writer import EpisodeWriter, Header
from spec.errors import CadenzaError
from spec.robotfile import load_robot


@pytest.mark.parametrize(
    ("outcome", "termination", "expected"),
    [
        (Outcome.SUCCESS, Termination.DONE, Ending(1.0, terminated=True, truncated=False)),
        (Outcome.SUCCESS, Termination.OPERATOR, Ending(1.0, terminated=True, truncated=False)),
        (Outcome.FAIL, Termination.OPERATOR, Ending(0.0, terminated=True, truncated=False)),
        (Outcome.FAIL, Termination.TIME_LIMIT, Ending(0.0, terminated=False, truncated=True)),
        (Outcome.UNLABELLED, Termination.TIME_LIMIT, Ending(None, terminated=False, truncated=True)),
        (Outcome.UNLABELLED, Termination.DONE, Ending(None, terminated=False, truncated=False)),
        (Outcome.UNLABELLED, Termination.ROTATED, Ending(None, terminated=False, truncated=False)),
        (Outcome.ABORTED, Termination.FAULT, Ending(None, terminated=False, truncated=False)),
        (Outcome.ABORTED, Termination.TIME_LIMIT, Ending(None, terminated=False, truncated=False)),
        (Outcome.ABORTED, Termination.OPERATOR, Ending(None, terminated=False, truncated=False)),
    ],
)
def test_the_rule(outcome: Outcome, termination: Termination, expected: Ending) -> None:
    assert ending(outcome, termination) == expected


def test_an_episode_never_ends_in_two_ways() -> None:
    for outcome, termination in product(Outcome, [*Termination, None]):
        ended = ending(outcome, termination, 0.5)
        assert not (ended.terminated and ended.truncated)
        assert ended.reward == 0.5


@pytest.mark.parametrize("text", ["", "much", "nan", "inf"])
def test_a_reward_that_is_no_number_is_none(text: str) -> None:
    assert reward_of({"reward": text}) is None


def test_what_is_on_record_says_the_same(tmp_path: Path) -> None:
    robot = load_robot(Path("robots/virtual.yaml"))
    for index, (outcome, termination, reward) in enumerate(product(Outcome, Termination, (None, -2.5))):
        with EpisodeWriter(tmp_path / f"{index}.mcap", Header(robot)) as writer:
            writer.tick(TickRecord(joints=6))
            writer.event(7, "session", "reward", "0.25")
            writer.event(9, "session", "reward", "-1")
            writer.close(outcome, termination, {"seconds": "3"}, reward)
        episode = read_episode(writer.path)
        assert episode.ending == ending(outcome, termination, reward)
        assert ending_facts(episode.ending).items() <= dict(episode.result).items()
        assert episode.rewards == ((7, 0.25), (9, -1.0))


def test_a_reward_event_that_is_no_number_is_refused_in_one_line(tmp_path: Path) -> None:
    with EpisodeWriter(tmp_path / "a.mcap", Header(load_robot(Path("robots/virtual.yaml")))) as writer:
        writer.event(7, "session", "reward", "a lot")
    with pytest.raises(CadenzaError, match="a reward event") as caught:
        _ = read_episode(writer.path).rewards
    assert "\n" not in str(caught.value)

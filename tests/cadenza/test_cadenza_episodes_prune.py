"""Judging and deleting recorded episodes: nothing goes that was not named, nothing is half written."""

from __future__ import annotations

import json
import os
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import episodes.rewrite
from cadenza.cli import main
from cadenza.episode_files import interventions
from episodes.check import check
from episodes.outcome import Outcome, Termination
from episodes.pruning import Rules, Stored, to_delete
from episodes.reader import read_episode
from episodes.records import Driver, Mode, TickRecord
from episodes.writer import EpisodeWriter, Header
from spec.robot import Robot
from spec.robotfile import load_robot


@pytest.fixture(scope="module")
def robot() -> Robot:
    return load_robot(Path("robots/virtual.yaml"))


def record(robot: Robot, path: Path, outcome: Outcome, drivers: str = "ppppp") -> Path:
    """An episode whose ticks 10 ms apart were driven by p(olicy), h(uman) or n(obody)."""
    who = {"p": (Driver.POLICY, Mode.POLICY, 0.0), "h": (Driver.HUMAN, Mode.HUMAN, 1.0), "n": (0, Mode.HOLD, 0.0)}
    with EpisodeWriter(path, Header(robot)) as writer:
        for number, letter in enumerate(drivers):
            driver, mode, alpha = who[letter]
            writer.tick(
                TickRecord(
                    tick=number,
                    now_ns=1 + number * 10_000_000,
                    joints=6,
                    driver=driver,
                    mode=mode,
                    alpha=alpha,
                    chunk=-1,
                )
            )
        writer.close(outcome, Termination.DONE)
    return path


def test_interventions_are_counted_from_who_drove(robot: Robot, tmp_path: Path) -> None:
    episode = read_episode(record(robot, tmp_path / "a.mcap", Outcome.SUCCESS, "ppphhhpphhnhp"))
    assert interventions(episode) == {"count": 3, "seconds": 0.055, "share": 0.4615}
    assert check(episode.path) == []
    alone = read_episode(record(robot, tmp_path / "b.mcap", Outcome.SUCCESS, "hhh"))
    assert interventions(alone) == {"count": 1, "seconds": 0.02, "share": 1.0}


def test_prune_shows_and_deletes_nothing_unless_told(
    robot: Robot, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    good = record(robot, tmp_path / "good.mcap", Outcome.SUCCESS)
    bad = record(robot, tmp_path / "bad.mcap", Outcome.ABORTED)
    (tmp_path / "discarded").mkdir()
    unwanted = record(robot, tmp_path / "discarded" / "c.mcap", Outcome.SUCCESS)
    writing = EpisodeWriter(tmp_path / "now.mcap", Header(robot))
    (tmp_path / "other.mcap").write_bytes(b"not ours")
    argv = ["episodes", "prune", str(tmp_path), "--outcome", "aborted", "--discarded"]
    assert main(argv) == 0
    shown = capsys.readouterr()
    assert "2 of 3 episodes" in shown.out
    assert "would be deleted" in shown.out
    assert "being written" in shown.err
    assert bad.exists()
    assert unwanted.exists()
    assert main([*argv, "--yes", "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert {Path(row["path"]).name: row["reason"] for row in told["episodes"]} == {
        "bad.mcap": "aborted",
        "c.mcap": "discarded",
    }
    writing.close()
    left = {path.name for path in tmp_path.rglob("*.mcap")}
    assert left == {"good.mcap", "now.mcap", "other.mcap"}
    assert good.exists()


@pytest.mark.parametrize("rule", ["--keep-gb", "--older-than-days"])
@pytest.mark.parametrize("number", ["inf", "nan", "1e300", "-1"])
def test_a_rule_that_is_no_amount_is_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], rule: str, number: str
) -> None:
    assert main(["episodes", "prune", str(tmp_path), rule, number]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert f"{rule}: {float(number)!r}: must be from 0 to" in line


_FILES = st.lists(
    st.builds(
        lambda number, folder, outcome, age, size: Stored(Path(folder) / f"{number}.mcap", outcome, age, size),
        st.integers(0, 1 << 40),
        st.sampled_from(["runs", "runs/discarded"]),
        st.sampled_from(list(Outcome)),
        st.floats(0, 1e7),
        st.integers(0, 1000),
    ),
    max_size=12,
    unique_by=lambda file: file.path,
)


@given(_FILES, st.lists(st.sampled_from(list(Outcome))), st.booleans(), st.floats(0, 1e7), st.integers(0, 5000))
def test_pruning_keeps_exactly_what_the_rules_leave(
    stored: list[Stored], outcomes: list[Outcome], discarded: bool, age: float, budget: int
) -> None:
    chosen = to_delete(stored, Rules(outcomes, discarded, age, budget))
    named = {
        file.path for file in stored if file.outcome in outcomes or (discarded and file.discarded) or file.age_s > age
    }
    assert named <= set(chosen)
    kept = [file for file in stored if file.path not in chosen]
    assert sum(file.size for file in kept) <= budget
    for_budget = [file for file in stored if file.path in chosen and file.path not in named]
    if for_budget:
        youngest = min(for_budget, key=lambda file: file.age_s)
        assert all(file.age_s <= min(gone.age_s for gone in for_budget) for file in kept)
        assert sum(file.size for file in kept) + youngest.size > budget  # not one more than needed


@given(_FILES)
def test_no_rule_deletes_nothing(stored: list[Stored]) -> None:
    assert to_delete(stored, Rules()) == {}


def test_a_label_changes_the_end_and_nothing_else(
    robot: Robot, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = record(robot, tmp_path / "a.mcap", Outcome.SUCCESS)
    before = read_episode(path)
    assert main(["episodes", "label", str(path), "--outcome", "fail", "--json"]) == 0
    (told,) = json.loads(capsys.readouterr().out)
    assert (told["outcome"], told["reward"], told["terminated"]) == ("fail", 0.0, True)
    assert main(["episodes", "label", str(path), "--outcome", "success", "--reward", "0.25"]) == 0
    after = read_episode(path)
    assert after.ending.reward == 0.25
    assert (after.outcome, after.termination) == (Outcome.SUCCESS, Termination.DONE)
    assert np.array_equal(after.ticks, before.ticks)
    assert after.attachments == before.attachments
    assert after.facts == before.facts
    assert check(path) == []
    assert [item.name for item in tmp_path.iterdir()] == ["a.mcap"]


def test_a_label_that_fails_leaves_the_file_as_it_was(
    robot: Robot, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    path = record(robot, tmp_path / "a.mcap", Outcome.SUCCESS)
    before = path.read_bytes()

    def full(descriptor: int) -> None:
        raise OSError(28, os.strerror(28))

    monkeypatch.setattr(episodes.rewrite.os, "fsync", full)
    assert main(["episodes", "label", str(path), "--outcome", "fail"]) == 2
    assert "it is as it was" in capsys.readouterr().err
    assert path.read_bytes() == before
    assert [item.name for item in tmp_path.iterdir()] == ["a.mcap"]


def test_an_unfinished_episode_is_not_labelled(
    robot: Robot, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with EpisodeWriter(tmp_path / "a.mcap", Header(robot)) as writer:
        assert main(["episodes", "label", str(writer.part), "--outcome", "fail"]) == 2
        assert "is not closed" in capsys.readouterr().err

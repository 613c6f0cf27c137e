"""The commands run and episodes: refusals in one line, and what a person or a script gets to see."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from cadenza.cli import main
from episodes.outcome import Outcome, Termination
from episodes.records import TickRecord
from episodes.writer import EpisodeWriter, Header
from spec.robotfile import load_robot

ROBOT = Path("robots/virtual.yaml")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """One sound episode and one unfinished one."""
    robot = load_robot(ROBOT)
    with EpisodeWriter(tmp_path / "good.mcap", Header(robot, labels={"task": "push"})) as writer:
        for number in range(30):
            writer.tick(TickRecord(tick=number, now_ns=number + 1, joints=6))
        writer.event(5, "control", "control", "HOLD -> POLICY")
        writer.close(Outcome.SUCCESS, Termination.DONE)
    unfinished = EpisodeWriter(tmp_path / "killed.mcap", Header(robot))
    unfinished.ticks(b"".join(bytes(TickRecord(tick=number, now_ns=number + 1, joints=6)) for number in range(20)))
    unfinished._mcap.flush()
    unfinished.abandon()
    return tmp_path


@pytest.mark.parametrize(
    ("argv", "says"),
    [
        (["run", "--bundle", "/nowhere"], "not a bundle"),
        (["run", "--bundle", "/nowhere", "--episodes", "0"], "--episodes: 0: at least 1"),
        (["run", "--bundle", "/nowhere", "--episode-seconds", "nan"], "must be above 0"),
        (["run", "--bundle", "/nowhere", "--robot.cameras.top.fpss", "3"], "no such field (valid: fps"),
        (["run", "--bundle", "/nowhere", "--config", "/nowhere.yaml"], "cannot read the robot file"),
        (["episodes", "list", "/nowhere"], "no such file or folder"),
        (["episodes", "list"], "name at least one"),
        (["episodes", "info", "README.md"], "not an MCAP file"),
    ],
)
def test_refusals_are_one_line(argv: list[str], says: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(argv) == 2
    captured = capsys.readouterr()
    assert says in captured.err
    assert captured.err.count("\n") == 1
    assert captured.out == ""


def test_list_shows_every_episode(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["episodes", "list", str(folder)]) == 0
    shown = capsys.readouterr().out
    assert "good.mcap" in shown
    assert "unfinished" in shown
    assert main(["episodes", "list", str(folder), "--json"]) == 0
    rows = {Path(row["path"]).name: row for row in json.loads(capsys.readouterr().out)}
    assert rows["good.mcap"]["outcome"] == "success"
    assert rows["good.mcap"]["ticks"] == 30
    assert rows["killed.mcap.part"]["damage"]


def test_info_tells_events_and_labels(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["episodes", "info", str(folder / "good.mcap"), "--json"]) == 0
    (row,) = json.loads(capsys.readouterr().out)
    assert row["labels"] == {"task": "push"}
    assert row["events"][0]["text"] == "HOLD -> POLICY"
    assert row["attachments"]["robot.json"] > 100
    assert main(["episodes", "info", str(folder / "good.mcap")]) == 0
    assert "HOLD -> POLICY" in capsys.readouterr().out


def test_check_then_recover_then_check(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["episodes", "check", str(folder)]) == 1
    assert "killed.mcap.part: unfinished" in capsys.readouterr().out
    assert main(["episodes", "recover", str(folder), "--json"]) == 0
    (row,) = json.loads(capsys.readouterr().out)
    assert row["episode"] == str(folder / "killed.mcap")
    assert main(["episodes", "check", str(folder), "--json"]) == 0
    assert json.loads(capsys.readouterr().out) == {"checked": 2, "findings": {}}

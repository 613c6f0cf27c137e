"""The commands run and episodes: refusals in one line, and what a person or a script gets to see."""

from __future__ import annotations

import io
import json
from pathlib import Path

import pytest
from rich.console import Console

from cadenza.cli import main
from cadenza.commands.run import RunResult, print_result, read_back
from cadenza.report import summarise
from controller.session import EpisodeResult
from episodes.outcome import Outcome, Termination
from episodes.reader import read_episode
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
        (["episodes", "lst", "runs"], "no such action (valid: list, info"),
        (["episodes", "label", "README.md", "--outcome", "fail"], "not an MCAP file"),
        (["episodes", "label", "README.md", "--outcome", "fail", "--reward", "nan"], "must be a finite number"),
        (["episodes", "prune", "tests"], "say what is not wanted"),
        (["episodes", "prune", "tests", "--keep-gb", "-1"], "must be from 0 to 1e+09"),
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
    told = json.loads(capsys.readouterr().out)
    assert (told["checked"], told["findings"]) == (2, {})
    assert all("no state on record" in notes[0] for notes in told["notes"].values())


def test_an_episode_without_ticks_is_reported_too(tmp_path: Path) -> None:
    """The recorder was killed as it began; there is no lateness to take the maximum of."""
    with EpisodeWriter(tmp_path / "a.mcap", Header(load_robot(ROBOT))) as writer:
        writer.close(Outcome.ABORTED, Termination.RECOVERED)
    report = summarise([read_episode(tmp_path / "a.mcap")])
    assert (report["ticks"], report["lateness_us"], report["missed_share"]) == (0, {}, 0.0)


@pytest.mark.parametrize(
    ("outcome", "termination", "sound"),
    [
        (Outcome.SUCCESS, Termination.DONE, True),
        (Outcome.FAIL, Termination.TIME_LIMIT, True),
        (Outcome.ABORTED, Termination.TIME_LIMIT, False),  # the policy never drove
        (Outcome.ABORTED, Termination.RECORDER_DIED, False),
    ],
)
def test_a_run_tells_what_the_bus_lost_and_whether_it_was_sound(
    outcome: Outcome, termination: Termination, sound: bool
) -> None:
    bus = {"silent": 31, "corrupt": 7, "stale": 2}
    run = {"bus_errors": 3, "restarts": {}, "realtime_missing": [], "processes": {"control": {"bus": bus}}}
    run |= {"timing": "no certificate: one cannot be used: a.json: damaged"}
    report = {"success_rate": 1.0, "episodes": 1, "rate_hz": 200.0, "run": run}
    result = RunResult((EpisodeResult(Path("a.mcap"), outcome, termination, 1.0, {}),), (), report, interrupted=False)
    shown = io.StringIO()
    print_result(result, Console(file=shown, width=200))
    said = "bus errors: 3, lost answers: 31, corrupt answers: 7, joint values missing after retries: 2, restarts: 0"
    assert said in shown.getvalue()
    assert "timing: no certificate: one cannot be used: a.json: damaged\n" in shown.getvalue()
    assert result.sound is sound


def test_a_recording_that_was_deleted_meanwhile_costs_the_report_that_episode_only(folder: Path) -> None:
    paths = (folder / "good.mcap", folder / "pruned.mcap", None)
    results = [EpisodeResult(path, Outcome.SUCCESS, Termination.DONE, 1.0, {}) for path in paths]
    said: list[str] = []
    assert [episode.path for episode in read_back(results, said.append)] == [folder / "good.mcap"]
    assert said == [
        f"{folder / 'pruned.mcap'}: cannot read the episode: No such file or directory; the report does without it"
    ]

"""Fitted limits get into a robot file only if the episodes, replayed, do not trip them more often than declared."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from cadenza.cli import main
from cadenza.commands import calibrate_envelope
from cadenza.envelope_fit import Found
from cadenza.motions import Replayed
from calibration.limits import Fit, peaks
from spec.robotfile import load_robot

HOURS = 0.1
FITTED = Fit(1.8, 1.9, 2.0, 0.1, (1.0, 0.2, 0.0, 20.0))


def _found(quantity: str, now: float | None) -> Found:
    seen = peaks([], 100.0)
    return Found("elbow_flex", quantity, now, FITTED, 2.0, 9.0, 1.0, seen, None)


def _calibrate(folder: Path, monkeypatch: pytest.MonkeyPatch, trips: int, *options: str) -> tuple[int, Path]:
    """The command on a copy of the shipped robot file, its fit and its replay given."""
    config = folder / "robots" / "virtual.yaml"
    shutil.copytree("robots", folder / "robots", dirs_exist_ok=True)
    shutil.copytree("assets/koch", folder / "assets" / "koch", dirs_exist_ok=True)
    episode = folder / "demo.mcap"
    episode.write_bytes(b"")
    given = {
        "episodes_to_learn_from": lambda *_, **__: ([episode], []),
        "_motions": lambda *_: [],
        "found_limits": lambda *_: ((_found("velocity", 3.0), _found("current", None)), HOURS),
        "limits_of": lambda robot, _: robot.limits(),
        "replayed": lambda *_: Replayed(36000, trips, trips),
        "draw_limits": lambda *_: None,
        "save": lambda *_: None,
    }
    for name, instead in given.items():
        monkeypatch.setattr(calibrate_envelope, name, instead)
    argv = ["calibrate", "envelope", "--episodes", str(folder), "--config", str(config), *options]
    return main([*argv, "--false-trips-per-hour", "10"]), config


def test_limits_that_the_replay_agrees_with_are_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    status, config = _calibrate(tmp_path, monkeypatch, 1, "--write")
    assert status == 0
    assert load_robot(config).follower.joints["elbow_flex"].velocity == 2.0
    assert json.loads(config.with_suffix(".envelope.json").read_text())["agrees"] is True


def test_every_figure_is_whole_in_80_columns_and_joints_that_stood_still_are_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """A jerk of 10560 was shown as 1056…"""
    monkeypatch.setenv("COLUMNS", "80")
    wide = Fit(10560.0, 11000.0, 12000.0, 0.1, (1.0, 0.2, 0.0, 405.99))
    found = Found("shoulder_lift", "acceleration", 12345.0, wide, 10560.0, 10560.0, 1.0, peaks([], 100.0), None)
    facts = {"hours": 0.1, "still": ("gripper",), "replay_now": _SHARE, "replay_fitted": _SHARE, "agrees": True}
    args = calibrate_envelope.Args((tmp_path,))
    calibrate_envelope._show([found], facts | {"picture": "p"}, args)
    shown = capsys.readouterr().out
    assert "…" not in shown
    for figure in ("shoulder_lift", "acceleration", "12345", "10560*", "/h now"):
        assert figure in shown
    assert "stood still, and left as they are: gripper" in shown


_SHARE = {"limited_share": 0.1, "trips": 1, "trips_per_hour": 10.0}


def test_limits_that_trip_more_often_than_declared_are_not(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    status, config = _calibrate(tmp_path, monkeypatch, 9, "--write")
    assert status == 1
    assert config.read_text() == Path("robots/virtual.yaml").read_text()
    assert not config.with_suffix(".envelope.json").exists()
    assert "more often than declared are not written" in " ".join(capsys.readouterr().out.split())


@pytest.mark.parametrize(("expected", "most"), [(0.1, 1), (1.0, 3), (10.0, 15), (200.0, 224), (1000.0, 1052)])
def test_no_surprise_ends_where_the_tables_of_poisson_say_so(expected: float, most: int) -> None:
    """From some 130 expected on every number was no surprise, or no float."""
    likely = calibrate_envelope._likely
    assert likely(most, expected)
    assert not likely(most + 1, expected)
    assert likely(0, expected)
    assert not likely(100_000, expected)


def test_whoever_reads_json_sees_whether_they_were(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for trips, written in ((1, True), (9, False)):
        _calibrate(tmp_path, monkeypatch, trips, "--write", "--json")
        assert json.loads(capsys.readouterr().out)["written"] is written

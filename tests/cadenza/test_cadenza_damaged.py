"""Damaged episodes, and folders without any, as a person meets them."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

import pytest

from cadenza.cli import main
from episodes.outcome import Outcome, Termination
from episodes.reader import read_episode
from episodes.records import Driver, Mode, TickRecord
from episodes.writer import EpisodeWriter, Header
from spec.robotfile import load_robot

ROBOT = load_robot(Path("robots/virtual.yaml"))
HALVES = ("cut", "flipped")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A whole episode; one cut at half; one with bytes flipped in the middle."""
    whole = tmp_path / "whole.mcap"
    with EpisodeWriter(whole, Header(ROBOT)) as writer:
        for number in range(2000):
            writer.tick(
                TickRecord(
                    tick=number,
                    now_ns=1 + number * 10_000_000,
                    joints=6,
                    driver=Driver.POLICY,
                    mode=Mode.POLICY,
                    chunk=-1,
                )
            )
        writer.close(Outcome.SUCCESS, Termination.DONE)
    content = whole.read_bytes()
    half = len(content) // 2
    (tmp_path / "cut.mcap").write_bytes(content[:half])
    end = half + len(content) // 8  # a few bytes may be of an index, and lose nothing
    flipped = bytes(255 - byte for byte in content[half:end])
    (tmp_path / "flipped.mcap").write_bytes(content[:half] + flipped + content[end:])
    return tmp_path


def refused(words: Sequence[str], capsys: pytest.CaptureFixture[str]) -> str:
    assert main(words) == 2
    shown = capsys.readouterr()
    assert shown.out == ""
    (line,) = shown.err.splitlines()
    return line


@pytest.mark.parametrize("half", HALVES)
@pytest.mark.parametrize(
    "way",
    [
        ["replay", "--ticks"],
        ["replay", "--against", "x"],
        ["replay", "--view"],
        ["replay", "--arm"],
        ["episodes", "export", "--out", "x"],
    ],
)
def test_half_an_episode_is_not_used_as_if_it_were_all(
    folder: Path, capsys: pytest.CaptureFixture[str], half: str, way: list[str]
) -> None:
    """``replay --ticks`` said 188 of 191 ticks bit-equal; --arm played the half of it."""
    path = folder / f"{half}.mcap"
    line = refused([*way, str(path)], capsys)
    assert f"{path}: damaged: " in line
    assert line.endswith(f"; save what is whole: cadenza episodes recover {path}")


def test_among_several_the_rest_is_done(
    folder: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("cadenza.replay_ticks.run", lambda files, _: (0, {"files": [file.name for file in files]}))
    assert main(["replay", str(folder), "--ticks", "--json"]) == 1
    shown = capsys.readouterr()
    report = json.loads(shown.out)
    assert report["files"] == ["whole.mcap"]
    assert set(report["damaged"]) == {str(folder / f"{half}.mcap") for half in HALVES}
    assert all(f"{folder / half}.mcap: damaged: " in shown.err for half in HALVES)
    (folder / "whole.mcap").unlink()
    assert main(["replay", str(folder), "--ticks"]) == 2
    assert "all 2 episodes are damaged" in capsys.readouterr().err


@pytest.mark.parametrize("action", ["info", "list", "check"])
def test_the_damage_is_shown(folder: Path, capsys: pytest.CaptureFixture[str], action: str) -> None:
    main(["episodes", action, str(folder)])
    shown = capsys.readouterr().out
    assert all(f"save what is whole: cadenza episodes recover {folder / half}.mcap" in shown for half in HALVES)
    assert f"recover {folder / 'whole.mcap'}" not in shown


def test_recover_does_what_check_promises(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    paths = [folder / f"{half}.mcap" for half in HALVES]
    before = [path.read_bytes() for path in paths]
    assert main(["episodes", "recover", *map(str, paths), str(folder / "whole.mcap"), "--json"]) == 0
    *rows, whole = json.loads(capsys.readouterr().out)
    assert [row["episode"] for row in rows] == list(map(str, paths))
    assert (whole["episode"], whole["note"]) == (None, "is whole")
    for path, content in zip(paths, before, strict=True):
        assert path.with_name(f"{path.name}.damaged").read_bytes() == content
        episode = read_episode(path)
        assert (episode.damage, episode.termination) == ("", Termination.RECOVERED)
        assert 0 < len(episode.ticks) < 2000
    assert main(["episodes", "check", str(folder)]) == 0


def test_what_is_no_episode_is_refused(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    other = folder / "other.mcap"
    other.write_bytes(b"not ours")
    assert f"{other}: not an MCAP file" in refused(["episodes", "recover", str(other)], capsys)
    assert main(["episodes", "recover", str(other), str(folder / "cut.mcap")]) == 1
    assert "1 recovered" in capsys.readouterr().out
    assert other.read_bytes() == b"not ours"


@pytest.mark.parametrize(
    ("words", "status"),
    [
        (["list"], 0),
        (["check"], 0),
        (["prune", "--discarded"], 0),
        (["recover"], 0),
        (["info"], 2),
        (["label", "--outcome", "fail"], 2),
    ],
)
def test_a_folder_without_episodes_is_named(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], words: list[str], status: int
) -> None:
    assert main(["episodes", *words, str(tmp_path)]) == status
    (line,) = capsys.readouterr().err.splitlines()
    assert line.endswith(f"{tmp_path}: no episodes there; record some: cadenza demos, cadenza collect")


@pytest.mark.parametrize(
    ("words", "option"),
    [(["calibrate", "envelope", "--episodes"], "--episodes"), (["learn", "reward", "--out", "x", "--data"], "--data")],
)
def test_an_option_without_episodes_is_named(words: list[str], option: str, capsys: pytest.CaptureFixture[str]) -> None:
    """Each by its own name: there is no --data where episodes are given with --episodes."""
    assert main(words) == 2
    assert f": {option}: name at least one episode or folder" in capsys.readouterr().err

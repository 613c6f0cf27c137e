"""Figures of a run that come from the flags of its ticks."""

from __future__ import annotations

from pathlib import Path

from cadenza.report import limited_share, summarise
from episodes.outcome import Outcome, Termination
from episodes.reader import read_episode
from episodes.records import Flag, Mode, TickRecord
from episodes.writer import EpisodeWriter, Header
from spec.robotfile import load_robot


def test_only_the_policys_ticks_count_as_limited(tmp_path: Path) -> None:
    robot = load_robot(Path("robots/virtual.yaml"))
    modes = [Mode.EASE_IN] * 4 + [Mode.POLICY] * 8 + [Mode.HOLD] * 3
    with EpisodeWriter(tmp_path / "a.mcap", Header(robot)) as writer:
        for number, mode in enumerate(modes):
            flags = Flag.LIMITED | Flag.NEW_CHUNK if number % 4 == 0 else Flag.NEW_CHUNK
            writer.tick(TickRecord(tick=number, now_ns=number + 1, joints=6, mode=mode, flags=flags))
        writer.close(Outcome.SUCCESS, Termination.DONE)
    episode = read_episode(tmp_path / "a.mcap", ())
    assert limited_share([episode, episode]) == 2 / 8
    assert summarise([episode])["limited_share"] == 2 / 8

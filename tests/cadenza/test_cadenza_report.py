"""Figures of a run that come from the flags of its ticks."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from cadenza.report import film, limited_share, summarise
from episodes.outcome import Outcome, Termination
from episodes.reader import read_episode
from episodes.records import Flag, Mode, TickRecord
from episodes.writer import EpisodeWriter, Header
from spec.observation import encode_jpeg
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


def test_a_film_shows_what_was_to_be_seen_from_each_instant_on(tmp_path: Path) -> None:
    robot = load_robot(Path("robots/virtual.yaml"))
    with EpisodeWriter(tmp_path / "a.mcap", Header(robot)) as writer:
        writer.tick(TickRecord(tick=0, now_ns=1000, joints=6))
        for number in range(5):
            grey = encode_jpeg(np.full((48, 64, 3), 40 * number, np.uint8), 90)
            writer.frame("top", grey, 1000 + 100_000_000 * number, number)
        writer.close(Outcome.SUCCESS, Termination.DONE)
    episode = read_episode(tmp_path / "a.mcap")
    seconds = np.array([0.0, 0.11, 0.15, 0.45, 8.0])
    strip = film(episode, "top", 1000 + seconds * 1e9, seconds)
    assert strip.times == (0.0, 0.11, 0.15, 0.45, 8.0)
    assert [image is not None and round(float(image.mean()), -1) for image in strip.images] == [0, 80, 80, 160, False]
    assert film(episode, "none", np.array([1000.0]), np.array([0.0])).images == []

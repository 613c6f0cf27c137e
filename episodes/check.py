"""Is an episode sound? Everything in it is read, decoded and compared with what it should be."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from episodes.reader import Episode, read_episode
from episodes.recovery import being_written
from spec.arrays import Int
from spec.errors import CadenzaError
from spec.observation import decode_jpeg


def check(path: Path) -> list[str]:
    """What is wrong with an episode, one line each; empty for a sound one."""
    if being_written(path):
        return ["is being written"]
    try:
        episode = read_episode(path)
        robot = episode.robot()
        episode.bundle()
    except CadenzaError as error:
        return [str(error).removeprefix(f"{path}: ")]
    found = []
    if episode.damage:
        found.append(f"unfinished or damaged ({episode.damage}); cadenza episodes recover may help")
    if robot.follower.names != episode.joints:
        found.append(f"joints {list(episode.joints)} are not those of its robot file")
    found += _ticks(episode)
    found += [f"dropped: {count} of {topic.removeprefix('dropped_')}" for topic, count in _dropped(episode)]
    for name in episode.frames:
        found += _frames(episode, name)
    if any(not np.isfinite(chunk.targets).all() for chunk in episode.chunks):
        found.append("a chunk holds a number that is not finite")
    return found


def _ticks(episode: Episode) -> list[str]:
    ticks = episode.ticks
    if not len(ticks):
        return ["no ticks"]
    found = []
    if not _rising(ticks["now_ns"]):
        found.append("tick times do not rise")
    if not np.isfinite(ticks["position"]).all():
        found.append("a measured position is not finite")
    if not np.array_equal(ticks["joints"], np.full(len(ticks), len(episode.joints))):
        found.append("ticks of another number of joints")
    return found


def _frames(episode: Episode, name: str) -> list[str]:
    frames = episode.frames[name]
    found = [] if _rising(frames.captured_ns) else [f"camera {name}: times do not rise"]
    for index, jpeg in enumerate(frames.jpeg):
        try:
            decode_jpeg(jpeg)
        except ValueError as error:
            found.append(f"camera {name}: frame {index}: {error}")
    return found


def _dropped(episode: Episode) -> list[tuple[str, str]]:
    return [(key, count) for key, count in episode.result.items() if key.startswith("dropped_") and count != "0"]


def _rising(times: Int) -> bool:
    return bool((np.diff(times) > 0).all())

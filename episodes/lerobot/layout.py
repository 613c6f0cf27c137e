"""What a LeRobotDataset v3.0 looks like: where its files lie, and what its columns are called.

Read from the format as LeRobot 0.4.4 writes and loads it. Several episodes share a file until it is big enough; a row
of ``meta/episodes`` tells in which file, and for videos at which second of it, an episode begins.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Any, Self

from spec.action import ActionSpace
from spec.manifest import StateFeature

CODEBASE_VERSION = "v3.0"
FILES_PER_FOLDER = 1000
DATA_FILE_MB, VIDEO_FILE_MB = 100, 200

DATA = "data/chunk-{chunk_index:03d}/file-{file_index:03d}.parquet"
EPISODES = "meta/episodes/chunk-{chunk_index:03d}/file-{file_index:03d}.parquet"
VIDEO = "videos/{video_key}/chunk-{chunk_index:03d}/file-{file_index:03d}.mp4"
INFO, STATS, TASKS = Path("meta/info.json"), Path("meta/stats.json"), Path("meta/tasks.parquet")

STATE, ACTION, PICTURES = "observation.state", "action", "observation.images."
REWARD, DONE = "next.reward", "next.done"
INTERVENTION = "intervention"
IS_INTERVENTION = "complementary_info.is_intervention"
TERMINATED, TRUNCATED = "complementary_info.terminated", "complementary_info.truncated"

Feature = dict[str, Any]
"""dtype, shape and names of one column."""


class Only(StrEnum):
    """Which episodes to export."""

    ALL = "all"
    SUCCESS = "success"
    """Those judged a success."""
    INTERVENTIONS = "interventions"
    """Those in which a person drove at some step."""


@dataclass(frozen=True, slots=True)
class Settings:
    """What the user chose; an export that was broken off goes on only under the same."""

    fps: int | None = None
    """Rows a second; None takes the policy's steps."""
    action_space: ActionSpace | None = None
    """None takes the policy's."""
    velocity: bool = False
    """Joint speeds stand in the state too."""
    images: bool = False
    """Pictures without loss inside the tables, instead of videos."""
    task: str | None = None
    """What was done, in words; None takes the label of the episode."""
    only: Only = Only.ALL

    @property
    def state(self) -> tuple[StateFeature, ...]:
        return (StateFeature.POSITION, StateFeature.VELOCITY) if self.velocity else (StateFeature.POSITION,)


@dataclass(frozen=True, slots=True)
class Form:
    """What all episodes of one dataset have in common."""

    robot: str
    fps: int
    features: Mapping[str, Feature]
    """All columns, in order."""

    @property
    def cameras(self) -> tuple[str, ...]:
        return tuple(key.removeprefix(PICTURES) for key in self.features if key.startswith(PICTURES))

    @property
    def video_keys(self) -> tuple[str, ...]:
        return tuple(key for key, feature in self.features.items() if feature["dtype"] == "video")


_SUFFIX = {StateFeature.POSITION: "pos", StateFeature.VELOCITY: "vel"}
_ACTION_SUFFIX = {ActionSpace.JOINT_POSITION: "pos", ActionSpace.JOINT_DELTA: "delta"}


def features(
    joints: Sequence[str],
    cameras: Mapping[str, tuple[int, int]],
    state: Sequence[StateFeature],
    space: ActionSpace,
    images: bool,
) -> dict[str, Feature]:
    """All columns.

    Args:
        joints: names.
        cameras: height and width by name.
        state: what the observed state consists of [rad, rad/s].
        space: what an action is [rad].
        images: pictures stand in the tables, not in videos.
    """
    states = [f"{joint}.{_SUFFIX[feature]}" for feature in state for joint in joints]
    actions = [f"{joint}.{_ACTION_SUFFIX[space]}" for joint in joints]
    pictures = {
        PICTURES + name: _feature("image" if images else "video", [*size, 3], ["height", "width", "channels"])
        for name, size in cameras.items()
    }
    return {
        STATE: _feature("float32", [len(states)], states),
        ACTION: _feature("float32", [len(actions)], actions),
        **pictures,
        REWARD: _feature("float32", [1], None),
        DONE: _feature("bool", [1], None),
        INTERVENTION: _feature("bool", [1], None),
        IS_INTERVENTION: _feature("float32", [1], ["is_intervention"]),
        TERMINATED: _feature("float32", [1], ["terminated"]),
        TRUNCATED: _feature("float32", [1], ["truncated"]),
        "timestamp": _feature("float32", [1], None),
        "frame_index": _feature("int64", [1], None),
        "episode_index": _feature("int64", [1], None),
        "index": _feature("int64", [1], None),
        "task_index": _feature("int64", [1], None),
    }


def _feature(dtype: str, shape: list[int], names: list[str] | None) -> Feature:
    return {"dtype": dtype, "shape": shape, "names": names}


@dataclass(frozen=True, slots=True, order=True)
class Place:
    """Number of a file: folders hold a thousand files each."""

    chunk: int = 0
    file: int = 0

    def next(self) -> Self:
        full = self.file == FILES_PER_FOLDER - 1
        return type(self)(self.chunk + full, 0 if full else self.file + 1)

    def path(self, pattern: str, **keys: str) -> Path:
        return Path(pattern.format(chunk_index=self.chunk, file_index=self.file, **keys))

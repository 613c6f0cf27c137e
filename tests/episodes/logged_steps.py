"""Small logs made by hand: ticks, times of pictures and rewards as a test wants them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cache
from pathlib import Path

import numpy as np

from episodes.layout import wire_type
from episodes.outcome import Outcome, Termination
from episodes.reader import Episode, Frames, LoggedEvent
from episodes.records import Driver, Mode
from episodes.writer import ROBOT_FILE
from spec.robot import Robot
from spec.robotfile import load_robot

JOINTS = 6


@cache
def robot() -> Robot:
    return load_robot(Path("robots/virtual.yaml"))


def tick_array(times_ns: Sequence[int], seed: int = 0) -> np.ndarray:
    """Ticks at given instants, under the policy, every number its own."""
    rng = np.random.default_rng(seed)
    ticks = np.zeros(len(times_ns), dtype=wire_type(JOINTS)[0])
    ticks["now_ns"], ticks["tick"], ticks["joints"] = times_ns, np.arange(len(times_ns)), JOINTS
    ticks["mode"], ticks["driver"] = Mode.POLICY, Driver.POLICY
    for name in ("position", "velocity", "sent"):
        ticks[name] = rng.normal(size=(len(times_ns), JOINTS))
    return ticks


def episode_of(
    ticks: np.ndarray,
    frame_ns: Mapping[str, Sequence[int]],
    rewards: Sequence[tuple[int, float]] = (),
    outcome: Outcome = Outcome.SUCCESS,
    termination: Termination = Termination.DONE,
) -> Episode:
    """A log in memory, its pictures without content."""
    return Episode(
        path=Path("made-by-hand.mcap"),
        joints=robot().follower.names,
        ticks=ticks,
        frames={
            name: Frames(np.array(times, dtype=np.int64), np.arange(len(times)), []) for name, times in frame_ns.items()
        },
        chunks=(),
        events=tuple(LoggedEvent(time_ns, "session", "reward", repr(value)) for time_ns, value in rewards),
        facts={},
        labels={},
        result={"outcome": outcome, "termination": termination},
        attachments={ROBOT_FILE: robot().model_dump_json().encode()},
        damage="",
    )

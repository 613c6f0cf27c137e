"""Small logs made by hand, in memory or on disk: ticks, pictures and rewards as a test wants them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cache
from pathlib import Path

import numpy as np

from episodes.layout import wire_type
from episodes.outcome import Outcome, Termination
from episodes.reader import Episode, Frames, LoggedEvent
from episodes.records import ChunkRecord, Driver, Mode, TickRecord
from episodes.writer import ROBOT_FILE, EpisodeWriter, Header
from spec.observation import encode_jpeg
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


SIZES = {"top": (48, 64), "front": (33, 47)}
"""Height and width. An odd picture cannot be halved, as most videos do with colour."""


def write_episode(
    folder: Path,
    number: int,
    steps: int = 20,
    taken_over: tuple[int, int] = (0, 0),
    blind: tuple[int, int] = (0, 0),
    outcome: Outcome = Outcome.SUCCESS,
    sizes: Mapping[str, tuple[int, int]] = SIZES,
    step_ns: int = 100_000_000,
    name: str = "virtual",
) -> Path:
    """An episode on disk: 100 Hz, 30 pictures a second, a chunk at each step.

    Args:
        folder: where.
        number: of the episode; no two have a number in common.
        steps: length.
        taken_over: first step in which a person drives, and the one in which not any more.
        blind: first step in which the front camera sees nothing, and the one in which it does again.
        outcome: verdict.
        sizes: of the pictures.
        step_ns: of the policy [ns].
        name: of the robot.
    """
    path = folder / f"episode-{number:06d}.mcap"
    start = 10**9 * (number + 1)
    arm = robot().model_copy(update={"name": name})
    with EpisodeWriter(path, Header(arm, labels={"task": f"task {number % 2}"})) as writer:
        for frame in range(steps * 3 + 1):
            captured = start + frame * 33_333_333
            for place, (camera, size) in enumerate(sizes.items()):
                if not (camera == "front" and blind[0] <= frame / 3 < blind[1]):
                    writer.frame(camera, encode_jpeg(scene(frame, number + place, size), 95), captured, frame)
        for tick in range(steps * 10 + 1):
            writer.tick(_tick(tick, start + tick * 10_000_000, number, taken_over[0] <= tick / 10 < taken_over[1]))
        for step in range(steps):
            writer.chunk(
                ChunkRecord(sequence=step, observed_ns=start + step * step_ns, step_ns=step_ns, length=1, joints=JOINTS)
            )
        writer.event(start + 50_000_000, "session", "reward", "0.25")
        writer.close(outcome)
    return path


def scene(frame: int, shift: int, size: tuple[int, int]) -> np.ndarray:
    """A picture that tells its number: a bright square wandering over a slope, BGR uint8."""
    height, width = size
    rows, columns = np.mgrid[:height, :width]
    picture = np.stack([rows + 40, columns + 60, rows // 2 + columns // 2 + 20 * (shift % 4)], axis=-1).astype(np.uint8)
    place = 5 * frame % (width - 16)
    picture[4:28, place : place + 16] = 220
    return picture


def _tick(tick: int, now_ns: int, number: int, by_hand: bool) -> TickRecord:
    record = TickRecord(tick=tick, now_ns=now_ns, joints=JOINTS, mode=Mode.HUMAN if by_hand else Mode.POLICY)
    record.driver, record.alpha = (Driver.HUMAN, 1.0) if by_hand else (Driver.POLICY, 0.0)
    record.position[:JOINTS] = [0.001 * tick, 0.1, -0.002 * tick, 0.0, 0.3, 0.01 * number]
    record.velocity[:JOINTS] = [0.1, 0.0, -0.2, 0.0, 0.0, 0.0]
    record.sent[:JOINTS] = [0.001 * tick + 0.01, 0.1, -0.002 * tick, 0.0, 0.3, 0.01 * number]
    return record

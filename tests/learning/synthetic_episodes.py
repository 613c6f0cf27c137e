"""Short episodes in which every number tells where and when it came from."""

from __future__ import annotations

from collections.abc import Collection
from pathlib import Path

import numpy as np

from episodes.outcome import Outcome
from episodes.records import ChunkRecord, Mode, TickRecord
from episodes.writer import EpisodeWriter, Header
from spec.observation import encode_jpeg
from spec.robot import Robot
from spec.robotfile import load_robot

ROBOT = Path(__file__).parents[2] / "robots" / "virtual.yaml"
STEP_NS, TICK_NS = 100_000_000, 5_000_000
PLAN = 6
JOINTS = 6


def robot() -> Robot:
    return load_robot(ROBOT)


def position_at(seconds: float, episode: int) -> np.ndarray:
    """Joint angles at a time of an episode [rad]; the last joint tells the episode."""
    return np.array([0.1 * seconds, 0.2 * seconds, -0.1 * seconds, 0.0, 0.3, 0.05 * episode])


def plan_at(seconds: float, episode: int) -> np.ndarray:
    """Planned targets from a time on, shape (PLAN, joints): where the arm will be, half a radian further on."""
    return np.stack([position_at(seconds + 0.1 * (k + 1), episode) + 0.5 for k in range(PLAN)])


def write_episode(
    folder: Path,
    number: int,
    steps: int = 12,
    cameras: tuple[str, ...] = ("top",),
    silent: Collection[int] = (),
    refused: Collection[int] = (),
) -> Path:
    """Frame k is a uniform picture of brightness 10 + 15 k; ``silent`` ticks and ``refused`` chunks hold NaN."""
    path = folder / f"demo-{number:05d}.mcap"
    path.unlink(missing_ok=True)
    start = 7_000_000_000 + number * 500_000_000
    with EpisodeWriter(path, Header(robot(), labels={"source": "expert"})) as writer:
        for k in range(steps):
            now = start + k * STEP_NS
            for camera in cameras:
                picture = np.full((48, 64, 3), 10 + 15 * k, dtype=np.uint8)
                writer.frame(camera, encode_jpeg(picture, 95), now, k)
            chunk = ChunkRecord(sequence=k, observed_ns=now, step_ns=STEP_NS, tick=20 * k, length=PLAN, joints=JOINTS)
            plan = plan_at(0.1 * k, number) * (np.nan if k in refused else 1.0)
            chunk.targets[: PLAN * JOINTS] = plan.ravel().tolist()
            chunk.cameras, chunk.frames[0] = 1, k
            writer.chunk(chunk)
            for tick in range(20):
                record = TickRecord(tick=20 * k + tick, now_ns=now + tick * TICK_NS, joints=JOINTS, mode=Mode.POLICY)
                seconds = 0.1 * k + 0.005 * tick
                record.position[:JOINTS] = position_at(seconds, number).tolist()
                sent = (position_at(seconds, number) + 0.01) * (np.nan if record.tick in silent else 1.0)
                record.sent[:JOINTS] = sent.tolist()
                writer.tick(record)
        writer.close(Outcome.SUCCESS)
    return path

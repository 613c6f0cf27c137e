"""Rows of episodes that never were, in which everything that can happen to a row happens."""

from __future__ import annotations

from typing import Any

import numpy as np

from learning.network.config import ActorConfig, Convolution
from learning.replay.rows import Rows
from spec.action import ActionSpace
from spec.manifest import ImageInput

STEP_NS = 100_000_000


def replay_config(**changes: Any) -> ActorConfig:
    settings: dict[str, Any] = {
        "joints": ("a", "b"),
        "cameras": {"top": ImageInput(height=4, width=6), "front": ImageInput(height=3, width=3)},
        "cnn": (Convolution(channels=2, kernel=3),),
        "obs_history_length": 3,
        "act_chunk_size": 4,
        "action_space": ActionSpace.JOINT_POSITION,
        "act_dim_model": 8,
        "act_n_heads": 2,
    }
    return ActorConfig(**{**settings, **changes})


def made_rows(seed: int, count: int, config: ActorConfig, planned: bool = False, calm: bool = False) -> Rows:
    """An episode of ``count`` rows, every number its own.

    Args:
        seed: of everything.
        count: rows; the last is a sight alone.
        config: for the shapes.
        planned: with plans, some of them with holes.
        calm: nothing breaks on the way; the end is a success.
    """
    rng = np.random.default_rng(seed)
    rare = 0.0 if calm else 0.15
    acted = rng.random(count) >= rare
    acted[-1] = False
    breaks = ~acted | (rng.random(count) < rare)
    terminated = acted & (rng.random(count) < 0.3 * rare)
    if calm and count > 1:
        terminated[-2] = breaks[-2] = True
    gaps = rng.choice([STEP_NS, STEP_NS, STEP_NS, 2 * STEP_NS, 17 * STEP_NS] if not calm else [STEP_NS], count)
    wobble = rng.integers(-STEP_NS // 3, STEP_NS // 3, count)
    shape = (count, config.action_dim)
    plan = rng.normal(size=(count, config.act_chunk_size, config.action_dim)).astype(np.float32)
    plan[rng.random(count) < 0.3] = np.nan
    plan[rng.random(plan.shape[:2]) < 0.1] = np.nan
    return Rows(
        observed_ns=np.cumsum(gaps) + (0 if calm else wobble) + 10**9,
        segment=np.cumsum(rng.random(count) < rare).astype(np.int64),
        state=rng.normal(size=(count, config.state_dim)).astype(np.float32),
        images={
            name: rng.integers(0, 256, (count, size.height, size.width, 3), dtype=np.uint8)
            for name, size in config.cameras.items()
        },
        acted=acted,
        action=np.where(acted[:, None], rng.normal(size=shape), 0.0).astype(np.float32),
        expert=acted & (np.cumsum(rng.random(count) < 0.3) % 2 == 1),
        plan=plan if planned else None,
        reward=np.where(acted, rng.normal(size=count), 0.0).astype(np.float32),
        terminated=terminated,
        breaks=breaks,
    )

"""Random episodes as rows, with every way a window can end, and batches without a store."""

from __future__ import annotations

import numpy as np
import torch

from learning.network.config import ActorConfig
from learning.replay.batch import Batch, History
from learning.replay.rows import Rows


def random_rows(config: ActorConfig, rng: np.random.Generator, length: int, *, cut: float = 0.15) -> Rows:
    """``length`` rows: some runs break off, some are cut (a person stepped in), the last may end the task."""
    acted = rng.uniform(size=length) > cut / 2
    acted[-1] = False
    breaks = ~acted | (rng.uniform(size=length) < cut)
    terminated = np.zeros(length, dtype=np.bool_)
    if length > 1 and rng.uniform() < 0.5:
        acted[-2] = True
        terminated[-2] = True
    breaks[-1] = True
    breaks |= ~acted
    action = rng.uniform(-1.0, 1.0, (length, config.action_dim)).astype(np.float32)
    return Rows(
        observed_ns=np.arange(length, dtype=np.int64) * round(config.act_step_s * 1e9),
        segment=np.zeros(length, dtype=np.int64),
        state=rng.normal(size=(length, config.state_dim)).astype(np.float32),
        images={},
        acted=acted,
        action=np.where(acted[:, None], action, np.float32(0.0)),
        expert=acted & (rng.uniform(size=length) < 0.4),
        plan=None,
        reward=rng.normal(size=length).astype(np.float32),
        terminated=terminated,
        breaks=breaks,
    )


def random_history(config: ActorConfig, rows: int, generator: torch.Generator) -> History:
    shape = (rows, config.obs_history_length)
    images = {
        name: torch.randint(0, 256, (*shape, size.height, size.width, 3), generator=generator, dtype=torch.uint8)
        for name, size in config.cameras.items()
    }
    mask = torch.rand(shape, generator=generator) > 0.3
    mask[:, -1] = True
    return History(torch.randn(*shape, config.state_dim, generator=generator), images, mask)


def random_batch(config: ActorConfig, steps: int, rows: int = 8, seed: int = 0) -> Batch:
    """Half of the rows are examples, each known for another number of steps."""
    generator = torch.Generator().manual_seed(seed)
    chunk, dim = config.act_chunk_size, config.action_dim
    length = torch.randint(1, steps + 1, (rows,), generator=generator)
    known = torch.arange(chunk) < torch.randint(1, chunk + 1, (rows, 1), generator=generator)
    known[rows // 2 :] = False
    expert = torch.rand(rows, chunk, dim, generator=generator) * 0.3 + 0.55
    return Batch(
        now=random_history(config, rows, generator),
        actions=torch.rand(rows, steps, dim, generator=generator) * 0.3 + 0.55,
        length=length,
        rewards=torch.where(torch.arange(steps) < length[:, None], torch.randn(rows, steps, generator=generator), 0.0),
        bootstrap=torch.rand(rows, generator=generator) > 0.3,
        later=random_history(config, rows, generator),
        expert=torch.where(known[..., None], expert, 0.0),
        expert_mask=known,
    )

"""Batches in the form of the user's own training code: histories as lists of frames, expert chunks beside them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from learning.network.config import ActorConfig
from learning.replay.batch import Batch, History
from learning.sac.agent import Agent
from spec.errors import SpecError

_KEYS = {
    "state",
    "action",
    "reward",
    "next_state",
    "done",
    "expert_action_sequences",
    "expert_action_mask",
    "training_step",
}


def history_of_seed(frames: Sequence[Mapping[str, Tensor]], config: ActorConfig) -> History:
    """A list of frames, oldest first → histories.

    Args:
        frames: each with the vectors and pictures of ``config`` by name, shapes (batch, numbers) and (batch, 3, height,
            width) in [0, 1]. Fewer than H are masked, not made up; of more, the newest count. The list stays as it is.
        config: of the actor.

    Raises:
        SpecError: no frame, or one that lacks something.
    """
    length = config.obs_history_length
    kept = list(frames)[-length:]
    if not kept:
        raise SpecError("batch: state", "[]", "holds no frame")
    states = [torch.cat([_entry(frame, name, 2) for name in config.vectors], dim=-1) for frame in kept]
    pictures = {name: [_pictures(_entry(frame, name, 4)) for frame in kept] for name in config.cameras}
    mask = torch.zeros(len(states[0]), length, dtype=torch.bool)
    mask[:, length - len(kept) :] = True
    return History(_padded(states, length), {name: _padded(images, length) for name, images in pictures.items()}, mask)


def batch_of_seed(batch: Mapping[str, Any], config: ActorConfig) -> Batch:
    """A batch of the seed → ours: windows of one step.

    Args:
        batch: ``state`` and ``next_state``, see :func:`history_of_seed`; ``action`` (batch, A), in units of the action
            space; ``reward`` and ``done`` (batch,), the latter on termination alone; perhaps
            ``expert_action_sequences`` (batch, C, A) with ``expert_action_mask`` (batch, C), each row's own. Shorter
            ones are masked at the end. ``training_step`` is for :meth:`learning.sac.agent.Agent.update`.
        config: of the actor.

    Raises:
        SpecError: something is missing, unknown, or of another shape.
    """
    for name in batch.keys() - _KEYS:
        raise SpecError("batch", name, "no such key", sorted(_KEYS))
    now = history_of_seed(_given(batch, "state"), config)
    rows = len(now)
    action = _shaped(batch, "action", (rows, config.action_dim))
    expert, known = _experts(batch, rows, config)
    return Batch(
        now=now,
        actions=action[:, None],
        length=torch.ones(rows, dtype=torch.int64),
        rewards=_shaped(batch, "reward", (rows,))[:, None],
        bootstrap=_shaped(batch, "done", (rows,)) == 0,
        later=history_of_seed(_given(batch, "next_state"), config),
        expert=expert,
        expert_mask=known,
    )


def actor_losses(agent: Agent, batch: Mapping[str, Any]) -> dict[str, float]:
    """What the actor's loss is for ``state``, ``expert_action_sequences`` and ``training_step``; nothing is learned."""
    config = agent.actor.config
    now = history_of_seed(_given(batch, "state"), config)
    expert, known = _experts(batch, len(now), config)
    facts = agent.mind.actor_losses(now, expert, known, int(_given(batch, "training_step")))
    return {f"loss_{name[:-5]}" if name.endswith("_loss") else name: value for name, value in facts.items()}


def _experts(batch: Mapping[str, Any], rows: int, config: ActorConfig) -> tuple[Tensor, Tensor]:
    """Examples and where they are known, shapes (batch, C, A) and (batch, C)."""
    chunk = config.act_chunk_size
    expert, known = torch.zeros(rows, chunk, config.action_dim), torch.zeros(rows, chunk, dtype=torch.bool)
    given = batch.get("expert_action_sequences")
    if given is None:
        return expert, known
    if given.ndim != 3 or given.shape[0] != rows or given.shape[2] != config.action_dim:
        wanted = f"({rows}, {chunk}, {config.action_dim})"
        raise SpecError(
            "batch: expert_action_sequences", tuple(given.shape), f"shape should be {wanted}, a row a state"
        )
    length = min(chunk, given.shape[1])
    mask = batch.get("expert_action_mask", torch.ones(given.shape[:2], dtype=torch.bool))
    if mask.shape != given.shape[:2]:
        raise SpecError("batch: expert_action_mask", tuple(mask.shape), f"shape should be {tuple(given.shape[:2])}")
    known[:, :length] = mask[:, :length].bool()
    expert[:, :length] = given[:, :length]
    return torch.where(known[..., None], expert, 0.0), known


def _given(batch: Mapping[str, Any], name: str) -> Any:
    if name not in batch:
        raise SpecError("batch", name, "is missing")
    return batch[name]


def _shaped(batch: Mapping[str, Any], name: str, shape: tuple[int, ...]) -> Tensor:
    tensor = torch.as_tensor(_given(batch, name), dtype=torch.float32)
    if tensor.shape != shape:
        raise SpecError(f"batch: {name}", tuple(tensor.shape), f"shape should be {shape}")
    return tensor


def _entry(frame: Mapping[str, Tensor], name: str, dimensions: int) -> Tensor:
    if name not in frame:
        raise SpecError("batch: state", name, "is missing from a frame", sorted(frame))
    if frame[name].ndim != dimensions:
        raise SpecError(f"batch: {name}", tuple(frame[name].shape), f"should have {dimensions} dimensions")
    return frame[name]


def _pictures(image: Tensor) -> Tensor:
    """(batch, 3, height, width) in [0, 1] → uint8 (batch, height, width, 3)."""
    return (image.clamp(0.0, 1.0) * 255.0).round().to(torch.uint8).permute(0, 2, 3, 1)


def _padded(frames: list[Tensor], length: int) -> Tensor:
    """Frames, each (batch, ...) → (batch, H, ...), zeros before the oldest."""
    nothing = [torch.zeros_like(frames[0])] * (length - len(frames))
    return torch.stack([*nothing, *frames], dim=1)

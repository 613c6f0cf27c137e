"""What critics learn: the return of the steps taken, and what the target critics say of the rest."""

from __future__ import annotations

import torch
from torch import Tensor

from learning.sac.settings import Agg


def chunk_target(rewards: Tensor, length: Tensor, bootstrap: Tensor, value: Tensor, gamma: float) -> Tensor:
    """y = Σ_{i<L} γ^i r_i + γ^L · bootstrap · value.

    Args:
        rewards: shape (batch, h); those past ``length`` are not looked at.
        length: L, real steps, shape (batch,).
        bootstrap: False where the task was over within these steps, shape (batch,); ``value`` may then be anything.
        value: of what was seen at step L, shape (batch,).

    Returns:
        y, shape (batch,).
    """
    step = torch.arange(rewards.shape[1], device=rewards.device)
    discounts = gamma ** step.to(rewards.dtype)
    real = step < length[:, None]
    rest = torch.where(bootstrap, gamma ** length.to(rewards.dtype) * value, 0.0)
    return torch.where(real, rewards * discounts, 0.0).sum(-1) + rest


def continued(taken: Tensor, length: Tensor, bootstrap: Tensor, then: Tensor) -> Tensor:
    """The chunks that targets belong to: the steps taken, and after a window that was cut short what the policy would
    do from there, since that is what its target counts on.

    Scored as they are, with the arm made to stand, such windows would teach that standing still is worth as much as
    going on. Where the task is over it does not matter what follows, and ``taken`` stays.

    Args:
        taken: normalised, shape (batch, h, A); what it holds past ``length`` counts where the task is over alone.
        length: L, real steps, shape (batch,).
        bootstrap: False where the task was over within these steps, shape (batch,).
        then: the policy's chunk from step L on, normalised, shape (batch, h, A).

    Returns:
        Shape (batch, h, A).
    """
    after = torch.arange(taken.shape[1], device=taken.device) - length[:, None]
    going_on = then.gather(1, after.clamp_min(0)[..., None].expand_as(taken))
    return torch.where(((after >= 0) & bootstrap[:, None])[..., None], going_on, taken)


def aggregate(kind: Agg, values: Tensor, pair: tuple[int, int]) -> Tensor:
    """Values of the critics, shape (critics, batch) → (batch,). ``pair`` are the critics drawn for this batch."""
    match kind:
        case Agg.MIN:
            return values.amin(0)
        case Agg.MEAN:
            return values.mean(0)
        case Agg.PAIR:
            return torch.minimum(values[pair[0]], values[pair[1]])

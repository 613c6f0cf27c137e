"""Sequence behaviour cloning: every step of the chunk is supervised, padded tails are not."""

from __future__ import annotations

from enum import StrEnum

import torch
from torch import Tensor

from learning.network.gaussian import TanhGaussian

_EDGE = 1e-3
"""Expert actions are clipped this far inside ±1 before they are taken through atanh."""


class CloningLoss(StrEnum):
    MSE = "mse"
    """(tanh μ − a)²; σ is fitted beside it, without pulling at μ."""
    NLL = "nll"
    """−log π(a)."""


def cloning_loss(kind: CloningLoss, predicted: TanhGaussian, expert: Tensor, mask: Tensor) -> Tensor:
    """Mean loss over the steps that are real.

    Args:
        predicted: of every step, shape (batch, C, A), teacher-forced.
        expert: normalised expert actions, shape (batch, C, A).
        mask: True where a step is real, shape (batch, C). Padded steps have no effect and no gradient.
    """
    real = mask.to(predicted.mu.dtype)
    clipped = torch.where(mask[..., None], expert, 0.0).clamp(-1.0 + _EDGE, 1.0 - _EDGE)
    if kind is CloningLoss.NLL:
        per_step = -predicted.log_prob(torch.atanh(clipped))
    else:
        per_step = (predicted.mean_action() - clipped).square().mean(-1)
    return (torch.where(mask, per_step, 0.0)).sum() / real.sum().clamp_min(1.0)


def spread_loss(predicted: TanhGaussian, expert: Tensor, mask: Tensor) -> Tensor:
    """Fits σ to the errors that μ makes, with μ held: MSE cloning then still leaves an honest spread."""
    return cloning_loss(CloningLoss.NLL, TanhGaussian(predicted.mu.detach(), predicted.log_std), expert, mask)

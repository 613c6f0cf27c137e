"""The temperature α: how much entropy is worth."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn


class Temperature(nn.Module):
    """α = exp(log_alpha), steered so that the entropy comes to rest at its target.

    Whoever needs α reads it here, so that it can be neither stale nor forgotten when learning is taken up again.
    """

    def __init__(self, initial: float) -> None:
        super().__init__()
        self.log_alpha = nn.Parameter(torch.tensor(math.log(initial)))

    def forward(self) -> Tensor:
        """α, without gradient."""
        return self.log_alpha.detach().exp()

    def loss(self, log_prob: Tensor, target: float) -> Tensor:
        """−α (log π + target), which has a gradient for α alone; ``log_prob`` has shape (batch,)."""
        return -(self.log_alpha.exp() * (log_prob.detach() + target)).mean()

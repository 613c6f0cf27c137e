"""The tanh-Gaussian of one action: σ is the standard deviation, and probabilities come from the pre-tanh sample."""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
from torch import Tensor, nn

_LOG_2PI = math.log(2.0 * math.pi)


class TanhGaussian(NamedTuple):
    """a = tanh(u), u ~ N(μ, σ²), σ = exp(log_std). Both of shape (..., A), in normalised action units."""

    mu: Tensor
    log_std: Tensor

    def mean_action(self) -> Tensor:
        """tanh(μ): the deterministic action."""
        return torch.tanh(self.mu)

    def pre_tanh(self, noise: Tensor) -> Tensor:
        """u = μ + σ·noise for standard normal ``noise``."""
        return self.mu + self.log_std.exp() * noise

    def log_prob(self, pre_tanh: Tensor) -> Tensor:
        """log π(tanh(u)) summed over the action's numbers, shape (...).

        log N(u; μ, σ) − Σ log(1 − tanh²u), the latter as 2(log 2 − u − softplus(−2u)), finite for any u
        (Haarnoja et al. 2018, appendix C, in the numerically stable form).
        """
        gaussian = -0.5 * (((pre_tanh - self.mu) / self.log_std.exp()) ** 2 + _LOG_2PI) - self.log_std
        squash = 2.0 * (math.log(2.0) - pre_tanh - nn.functional.softplus(-2.0 * pre_tanh))
        return (gaussian - squash).sum(-1)

"""Normalisation as part of the model: raw units go in, action units come out, and no caller can forget it."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from learning.network.config import ActorConfig


class Normalization(nn.Module):
    """Buffers, saved with the weights.

    ``state``: (s − mean) / std. Images: uint8 / 255, then per-channel mean and std. Actions: [low, high] ↔ [−1, 1].
    """

    state_mean: Tensor
    state_std: Tensor
    image_mean: Tensor
    image_std: Tensor
    action_low: Tensor
    action_high: Tensor

    def __init__(self, config: ActorConfig) -> None:
        super().__init__()
        self.register_buffer("state_mean", torch.zeros(config.state_dim))
        self.register_buffer("state_std", torch.ones(config.state_dim))
        self.register_buffer("image_mean", torch.full((3,), 0.5))
        self.register_buffer("image_std", torch.full((3,), 0.25))
        self.register_buffer("action_low", -torch.ones(config.action_dim))
        self.register_buffer("action_high", torch.ones(config.action_dim))

    def state(self, state: Tensor) -> Tensor:
        """Raw [rad, rad/s] → normalised, shape (..., S)."""
        return (state - self.state_mean) / self.state_std

    def image(self, image: Tensor) -> Tensor:
        """uint8 RGB (N, height, width, 3) → normalised float (N, 3, height, width)."""
        scale = 1.0 / (255.0 * self.image_std)
        shifted = image.to(self.image_mean.dtype) * scale - self.image_mean / self.image_std
        return shifted.permute(0, 3, 1, 2)

    def action(self, action: Tensor) -> Tensor:
        """Action units → [−1, 1] where the action lies within its range, shape (..., A)."""
        return 2.0 * (action - self.action_low) / (self.action_high - self.action_low) - 1.0

    def to_action_units(self, action: Tensor) -> Tensor:
        """The inverse of :meth:`action`."""
        return self.action_low + (action + 1.0) * (0.5 * (self.action_high - self.action_low))

    @torch.no_grad()
    def fit(self, state: Tensor, action: Tensor, margin: float = 0.1) -> None:
        """Set the buffers from data: states (N, S) and actions (N, A).

        Spread below 0.01 (a joint that never moves) counts as 0.01, so that encoder noise is not blown up; the
        action range is widened by ``margin`` so that no demonstrated action asks tanh for ±1.
        """
        self.state_mean.copy_(state.mean(0))
        self.state_std.copy_(state.std(0).clamp_min(0.01))
        low, high = action.amin(0), action.amax(0)
        half = (0.5 * (high - low) * (1.0 + margin)).clamp_min(0.01)
        middle = 0.5 * (low + high)
        self.action_low.copy_(middle - half)
        self.action_high.copy_(middle + half)

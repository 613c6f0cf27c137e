"""The critics: what a history and the actions executed after it are worth."""

from __future__ import annotations

from itertools import pairwise

import torch
from torch import Tensor, nn

from learning.network.config import ActorConfig
from learning.network.vision import FrameEncoder


class Ensemble(nn.Module):
    """One layer of several networks side by side: Linear, and LayerNorm and ReLU unless it is the last.

    (critics, batch, inputs) → (critics, batch, outputs), in one batched product.
    """

    def __init__(self, critics: int, inputs: int, outputs: int, *, last: bool = False) -> None:
        super().__init__()
        # As torch.nn.Linear begins; the last one smaller, so that values begin about zero.
        bound = (0.1 if last else 1.0) * inputs**-0.5
        self.weight = nn.Parameter(torch.empty(critics, inputs, outputs).uniform_(-bound, bound))
        self.bias = nn.Parameter(torch.zeros(critics, 1, outputs))
        self.last = last
        if not last:
            self.scale = nn.Parameter(torch.ones(critics, 1, outputs))
            self.shift = nn.Parameter(torch.zeros(critics, 1, outputs))

    def forward(self, x: Tensor) -> Tensor:
        x = torch.baddbmm(self.bias, x, self.weight)
        if self.last:
            return x
        normed = nn.functional.layer_norm(x, x.shape[-1:])
        return torch.relu(torch.addcmul(self.shift, normed, self.scale))


class Critics(nn.Module):
    """Q(history, actions) of several critics that share a frame encoder.

    Args:
        config: of the actor: what frames look like.
        frames: newest frames that are looked at.
        steps: h, actions that are scored.
        critics: how many.
        hidden: width of the hidden layers.
        layers: number of hidden layers.
        own_encoder: False where frames come encoded by the actor.
    """

    frame: FrameEncoder | None

    def __init__(
        self,
        config: ActorConfig,
        *,
        frames: int,
        steps: int,
        critics: int,
        hidden: int,
        layers: int,
        own_encoder: bool = True,
    ) -> None:
        super().__init__()
        self.frame = FrameEncoder(config) if own_encoder else None
        inputs = frames * config.act_dim_model + steps * config.action_dim
        widths = [inputs] + [hidden] * layers
        self.frames, self.critics = frames, critics
        self.layers = nn.Sequential(
            *(Ensemble(critics, a, b) for a, b in pairwise(widths)),
            Ensemble(critics, hidden, 1, last=True),
        )

    def forward(self, features: Tensor, mask: Tensor, actions: Tensor) -> Tensor:
        """Values, shape (critics, batch).

        Args:
            features: of the newest F frames, shape (batch, F, D).
            mask: True where a frame is real, shape (batch, F). Padded ones have no effect and no gradient.
            actions: normalised, shape (batch, h, A).
        """
        seen = torch.where(mask[..., None], features, 0.0)
        x = torch.cat([seen.flatten(1), actions.flatten(1)], dim=-1)
        values: Tensor = self.layers(x.expand(self.critics, -1, -1))
        return values[..., 0]

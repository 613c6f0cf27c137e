"""The per-frame encoder: one feature per instant, so that a history needs only its newest frame encoded."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from learning.config import ActorConfig
from spec.manifest import ImageInput


class SpatialEmbedding(nn.Module):
    """Sums each channel under learned spatial maps: where something is, not only whether.

    Kernel (channels, height, width, maps); output (batch, channels · maps).
    """

    def __init__(self, channels: int, height: int, width: int, maps: int) -> None:
        super().__init__()
        self.kernel = nn.Parameter(torch.empty(channels, height, width, maps))
        nn.init.normal_(self.kernel, std=(height * width) ** -0.5)

    def forward(self, x: Tensor) -> Tensor:
        # One batched product over channels: (C, B, hw) @ (C, hw, maps).
        pooled = x.flatten(2).transpose(0, 1) @ self.kernel.flatten(1, 2)
        return pooled.transpose(0, 1).flatten(1)


class ImageEncoder(nn.Module):
    """Convolutions, spatial embedding, then Linear, LayerNorm, tanh. (batch, 3, h, w) → (batch, latent)."""

    def __init__(self, config: ActorConfig, image: ImageInput) -> None:
        super().__init__()
        stages: list[nn.Module] = []
        channels = 3
        for stage in config.cnn:
            stages += [nn.Conv2d(channels, stage.channels, stage.kernel, stage.stride), nn.ReLU()]
            channels = stage.channels
        self.cnn = nn.Sequential(*stages)
        self.spatial = SpatialEmbedding(channels, *config.feature_map(image), config.spatial_features)
        self.project = _squashed(channels * config.spatial_features, config.latent_dim)

    def forward(self, x: Tensor) -> Tensor:
        result: Tensor = self.project(self.spatial(self.cnn(x)))
        return result


class FrameEncoder(nn.Module):
    """Normalised state and images of one instant → its feature.

    Camera names may hold characters that module names may not; they are kept in manifest order instead.
    """

    def __init__(self, config: ActorConfig) -> None:
        super().__init__()
        self.cameras = tuple(config.cameras)
        self.state = _squashed(config.state_dim, config.latent_dim)
        self.images = nn.ModuleList(ImageEncoder(config, image) for image in config.cameras.values())
        self.project = nn.Linear(config.latent_dim * (1 + len(self.cameras)), config.act_dim_model)

    def forward(self, state: Tensor, images: Mapping[str, Tensor]) -> Tensor:
        """State (N, S), images (N, 3, height, width) by camera → feature (N, D)."""
        parts = [encoder(images[name]) for name, encoder in zip(self.cameras, self.images, strict=True)]
        result: Tensor = self.project(torch.cat([*parts, self.state(state)], dim=-1))
        return result


def _squashed(inputs: int, outputs: int) -> nn.Sequential:
    return nn.Sequential(nn.Linear(inputs, outputs), nn.LayerNorm(outputs), nn.Tanh())

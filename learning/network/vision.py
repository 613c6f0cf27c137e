"""The per-frame encoder: one feature per instant, so that a history needs only its newest frame encoded."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from learning.network.config import RESNET_CHANNELS, ActorConfig, Backbone, Pooling
from learning.network.resnet import ResNet
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


class Keypoints(nn.Module):
    """Mean image coordinates of each channel under a softmax over space; output (batch, 2 · channels), in [−1, 1].

    Each channel is standardised over space first, so that a small bright spot stands out from the first step on;
    how sharply is learned.
    """

    columns: Tensor
    rows: Tensor

    def __init__(self, channels: int, height: int, width: int) -> None:
        super().__init__()
        self.log_sharpness = nn.Parameter(torch.full((channels, 1), 1.0))
        rows, columns = torch.meshgrid(torch.linspace(-1, 1, height), torch.linspace(-1, 1, width), indexing="ij")
        self.register_buffer("rows", rows.flatten(), persistent=False)
        self.register_buffer("columns", columns.flatten(), persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        flat = x.flatten(2)
        centred = flat - flat.mean(-1, keepdim=True)
        spread = centred.square().mean(-1, keepdim=True).add(1e-6).sqrt()
        weights = torch.softmax(self.log_sharpness.exp() * centred / spread, dim=-1)
        return torch.cat([(weights * self.columns).sum(-1), (weights * self.rows).sum(-1)], dim=-1)


class ImageEncoder(nn.Module):
    """Convolutions, pooling, then Linear, LayerNorm, tanh. (batch, 3, h, w) → (batch, latent)."""

    def __init__(self, config: ActorConfig, image: ImageInput) -> None:
        super().__init__()
        if config.backbone is Backbone.CNN:
            self.cnn: nn.Module = _convolutions(config)
            channels = config.cnn[-1].channels
        else:
            depth = 1 if config.backbone is Backbone.RESNET10 else 2
            self.cnn = ResNet((depth,) * len(RESNET_CHANNELS))
            channels = RESNET_CHANNELS[-1]
        if config.pooling is Pooling.KEYPOINTS:
            self.pool: nn.Module = Keypoints(channels, *config.feature_map(image))
            pooled = 2 * channels
        else:
            self.pool = SpatialEmbedding(channels, *config.feature_map(image), config.spatial_features)
            pooled = channels * config.spatial_features
        self.project = _squashed(pooled, config.latent_dim)

    def forward(self, x: Tensor) -> Tensor:
        result: Tensor = self.project(self.pool(self.cnn(x)))
        return result


def _convolutions(config: ActorConfig) -> nn.Sequential:
    stages: list[nn.Module] = []
    channels = 3
    for stage in config.cnn:
        stages += [nn.Conv2d(channels, stage.channels, stage.kernel, stage.stride), nn.ReLU()]
        channels = stage.channels
    if config.pooling is Pooling.KEYPOINTS:
        stages.pop()  # softmax wants the dark as well
    return nn.Sequential(*stages)


class FrameEncoder(nn.Module):
    """Normalised state and images of one instant → its feature: of images, of vectors where they have their own, of
    what else is in the state, joined and projected.

    Camera names may hold characters that module names may not; they are kept in manifest order instead.
    """

    def __init__(self, config: ActorConfig) -> None:
        super().__init__()
        self.cameras = tuple(config.cameras)
        own = tuple(config.vectors.values()) if config.vector_encoders else ()
        self.sizes = (config.state_dim - sum(own), *own)
        if self.sizes[0]:
            self.state = _squashed(self.sizes[0], config.latent_dim)
        if own:
            self.vectors = nn.ModuleList(_squashed(size, config.latent_dim) for size in own)
        self.images = nn.ModuleList(ImageEncoder(config, image) for image in config.cameras.values())
        parts = len(self.cameras) + len(own) + bool(self.sizes[0])
        self.project = nn.Linear(config.latent_dim * parts, config.act_dim_model)

    def forward(self, state: Tensor, images: Mapping[str, Tensor]) -> Tensor:
        """State (N, S), images (N, 3, height, width) by camera → feature (N, D)."""
        parts = [encoder(images[name]) for name, encoder in zip(self.cameras, self.images, strict=True)]
        joints, *vectors = torch.split_with_sizes(state, self.sizes, dim=-1)
        if vectors:
            parts += [encoder(vector) for encoder, vector in zip(self.vectors, vectors, strict=True)]
        if self.sizes[0]:
            parts.append(self.state(joints))
        result: Tensor = self.project(torch.cat(parts, dim=-1))
        return result


def _squashed(inputs: int, outputs: int) -> nn.Sequential:
    return nn.Sequential(nn.Linear(inputs, outputs), nn.LayerNorm(outputs), nn.Tanh())

"""The original's encoder of one frame, written anew: inputs by key in, features joined in feature order out."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

import torch
from torch import Tensor, nn

from export.legacy.anatomy import Anatomy
from learning.network.config import RESNET_CHANNELS, Backbone
from learning.network.resnet import ResNet
from learning.network.vision import SpatialEmbedding

_EPSILON = 1e-8
"""Added to what normalisation divides by."""


class FrameEncoder(nn.Module):
    """Images in feature order, then environment state, then state, each ``latent`` wide."""

    def __init__(self, anatomy: Anatomy) -> None:
        super().__init__()
        self.anatomy = anatomy
        self.input_normalization = InputNormalization(anatomy)
        if anatomy.cameras:
            self.image_encoder = ImageEncoder(anatomy)
            channels, maps = anatomy.channels, anatomy.maps
            self.spatial_embeddings = nn.ModuleDict(
                {camera.key: SpatialEmbedding(channels, *camera.map, maps) for camera in anatomy.cameras}
            )
            self.post_encoders = nn.ModuleDict(
                # The first of the original's four is a dropout, which has no tensors.
                {camera.key: _squashed(nn.Identity(), channels * maps, anatomy.latent) for camera in anatomy.cameras}
            )
        if anatomy.environment:
            self.env_encoder = _squashed(None, anatomy.environment, anatomy.latent)
        if anatomy.state:
            self.state_encoder = _squashed(None, anatomy.state, anatomy.latent)

    def forward(self, observation: Mapping[str, Tensor]) -> Tensor:
        parts: list[Tensor] = []
        for camera in self.anatomy.cameras:
            seen = self.image_encoder(self.input_normalization(camera.key, observation[camera.key]))
            parts.append(self.post_encoders[camera.key](self.spatial_embeddings[camera.key](seen)))
        if self.anatomy.environment:
            key = "observation_environment_state"
            parts.append(self.env_encoder(self.input_normalization(key, observation[key])))
        if self.anatomy.state:
            key = "observation_state"
            parts.append(self.state_encoder(self.input_normalization(key, observation[key])))
        return torch.cat(parts, -1)


class InputNormalization(nn.Module):
    """By mean and std, or by min and max to [−1, 1]; what has no buffers passes as it is."""

    def __init__(self, anatomy: Anatomy) -> None:
        super().__init__()
        for key, (names, shape) in anatomy.statistics.items():
            for name in names:
                self.register_buffer(f"{key}_{name}", torch.zeros(shape))

    def forward(self, key: str, x: Tensor) -> Tensor:
        if (spread := self.spread(key)) is None:
            return x
        x = (x - spread.low) / spread.width
        return x * 2.0 - 1.0 if spread.both_signs else x

    def spread(self, key: str) -> Spread | None:
        """None: ``key`` is not normalised."""
        buffers = dict(self.named_buffers())
        if f"{key}_mean" in buffers:
            return Spread(buffers[f"{key}_mean"], buffers[f"{key}_std"] + _EPSILON, both_signs=False)
        if f"{key}_min" in buffers:
            low, high = buffers[f"{key}_min"], buffers[f"{key}_max"]
            return Spread(low, high - low + _EPSILON, both_signs=True)
        return None


class Spread(NamedTuple):
    """(x − low) / width, and where it is to have ``both_signs``, twice that minus one. The steps stay apart: where a
    number never varied, width is ε, and the middle of its range is lost in rounding."""

    low: Tensor
    width: Tensor
    both_signs: bool


class ImageEncoder(nn.Module):
    """One for all cameras."""

    def __init__(self, anatomy: Anatomy) -> None:
        super().__init__()
        if anatomy.backbone is Backbone.CNN:
            layers: list[nn.Module] = []
            channels = 3
            for stage in anatomy.cnn:
                layers += [nn.Conv2d(channels, stage.channels, stage.kernel, stage.stride), nn.ReLU()]
                channels = stage.channels
            self.image_enc_layers: nn.Module = nn.Sequential(*layers)
        else:
            self.image_enc_layers = ResNet((1,) * len(RESNET_CHANNELS), same=anatomy.same_padding)

    def forward(self, x: Tensor) -> Tensor:
        result: Tensor = self.image_enc_layers(x)
        return result


def _squashed(first: nn.Module | None, inputs: int, outputs: int) -> nn.Sequential:
    layers: list[nn.Module] = [nn.Linear(inputs, outputs), nn.LayerNorm(outputs), nn.Tanh()]
    return nn.Sequential(*([first] if first is not None else []), *layers)

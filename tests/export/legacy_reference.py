"""The original's actor as it was: stock torch transformer layers, sequence first, torch.distributions.

Written apart from :mod:`export.legacy.original` and as plainly as can be; tensors load by their own names.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.distributions import MultivariateNormal, TransformedDistribution
from torch.distributions.transforms import TanhTransform

from export.legacy.fixture import Size

Observation = Mapping[str, Tensor]


class Said(NamedTuple):
    actions: Tensor
    log_prob: Tensor
    means: Tensor


class Same(nn.Module):
    """Convolution that pads as it needs, the odd row and column at the end; under a name of its own."""

    def __init__(self, inputs: int, outputs: int, kernel: int, stride: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(inputs, outputs, kernel, stride, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        (kernel, _), (stride, _) = self.conv.kernel_size, self.conv.stride
        pads: list[int] = []
        for side in (x.shape[3], x.shape[2]):
            total = max(0, (math.ceil(side / stride) - 1) * stride + kernel - side)
            pads += [total // 2, total - total // 2]
        return self.conv(nn.functional.pad(x, pads))


class Grouped(nn.Module):
    def __init__(self, channels: int) -> None:
        super().__init__()
        self.group_norm = nn.GroupNorm(4, channels)

    def forward(self, x: Tensor) -> Tensor:
        return self.group_norm(x)


class Stage(nn.Module):
    def __init__(self, inputs: int, outputs: int, stride: int) -> None:
        super().__init__()
        self.conv1, self.norm1 = Same(inputs, outputs, 3, stride), Grouped(outputs)
        self.conv2, self.norm2 = Same(outputs, outputs, 3, 1), Grouped(outputs)
        if inputs != outputs:
            self.shortcut = nn.Sequential(Same(inputs, outputs, 1, stride), Grouped(outputs))

    def forward(self, x: Tensor) -> Tensor:
        y = self.norm2(self.conv2(torch.relu(self.norm1(self.conv1(x)))))
        return torch.relu(y + (self.shortcut(x) if hasattr(self, "shortcut") else x))


class ResNet10(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.embedder = nn.Sequential(nn.Conv2d(3, 64, 7, 2, 3, bias=False), Grouped(64))
        self.encoder = nn.Module()
        widths = (64, 64, 128, 256, 512)
        stages = [Stage(a, b, 1 if a == b else 2) for a, b in itertools.pairwise(widths)]
        self.encoder.stages = nn.ModuleList(stages)

    def forward(self, x: Tensor) -> Tensor:
        x = nn.functional.pad(torch.relu(self.embedder(x)), (0, 1, 0, 1), value=-math.inf)  # of even sides
        x = nn.functional.max_pool2d(x, 3, 2)
        for stage in self.encoder.stages:
            x = stage(x)
        return x


class Reference(nn.Module):
    """Of a fixture's size; load it with :func:`loaded`."""

    def __init__(self, size: Size) -> None:
        super().__init__()
        self.size = size
        dim, heads = size.dim, size.heads
        layer = {
            "dim_feedforward": size.feedforward,
            "dropout": 0.0,
            "activation": size.activation,
            "norm_first": size.pre_norm,
            "batch_first": False,
        }
        self.transformer_encoder = nn.TransformerEncoder(
            nn.TransformerEncoderLayer(dim, heads, **layer), size.encoder_layers, enable_nested_tensor=False
        )
        self.transformer_decoder = nn.TransformerDecoder(
            nn.TransformerDecoderLayer(dim, heads, **layer), size.decoder_layers
        )
        self.action_mean_head, self.action_std_head = nn.Linear(dim, size.action_dim), nn.Linear(dim, size.action_dim)
        self.action_start_token = nn.Parameter(torch.zeros(1, 1, dim))
        self.register_buffer("obs_pos_embed", torch.zeros(size.history, 1, dim))
        self.register_buffer("action_pos_embed", torch.zeros(size.chunk, 1, dim))
        parts = len(size.cameras) + bool(size.environment) + bool(size.state)
        self.obs_to_transformer_proj = nn.Linear(parts * size.latent, dim)
        self.squash, self.bounds = True, (-5.0, 2.0)
        self.tensors: dict[str, Tensor] = {}
        self.images = ResNet10() if size.resnet else None

    def encoded(self, observation: Observation) -> Tensor:
        """The frame encoder: images in order, environment state, state."""
        parts: list[Tensor] = []
        for name in self.size.cameras:
            image = self._normalised(f"observation_images_{name}", observation[f"observation.images.{name}"])
            seen = self.images(image) if self.images is not None else self._convolved(image)
            kernel = self.tensors[f"encoder.spatial_embeddings.observation_images_{name}.kernel"]
            pooled = (seen[..., None] * kernel[None]).sum((2, 3)).reshape(len(seen), -1)
            parts.append(self._squashed(pooled, f"encoder.post_encoders.observation_images_{name}", 1))
        for encoder, key in (("env_encoder", "environment_state"), ("state_encoder", "state")):
            if f"encoder.{encoder}.0.weight" in self.tensors:
                numbers = self._normalised(f"observation_{key}", observation[f"observation.{key}"])
                parts.append(self._squashed(numbers, f"encoder.{encoder}", 0))
        return torch.cat(parts, -1)

    def hidden(self, observations: Sequence[Observation], *, training: bool) -> Tensor:
        """(C, batch, dim)."""
        observations = list(observations)
        while len(observations) < self.size.history:
            observations.insert(0, observations[0])
        x = self.obs_to_transformer_proj(torch.stack([self.encoded(o) for o in observations]))
        memory = self.transformer_encoder(x + self.obs_pos_embed)
        chunk, batch = self.size.chunk, x.shape[1]
        if training:
            tokens = self.action_start_token.expand(chunk, batch, -1) + self.action_pos_embed
            mask = nn.Transformer.generate_square_subsequent_mask(chunk)
            return self.transformer_decoder(tokens, memory, tgt_mask=mask)
        outputs: list[Tensor] = []
        token = self.action_start_token.expand(1, batch, -1)
        for step in range(chunk):
            token = self.transformer_decoder(token + self.action_pos_embed[step : step + 1], memory)
            outputs.append(token)
        return torch.cat(outputs)

    @torch.no_grad()
    def forward(self, observations: Sequence[Observation], *, training: bool = False) -> Said:
        """Samples from torch's own seed."""
        hidden = self.hidden(observations, training=training)
        means = self.action_mean_head(hidden).transpose(0, 1)
        stds = self.action_std_head(hidden).transpose(0, 1).clamp(*self.bounds).exp().clamp(1e-6, 10.0)
        actions, log_probs = [], []
        for step in range(self.size.chunk):
            # What is called a scale there is given as a covariance.
            base = MultivariateNormal(means[:, step], torch.diag_embed(stds[:, step]))
            drawn = TransformedDistribution(base, [TanhTransform(cache_size=1)]) if self.squash else base
            actions.append(action := drawn.rsample())
            log_probs.append(drawn.log_prob(action))
        return Said(torch.stack(actions, 1), torch.stack(log_probs, 1).sum(1), means)

    def _normalised(self, key: str, x: Tensor) -> Tensor:
        at = {n: self.tensors.get(f"encoder.input_normalization.{key}_{n}") for n in ("mean", "std", "min", "max")}
        if at["mean"] is not None:
            return (x - at["mean"]) / (at["std"] + 1e-8)
        if at["min"] is not None:
            return (x - at["min"]) / (at["max"] - at["min"] + 1e-8) * 2 - 1
        return x

    def _convolved(self, x: Tensor) -> Tensor:
        for number in (0, 2, 4, 6):
            name = f"encoder.image_encoder.image_enc_layers.{number}"
            x = torch.relu(nn.functional.conv2d(x, self.tensors[f"{name}.weight"], self.tensors[f"{name}.bias"], 2))
        return x

    def _squashed(self, x: Tensor, name: str, first: int) -> Tensor:
        weight, bias = (self.tensors[f"{name}.{first}.{kind}"] for kind in ("weight", "bias"))
        x = nn.functional.linear(x, weight, bias)
        gain, shift = (self.tensors[f"{name}.{first + 1}.{kind}"] for kind in ("weight", "bias"))
        return torch.tanh(nn.functional.layer_norm(x, x.shape[-1:], gain, shift))


def loaded(size: Size, tensors: Mapping[str, Tensor]) -> Reference:
    """The reference with ``tensors``; those of the transformer must have torch's very names."""
    reference = Reference(size).eval()
    reference.tensors = dict(tensors)
    core = {name: tensor for name, tensor in tensors.items() if not name.startswith("encoder.")}
    layers = "encoder.image_encoder.image_enc_layers."
    if reference.images is not None:
        core |= {name.replace(layers, "images."): t for name, t in tensors.items() if name.startswith(layers)}
    reference.load_state_dict(core)
    return reference


def observed(size: Size, batch: int, frames: int, seed: int = 0) -> list[dict[str, Tensor]]:
    """Random observations, images as the original takes them: [0, 1], channels first; of pixels with 8 bits."""
    generator = torch.Generator().manual_seed(seed)
    history: list[dict[str, Tensor]] = []
    for _ in range(frames):
        observation: dict[str, Tensor] = {}
        for name in size.cameras:
            pixels = torch.randint(0, 256, (batch, 3, size.image, size.image), generator=generator)
            observation[f"observation.images.{name}"] = pixels / 255
        for key, numbers in (("environment_state", size.environment), ("state", size.state)):
            if numbers:
                numbers_seen = torch.randn(batch, numbers, generator=generator)
                numbers_seen[:, -1] = -1.0  # where fixtures say it never varied
                observation[f"observation.{key}"] = numbers_seen
        history.append(observation)
    return history

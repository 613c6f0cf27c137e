"""The original's sequence actor, written anew: what it computes, number for number. It is never trained here.

Stock torch transformer layers without a final norm, sinusoidal positions, and two decoders that agree at step 0 only:

``eval``   step i sees the hidden output of step i − 1 plus position i, and attends to itself alone
``train``  every step sees the start token plus its position, and under a causal mask the steps before it

What the log-std head says passes through exp and is then used as a *variance*, so the standard deviation is
exp(log_std / 2). Tensors have the original's names, but for the image encoder (:mod:`learning.network.resnet`).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping

import torch
from torch import Tensor, nn

from export.legacy.anatomy import Anatomy
from export.legacy.frames import FrameEncoder
from learning.network.config import Activation
from learning.network.gaussian import TanhGaussian
from learning.network.transformer import KeyValue, causal_bias


class Original(nn.Module):
    """Frames as features, histories of features as chunks. Shapes are batch first; the original's are not."""

    obs_pos_embed: Tensor
    action_pos_embed: Tensor

    def __init__(self, anatomy: Anatomy) -> None:
        super().__init__()
        self.anatomy = anatomy
        dim = anatomy.dim
        self.encoder = FrameEncoder(anatomy)
        self.obs_to_transformer_proj = nn.Linear(anatomy.parts * anatomy.latent, dim)
        self.transformer_encoder = Stack([EncoderLayer(anatomy) for _ in range(anatomy.encoder_layers)])
        self.transformer_decoder = Stack([DecoderLayer(anatomy) for _ in range(anatomy.decoder_layers)])
        self.action_mean_head = nn.Linear(dim, anatomy.action_dim)
        self.action_std_head = nn.Linear(dim, anatomy.action_dim)
        self.action_start_token = nn.Parameter(torch.zeros(1, 1, dim))
        self.register_buffer("obs_pos_embed", torch.zeros(anatomy.history, 1, dim))
        self.register_buffer("action_pos_embed", torch.zeros(anatomy.chunk, 1, dim))

    def encode(self, observation: Mapping[str, Tensor]) -> Tensor:
        """One instant's inputs by key (images in [0, 1], (N, 3, height, width); vectors (N, numbers)) → (N, dim)."""
        feature: Tensor = self.obs_to_transformer_proj(self.encoder(observation))
        return feature

    def remember(self, features: Tensor) -> Tensor:
        """Features of a whole history, oldest first, (batch, H, dim) → what the decoder attends to, likewise."""
        x = features + self.obs_pos_embed[:, 0]
        for layer in self.transformer_encoder.layers:
            x = layer(x)
        return x

    def eval_hidden(self, memory: Tensor) -> Tensor:
        """The decoder of ``eval``: (batch, H, dim) → (batch, C, dim)."""
        layers = self.transformer_decoder.decoders()
        seen = [layer.multihead_attn.remember(memory) for layer in layers]
        x = self.action_start_token.expand(len(memory), 1, -1)
        steps: list[Tensor] = []
        for step in range(self.anatomy.chunk):
            x = x + self.action_pos_embed[step]
            for layer, past in zip(layers, seen, strict=True):
                x = layer(x, None, past)
            steps.append(x)
        return torch.cat(steps, 1)

    def train_hidden(self, memory: Tensor) -> Tensor:
        """The decoder of ``train``, without dropout."""
        x = (self.action_start_token + self.action_pos_embed.transpose(0, 1)).expand(len(memory), -1, -1)
        bias = causal_bias(self.anatomy.chunk, 0, x)
        for layer in self.transformer_decoder.decoders():
            x = layer(x, bias, layer.multihead_attn.remember(memory))
        return x

    def heads(self, hidden: Tensor) -> TanhGaussian:
        """Hidden steps → their distributions; ``log_std`` is that of the standard deviation in effect."""
        low, high = self.anatomy.log_std
        return TanhGaussian(self.action_mean_head(hidden), (0.5 * self.action_std_head(hidden)).clamp(low, high))

    def forward(self, features: Tensor, noise: Tensor) -> Tensor:
        """What the original executes, as it samples it: (batch, H, dim) and standard normal (batch, C, A) → (batch, C,
        A); the mean chunk for zeros."""
        pre_tanh = self.heads(self.eval_hidden(self.remember(features))).pre_tanh(noise)
        return torch.tanh(pre_tanh) if self.anatomy.squash else pre_tanh


def drawn_noise(batch: int, chunk: int, action_dim: int, generator: torch.Generator | None = None) -> Tensor:
    """Standard normal (batch, C, A) in the order in which the original draws it from a seed: step by step."""
    return torch.stack([torch.randn(batch, action_dim, generator=generator) for _ in range(chunk)], 1)


def padded(features: Tensor, mask: Tensor) -> Tensor:
    """Slots of frames that are not real take the oldest real frame; (batch, H, dim), (batch, H) → (batch, H, dim)."""
    oldest = mask.to(torch.int64).argmax(1)
    filling = features[torch.arange(len(features), device=features.device), oldest]
    return torch.where(mask[..., None], features, filling[:, None])


class Attention(nn.Module):
    """Multi-head attention under torch's names: query, key and value weights in one tensor."""

    def __init__(self, anatomy: Anatomy) -> None:
        super().__init__()
        self.heads, dim = anatomy.heads, anatomy.dim
        self.in_proj_weight = nn.Parameter(torch.zeros(3 * dim, dim))
        self.in_proj_bias = nn.Parameter(torch.zeros(3 * dim))
        self.out_proj = nn.Linear(dim, dim)

    def remember(self, x: Tensor) -> KeyValue:
        """Tokens (batch, tokens, dim) → their keys and values."""
        dim = x.shape[-1]
        both = nn.functional.linear(x, self.in_proj_weight[dim:], self.in_proj_bias[dim:])
        key, value = both.chunk(2, -1)
        return KeyValue(self._split(key), self._split(value))

    def forward(self, x: Tensor, seen: KeyValue, bias: Tensor | None) -> Tensor:
        if seen.key.shape[2] == 1:  # softmax over one key is 1
            mixed = seen.value.expand(-1, -1, x.shape[1], -1)
        else:
            dim = x.shape[-1]
            query = self._split(nn.functional.linear(x, self.in_proj_weight[:dim], self.in_proj_bias[:dim]))
            scores = query @ seen.key.transpose(-1, -2) / math.sqrt(dim // self.heads)
            mixed = torch.softmax(scores if bias is None else scores + bias, -1) @ seen.value
        result: Tensor = self.out_proj(mixed.transpose(1, 2).flatten(2))
        return result

    def _split(self, x: Tensor) -> Tensor:
        return x.reshape(*x.shape[:2], self.heads, x.shape[2] // self.heads).transpose(1, 2)


class Layer(nn.Module):
    """What encoder and decoder layers share: feed-forward, and where the norms stand."""

    def __init__(self, anatomy: Anatomy) -> None:
        super().__init__()
        self.pre_norm = anatomy.pre_norm
        self.activation = torch.relu if anatomy.activation is Activation.RELU else nn.functional.gelu
        self.self_attn = Attention(anatomy)
        self.linear1 = nn.Linear(anatomy.dim, anatomy.feedforward)
        self.linear2 = nn.Linear(anatomy.feedforward, anatomy.dim)
        self.norm1, self.norm2 = nn.LayerNorm(anatomy.dim), nn.LayerNorm(anatomy.dim)

    def feed(self, x: Tensor) -> Tensor:
        result: Tensor = self.linear2(self.activation(self.linear1(x)))
        return result

    def residual(self, x: Tensor, norm: nn.Module, inner: Callable[[Tensor], Tensor]) -> Tensor:
        if self.pre_norm:
            return x + inner(norm(x))
        result: Tensor = norm(x + inner(x))
        return result


class EncoderLayer(Layer):
    def forward(self, x: Tensor) -> Tensor:
        x = self.residual(x, self.norm1, lambda y: self.self_attn(y, self.self_attn.remember(y), None))
        return self.residual(x, self.norm2, self.feed)


class DecoderLayer(Layer):
    def __init__(self, anatomy: Anatomy) -> None:
        super().__init__(anatomy)
        self.multihead_attn = Attention(anatomy)
        self.norm3 = nn.LayerNorm(anatomy.dim)

    def forward(self, x: Tensor, bias: Tensor | None, memory: KeyValue) -> Tensor:
        x = self.residual(x, self.norm1, lambda y: self.self_attn(y, self.self_attn.remember(y), bias))
        x = self.residual(x, self.norm2, lambda y: self.multihead_attn(y, memory, None))
        return self.residual(x, self.norm3, self.feed)


class Stack(nn.Module):
    """Layers under the name ``layers``."""

    def __init__(self, layers: list[EncoderLayer] | list[DecoderLayer]) -> None:
        super().__init__()
        self.layers = nn.ModuleList(layers)

    def decoders(self) -> list[DecoderLayer]:
        return [layer for layer in self.layers if isinstance(layer, DecoderLayer)]

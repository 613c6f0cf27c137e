"""Attention layers whose keys and values can be kept: the same code runs whole sequences and single steps."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor, nn

from learning.network.config import Activation, ActorConfig

MASKED = -1e9
"""Added to the score of a key that must not be seen; exp underflows to exactly zero, and no row becomes NaN."""

_ACTIVATIONS: dict[Activation, Callable[[Tensor], Tensor]] = {
    Activation.RELU: torch.relu,
    Activation.GELU: nn.functional.gelu,
}


class KeyValue(NamedTuple):
    """Keys and values of one attention, each of shape (batch, heads, tokens, dim / heads)."""

    key: Tensor
    value: Tensor


class Attention(nn.Module):
    """Multi-head attention, queries apart from keys and values so that the latter can be computed once and kept."""

    def __init__(self, config: ActorConfig) -> None:
        super().__init__()
        self.heads = config.act_n_heads
        dim = config.act_dim_model
        self.query = nn.Linear(dim, dim)
        self.key_value = nn.Linear(dim, 2 * dim)
        self.out = nn.Linear(dim, dim)
        self.dropout = nn.Dropout(config.act_dropout)

    def remember(self, x: Tensor) -> KeyValue:
        """Tokens, shape (batch, tokens, dim) → their keys and values."""
        key, value = self.key_value(x).chunk(2, dim=-1)
        return KeyValue(self._split(key), self._split(value))

    def forward(self, x: Tensor, seen: KeyValue, bias: Tensor | None) -> Tensor:
        """Attend from ``x``, shape (batch, n, dim), to ``seen``; ``bias`` broadcasts to (batch, heads, n, tokens)."""
        if seen.key.shape[2] == 1 and bias is None:
            # Softmax over one key is 1 whatever the query: the value passes through (exactly, in float as on paper).
            mixed = seen.value.expand(-1, -1, x.shape[1], -1)
        else:
            query = self._split(self.query(x))
            scores = query @ seen.key.transpose(-1, -2) / math.sqrt(query.shape[-1])
            weights = torch.softmax(scores if bias is None else scores + bias, dim=-1)
            mixed = self.dropout(weights) @ seen.value
        result: Tensor = self.out(mixed.transpose(1, 2).flatten(2))
        return result

    def _split(self, x: Tensor) -> Tensor:
        return x.reshape(*x.shape[:2], self.heads, x.shape[2] // self.heads).transpose(1, 2)


class Residual(nn.Module):
    """x + f(x) with layer normalisation before f (pre-norm) or after the sum (post-norm)."""

    def __init__(self, config: ActorConfig) -> None:
        super().__init__()
        self.pre_norm = config.act_pre_norm
        self.norm = nn.LayerNorm(config.act_dim_model)
        self.dropout = nn.Dropout(config.act_dropout)

    def forward(self, x: Tensor, inner: Callable[[Tensor], Tensor]) -> Tensor:
        if self.pre_norm:
            inside: Tensor = self.dropout(inner(self.norm(x)))
            return x + inside
        after: Tensor = self.norm(x + self.dropout(inner(x)))
        return after


class FeedForward(nn.Module):
    def __init__(self, config: ActorConfig) -> None:
        super().__init__()
        self.widen = nn.Linear(config.act_dim_model, config.act_dim_feedforward)
        self.narrow = nn.Linear(config.act_dim_feedforward, config.act_dim_model)
        self.activation = _ACTIVATIONS[config.act_activation]
        self.dropout = nn.Dropout(config.act_dropout)

    def forward(self, x: Tensor) -> Tensor:
        result: Tensor = self.narrow(self.dropout(self.activation(self.widen(x))))
        return result


class EncoderLayer(nn.Module):
    """Self-attention over the history, then feed-forward."""

    def __init__(self, config: ActorConfig) -> None:
        super().__init__()
        self.attention, self.attention_residual = Attention(config), Residual(config)
        self.feedforward, self.feedforward_residual = FeedForward(config), Residual(config)

    def forward(self, x: Tensor, bias: Tensor) -> Tensor:
        """Tokens, shape (batch, H, dim); ``bias`` hides padded frames."""
        x = self.attention_residual(x, lambda y: self.attention(y, self.attention.remember(y), bias))
        result: Tensor = self.feedforward_residual(x, self.feedforward)
        return result


class DecoderLayer(nn.Module):
    """Self-attention over the chunk so far, cross-attention to the history, feed-forward."""

    def __init__(self, config: ActorConfig) -> None:
        super().__init__()
        self.attention, self.attention_residual = Attention(config), Residual(config)
        self.cross, self.cross_residual = Attention(config), Residual(config)
        self.feedforward, self.feedforward_residual = FeedForward(config), Residual(config)

    def forward(
        self, x: Tensor, past: KeyValue | None, bias: Tensor | None, memory: KeyValue, memory_bias: Tensor | None
    ) -> tuple[Tensor, KeyValue]:
        """New tokens ``x``, shape (batch, n, dim), after the ``past`` ones → their output, and the lengthened past."""
        kept: list[KeyValue] = []

        def attend(y: Tensor) -> Tensor:
            new = self.attention.remember(y)
            if past is not None:
                new = KeyValue(torch.cat([past.key, new.key], 2), torch.cat([past.value, new.value], 2))
            kept.append(new)
            result: Tensor = self.attention(y, new, bias)
            return result

        x = self.attention_residual(x, attend)
        x = self.cross_residual(x, lambda y: self.cross(y, memory, memory_bias))
        x = self.feedforward_residual(x, self.feedforward)
        return x, kept[0]


def causal_bias(new: int, past: int, like: Tensor) -> Tensor | None:
    """Bias of shape (new, past + new) under which token i of the new ones sees the past and itself, none after it."""
    if new == 1:
        return None
    later = torch.ones(new, past + new, dtype=torch.bool, device=like.device).triu(past + 1)
    return torch.zeros_like(later, dtype=like.dtype).masked_fill(later, MASKED)

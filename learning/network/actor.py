"""The sequence actor: a history of frames in, a chunk of actions out, each a tanh-Gaussian."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

import torch
from torch import Tensor, nn

from learning.network.config import ActorConfig, DecoderKind
from learning.network.gaussian import TanhGaussian
from learning.network.normalization import Normalization
from learning.network.transformer import MASKED, DecoderLayer, EncoderLayer, KeyValue, causal_bias
from learning.network.vision import FrameEncoder


class Memory(NamedTuple):
    """The history as the decoder sees it: cross-attention keys and values of every layer, computed once."""

    layers: tuple[KeyValue, ...]
    bias: Tensor
    """Hides padded frames; shape (batch, 1, 1, H)."""


class Sampled(NamedTuple):
    """A chunk, or its first steps, as it was drawn. Shapes (batch, C, A) but for ``log_prob``."""

    actions: Tensor
    """Normalised, in [−1, 1]."""
    pre_tanh: Tensor
    distribution: TanhGaussian

    @property
    def log_prob(self) -> Tensor:
        """Joint log-probability of the chunk, the sum over its steps: shape (batch,). Normalised action units."""
        return self.distribution.log_prob(self.pre_tanh).sum(-1)


class Decision(NamedTuple):
    """What :meth:`SequenceActor.sample` returns: the seed's triple."""

    actions: Tensor
    """Drawn, in action units: (batch, C, A), or the first, (batch, A)."""
    log_prob: Tensor
    """Joint log-probability of these actions, normalised units, shape (batch,)."""
    means: Tensor
    """The deterministic action of each step, tanh(μ) in action units, shaped as ``actions``."""


class SequenceActor(nn.Module):
    """See :class:`learning.network.config.ActorConfig` for the sizes. Raw units in, action units out.

    Training and inference share one decoder: :meth:`distribution` runs all steps under a causal mask, given the
    actions (teacher forcing), :meth:`decode` one step after the other with kept keys and values.
    """

    def __init__(self, config: ActorConfig) -> None:
        super().__init__()
        self.config = config
        dim = config.act_dim_model
        normed = config.act_pre_norm and config.act_end_norm
        self.normalization = Normalization(config)
        self.frame = FrameEncoder(config)
        self.history_position = nn.Parameter(torch.randn(config.obs_history_length, dim) * 0.02)
        self.encoder = nn.ModuleList(EncoderLayer(config) for _ in range(config.act_n_encoder_layers))
        self.encoder_norm = nn.LayerNorm(dim) if normed else nn.Identity()
        self.decoder = nn.ModuleList(DecoderLayer(config) for _ in range(config.act_n_decoder_layers))
        self.decoder_norm = nn.LayerNorm(dim) if normed else nn.Identity()
        self.action_position = nn.Parameter(torch.randn(config.act_chunk_size, dim) * 0.02)
        if config.decoder is DecoderKind.AUTOREGRESSIVE:
            self.start = nn.Parameter(torch.randn(dim) * 0.02)
            self.action_embedding = nn.Linear(config.action_dim, dim)
        self.mean_head = nn.Linear(dim, config.action_dim)
        self.log_std_head = nn.Linear(dim, config.action_dim)
        nn.init.constant_(self.log_std_head.bias, -2.0)

    def encode(self, state: Tensor, images: Mapping[str, Tensor]) -> Tensor:
        """One feature per frame.

        Args:
            state: [rad, rad/s], shape (N, S).
            images: by camera, uint8 RGB, shape (N, height, width, 3).

        Returns:
            Features, shape (N, D).
        """
        normalised = {name: self.normalization.image(image) for name, image in images.items()}
        feature: Tensor = self.frame(self.normalization.state(state), normalised)
        return feature

    def encode_history(self, state: Tensor, images: Mapping[str, Tensor]) -> Tensor:
        """:meth:`encode` for a batch of histories, shapes (batch, H, ...) → (batch, H, D)."""
        flat = self.encode(state.flatten(0, 1), {name: image.flatten(0, 1) for name, image in images.items()})
        return flat.reshape(*state.shape[:2], -1)

    def remember(self, features: Tensor, mask: Tensor) -> Memory:
        """Features (batch, H, D), oldest first, and mask (batch, H), True where a frame is real → memory."""
        # Padded frames are cut off here, whatever they hold: no value and no gradient of theirs passes.
        x = torch.where(mask[..., None], features, 0.0) + self.history_position
        bias = torch.where(mask[:, None, None, :], 0.0, MASKED).to(x.dtype)
        for layer in self.encoder:
            x = layer(x, bias)
        x = self.encoder_norm(x)
        return Memory(tuple(layer.cross.remember(x) for layer in self._decoder_layers()), bias)

    def distribution(self, memory: Memory, actions: Tensor) -> TanhGaussian:
        """Distribution of every step given the actions before it (teacher forcing).

        Args:
            memory: of the history.
            actions: normalised actions, shape (batch, C, A). Step k never sees actions k and later; ``parallel``
                sees none.
        """
        return self.heads(self.hidden(memory, actions))

    def hidden(self, memory: Memory, actions: Tensor) -> Tensor:
        """What :meth:`heads` turn into the distribution of every step, shape (batch, C, D)."""
        hidden, _ = self._run(memory, self._tokens(actions[:, :-1], 0, memory), None)
        return hidden

    def decode(self, memory: Memory, noise: Tensor | None = None, steps: int | None = None) -> Sampled:
        """Decode a chunk, feeding each action back: step k sees tanh of what was drawn before it.

        Args:
            noise: standard normal, shape (batch, C, A); None gives the deterministic chunk.
            steps: decode these first ones alone; None decodes all C.
        """
        length = self.config.act_chunk_size if steps is None else steps
        if self.config.decoder is DecoderKind.PARALLEL:
            hidden, _ = self._run(memory, self._tokens(None, 0, memory), None)
            return self.drawn(hidden, noise, length)
        decided: list[TanhGaussian] = []
        past: list[KeyValue] | None = None
        previous: Tensor | None = None
        for step in range(length):
            hidden, past = self._run(memory, self._tokens(previous, step, memory), past)
            decided.append(self.heads(hidden))
            previous = _drawn(decided[-1], None if noise is None else noise[:, step : step + 1]).actions
        distribution = TanhGaussian(torch.cat([s.mu for s in decided], 1), torch.cat([s.log_std for s in decided], 1))
        return _drawn(distribution, None if noise is None else noise[:, :length])

    def drawn(self, hidden: Tensor, noise: Tensor | None, steps: int) -> Sampled:
        """The first ``steps`` of a chunk of ``parallel``, all of whose steps stand in ``hidden``, (batch, C, D)."""
        return _drawn(self.heads(hidden[:, :steps]), None if noise is None else noise[:, :steps])

    def forward(
        self,
        state: Tensor,
        images: Mapping[str, Tensor],
        mask: Tensor,
        noise: Tensor | None = None,
        *,
        return_sequence: bool = True,
    ) -> Tensor:
        """Observation history → actions in action units: (batch, C, A), or the first, (batch, A).

        Shapes: state (batch, H, S), images (batch, H, height, width, 3), mask (batch, H). Deterministic without noise.
        """
        memory = self.remember(self.encode_history(state, images), mask)
        actions = self.normalization.to_action_units(self.decode(memory, noise).actions)
        return actions if return_sequence else actions[:, 0]

    def sample(
        self,
        state: Tensor,
        images: Mapping[str, Tensor],
        mask: Tensor,
        noise: Tensor | None = None,
        *,
        return_sequence: bool = True,
    ) -> Decision:
        """Draw a chunk, or its first action for immediate execution, with its log-probability and its means.

        Shapes as in :meth:`forward`. Without ``noise``, shape (batch, C, A), it is drawn here.
        """
        if noise is None:
            shape = (len(mask), self.config.act_chunk_size, self.config.action_dim)
            noise = torch.randn(shape, dtype=state.dtype, device=state.device)
        memory = self.remember(self.encode_history(state, images), mask)
        drawn = self.decode(memory, noise, None if return_sequence else 1)
        actions = self.normalization.to_action_units(drawn.actions)
        means = self.normalization.to_action_units(drawn.distribution.mean_action())
        if return_sequence:
            return Decision(actions, drawn.log_prob, means)
        return Decision(actions[:, 0], drawn.log_prob, means[:, 0])

    def _tokens(self, actions: Tensor | None, first: int, memory: Memory) -> Tensor:
        """Input tokens of the steps from ``first`` on, given the actions before each; shape (batch, n, D)."""
        if self.config.decoder is DecoderKind.PARALLEL:
            return self.action_position.expand(memory.bias.shape[0], -1, -1)
        start = self.start.expand(memory.bias.shape[0], 1, -1)
        if actions is None:
            tokens = start
        else:
            embedded = self.action_embedding(actions)
            tokens = torch.cat([start, embedded], 1) if first == 0 else embedded
        return tokens + self.action_position[first : first + tokens.shape[1]]

    def _run(self, memory: Memory, x: Tensor, past: list[KeyValue] | None) -> tuple[Tensor, list[KeyValue]]:
        bias = None
        if self.config.decoder is DecoderKind.AUTOREGRESSIVE:
            bias = causal_bias(x.shape[1], 0 if past is None else past[0].key.shape[2], x)
        kept = []
        for number, (layer, seen) in enumerate(zip(self._decoder_layers(), memory.layers, strict=True)):
            x, now = layer(x, None if past is None else past[number], bias, seen, memory.bias)
            kept.append(now)
        return self.decoder_norm(x), kept

    def _decoder_layers(self) -> list[DecoderLayer]:
        return [layer for layer in self.decoder if isinstance(layer, DecoderLayer)]

    def heads(self, hidden: Tensor) -> TanhGaussian:
        """Hidden states of steps, shape (batch, n, D) → their distributions."""
        log_std = self.log_std_head(hidden).clamp(self.config.log_std_min, self.config.log_std_max)
        return TanhGaussian(self.mean_head(hidden), log_std)


def _drawn(distribution: TanhGaussian, noise: Tensor | None) -> Sampled:
    """The deterministic actions without ``noise``."""
    pre_tanh = distribution.mu if noise is None else distribution.pre_tanh(noise)
    return Sampled(torch.tanh(pre_tanh), pre_tanh, distribution)

"""A bundle straight from a legacy checkpoint: the original's decoder of ``eval``, graph for graph, not trained further.

Noise in the graph gives tanh(μ + σ·noise) with the standard deviation that the original's sampling has in effect.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import torch
from torch import Tensor, nn

from export.bundle import Bundle, refuse_to_replace
from export.exporter import Traced, checked_bundle
from export.graphs import serialised, traced
from export.legacy.policy import LegacyPolicy
from learning.checkpoint import CheckpointConfig
from learning.cloning.windows import Windows

KIND = "legacy_sequence_actor/1"


class EncoderGraph(nn.Module):
    """One frame → feature."""

    def __init__(self, policy: LegacyPolicy) -> None:
        super().__init__()
        self.policy = policy

    def forward(self, state: Tensor, *images: Tensor) -> Tensor:
        return self.policy.encode(state, dict(zip(self.policy.config.cameras, images, strict=True)))


class DecoderGraph(nn.Module):
    """History of features → actions."""

    def __init__(self, policy: LegacyPolicy) -> None:
        super().__init__()
        self.policy = policy

    def forward(self, features: Tensor, mask: Tensor, noise: Tensor) -> Tensor:
        return self.policy.chunk(features, mask, noise)


def legacy_graphs(policy: LegacyPolicy, progress: Callable[[str], None] = lambda _: None) -> Traced:
    """Both graphs, with the inputs and outputs of :mod:`spec.manifest`."""
    config = policy.config
    progress("tracing the encoder")
    images = [torch.zeros(1, i.height, i.width, 3, dtype=torch.uint8) for i in config.cameras.values()]
    names = ["state", *(f"image.{name}" for name in config.cameras)]
    encoder = traced(EncoderGraph(policy), (torch.zeros(1, config.state_dim), *images), names, "feature")
    progress("tracing the decoder")
    features = torch.zeros(1, config.obs_history_length, config.act_dim_model)
    mask = torch.ones(1, config.obs_history_length, dtype=torch.bool)
    noise = torch.zeros(1, config.act_chunk_size, config.action_dim)
    decoder = traced(DecoderGraph(policy), (features, mask, noise), ["features", "mask", "noise"], "actions")
    return Traced(serialised(encoder), serialised(decoder))


def export_legacy(
    policy: LegacyPolicy,
    where: Path,
    out: Path,
    windows: Windows | None = None,
    max_ticks: float = 1.0,
    progress: Callable[[str], None] = lambda _: None,
) -> Bundle:
    """Export, measure, and only then write the bundle.

    Args:
        where: the checkpoint, for messages.
        windows: real ones to measure parity on; None: random ones alone, and the manifest says so.

    Raises:
        CadenzaError: ``out`` is something else than a bundle, or the graphs differ by more than ``max_ticks``.
    """
    refuse_to_replace(out)
    graphs = legacy_graphs(policy, progress)
    progress("measuring parity")
    config = CheckpointConfig(kind=KIND, actor=policy.config)
    return checked_bundle(where, policy, config, graphs, windows, out, max_ticks)

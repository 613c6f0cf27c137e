"""Small actors that still have every part of a large one."""

from __future__ import annotations

from typing import Any

import torch

from learning.network.actor import SequenceActor
from learning.network.config import ActorConfig, Convolution
from spec.manifest import ImageInput, StateFeature


def small_config(**changes: Any) -> ActorConfig:
    settings: dict[str, Any] = {
        "joints": ("a", "b", "c"),
        "state": (StateFeature.POSITION, StateFeature.VELOCITY),
        "cameras": {"top": ImageInput(height=24, width=32), "front.2": ImageInput(height=16, width=16)},
        "obs_history_length": 3,
        "act_chunk_size": 5,
        "act_dim_model": 32,
        "act_n_heads": 4,
        "act_dim_feedforward": 48,
        "act_n_encoder_layers": 2,
        "act_n_decoder_layers": 2,
        "act_dropout": 0.0,
        "latent_dim": 16,
        "cnn": (Convolution(channels=4, kernel=5), Convolution(channels=8, kernel=3)),
        "spatial_features": 3,
    }
    return ActorConfig(**{**settings, **changes})


def make_actor(seed: int = 0, **changes: Any) -> SequenceActor:
    torch.manual_seed(seed)
    actor = SequenceActor(small_config(**changes)).eval()
    # Weights of a fresh actor make steps nearly independent; larger ones make a wrong feedback path show.
    with torch.no_grad():
        actor.mean_head.weight.mul_(4.0)
        if hasattr(actor, "action_embedding"):
            actor.action_embedding.weight.mul_(4.0)
        actor.normalization.action_low.copy_(torch.tensor([-1.0, -2.0, 0.5]))
        actor.normalization.action_high.copy_(torch.tensor([1.5, 2.0, 0.9]))
    return actor


def observe(actor: SequenceActor, batch: int, seed: int = 0) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
    """Random states and images for ``actor``."""
    generator = torch.Generator().manual_seed(seed)
    config = actor.config
    shape = (batch, config.obs_history_length)
    state = torch.randn(*shape, config.state_dim, generator=generator)
    images = {
        name: torch.randint(0, 256, (*shape, size.height, size.width, 3), generator=generator, dtype=torch.uint8)
        for name, size in config.cameras.items()
    }
    return state, images

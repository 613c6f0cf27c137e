"""A legacy actor in a place on a robot: states and pictures as the robot has them in, actions in its units out."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import torch
from torch import Tensor, nn

from export.legacy.anatomy import Anatomy, Told, anatomy_of
from export.legacy.formats import Format, Legacy, read_legacy
from export.legacy.original import Original, padded
from learning.checkpoint import load_weights
from learning.network.config import ActorConfig, DecoderKind
from spec.action import ActionSpace
from spec.errors import SpecError
from spec.manifest import StateFeature
from spec.robotfile import validated


@dataclass(frozen=True, slots=True)
class Place:
    """What a checkpoint never says: which robot it moves, and how."""

    joints: tuple[str, ...]
    """In action order."""
    action_space: ActionSpace
    step_s: float
    """Time between frames, and between actions [s]."""
    action_low: tuple[float, ...]
    """What −1 of the actor means, in units of the action space; for every joint, or one for all."""
    action_high: tuple[float, ...]
    """What +1 means."""
    state: tuple[StateFeature, ...] = ()
    """What its state holds, each of every joint. Empty: numbers that no arm measures."""


class Scales(NamedTuple):
    """Where states lie, each of shape (S,)."""

    state_mean: Tensor
    state_std: Tensor


class LegacyPolicy(nn.Module):
    """Called like :class:`learning.network.actor.SequenceActor`, with the original's decoder of ``eval``."""

    low: Tensor
    scale: Tensor

    def __init__(self, original: Original, config: ActorConfig, low: Tensor, high: Tensor) -> None:
        super().__init__()
        self.original, self.config = original, config
        self.register_buffer("low", low)
        self.register_buffer("scale", 0.5 * (high - low))
        self.slices = vector_slices(original.anatomy, config)

    @property
    def normalization(self) -> Scales:
        """As far as the checkpoint knows; otherwise around nought."""
        mean, std = torch.zeros(self.config.state_dim), torch.ones(self.config.state_dim)
        for key, part in self.slices.items():
            if (spread := self.original.encoder.input_normalization.spread(key)) is not None:
                half = 0.5 * spread.width if spread.both_signs else spread.width
                mean[part], std[part] = spread.low + (half if spread.both_signs else 0.0), half
        return Scales(mean, std)

    def encode(self, state: Tensor, images: Mapping[str, Tensor]) -> Tensor:
        """State (N, S), pictures by camera, uint8 RGB (N, height, width, 3) → features (N, D)."""
        observation = {key: state[:, part] for key, part in self.slices.items()}
        for camera in self.original.anatomy.cameras:
            image = images[camera.name].to(state.dtype) / 255.0
            observation[camera.key] = image.permute(0, 3, 1, 2)
        return self.original.encode(observation)

    def chunk(self, features: Tensor, mask: Tensor, noise: Tensor) -> Tensor:
        """(batch, H, D), oldest first, (batch, H) and (batch, C, A) → actions in action units, (batch, C, A)."""
        actions: Tensor = self.original(padded(features, mask), noise)
        return self.low + (actions + 1.0) * self.scale

    def forward(self, state: Tensor, images: Mapping[str, Tensor], mask: Tensor, noise: Tensor) -> Tensor:
        flat = self.encode(state.flatten(0, 1), {name: image.flatten(0, 1) for name, image in images.items()})
        return self.chunk(flat.reshape(*state.shape[:2], -1), mask, noise)


def vector_slices(anatomy: Anatomy, config: ActorConfig) -> dict[str, slice]:
    """Where in the robot's state the original's inputs lie, by their keys. See :func:`described`."""
    if config.state:  # joints first, then the environment
        state = slice(0, anatomy.state)
        environment = slice(anatomy.state, anatomy.state + anatomy.environment)
    else:
        environment = slice(0, anatomy.environment)
        state = slice(anatomy.environment, anatomy.environment + anatomy.state)
    slices: dict[str, slice] = {}
    if anatomy.environment:
        slices["observation_environment_state"] = environment
    if anatomy.state:
        slices["observation_state"] = state
    return slices


def described(anatomy: Anatomy, place: Place, where: Path) -> ActorConfig:
    """The actor as its bundle's manifest, and a conversion, describe it.

    Raises:
        SpecError: it does not fit the place.
    """
    if len(place.joints) != anatomy.action_dim:
        raise SpecError("--joints", list(place.joints), f"{where} moves {anatomy.action_dim}")
    vectors: dict[str, int] = {}
    if anatomy.environment:
        vectors["environment_state"] = anatomy.environment
    if anatomy.state and not place.state:
        vectors["state"] = anatomy.state
    if place.state and len(place.state) * len(place.joints) != anatomy.state:
        said = f"{len(place.state)} x {len(place.joints)} joints are {len(place.state) * len(place.joints)} numbers"
        raise SpecError("--state", [str(s) for s in place.state], f"{said}, the checkpoint's state has {anatomy.state}")
    fields = {
        "joints": place.joints,
        "state": place.state,
        "cameras": {camera.name: camera.image for camera in anatomy.cameras},
        "vectors": vectors,
        "vector_encoders": bool(anatomy.environment and anatomy.state),
        "obs_history_length": anatomy.history,
        "obs_step_s": place.step_s,
        "action_space": place.action_space,
        "act_chunk_size": anatomy.chunk,
        "act_step_s": place.step_s,
        "decoder": DecoderKind.AUTOREGRESSIVE,
        "act_dim_model": anatomy.dim,
        "act_n_heads": anatomy.heads,
        "act_dim_feedforward": anatomy.feedforward,
        "act_n_encoder_layers": anatomy.encoder_layers,
        "act_n_decoder_layers": anatomy.decoder_layers,
        "act_dropout": 0.0,
        "act_activation": anatomy.activation,
        "act_pre_norm": anatomy.pre_norm,
        "act_end_norm": False,
        "log_std_min": anatomy.log_std[0],
        "log_std_max": anatomy.log_std[1],
        "latent_dim": anatomy.latent,
        "backbone": anatomy.backbone,
    }
    if anatomy.cnn:
        fields["cnn"] = anatomy.cnn
    if anatomy.maps:
        fields["spatial_features"] = anatomy.maps
    return validated(ActorConfig, fields, str(where))


def load_original(path: Path, told: Told, form: Format | None = None) -> tuple[Original, Legacy]:
    """Read a legacy checkpoint and build what it holds; every tensor finds its place.

    Raises:
        SpecError: see :func:`export.legacy.formats.read_legacy` and :func:`export.legacy.anatomy.anatomy_of`.
    """
    legacy = read_legacy(path, form)
    original = Original(anatomy_of(legacy, told)).eval()
    load_weights(original, legacy.tensors, legacy.where)
    return original, legacy


def placed(original: Original, place: Place, where: Path) -> LegacyPolicy:
    """Raises SpecError where ``original`` does not fit ``place``."""
    config = described(original.anatomy, place, where)
    low, high = (_per_joint(place, flag) for flag in ("action_low", "action_high"))
    if not bool((low < high).all()):
        raise SpecError(
            "--action-low", list(place.action_low), f"should be below --action-high {list(place.action_high)}"
        )
    return LegacyPolicy(original, config, low, high).eval()


def _per_joint(place: Place, field: str) -> Tensor:
    values: tuple[float, ...] = getattr(place, field)
    if len(values) not in {1, len(place.joints)}:
        raise SpecError(f"--{field.replace('_', '-')}", list(values), f"one number, or {len(place.joints)}")
    if not bool(torch.tensor(values).isfinite().all()):
        raise SpecError(f"--{field.replace('_', '-')}", list(values), "should be finite numbers")
    return torch.tensor(values, dtype=torch.float32).expand(len(place.joints)).contiguous()

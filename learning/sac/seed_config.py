"""Configurations in the names of the user's own training code, turned into ours.

A key without a counterpart is refused by name: one that is silently left out would be believed.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch

from learning.network.actor import SequenceActor
from learning.network.config import ActorConfig
from learning.sac.agent import Agent
from learning.sac.settings import Objective, Settings
from spec.errors import SpecError
from spec.manifest import ImageInput
from spec.robotfile import validated

STATE = "observation.state"
ENVIRONMENT = "observation.environment_state"
IMAGE = "observation.image"
"""How the names of cameras begin."""

_ACTOR = {
    "act_chunk_size": "act_chunk_size",
    "obs_history_length": "obs_history_length",
    "act_dim_model": "act_dim_model",
    "act_n_heads": "act_n_heads",
    "act_dim_feedforward": "act_dim_feedforward",
    "act_n_encoder_layers": "act_n_encoder_layers",
    "act_n_decoder_layers": "act_n_decoder_layers",
    "act_dropout": "act_dropout",
    "act_feedforward_activation": "act_activation",
    "act_pre_norm": "act_pre_norm",
    "latent_dim": "latent_dim",
    "image_embedding_pooling_dim": "spatial_features",
}
"""Field of :class:`ActorConfig` by the seed's name."""
_SETTINGS = {
    "discount": "gamma",
    "num_critics": "critics",
    "critic_target_update_weight": "ema",
    "freeze_vision_encoder": "freeze_encoder",
    "actor_lr": "actor_lr",
    "critic_lr": "critic_lr",
    "temperature_lr": "temperature_lr",
    "temperature_init": "temperature",
    "target_entropy": "target_entropy",
    "use_backup_entropy": "entropy_in_backup",
    "grad_clip_norm": "clip",
    "bc_initial_weight": "bc_initial",
    "bc_final_weight": "bc_final",
    "bc_decay_steps": "bc_decay",
    "utd_ratio": "utd",
    "policy_update_freq": "actor_every",
}
"""Field of :class:`Settings` by the seed's name."""
_FIXED = {"use_act_actor": True, "use_sequence_act_actor": True}
"""May be said, but only so: it is what this is."""
_FEATURES = ("input_features", "output_features", "dataset_stats")
_MIX = {"bc_initial": 0.5, "bc_final": 0.01, "bc_decay": 50_000}
"""Of the seed, where its configuration is silent."""
_STILL = 0.01
"""Half the range of a number that never changed, as in :meth:`learning.network.normalization.Normalization.fit`."""


def agent_of_seed(config: Mapping[str, Any], joints: Sequence[str] = ()) -> Agent:
    """A fresh actor and its learner as :func:`from_seed` reads them, normalised by ``dataset_stats``.

    Raises:
        SpecError: as :func:`from_seed`, or statistics that do not fit.
    """
    actor_config, settings = from_seed(config, joints)
    actor = SequenceActor(actor_config)
    _normalise(actor, config.get("dataset_stats") or {})
    return Agent(actor, settings)


def from_seed(config: Mapping[str, Any], joints: Sequence[str] = ()) -> tuple[ActorConfig, Settings]:
    """Read a configuration of the seed.

    Args:
        config: e.g. ``{"use_sequence_act_actor": True, "act_chunk_size": 8, "temperature_init": 0.01, ...}``, with
            ``input_features`` and ``output_features`` that give the ``shape`` of each.
        joints: names of the numbers of an action, in order; without, they are numbered.

    Returns:
        The actor and, with objective ``seed``, how it learns.

    Raises:
        SpecError: a key there is no counterpart for, or a value that is refused.
    """
    for name, value in config.items():
        if name in _FIXED and value != _FIXED[name]:
            raise SpecError(f"config: {name}", value, "nothing but the sequence actor is here", [_FIXED[name]])
        if name not in {*_FIXED, *_FEATURES, *_ACTOR, *_SETTINGS}:
            raise SpecError("config", name, "no counterpart here", [*_FIXED, *_FEATURES, *_ACTOR, *_SETTINGS])
    own = {ours: config[theirs] for theirs, ours in _ACTOR.items() if theirs in config}
    learning = {ours: config[theirs] for theirs, ours in _SETTINGS.items() if theirs in config}
    own |= _features(config, joints)
    return (
        validated(ActorConfig, own, "config"),
        validated(Settings, {"objective": Objective.SEED, **_MIX, **learning}, "config"),
    )


def _features(config: Mapping[str, Any], joints: Sequence[str]) -> dict[str, Any]:
    """What goes in and comes out."""
    vectors, cameras = {}, {}
    for name in config.get("input_features", {}):
        shape = _shape(config, "input_features", name)
        if name in {STATE, ENVIRONMENT} and len(shape) == 1:
            vectors[name] = shape[0]
        elif name.startswith(IMAGE) and len(shape) == 3 and shape[0] == 3:
            cameras[name] = ImageInput(height=shape[1], width=shape[2])
        else:
            raise SpecError(f"config: input_features.{name}", shape, "neither a state nor a picture of 3 channels")
    if "output_features" not in config or list(config["output_features"]) != ["action"]:
        raise SpecError("config: output_features", list(config.get("output_features", ())), "must be one", ["action"])
    (numbers,) = _shape(config, "output_features", "action")
    if joints and len(joints) != numbers:
        raise SpecError("joints", tuple(joints), f"an action has {numbers} numbers")
    names = tuple(joints) or tuple(f"action.{index}" for index in range(numbers))
    return {"joints": names, "state": (), "vectors": vectors, "cameras": cameras}


def _shape(config: Mapping[str, Any], group: str, name: str) -> tuple[int, ...]:
    feature = config[group][name]
    shape = feature.get("shape") if isinstance(feature, Mapping) else getattr(feature, "shape", None)
    if not shape or not all(isinstance(size, int) and size > 0 for size in shape):
        raise SpecError(f"config: {group}.{name}", shape, "needs a shape")
    if group == "output_features" and len(shape) != 1:
        raise SpecError(f"config: {group}.{name}", shape, "an action is a row of numbers")
    return tuple(shape)


@torch.no_grad()
def _normalise(actor: SequenceActor, stats: Mapping[str, Mapping[str, Any]]) -> None:
    """Put the ranges of ``dataset_stats`` into the actor: states and actions from [min, max] to [−1, 1]."""
    normalization, vectors = actor.normalization, actor.config.vectors
    for name, given in stats.items():
        kinds = ("mean", "std") if name.startswith(IMAGE) else ("min", "max")
        if name not in {"action", *vectors, *actor.config.cameras} or not set(kinds) <= given.keys():
            raise SpecError(f"config: dataset_stats.{name}", sorted(given), "is no feature, or lacks", kinds)
        first, second = (torch.as_tensor(given[kind], dtype=torch.float32).flatten() for kind in kinds)
        if first.shape != second.shape:
            raise SpecError(f"config: dataset_stats.{name}", sorted(given), "differ in length", kinds)
        if name in actor.config.cameras:
            middle, half = first, second
        else:
            middle, half = 0.5 * (first + second), 0.5 * (second - first)
            half = torch.where(half == 0.0, _STILL, half)
        if not bool(middle.isfinite().all()) or not bool((half.isfinite() & (half > 0.0)).all()):
            raise SpecError(f"config: dataset_stats.{name}", sorted(given), "are no finite, rising", kinds)
        begin = 0
        for vector, numbers in vectors.items():
            if vector == name:
                _fill(name, normalization.state_mean[begin : begin + numbers], middle)
                _fill(name, normalization.state_std[begin : begin + numbers], half)
            begin += numbers
        if name == "action":
            _fill(name, normalization.action_low, middle - half)
            _fill(name, normalization.action_high, middle + half)
        elif name in actor.config.cameras:
            _fill(name, normalization.image_mean, middle)
            _fill(name, normalization.image_std, half)


def _fill(name: str, buffer: torch.Tensor, values: torch.Tensor) -> None:
    if values.shape != buffer.shape:
        raise SpecError(f"config: dataset_stats.{name}", tuple(values.shape), f"needs {len(buffer)} numbers")
    buffer.copy_(values)

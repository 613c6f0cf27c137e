"""A legacy actor as the beginning of one of ours, which can be trained.

With its action embedding at zero, ours says at every step what the original's decoder of ``train`` says, whatever was
done before; what it says step by step at run time is the same, where the original's decoder of ``eval`` says something
else from step 1 on. So the first thing fine-tuning can learn is to look at the actions before.
"""

from __future__ import annotations

import torch
from torch import Tensor

from export.legacy.frames import Spread
from export.legacy.original import Original
from export.legacy.policy import LegacyPolicy
from learning.network.actor import SequenceActor
from learning.network.config import ActorConfig, Backbone
from spec.errors import CadenzaError

_VECTORS = {"env_encoder": "observation_environment_state", "state_encoder": "observation_state"}


@torch.no_grad()
def converted(policy: LegacyPolicy) -> SequenceActor:
    """Our actor with the weights of ``policy``.

    Raises:
        CadenzaError: the original has something that ours has no place for.
    """
    original, config = policy.original, policy.config
    _refuse_what_has_no_place(original)
    actor = SequenceActor(config).eval()
    weights: dict[str, Tensor] = {
        "start": original.action_start_token[0, 0],
        "history_position": original.obs_pos_embed[:, 0],
        "action_position": original.action_pos_embed[:, 0],
        # The token after any action is the start token again.
        "action_embedding.weight": torch.zeros(config.act_dim_model, config.action_dim),
        "action_embedding.bias": original.action_start_token[0, 0],
        "mean_head.weight": original.action_mean_head.weight,
        "mean_head.bias": original.action_mean_head.bias,
        # The original's logarithm is that of a variance.
        "log_std_head.weight": 0.5 * original.action_std_head.weight,
        "log_std_head.bias": 0.5 * original.action_std_head.bias,
    }
    tensors = original.state_dict()
    for number in range(config.act_n_encoder_layers):
        weights |= _layer(tensors, f"transformer_encoder.layers.{number}.", f"encoder.{number}.", decoder=False)
    for number in range(config.act_n_decoder_layers):
        weights |= _layer(tensors, f"transformer_decoder.layers.{number}.", f"decoder.{number}.", decoder=True)
    weights |= _frame(original, config)
    weights |= _normalization(policy)
    actor.load_state_dict({name: tensor.detach().clone() for name, tensor in weights.items()})
    return actor


@torch.no_grad()
def disagreement(policy: LegacyPolicy, actor: SequenceActor, histories: int = 4) -> float:
    """Largest difference of means and log-stds between the original's ``train`` and ``actor``, on noise."""
    config, generator = policy.config, torch.Generator().manual_seed(0)
    shape = (histories, config.obs_history_length)
    state = torch.randn(histories * shape[1], config.state_dim, generator=generator)
    images = {
        name: torch.randint(0, 256, (len(state), i.height, i.width, 3), generator=generator, dtype=torch.uint8)
        for name, i in config.cameras.items()
    }
    state = policy.normalization.state_mean + policy.normalization.state_std * state
    actions = torch.randn(histories, config.act_chunk_size, config.action_dim, generator=generator).tanh()
    theirs = policy.encode(state, images).reshape(*shape, -1)
    wanted = policy.original.heads(policy.original.train_hidden(policy.original.remember(theirs)))
    ours = actor.encode(state, images).reshape(*shape, -1)
    found = actor.distribution(actor.remember(ours, torch.ones(shape, dtype=torch.bool)), actions)
    # torch's maximum of a NaN is NaN; Python's depends on the order.
    return float(torch.stack([(a - b).abs().max() for a, b in zip(found, wanted, strict=True)]).max())


def _refuse_what_has_no_place(original: Original) -> None:
    anatomy = original.anatomy
    nowhere = "; it can be exported as it is: cadenza export"
    if not anatomy.squash:
        raise CadenzaError(f"import: actions that do not pass through tanh{nowhere}")
    if anatomy.backbone is not Backbone.CNN and not anatomy.same_padding:
        raise CadenzaError(f"import: a ResNet-10 that pads one all round{nowhere}")
    spreads = [original.encoder.input_normalization.spread(camera.key) for camera in anatomy.cameras]
    if any(_differ(spreads[0], other) for other in spreads[1:]):
        raise CadenzaError(f"import: cameras that are normalised differently{nowhere}")


def _differ(one: Spread | None, other: Spread | None) -> bool:
    if one is None or other is None:
        return one is not other
    same = torch.equal(one.low, other.low) and torch.equal(one.width, other.width)
    return not same or one.both_signs != other.both_signs


def _layer(tensors: dict[str, Tensor], theirs: str, ours: str, *, decoder: bool) -> dict[str, Tensor]:
    weights = _attention(tensors, f"{theirs}self_attn.", f"{ours}attention.")
    norms = {"norm1": "attention_residual", "norm2": "feedforward_residual"}
    if decoder:
        weights |= _attention(tensors, f"{theirs}multihead_attn.", f"{ours}cross.")
        norms = {"norm1": "attention_residual", "norm2": "cross_residual", "norm3": "feedforward_residual"}
    for kind in ("weight", "bias"):
        weights[f"{ours}feedforward.widen.{kind}"] = tensors[f"{theirs}linear1.{kind}"]
        weights[f"{ours}feedforward.narrow.{kind}"] = tensors[f"{theirs}linear2.{kind}"]
        for norm, residual in norms.items():
            weights[f"{ours}{residual}.norm.{kind}"] = tensors[f"{theirs}{norm}.{kind}"]
    return weights


def _attention(tensors: dict[str, Tensor], theirs: str, ours: str) -> dict[str, Tensor]:
    weights: dict[str, Tensor] = {}
    for kind in ("weight", "bias"):
        packed = tensors[f"{theirs}in_proj_{kind}"]
        dim = len(packed) // 3
        weights[f"{ours}query.{kind}"], weights[f"{ours}key_value.{kind}"] = packed[:dim], packed[dim:]
        weights[f"{ours}out.{kind}"] = tensors[f"{theirs}out_proj.{kind}"]
    return weights


def _frame(original: Original, config: ActorConfig) -> dict[str, Tensor]:
    """The parts of one instant's feature are joined in the same order: images, environment, state."""
    tensors, anatomy = original.state_dict(), original.anatomy
    weights = {f"frame.project.{kind}": tensors[f"obs_to_transformer_proj.{kind}"] for kind in ("weight", "bias")}
    for number, camera in enumerate(anatomy.cameras):
        ours = f"frame.images.{number}."
        for name, tensor in tensors.items():
            if name.startswith("encoder.image_encoder.image_enc_layers."):
                weights[ours + name.replace("encoder.image_encoder.image_enc_layers", "cnn")] = tensor
        weights[f"{ours}pool.kernel"] = tensors[f"encoder.spatial_embeddings.{camera.key}.kernel"]
        weights |= _squashed(tensors, f"encoder.post_encoders.{camera.key}.", 1, f"{ours}project.")
    present = {"env_encoder": anatomy.environment, "state_encoder": anatomy.state}
    encoders = [name for name, numbers in present.items() if numbers]
    for name in encoders:
        if config.vector_encoders and not (name == "state_encoder" and config.state):
            ours = f"frame.vectors.{encoders.index(name)}."
        else:
            ours = "frame.state."
        weights |= _squashed(tensors, f"encoder.{name}.", 0, ours)
        spread = original.encoder.input_normalization.spread(_VECTORS[name])
        if spread is not None and spread.both_signs:
            # Ours divides by the width and no more: W (2x − 1) + b = 2W x + (b − W 1).
            weight = tensors[f"encoder.{name}.0.weight"]
            weights[f"{ours}0.weight"] = 2.0 * weight
            weights[f"{ours}0.bias"] = weights[f"{ours}0.bias"] - weight.sum(1)
    return weights


def _squashed(tensors: dict[str, Tensor], theirs: str, first: int, ours: str) -> dict[str, Tensor]:
    """Linear and LayerNorm, the first of which has number ``first`` in the original's sequence."""
    return {
        f"{ours}{number}.{kind}": tensors[f"{theirs}{first + number}.{kind}"]
        for number in (0, 1)
        for kind in ("weight", "bias")
    }


def _normalization(policy: LegacyPolicy) -> dict[str, Tensor]:
    config, normalization = policy.config, policy.original.encoder.input_normalization
    mean, std = torch.zeros(config.state_dim), torch.ones(config.state_dim)
    for key, part in policy.slices.items():
        if (spread := normalization.spread(key)) is not None:
            mean[part], std[part] = spread.low, spread.width
    image_mean, image_std = torch.zeros(3), torch.ones(3)
    for camera in policy.original.anatomy.cameras[:1]:  # all alike
        if (spread := normalization.spread(camera.key)) is not None:
            half = 0.5 * spread.width if spread.both_signs else spread.width
            image_mean = (spread.low + half if spread.both_signs else spread.low).flatten()
            image_std = half.flatten()
    return {
        "normalization.state_mean": mean,
        "normalization.state_std": std,
        "normalization.image_mean": image_mean,
        "normalization.image_std": image_std,
        "normalization.action_low": policy.low,
        "normalization.action_high": policy.low + 2.0 * policy.scale,
    }

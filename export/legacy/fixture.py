"""Legacy checkpoints made up: the right names, shapes and forms, random numbers.

python -m export.legacy.fixture --out runs/legacy --format warmup lerobot safetensors

The full size is that of a checkpoint with one 224×224 camera, 32 numbers of state and 6 actions: 174 tensors of the
actor, 44,315,852 parameters, of which 38,944,780 are not the frame encoder's.
"""

from __future__ import annotations

import json
import math
import sys
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
import tyro
from safetensors.torch import save
from torch import Tensor

from export.legacy.formats import Format
from learning.network.config import RESNET_CHANNELS
from spec.files import write_atomically


@dataclass(frozen=True, slots=True)
class Size:
    """Of a made-up checkpoint; the defaults are the full size."""

    dim: int = 512
    heads: int = 8
    feedforward: int = 3200
    encoder_layers: int = 4
    decoder_layers: int = 4
    history: int = 5
    chunk: int = 8
    action_dim: int = 6
    latent: int = 64
    state: int = 32
    environment: int = 0
    cameras: tuple[str, ...] = ("front",)
    image: int = 224
    """Height and width."""
    resnet: bool = True
    """ResNet-10; otherwise plain convolutions of 32 channels."""
    wrapped: bool = True
    """The ResNet's tensors have the names of its later revisions."""
    normalized: bool = False
    """With statistics of inputs."""
    pre_norm: bool = False
    activation: str = "relu"


SMALL = Size(
    dim=32, heads=4, feedforward=48, encoder_layers=2, decoder_layers=2, history=3, chunk=4, action_dim=3, latent=16,
    state=7, image=64, resnet=False,
)  # fmt: skip
"""Everything that the full size has, but for the ResNet."""


def actor_tensors(size: Size, seed: int = 0) -> dict[str, Tensor]:
    """What ``state_dict`` of the original's actor gives: names and shapes, and numbers large enough to matter."""
    generator = torch.Generator().manual_seed(seed)
    dim, tensors = size.dim, dict[str, Tensor]()

    def weight(name: str, *shape: int, gain: float = 1.0) -> None:
        tensors[name] = torch.randn(shape, generator=generator) * (gain / math.sqrt(math.prod(shape[1:])))

    def linear(name: str, outputs: int, inputs: int, gain: float = 1.0) -> None:
        weight(f"{name}.weight", outputs, inputs, gain=gain)
        tensors[f"{name}.bias"] = 0.1 * torch.randn(outputs, generator=generator)

    def norm(name: str, width: int) -> None:
        tensors[f"{name}.weight"] = 1.0 + 0.1 * torch.randn(width, generator=generator)
        tensors[f"{name}.bias"] = 0.1 * torch.randn(width, generator=generator)

    def attention(name: str) -> None:
        weight(f"{name}.in_proj_weight", 3 * dim, dim)
        tensors[f"{name}.in_proj_bias"] = 0.1 * torch.randn(3 * dim, generator=generator)
        linear(f"{name}.out_proj", dim, dim)

    tensors["action_start_token"] = torch.randn(1, 1, dim, generator=generator)
    tensors["obs_pos_embed"] = _sinusoids(size.history, dim)
    tensors["action_pos_embed"] = _sinusoids(size.chunk, dim)
    _frame_encoder(size, tensors, weight, linear, norm)
    parts = len(size.cameras) + bool(size.environment) + bool(size.state)
    linear("obs_to_transformer_proj", dim, parts * size.latent)
    for stack, layers in (("encoder", size.encoder_layers), ("decoder", size.decoder_layers)):
        for number in range(layers):
            layer = f"transformer_{stack}.layers.{number}"
            attention(f"{layer}.self_attn")
            if stack == "decoder":
                attention(f"{layer}.multihead_attn")
                norm(f"{layer}.norm3", dim)
            linear(f"{layer}.linear1", size.feedforward, dim)
            linear(f"{layer}.linear2", dim, size.feedforward)
            norm(f"{layer}.norm1", dim)
            norm(f"{layer}.norm2", dim)
    linear("action_mean_head", size.action_dim, dim)
    linear("action_std_head", size.action_dim, dim, gain=2.0)
    return tensors


def config_document(size: Size) -> dict[str, Any]:
    """The fields of the policy's config that say something of the actor, with the original's names."""
    features: dict[str, Any] = {
        f"observation.images.{name}": {"type": "VISUAL", "shape": [3, size.image, size.image]} for name in size.cameras
    }
    if size.environment:
        features["observation.environment_state"] = {"type": "ENV", "shape": [size.environment]}
    if size.state:
        features["observation.state"] = {"type": "STATE", "shape": [size.state]}
    return {
        "type": "sac",
        "input_features": features,
        "output_features": {"action": {"type": "ACTION", "shape": [size.action_dim]}},
        "latent_dim": size.latent,
        "num_discrete_actions": None,
        "use_sequence_act_actor": True,
        "obs_history_length": size.history,
        "act_chunk_size": size.chunk,
        "act_dim_model": size.dim,
        "act_n_heads": size.heads,
        "act_dim_feedforward": size.feedforward,
        "act_n_encoder_layers": size.encoder_layers,
        "act_n_decoder_layers": size.decoder_layers,
        "act_dropout": 0.1,
        "act_feedforward_activation": size.activation,
        "act_pre_norm": size.pre_norm,
    }


def write_fixture(out: Path, form: Format, size: Size, seed: int = 0) -> Path:
    """Write a checkpoint of ``form`` into the folder ``out``; returns what to hand to ``cadenza export``."""
    tensors = actor_tensors(size, seed)
    out.mkdir(parents=True, exist_ok=True)
    match form:
        case Format.WARMUP:
            path = out / "final_sequence_act_actor.pt"
            _write_warmup(path, tensors, size)
        case Format.LEROBOT:
            path = out / "pretrained_model"
            path.mkdir(exist_ok=True)
            _write_lerobot(path, tensors, size)
        case Format.SAFETENSORS:
            path = out / "actor.safetensors"
            write_atomically(path, save(tensors))
    return path


def _frame_encoder(size: Size, tensors: dict[str, Tensor], weight: Any, linear: Any, norm: Any) -> None:
    for name, numbers in (("env_encoder", size.environment), ("state_encoder", size.state)):
        if numbers:
            linear(f"encoder.{name}.0", size.latent, numbers)
            norm(f"encoder.{name}.1", size.latent)
    layers = "encoder.image_encoder.image_enc_layers"
    if size.cameras and size.resnet:
        _resnet(layers, size.wrapped, weight, norm)
    elif size.cameras:
        for number, (kernel, inputs) in enumerate(((7, 3), (5, 32), (3, 32), (3, 32))):
            weight(f"{layers}.{2 * number}.weight", 32, inputs, kernel, kernel, gain=1.5)
            tensors[f"{layers}.{2 * number}.bias"] = torch.zeros(32)
    channels = RESNET_CHANNELS[-1] if size.resnet else 32
    side = -(-size.image // 32)
    if not size.resnet:
        side = size.image
        for kernel in (7, 5, 3, 3):
            side = (side - kernel) // 2 + 1
    for name in size.cameras:
        key = f"observation_images_{name}"
        weight(f"encoder.spatial_embeddings.{key}.kernel", channels, side, side, 8)
        linear(f"encoder.post_encoders.{key}.1", size.latent, channels * 8)
        norm(f"encoder.post_encoders.{key}.2", size.latent)
    if size.normalized:
        tensors |= _statistics(size)


def _resnet(layers: str, wrapped: bool, weight: Any, norm: Any) -> None:
    conv, group = (".conv", ".group_norm") if wrapped else ("", "")
    weight(f"{layers}.embedder.0.weight", RESNET_CHANNELS[0], 3, 7, 7, gain=1.5)
    norm(f"{layers}.embedder.1{group}", RESNET_CHANNELS[0])
    inputs = RESNET_CHANNELS[0]
    for number, outputs in enumerate(RESNET_CHANNELS):
        block = f"{layers}.encoder.stages.{number}"
        weight(f"{block}.conv1{conv}.weight", outputs, inputs, 3, 3, gain=1.5)
        norm(f"{block}.norm1{group}", outputs)
        weight(f"{block}.conv2{conv}.weight", outputs, outputs, 3, 3, gain=1.5)
        norm(f"{block}.norm2{group}", outputs)
        if inputs != outputs:
            weight(f"{block}.shortcut.0{conv}.weight", outputs, inputs, 1, 1)
            norm(f"{block}.shortcut.1{group}", outputs)
        inputs = outputs


def _statistics(size: Size) -> dict[str, Tensor]:
    """States by min and max, the last number of which never varied; images by mean and std."""
    normalization, statistics = "encoder.input_normalization.", dict[str, Tensor]()
    for key, numbers in (("observation_environment_state", size.environment), ("observation_state", size.state)):
        if numbers:
            low, high = torch.linspace(-2.0, -1.0, numbers), torch.linspace(1.0, 3.0, numbers)
            high[-1] = low[-1]
            statistics |= {f"{normalization}{key}_min": low, f"{normalization}{key}_max": high}
    for name in size.cameras:
        key = f"{normalization}observation_images_{name}"
        statistics[f"{key}_mean"] = torch.tensor([0.485, 0.456, 0.406]).reshape(3, 1, 1)
        statistics[f"{key}_std"] = torch.tensor([0.229, 0.224, 0.225]).reshape(3, 1, 1)
    return statistics


def _write_warmup(path: Path, tensors: Mapping[str, Tensor], size: Size) -> None:
    flat = {"job_name": "sequence_act_actor_warmup", "steps": 100000}
    policy = config_document(size) | {"std_min": -5.0, "std_max": 2.0, "use_tanh_squash": True}
    document = {
        "step": 100000,
        "epoch": 40,
        "actor_state_dict": dict(tensors),
        "encoder_state_dict": {n.removeprefix("encoder."): t for n, t in tensors.items() if n.startswith("encoder.")},
        "optimizer_state_dict": {"state": {}, "param_groups": [{"lr": 1e-3, "params": [0]}]},
        "config": flat | _flattened("policy", policy),
        "final_loss": 0.01,
    }
    torch.save(document, path)


def _flattened(prefix: str, value: object) -> dict[str, Any]:
    if not isinstance(value, Mapping):
        return {prefix: value}
    flat: dict[str, Any] = {}
    for name, inner in value.items():
        flat |= _flattened(f"{prefix}.{name}", inner)
    return flat


def _write_lerobot(folder: Path, tensors: Mapping[str, Tensor], size: Size) -> None:
    """As after torch.compile: the critics' names have ``_orig_mod.`` in them; the frame encoder is tied to theirs."""
    stored = {f"actor.{name}": tensor for name, tensor in tensors.items()}
    tied: dict[str, str] = {}
    for name in tensors:
        if name.startswith("encoder."):
            inner = name.removeprefix("encoder.")
            for other in ("encoder_critic.", "critic_ensemble._orig_mod.encoder.", "critic_target._orig_mod.encoder."):
                tied[other + inner] = f"actor.{name}"
            if inner.startswith("input_normalization."):
                tied[inner.replace("input_normalization.", "normalize_inputs.")] = f"actor.{name}"
    width = size.latent * (len(size.cameras) + bool(size.environment) + bool(size.state)) + size.action_dim
    for critics in ("critic_ensemble", "critic_target"):
        for number in range(2):
            stored[f"{critics}._orig_mod.critics.{number}.net.net.0.weight"] = torch.zeros(16, width)
            stored[f"{critics}._orig_mod.critics.{number}.output_layer.weight"] = torch.zeros(1, 16)
    stored["log_alpha"] = torch.zeros(1)
    document = config_document(size) | {"policy_kwargs": {"use_tanh_squash": True, "std_min": 1e-4, "std_max": 2.0}}
    write_atomically(folder / "model.safetensors", save(stored, metadata=tied | {"format": "pt"}))
    write_atomically(folder / "config.json", (json.dumps(document, indent=2) + "\n").encode())


def _sinusoids(length: int, dim: int) -> Tensor:
    """(length, 1, dim): sine in the even places, cosine in the odd, wavelengths from 2π to 10000·2π (Vaswani 2017)."""
    rates = 10000.0 ** (-torch.arange(0, dim, 2) / dim)
    angles = torch.arange(length)[:, None] * rates
    return torch.stack([angles.sin(), angles.cos()], -1).reshape(length, 1, dim)


@dataclass(frozen=True, slots=True)
class Args:
    """Write made-up legacy checkpoints.

    python -m export.legacy.fixture --out runs/legacy --format warmup lerobot safetensors
    """

    out: Path
    """Folder to write into."""
    format: tuple[Format, ...] = tuple(Format)
    small: bool = False
    """A small one, without ResNet."""
    plain_names: bool = False
    """The ResNet's names of its earlier revisions."""
    normalized: bool = False
    """With statistics of inputs."""
    seed: int = 0


def main(argv: list[str]) -> int:
    args = tyro.cli(Args, args=argv, prog="python -m export.legacy.fixture", config=(tyro.conf.EnumChoicesFromValues,))
    chosen = SMALL if args.small else Size(wrapped=not args.plain_names)
    size = replace(chosen, normalized=args.normalized)
    for form in args.format:
        print(write_fixture(args.out, form, size, args.seed))
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

"""What a legacy actor is built from: sizes from the shapes of its tensors, the rest from its config or the operator.

Shapes do not show how many heads an attention has, which activation and norm order a layer, which bounds a clamp. Where
neither config nor operator says so, the checkpoint is refused: a guess would give a policy that is nearly right.
"""

from __future__ import annotations

import math
import re
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, TypeVar

from torch import Tensor

from export.legacy.formats import Legacy
from export.legacy.sight import Camera, backbone_of, cameras_of
from learning.network.config import RESNET_CHANNELS, Activation, Backbone, Convolution
from spec.errors import SpecError

_NORMALIZATION = "encoder.input_normalization."
_PAIRS = {"mean": ("mean", "std"), "std": ("mean", "std"), "min": ("min", "max"), "max": ("min", "max")}
_VARIANCES = (1e-6, 10.0)
"""The original clamps the variance to these, whatever the bounds of its logarithm."""
_T = TypeVar("_T")
_RULE = {"--n-heads": 8, "--activation": "relu", "--pre-norm": False, "--log-std-min": -5, "--log-std-max": 2}
"""What the original has where its config says nothing else; for messages."""


class ResnetPadding(StrEnum):
    """How the blocks of the image encoder pad; a published revision each, with weights of the same shapes."""

    SAME = "same"
    """As much as the output needs, the odd row and column at the bottom and right."""
    ONE = "one"
    """One all round; revisions of early 2025, whose names have no wrappers."""


@dataclass(frozen=True, slots=True)
class Told:
    """What the operator says of a checkpoint; the checkpoint says the others itself, or is refused."""

    n_heads: int | None = None
    """Attention heads; the original's own number is 8."""
    activation: Activation | None = None
    """Of the feed-forward layers; the original's own is relu."""
    pre_norm: bool | None = None
    """Whether norms stand before attention and feed-forward; the original's own is False."""
    log_std_min: float | None = None
    """Lower bound of what the log-std head says; the original's own is -5."""
    log_std_max: float | None = None
    """Upper bound; the original's own is 2."""
    cameras: tuple[str, ...] = ()
    """Names of its cameras on the robot, in the order of the checkpoint's features; default: as in the checkpoint."""
    image: tuple[int, int] | None = None
    """Height and width of its images."""
    resnet_padding: ResnetPadding = ResnetPadding.SAME
    """How the blocks of a ResNet-10 pad: same, or one all round (revisions of early 2025)."""


@dataclass(frozen=True, slots=True)
class Anatomy:
    """Of one checkpoint."""

    dim: int
    heads: int
    feedforward: int
    encoder_layers: int
    decoder_layers: int
    history: int
    chunk: int
    action_dim: int
    latent: int
    activation: Activation
    pre_norm: bool
    log_variance: tuple[float, float]
    """Bounds of what the log-std head says, which the original takes for the logarithm of a variance."""
    squash: bool
    """Actions pass through tanh."""
    cameras: tuple[Camera, ...]
    """In feature order."""
    backbone: Backbone
    cnn: tuple[Convolution, ...]
    """Stages of backbone ``cnn``; empty without."""
    same_padding: bool
    maps: int
    """Spatial maps per channel."""
    environment: int
    """Numbers of environment state; 0: none."""
    state: int
    """Numbers of state; 0: none."""
    statistics: Mapping[str, tuple[tuple[str, str], tuple[int, ...]]]
    """Normalised inputs: key → names of the two statistics, and their shape."""

    @property
    def log_std(self) -> tuple[float, float]:
        """Bounds of the logarithm of the standard deviation in effect."""
        lowest, highest = map(math.log, _VARIANCES)
        low, high = (0.5 * min(max(bound, lowest), highest) for bound in self.log_variance)
        return low, high

    @property
    def parts(self) -> int:
        """Features of one instant that are joined."""
        return len(self.cameras) + bool(self.environment) + bool(self.state)

    @property
    def channels(self) -> int:
        """Of the image encoder's feature map."""
        return self.cnn[-1].channels if self.backbone is Backbone.CNN else RESNET_CHANNELS[-1]


def anatomy_of(legacy: Legacy, told: Told) -> Anatomy:
    """Find out what ``legacy`` is built from.

    Raises:
        SpecError: a tensor is missing or has a shape that fits no actor; shapes and config differ; or something must
            be told that is not.
    """
    tensors, said = legacy.tensors, _Said(legacy)
    dim = legacy.shape("action_start_token", 3)[2]
    heads = said.known("act_n_heads", told.n_heads, "--n-heads", _whole)
    if dim % heads:
        raise SpecError("--n-heads", heads, f"does not divide the {dim} numbers of a token")
    backbone, cnn = backbone_of(legacy)
    kernels = [
        name.split(".")[2] for name in tensors if re.fullmatch(r"encoder\.spatial_embeddings\.\w+\.kernel", name)
    ]
    environment, state = (_inputs(legacy, f"encoder.{name}.0.weight") for name in ("env_encoder", "state_encoder"))
    if not environment and not state:
        raise SpecError(str(legacy.where), "images alone", "an actor that sees no numbers cannot become a bundle")
    first = f"encoder.post_encoders.{kernels[0]}.1.bias" if kernels else "encoder.state_encoder.0.bias"
    first = first if first in tensors else "encoder.env_encoder.0.bias"
    anatomy = Anatomy(
        dim=dim,
        heads=heads,
        feedforward=legacy.shape("transformer_encoder.layers.0.linear1.weight", 2)[0],
        encoder_layers=_layers(legacy, "transformer_encoder"),
        decoder_layers=_layers(legacy, "transformer_decoder"),
        history=legacy.shape("obs_pos_embed", 3)[0],
        chunk=legacy.shape("action_pos_embed", 3)[0],
        action_dim=legacy.shape("action_mean_head.weight", 2)[0],
        latent=legacy.shape(first, 1)[0],
        activation=said.known("act_feedforward_activation", told.activation, "--activation", _activation),
        pre_norm=said.known("act_pre_norm", told.pre_norm, "--pre-norm", _yes_or_no),
        log_variance=(
            said.known("std_min", told.log_std_min, "--log-std-min", _number),
            said.known("std_max", told.log_std_max, "--log-std-max", _number),
        ),
        squash=said.squash(),
        cameras=cameras_of(legacy, told.cameras, told.image, kernels, backbone, cnn),
        backbone=backbone,
        cnn=cnn,
        same_padding=told.resnet_padding is ResnetPadding.SAME,
        maps=legacy.shape(f"encoder.spatial_embeddings.{kernels[0]}.kernel", 4)[3] if kernels else 0,
        environment=environment,
        state=state,
        statistics=_statistics(tensors),
    )
    low, high = anatomy.log_std
    if not low < high:
        said_low, said_high = anatomy.log_variance
        within = " and ".join(f"{math.log(variance):.2f}" for variance in _VARIANCES)
        raise SpecError("--log-std-min", said_low, f"should be below --log-std-max {said_high:g}, between {within}")
    _check_against_config(anatomy, legacy)
    return anatomy


class _Said:
    """What the config says, against what the operator does."""

    def __init__(self, legacy: Legacy) -> None:
        self.legacy, self.config = legacy, legacy.config

    def known(self, field: str, told: _T | None, flag: str, read: Callable[[Any], _T | None]) -> _T:
        found = self.config.get(field)
        if found is None and told is None:
            hint = ""
            if field.startswith("std_") and f"policy_kwargs.{field}" in self.config:
                hint = f"; policy_kwargs.{field} there bounds σ of another actor, the sequence actor never saw it"
            raise SpecError(
                f"{self.legacy.where}: {field}",
                None,
                f"not in the checkpoint, and not guessed; say {flag} (as a rule {_RULE[flag]}){hint}",
            )
        if found is None:
            assert told is not None  # noqa: S101 (one of the two is there)
            return told
        value = read(found)
        if value is None:
            raise SpecError(f"{self.legacy.where}: config {field}", found, "not a value this field can have")
        if told is not None and told != value:
            raise SpecError(flag, told, f"the checkpoint's own config says {field} {found}")
        return value

    def squash(self) -> bool:
        """True unless the config says otherwise, as in the original."""
        found = self.config.get("use_tanh_squash", self.config.get("policy_kwargs.use_tanh_squash", True))
        if not isinstance(found, bool):
            raise SpecError(f"{self.legacy.where}: config use_tanh_squash", found, "not a value this field can have")
        return found


def _inputs(legacy: Legacy, name: str) -> int:
    return legacy.shape(name, 2)[1] if name in legacy.tensors else 0


def _layers(legacy: Legacy, stack: str) -> int:
    found = {int(m[1]) for name in legacy.tensors if (m := re.match(rf"{stack}\.layers\.(\d+)\.", name))}
    if found != set(range(len(found))) or not found:
        raise SpecError(f"{legacy.where}: {stack}", sorted(found), "layers are missing")
    return len(found)


def _statistics(tensors: Mapping[str, Tensor]) -> dict[str, tuple[tuple[str, str], tuple[int, ...]]]:
    """Of the two, the one that is missing is missed when the tensors are loaded."""
    found: dict[str, tuple[tuple[str, str], tuple[int, ...]]] = {}
    for name, tensor in tensors.items():
        if name.startswith(_NORMALIZATION):
            key, _, statistic = name.removeprefix(_NORMALIZATION).rpartition("_")
            if statistic in _PAIRS and key.startswith("observation_"):
                shape = (3, 1, 1) if key.startswith("observation_image") else (tensor.numel(),)
                found[key] = (_PAIRS[statistic], shape)
    return found


def _check_against_config(anatomy: Anatomy, legacy: Legacy) -> None:
    sizes = {
        "act_dim_model": anatomy.dim,
        "act_dim_feedforward": anatomy.feedforward,
        "act_n_encoder_layers": anatomy.encoder_layers,
        "act_n_decoder_layers": anatomy.decoder_layers,
        "act_chunk_size": anatomy.chunk,
        "obs_history_length": anatomy.history,
        "latent_dim": anatomy.latent,
    }
    for field, found in sizes.items():
        said = legacy.config.get(field)
        if said is not None and said != found:
            raise SpecError(f"{legacy.where}: config {field}", said, f"the tensors say {found}")
    if legacy.config.get("num_discrete_actions") is not None:
        count = legacy.config["num_discrete_actions"]
        raise SpecError(f"{legacy.where}: num_discrete_actions", count, "discrete actions cannot be carried over")


def _whole(value: object) -> int | None:
    return value if isinstance(value, int) and not isinstance(value, bool) and value > 0 else None


def _number(value: object) -> float | None:
    if not isinstance(value, int | float) or isinstance(value, bool):
        return None
    return float(value) if abs(value) <= sys.float_info.max else None


def _yes_or_no(value: object) -> bool | None:
    return value if isinstance(value, bool) else None


def _activation(value: object) -> Activation | None:
    return Activation(value) if isinstance(value, str) and value in list(Activation) else None

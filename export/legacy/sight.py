"""How a legacy actor sees: its cameras in feature order, and what their images pass through."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, NamedTuple

from export.legacy.formats import IMAGES, Legacy
from learning.network.config import Backbone, Convolution
from spec.errors import SpecError
from spec.manifest import ImageInput


class Camera(NamedTuple):
    key: str
    """Feature name with dots as underscores, e.g. ``observation_images_front``."""
    name: str
    """On the robot."""
    image: ImageInput
    map: tuple[int, int]
    """Height and width of its feature map."""


def backbone_of(legacy: Legacy) -> tuple[Backbone, tuple[Convolution, ...]]:
    """The image encoder's kind, and its stages where those are plain convolutions."""
    names = [name.removeprefix(IMAGES) for name in legacy.tensors if name.startswith(IMAGES)]
    if "stem.weight" in names:
        return Backbone.RESNET10, ()
    stages: list[Convolution] = []
    while (name := f"{2 * len(stages)}.weight") in names:
        outputs, _, kernel, _ = legacy.shape(IMAGES + name, 4)
        stages.append(Convolution(channels=outputs, kernel=kernel))
    return Backbone.CNN, tuple(stages)


def cameras_of(
    legacy: Legacy,
    named: tuple[str, ...],
    told: tuple[int, int] | None,
    kernels: list[str],
    backbone: Backbone,
    cnn: tuple[Convolution, ...],
) -> tuple[Camera, ...]:
    """In feature order.

    Args:
        named: what they are called on the robot, in feature order; empty: as in the checkpoint.
        told: height and width of their images; None: the config says so.
        kernels: keys of the spatial embeddings.
    """
    if kernels and backbone is Backbone.CNN and not cnn:
        raise SpecError(str(legacy.where), f"{IMAGES}0.weight", "tensor is missing; no image encoder")
    sizes = _image_sizes(legacy.config)
    ordered = set(kernels) <= set(sizes)
    keys = [key for key in sizes if key in kernels] if ordered else kernels
    if len(keys) > 1 and not ordered and not named:
        raise SpecError(
            str(legacy.where), sorted(keys), "the order of its cameras is not in the checkpoint; say --cameras"
        )
    if named and not ordered:
        keys = sorted(keys, key=lambda key: _order(key, named))
    names = named or tuple(_camera_name(key) for key in keys)
    if len(names) != len(keys) or len(set(names)) != len(names):
        raise SpecError("--cameras", list(names), f"the checkpoint sees {len(keys)}", keys)
    cameras: list[Camera] = []
    for key, name in zip(keys, names, strict=True):
        size = sizes.get(key) or told
        if size is None:
            raise SpecError(
                f"{legacy.where}: {key}", None, "the size of its images is not in the checkpoint; say --image"
            )
        if told and told != size:
            raise SpecError("--image", list(told), f"the checkpoint's own config says {list(size)}")
        height, width = legacy.shape(f"encoder.spatial_embeddings.{key}.kernel", 4)[1:3]
        if (left := _map_of(size, backbone, cnn)) != (height, width):
            raise SpecError(
                f"{legacy.where}: {key}", list(size), f"such images leave {left}, the tensors take {height, width}"
            )
        cameras.append(Camera(key, name, ImageInput(height=size[0], width=size[1]), (height, width)))
    return tuple(cameras)


def _order(key: str, cameras: tuple[str, ...]) -> int:
    name = _camera_name(key)
    if name not in cameras:
        raise SpecError("--cameras", list(cameras), f"the checkpoint's camera {name} is not among them")
    return cameras.index(name)


def _image_sizes(config: Mapping[str, Any]) -> dict[str, tuple[int, int]]:
    """Height and width by feature key, in feature order."""
    sizes: dict[str, tuple[int, int]] = {}
    for field, shape in config.items():
        feature = field.removeprefix("input_features.").removesuffix(".shape")
        if field == f"input_features.{feature}.shape" and feature.startswith("observation.image"):
            if (
                not isinstance(shape, list | tuple)
                or len(shape) != 3
                or not all(type(n) is int and n > 0 for n in shape)
            ):
                raise SpecError(f"config {field}", shape, "should be channels, height and width")
            sizes[feature.replace(".", "_")] = (shape[1], shape[2])
    return sizes


def _map_of(size: tuple[int, int], backbone: Backbone, cnn: tuple[Convolution, ...]) -> tuple[int, int]:
    height, width = size
    if backbone is not Backbone.CNN:
        return -(-height // 32), -(-width // 32)
    for stage in cnn:
        height, width = ((side - stage.kernel) // stage.stride + 1 for side in (height, width))
    return height, width


def _camera_name(key: str) -> str:
    return re.sub(r"^observation_images?_", "", key)

"""A handful of real observation windows kept beside a checkpoint, so that an export can be checked anywhere."""

from __future__ import annotations

from pathlib import Path
from typing import Protocol

import numpy as np
import torch
from torch import Tensor

from learning.checkpoint import read_tensors, write_tensors
from learning.cloning.windows import Demonstrations, Windows
from learning.network.config import ActorConfig
from spec.errors import MisfitError

SAMPLES_FILE = "windows.safetensors"
COUNT = 12


class Histories(Protocol):
    """What windows of every kind have: state (batch, H, S), images by camera, mask (batch, H)."""

    @property
    def state(self) -> Tensor: ...

    @property
    def images(self) -> dict[str, Tensor]: ...

    @property
    def mask(self) -> Tensor: ...


def save_samples(path: Path, data: Demonstrations, count: int = COUNT) -> None:
    """Write ``count`` windows spread evenly over the data; the first begins an episode, so its history is padded."""
    rows = np.unique(np.linspace(0, len(data) - 1, count).astype(np.int64))
    write_samples(path, data.windows(rows), count)


def write_samples(path: Path, windows: Histories, count: int = COUNT) -> None:
    """Write the first ``count`` histories."""
    tensors = {"state": windows.state[:count], "mask": windows.mask[:count]}
    write_tensors(path, tensors | {f"image.{name}": image[:count] for name, image in windows.images.items()})


def load_samples(path: Path, config: ActorConfig) -> Windows:
    """Windows as :func:`save_samples` wrote them; they hold no actions.

    Raises:
        SpecError: not a tensor file.
        MisfitError: made for another actor.
    """
    tensors = read_tensors(path)
    count = len(tensors["mask"]) if "mask" in tensors else 0
    shape = (count, config.obs_history_length)
    wanted: dict[str, tuple[tuple[int, ...], torch.dtype]] = {
        "state": ((*shape, config.state_dim), torch.float32),
        "mask": (shape, torch.bool),
    }
    for name, image in config.cameras.items():
        wanted[f"image.{name}"] = ((*shape, image.height, image.width, 3), torch.uint8)
    found = {name: (tuple(tensor.shape), tensor.dtype) for name, tensor in tensors.items()}
    if not count or found != wanted:
        raise MisfitError(f"{path}: windows of another actor: holds {_said(found)}, needs {_said(wanted)}")
    images = {name: tensors[f"image.{name}"] for name in config.cameras}
    nothing: Tensor = torch.zeros(count, config.act_chunk_size, config.action_dim)
    return Windows(tensors["state"], images, tensors["mask"], nothing, torch.zeros(nothing.shape[:2], dtype=torch.bool))


def _said(found: dict[str, tuple[tuple[int, ...], torch.dtype]]) -> str:
    return ", ".join(f"{name} {'x'.join(map(str, shape))}" for name, (shape, _) in sorted(found.items())) or "nothing"

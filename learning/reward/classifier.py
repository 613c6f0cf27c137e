"""The classifier of success, and its folder on disk: ``config.json`` and ``model.safetensors``, tied by a hash."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path

import cv2
import numpy as np
import torch
from pydantic import Field, PositiveInt
from safetensors.torch import save
from torch import Tensor, nn

from learning.checkpoint import CONFIG_FILE, MODEL_FILE, read_tensors
from spec.arrays import Bytes, Float
from spec.errors import MisfitError, SpecError
from spec.files import sha256_of, write_atomically
from spec.manifest import ImageInput
from spec.robot import Section
from spec.robotfile import validated

CLASSIFIER_KIND = "success_classifier/1"
_STAGES = ((16, 5), (32, 3), (32, 3))
"""Channels and kernel of the convolutions, each with stride 2 and no padding."""
_SMALLEST = 29
"""Pixels that leave something for the last convolution to see."""
_BATCH = 256


class ClassifierConfig(Section):
    """``config.json``."""

    kind: str = CLASSIFIER_KIND
    cameras: dict[str, ImageInput] = Field(min_length=1)
    hidden: PositiveInt = 64
    threshold: float = Field(default=0.5, gt=0.0, lt=1.0)
    """Scores above it are taken for success."""
    in_a_row: PositiveInt = 2
    """Sights that must be, one after the other, before a reward is given."""
    model_sha256: str = ""
    """Of ``model.safetensors``."""
    held_out: dict[str, float] = Field(default_factory=dict)
    """How it did on episodes kept out of training; for people."""


class SuccessClassifier(nn.Module):
    """Pictures of one instant → whether the task is done.

    What lies where matters here and the cameras stand still, so the feature map goes whole into a Linear.
    """

    def __init__(self, config: ClassifierConfig) -> None:
        super().__init__()
        for name, size in config.cameras.items():
            if min(size.height, size.width) < _SMALLEST:
                raise SpecError(f"cameras.{name}", f"{size.height}x{size.width}", f"at least {_SMALLEST} pixels a side")
        self.config = config
        self.digest = config.model_sha256
        """Which classifier this is; empty before it is saved."""
        self.images = nn.ModuleList(_convolutions() for _ in config.cameras)
        with torch.no_grad():
            wide = sum(cnn(torch.zeros(1, 3, size.height, size.width)).shape[1] for cnn, size in self._each())
        self.head = nn.Sequential(nn.Linear(wide, config.hidden), nn.ReLU(), nn.Linear(config.hidden, 1))

    def _each(self) -> list[tuple[nn.Module, ImageInput]]:
        return list(zip(self.images, self.config.cameras.values(), strict=True))

    def forward(self, images: Mapping[str, Tensor]) -> Tensor:
        """By camera (batch, height, width, 3), 0 to 255 → logit of success (batch,)."""
        seen = [
            cnn(images[name].permute(0, 3, 1, 2).float() / 127.5 - 1.0)
            for name, cnn in zip(self.config.cameras, self.images, strict=True)
        ]
        logit: Tensor = self.head(torch.cat(seen, dim=1))
        return logit[:, 0]

    @torch.no_grad()
    def scores(self, images: Mapping[str, Bytes]) -> Float:
        """Probability of success at each sight, shape (sights,).

        Args:
            images: by camera, uint8 RGB (sights, height, width, 3); larger ones are averaged down to this size.

        Raises:
            MisfitError: a camera is missing, or its pictures are smaller than these were.
        """
        was_training, _ = self.training, self.eval()
        fitting = {name: _fit(name, images, size) for name, size in self.config.cameras.items()}
        count = len(next(iter(fitting.values())))
        found = np.zeros(count)
        for start in range(0, count, _BATCH):
            part = {name: torch.from_numpy(pictures[start : start + _BATCH]) for name, pictures in fitting.items()}
            found[start : start + _BATCH] = torch.sigmoid(self(part).double()).numpy()
        self.train(was_training)
        return found


def refuse_to_replace(folder: Path) -> None:
    """Raises SpecError where a classifier written to ``folder`` would wipe out a checkpoint of something else."""
    path = folder / CONFIG_FILE
    try:
        document = json.loads(path.read_bytes())
    except FileNotFoundError:
        return
    except (ValueError, RecursionError):
        document = None
    if not isinstance(document, dict) or document.get("kind") != CLASSIFIER_KIND:
        raise SpecError(str(path), "not a classifier of success", "not replaced; choose another --out")


def save_classifier(folder: Path, classifier: SuccessClassifier) -> None:
    """Write the weights, then the config with their hash; each file whole or not at all."""
    content = save({name: tensor.contiguous() for name, tensor in classifier.state_dict().items()})
    classifier.digest = hashlib.sha256(content).hexdigest()
    classifier.config = classifier.config.model_copy(update={"model_sha256": classifier.digest})
    write_atomically(folder / MODEL_FILE, content)
    write_atomically(folder / CONFIG_FILE, (classifier.config.model_dump_json(indent=2) + "\n").encode())


def load_classifier(folder: Path) -> SuccessClassifier:
    """Read a classifier, its hash verified, in evaluation mode.

    Raises:
        SpecError: none is there, or it was altered, cut off, or is something else.
    """
    path, model = folder / CONFIG_FILE, folder / MODEL_FILE
    try:
        document = json.loads(path.read_bytes())
    except OSError as error:
        raise SpecError(str(path), error.strerror, "not a classifier; train one: cadenza learn reward") from None
    except (ValueError, RecursionError) as error:
        raise SpecError(str(path), str(error), "not valid JSON") from None
    kind = document.get("kind") if isinstance(document, dict) else None
    if kind != CLASSIFIER_KIND:
        raise SpecError(f"{path}: kind", kind, "not a classifier of success", [CLASSIFIER_KIND])
    config = validated(ClassifierConfig, document, str(path))
    tensors = read_tensors(model)
    if (found := sha256_of(model)) != config.model_sha256:
        raise SpecError(str(model), found[:12], f"altered: {CONFIG_FILE} says {config.model_sha256[:12]}...")
    classifier = SuccessClassifier(config)
    wanted = {name: (tensor.shape, tensor.dtype) for name, tensor in classifier.state_dict().items()}
    if {name: (tensor.shape, tensor.dtype) for name, tensor in tensors.items()} != wanted:
        raise SpecError(str(model), "tensors", "are not those of this classifier")
    if not all(bool(tensor.isfinite().all()) for tensor in tensors.values()):
        raise SpecError(str(model), "not finite", "refused: weights must be finite numbers")
    classifier.load_state_dict(tensors)
    return classifier.eval()


def _convolutions() -> nn.Sequential:
    stages: list[nn.Module] = []
    channels = 3
    for wide, kernel in _STAGES:
        stages += [nn.Conv2d(channels, wide, kernel, stride=2), nn.ReLU()]
        channels = wide
    return nn.Sequential(*stages, nn.Flatten())


def _fit(name: str, images: Mapping[str, Bytes], size: ImageInput) -> Bytes:
    if name not in images:
        have = ", ".join(images) or "none"
        raise MisfitError(f"the classifier of success looks through camera {name!r}; there are pictures of: {have}")
    pictures = images[name]
    height, width = pictures.shape[1:3]
    if (height, width) == (size.height, size.width):
        return np.ascontiguousarray(pictures)
    if height < size.height or width < size.width:
        raise MisfitError(
            f"the classifier of success wants pictures of camera {name!r} of {size.height}x{size.width} or more, "
            f"not {height}x{width}; train one for that size: cadenza learn reward --image {height} {width}"
        )
    resized = [cv2.resize(one, (size.width, size.height), interpolation=cv2.INTER_AREA) for one in pictures]
    return np.stack(resized) if resized else np.zeros((0, size.height, size.width, 3), dtype=np.uint8)

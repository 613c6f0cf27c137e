"""The three forms in which legacy checkpoints lie on disk, read into one.

``warmup``       a torch file: ``actor_state_dict``, ``encoder_state_dict``, flat dotted ``config``, ``step``, ...
``lerobot``      a folder: ``config.json`` and ``model.safetensors`` of the whole learner, the actor under ``actor.``;
                 tensors that were tied are stored once, under one of their names, the others listed in the metadata
``safetensors``  a file of tensors alone

Nothing in any of them can run code.
"""

from __future__ import annotations

import json
import pickle
import struct
import warnings
import zipfile
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open
from torch import Tensor

from learning.checkpoint import CONFIG_FILE, MODEL_FILE, read_tensors
from learning.network.resnet import from_published
from spec.errors import SpecError

_ACTOR = "actor."
_ENCODER = "encoder."
IMAGES = "encoder.image_encoder.image_enc_layers."
_NORMALIZATION = "encoder.input_normalization."
_LEARNER = {
    "critic_ensemble",
    "critic_target",
    "encoder_actor",
    "encoder_critic",
    "log_alpha",
    "normalize_inputs",
    "normalize_targets",
    "unnormalize_outputs",
}
"""Parts of a learner beside its actor. The original's actor does not use them when it acts."""
_TORCH_ERRORS = (
    OSError,
    RuntimeError,
    pickle.UnpicklingError,
    EOFError,
    ValueError,
    TypeError,
    KeyError,
    IndexError,
    AttributeError,
    OverflowError,
    AssertionError,
    struct.error,
    zipfile.BadZipFile,
)
"""What torch.load raises on files that are damaged, foreign or hold code."""


class Format(StrEnum):
    WARMUP = "warmup"
    LEROBOT = "lerobot"
    SAFETENSORS = "safetensors"


@dataclass(frozen=True, slots=True, eq=False)
class Legacy:
    """A legacy checkpoint, whatever its form."""

    where: Path
    format: Format
    tensors: dict[str, Tensor]
    """Of the actor, under the names of :class:`export.legacy.original.Original`."""
    config: dict[str, Any]
    """Of the policy, flat: the names of nested fields are joined by dots. Empty where there is none."""
    left: dict[str, int]
    """Parts that are not the actor's, and how many tensors each has."""
    wrapped: bool
    """The image encoder's convolutions sit in wrappers, as in the later of its published forms."""

    def shape(self, name: str, axes: int) -> tuple[int, ...]:
        """Of the tensor ``name``. Raises SpecError: there is none, or it has another number of axes."""
        if name not in self.tensors:
            raise SpecError(str(self.where), name, "tensor is missing; not a sequence actor, or not all of it")
        shape = tuple(self.tensors[name].shape)
        if len(shape) != axes or 0 in shape:
            raise SpecError(f"{self.where}: {name}", shape, f"should have {axes} axes, none of them empty")
        return shape


def is_legacy(path: Path) -> bool:
    """Whether ``path`` is to be read as a legacy checkpoint: a file, or a folder whose config says no ``kind``."""
    if path.is_file():
        return True
    try:
        document = json.loads((path / CONFIG_FILE).read_bytes())
    except (OSError, ValueError, RecursionError):
        return False
    return isinstance(document, dict) and "kind" not in document


def read_legacy(path: Path, form: Format | None = None) -> Legacy:
    """Read a legacy checkpoint; its form is seen from what is there unless given.

    Raises:
        SpecError: not there, damaged, foreign, holding code, or with tensors that belong to no known part.
    """
    seen = _form(path)
    form = form or seen
    config: dict[str, Any] = {}
    match form:
        case Format.WARMUP:
            where = path
            tensors, config = _read_warmup(path)
        case Format.LEROBOT:
            where = path / MODEL_FILE
            config = _flat_config(_read_json(path / CONFIG_FILE))
            tensors = _untied(read_tensors(where), where)
        case Format.SAFETENSORS:
            where = path
            tensors = _untied(_read_alone(where), where)
    actor, left = _actor_part({name.replace("_orig_mod.", ""): t for name, t in tensors.items()}, where)
    if not actor:
        raise SpecError(str(where), f"{len(tensors)} tensors", "no sequence actor among them")
    wrapped = any(name.startswith(IMAGES) and ".conv.weight" in name for name in actor)
    return Legacy(where, form, _renamed(actor), config, left, wrapped)


def _form(path: Path) -> Format:
    if path.is_dir():
        return Format.LEROBOT
    try:
        with path.open("rb") as file:
            first = file.read(9)
    except OSError as error:
        raise SpecError(str(path), error.strerror, "cannot read the checkpoint") from None
    # A file of tensors begins with the length of a JSON object and may have any first byte.
    pickled = first[:1] == b"\x80" and first[8:] != b"{"
    return Format.WARMUP if pickled or first[:4] == b"PK\x03\x04" else Format.SAFETENSORS


def _read_alone(path: Path) -> dict[str, Tensor]:
    """Whatever is neither a folder nor looks like a torch file."""
    try:
        return read_tensors(path)
    except SpecError as error:
        forms = "read are a .pt file of the warm-up, a folder with config.json and model.safetensors, .safetensors"
        raise SpecError(error.where, error.value, f"{error.reason}; {forms}") from None


def _read_warmup(path: Path) -> tuple[dict[str, Tensor], dict[str, Any]]:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of files of other origin; those that cannot be read are refused
            # Mapped, so that the optimiser's moments, twice the size of the actor, are never read.
            document = torch.load(path, map_location="cpu", weights_only=True, mmap=zipfile.is_zipfile(path) or None)
    except _TORCH_ERRORS as error:
        raise SpecError(str(path), _first_line(error), "cut off, foreign, or holding more than tensors") from None
    parts = {name: _tensors(document, name, path) for name in ("actor_state_dict", "encoder_state_dict")}
    tensors = parts["actor_state_dict"]
    for name, tensor in parts["encoder_state_dict"].items():
        # The original loads these last, so where both are there they must agree.
        if not torch.equal(tensors.setdefault(_ENCODER + name, tensor), tensor):
            raise SpecError(f"{path}: {_ENCODER}{name}", "two values", "actor_state_dict and encoder_state_dict differ")
    config = document.get("config", {})
    if not isinstance(config, dict):
        raise SpecError(f"{path}: config", type(config).__name__, "should be a mapping of fields")
    return tensors, _flat_config(config)


def _tensors(document: object, part: str, path: Path) -> dict[str, Tensor]:
    found = document.get(part) if isinstance(document, dict) else None
    if found is None and part == "encoder_state_dict" and isinstance(document, dict):
        return {}
    if not isinstance(found, Mapping):
        raise SpecError(
            f"{path}: {part}", type(found).__name__, "no warm-up checkpoint: this should map names to tensors"
        )
    for name, tensor in found.items():
        if not isinstance(name, str) or not isinstance(tensor, Tensor):
            raise SpecError(f"{path}: {part}: {name}", type(tensor).__name__, "should be a tensor")
        if tensor.layout is not torch.strided or tensor.is_meta:
            raise SpecError(f"{path}: {part}: {name}", str(tensor.layout), "should be a tensor that holds its numbers")
    return dict(found)


def _read_json(path: Path) -> dict[str, Any]:
    try:
        document = json.loads(path.read_bytes())
    except OSError as error:
        raise SpecError(str(path), error.strerror, "no config beside the tensors") from None
    except (ValueError, RecursionError) as error:
        raise SpecError(str(path), str(error), "not valid JSON") from None
    if not isinstance(document, dict):
        raise SpecError(str(path), type(document).__name__, "a config is a mapping of fields")
    return document


def _untied(tensors: dict[str, Tensor], where: Path) -> dict[str, Tensor]:
    """Tensors under all their names: the metadata says which stored one each dropped name stands for."""
    with safe_open(where, framework="pt") as file:
        metadata: dict[str, str] = file.metadata() or {}
    for dropped, kept in metadata.items():
        if kept in tensors:
            tensors.setdefault(dropped, tensors[kept])
        elif "." in dropped and "." in kept:
            raise SpecError(f"{where}: {dropped}", kept, "tied to a tensor that is missing")
    return tensors


def _actor_part(tensors: Mapping[str, Tensor], where: Path) -> tuple[dict[str, Tensor], dict[str, int]]:
    """The actor's tensors, without prefix, and the number of tensors of each other part."""
    if not any(name.startswith(_ACTOR) for name in tensors):
        return dict(tensors), {}
    actor: dict[str, Tensor] = {}
    left: Counter[str] = Counter()
    for name, tensor in tensors.items():
        part = name.partition(".")[0]
        if name.startswith(_ACTOR):
            actor[name.removeprefix(_ACTOR)] = tensor
        elif part.startswith("discrete_critic"):
            raise SpecError(f"{where}: {name}", part, "a critic that picks discrete actions cannot be carried over")
        elif part in _LEARNER:
            left[part] += 1
        else:
            raise SpecError(f"{where}: {name}", part, "belongs to no known part", [_ACTOR[:-1], *sorted(_LEARNER)])
    for name, tensor in tensors.items():
        if name.startswith("normalize_inputs."):  # the actor's encoder normalises with this very module
            actor.setdefault(_NORMALIZATION + name.removeprefix("normalize_inputs."), tensor)
    return actor, dict(left)


def _renamed(actor: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The image encoder's tensors under the names of :mod:`learning.network.resnet`; plain convolutions stay."""
    images = {name.removeprefix(IMAGES): tensor for name, tensor in actor.items() if name.startswith(IMAGES)}
    others = {name: tensor for name, tensor in actor.items() if not name.startswith(IMAGES)}
    return others | {IMAGES + name: tensor for name, tensor in from_published(images).items()}


def _flat_config(document: Mapping[str, Any]) -> dict[str, Any]:
    """Nested or already flat; where the policy is one part of a training config, that part."""
    flat: dict[str, Any] = {}

    def visit(prefix: str, value: object) -> None:
        if isinstance(value, Mapping):
            for name, inner in value.items():
                visit(f"{prefix}.{name}" if prefix else str(name), inner)
        else:
            flat[prefix] = value

    visit("", document)
    policy = {name.removeprefix("policy."): value for name, value in flat.items() if name.startswith("policy.")}
    return policy or flat


def _first_line(error: Exception) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0][:120]

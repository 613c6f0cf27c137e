"""Checkpoints on disk: a folder with ``config.json`` and ``model.safetensors``. Nothing in it can run code."""

from __future__ import annotations

import json
import struct
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pydantic import Field
from safetensors import SafetensorError, safe_open
from safetensors.torch import load, save
from torch import Tensor, nn

from learning.network.actor import SequenceActor
from learning.network.config import ACTOR_KIND, ActorConfig
from spec.errors import SpecError
from spec.files import write_atomically
from spec.robot import Section
from spec.robotfile import validated

CONFIG_FILE = "config.json"
MODEL_FILE = "model.safetensors"
_LARGEST_HEADER = 100_000_000


class CheckpointConfig(Section):
    """``config.json``."""

    kind: str = ACTOR_KIND
    actor: ActorConfig
    weights: int = Field(default=1, ge=0)
    """Weight version; grows as one learner goes on."""
    calibration: str | None = None
    """Hash of the calibration that the data was recorded under; None: any."""
    training: dict[str, Any] = Field(default_factory=dict)
    """How it came about, for people."""


def save_checkpoint(folder: Path, actor: SequenceActor, config: CheckpointConfig) -> None:
    """Write weights, then config; each file whole or not at all."""
    write_tensors(folder / MODEL_FILE, actor.state_dict())
    write_atomically(folder / CONFIG_FILE, (config.model_dump_json(indent=2) + "\n").encode())


def load_checkpoint(folder: Path) -> tuple[SequenceActor, CheckpointConfig]:
    """Read a checkpoint; the actor is returned in evaluation mode.

    Raises:
        SpecError: not a checkpoint, of another kind, cut off, or with tensors that are not this actor's.
    """
    config = read_config(folder)
    actor = SequenceActor(config.actor)
    load_weights(actor, read_tensors(folder / MODEL_FILE), folder / MODEL_FILE)
    return actor.eval(), config


def read_config(folder: Path) -> CheckpointConfig:
    """Read ``config.json`` alone. Raises SpecError."""
    path = folder / CONFIG_FILE
    try:
        document = json.loads(path.read_bytes())
    except OSError as error:
        raise SpecError(str(path), error.strerror, "not a checkpoint; make one: cadenza learn warmup") from None
    except (ValueError, RecursionError) as error:
        raise SpecError(str(path), str(error), "not valid JSON") from None
    kind = document.get("kind") if isinstance(document, dict) else None
    if kind != ACTOR_KIND:
        raise SpecError(f"{path}: kind", kind, "not a checkpoint of this program", [ACTOR_KIND])
    return validated(CheckpointConfig, document, str(path))


def load_weights(actor: nn.Module, tensors: Mapping[str, Tensor], where: Path) -> None:
    """Put ``tensors`` into ``actor``; every one must be there, be finite and have the right shape."""
    wanted = actor.state_dict()
    for name in wanted.keys() - tensors.keys():
        raise SpecError(str(where), name, "tensor is missing")
    for name, tensor in tensors.items():
        if name not in wanted:
            raise SpecError(str(where), name, "no such tensor in this actor")
        if tensor.dtype != wanted[name].dtype:
            raise SpecError(f"{where}: {name}", str(tensor.dtype), f"type should be {wanted[name].dtype}")
        if tensor.shape != wanted[name].shape:
            raise SpecError(f"{where}: {name}", tuple(tensor.shape), f"shape should be {tuple(wanted[name].shape)}")
        if not bool(tensor.isfinite().all()):
            raise SpecError(f"{where}: {name}", "not finite", "refused: weights must be finite numbers")
    actor.load_state_dict(dict(tensors))


def write_tensors(path: Path, tensors: Mapping[str, Tensor], facts: Mapping[str, str] | None = None) -> None:
    """Write a safetensors file atomically; ``facts`` go into its header, so that both are of the same instant."""
    content = save({name: tensor.detach().contiguous() for name, tensor in tensors.items()}, dict(facts or {}) or None)
    write_atomically(path, content)


def read_tensors(path: Path) -> dict[str, Tensor]:
    """Read a safetensors file. Raises SpecError."""
    try:
        content = path.read_bytes()
    except OSError as error:
        raise SpecError(str(path), error.strerror, "cannot read the tensors") from None
    if len(content) < 8 or struct.unpack("<Q", content[:8])[0] > min(_LARGEST_HEADER, len(content)):
        raise SpecError(str(path), f"{len(content)} bytes", "not a safetensors file, or cut off")
    try:
        tensors: dict[str, Tensor] = load(content)
    except (SafetensorError, ValueError) as error:
        raise SpecError(str(path), str(error), "not a safetensors file, or cut off") from None
    return tensors


def read_facts(path: Path) -> dict[str, str]:
    """What :func:`write_tensors` put into the header of a file that :func:`read_tensors` reads. Raises SpecError."""
    try:
        with safe_open(path, framework="pt") as file:
            facts: dict[str, str] = file.metadata() or {}
    except OSError as error:
        raise SpecError(str(path), error.strerror, "cannot read the tensors") from None
    except (SafetensorError, ValueError) as error:
        raise SpecError(str(path), str(error), "not a safetensors file, or cut off") from None
    return facts

"""Checkpoints come back whole, and anything else is refused in one line."""

from __future__ import annotations

import json
import pickle
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from small_actors import make_actor, observe

from learning.checkpoint import CONFIG_FILE, MODEL_FILE, CheckpointConfig, load_checkpoint, save_checkpoint
from spec.errors import SpecError


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    actor = make_actor()
    save_checkpoint(tmp_path, actor, CheckpointConfig(actor=actor.config, weights=3, training={"seed": 1}))
    return tmp_path


def _refused(folder: Path) -> str:
    with pytest.raises(SpecError) as caught:
        load_checkpoint(folder)
    message = str(caught.value)
    assert "\n" not in message
    assert str(folder) in message
    return message


def test_round_trip(folder: Path) -> None:
    actor, config = load_checkpoint(folder)
    assert (config.weights, config.training) == (3, {"seed": 1})
    original = make_actor()
    state, images = observe(original, 2)
    mask = torch.ones(2, 3, dtype=torch.bool)
    assert torch.equal(actor(state, images, mask), original(state, images, mask))


def test_missing(tmp_path: Path) -> None:
    assert "not a checkpoint" in _refused(tmp_path / "nowhere")


@pytest.mark.parametrize("length", [0, 5, 100, 5000, -1])
def test_cut_off(folder: Path, length: int) -> None:
    content = (folder / MODEL_FILE).read_bytes()
    (folder / MODEL_FILE).write_bytes(content[:length])
    assert "cut off" in _refused(folder)


def test_pickle_is_never_loaded(folder: Path, tmp_path: Path) -> None:
    class Evil:
        def __reduce__(self) -> tuple[object, ...]:
            return (Path.touch, (tmp_path / "owned",))

    (folder / MODEL_FILE).write_bytes(pickle.dumps(Evil()))
    assert "not a safetensors file" in _refused(folder)
    assert not (tmp_path / "owned").exists()


def test_foreign_tensors(folder: Path) -> None:
    tensors = load_file(folder / MODEL_FILE)
    save_file(tensors | {"encoder.extra": torch.zeros(1)}, folder / MODEL_FILE)
    assert "encoder.extra" in _refused(folder)
    renamed = {name.replace("start", "begin"): tensor for name, tensor in tensors.items()}
    save_file(renamed, folder / MODEL_FILE)
    assert "'start': tensor is missing" in _refused(folder)
    save_file(tensors | {"start": torch.zeros(7)}, folder / MODEL_FILE)
    assert "(7,)" in _refused(folder)
    save_file(tensors | {"start": torch.full((32,), float("nan"))}, folder / MODEL_FILE)
    assert "finite" in _refused(folder)
    save_file(tensors | {"start": torch.zeros(32, dtype=torch.float8_e4m3fn)}, folder / MODEL_FILE)
    assert "type should be torch.float32" in _refused(folder)


def test_foreign_config(folder: Path) -> None:
    document = json.loads((folder / CONFIG_FILE).read_text())
    (folder / CONFIG_FILE).write_text(json.dumps({**document, "kind": "act/9"}))
    assert "valid: sequence_actor/1" in _refused(folder)
    (folder / CONFIG_FILE).write_text(json.dumps({"type": "act", "hidden_dim": 3}))
    assert "not a checkpoint of this program" in _refused(folder)
    document["actor"]["act_n_heads"] = 5
    (folder / CONFIG_FILE).write_text(json.dumps(document))
    assert "not a multiple of act_n_heads" in _refused(folder)
    (folder / CONFIG_FILE).write_text("{")
    assert "not valid JSON" in _refused(folder)

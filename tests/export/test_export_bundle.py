"""A checkpoint becomes a bundle that says the same, or no bundle."""

from __future__ import annotations

import contextlib
import io
import json
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from safetensors.torch import save_file

from cadenza.cli import main
from export.bundle import read_bundle, write_bundle
from export.exporter import DECODER_FILE, ENCODER_FILE, export_checkpoint
from export.graphs import decoder_graph, encoder_graph
from export.parity import Graphs, measure_parity
from learning.checkpoint import CheckpointConfig, load_checkpoint, save_checkpoint
from learning.cloning.samples import SAMPLES_FILE
from learning.cloning.windows import Windows
from learning.network.actor import SequenceActor
from learning.network.config import ActorConfig, Convolution, DecoderKind, Pooling
from spec.action import ActionSpace
from spec.errors import CadenzaError, MisfitError, SpecError
from spec.manifest import ImageInput, StateFeature


def _actor(**changes) -> SequenceActor:
    torch.manual_seed(3)
    settings = {
        "joints": ("a", "b"),
        "state": (StateFeature.POSITION, StateFeature.VELOCITY),
        "cameras": {"top": ImageInput(height=20, width=24)},
        "obs_history_length": 3,
        "act_chunk_size": 3,
        "act_dim_model": 16,
        "act_n_heads": 2,
        "act_dim_feedforward": 24,
        "act_n_encoder_layers": 1,
        "act_n_decoder_layers": 2,
        "latent_dim": 8,
        "cnn": (Convolution(channels=4, kernel=5),),
        "spatial_features": 2,
    }
    actor = SequenceActor(ActorConfig(**{**settings, **changes})).eval()
    with torch.no_grad():
        actor.normalization.state_mean.fill_(0.3)
        actor.normalization.state_std.fill_(2.0)
        actor.normalization.action_low.copy_(torch.tensor([-1.0, -0.2]))
        actor.normalization.action_high.copy_(torch.tensor([0.5, 0.9]))
    return actor


def _windows(actor: SequenceActor, count: int = 4) -> Windows:
    config = actor.config
    generator = torch.Generator().manual_seed(4)
    shape = (count, config.obs_history_length)
    images = {
        name: torch.randint(0, 256, (*shape, i.height, i.width, 3), generator=generator, dtype=torch.uint8)
        for name, i in config.cameras.items()
    }
    mask = torch.ones(shape, dtype=torch.bool)
    mask[0, :2] = False
    nothing = torch.zeros(count, config.act_chunk_size, config.action_dim)
    state = torch.randn(*shape, config.state_dim, generator=generator)
    return Windows(state, images, mask, nothing, torch.zeros(nothing.shape[:2], dtype=torch.bool))


def _checkpoint(folder: Path, actor: SequenceActor, windows: bool = True) -> Path:
    save_checkpoint(folder, actor, CheckpointConfig(actor=actor.config, weights=7))
    if windows:
        real = _windows(actor)
        tensors = {"state": real.state, "mask": real.mask}
        save_file(tensors | {f"image.{n}": i for n, i in real.images.items()}, folder / SAMPLES_FILE)
    return folder


@pytest.fixture(scope="module")
def exported(tmp_path_factory) -> tuple[Path, Path]:
    folder = tmp_path_factory.mktemp("export")
    checkpoint = _checkpoint(folder / "checkpoint", _actor())
    said = io.StringIO()
    with contextlib.redirect_stdout(said):
        assert main(["export", str(checkpoint), "--out", str(folder / "bundle"), "--json"]) == 0
    assert json.loads(said.getvalue())["parity"]["windows"] == 4
    return checkpoint, folder / "bundle"


def test_bundle_says_what_the_actor_says(exported) -> None:
    checkpoint, folder = exported
    manifest = read_bundle(folder).manifest
    assert manifest.weights == 7
    assert manifest.joints == ("a", "b")
    assert manifest.parity.windows == 4
    assert manifest.parity.max_ticks < 0.05
    actor, _ = load_checkpoint(checkpoint)
    graphs = Graphs((folder / ENCODER_FILE).read_bytes(), (folder / DECODER_FILE).read_bytes())
    parity = measure_parity(actor, graphs, _windows(actor), lambda: None)
    assert parity.max_abs < 1e-5


def test_graph_inputs_are_those_of_the_contract(exported) -> None:
    _, folder = exported
    found = {}
    for name in (ENCODER_FILE, DECODER_FILE):
        graph = onnx.load(folder / name).graph
        for value in (*graph.input, *graph.output):
            kind = value.type.tensor_type
            found[value.name] = (kind.elem_type, tuple(d.dim_value for d in kind.shape.dim))
        assert not {node.op_type for node in graph.node} & {"Loop", "If", "Scan"}
    assert found == {
        "state": (onnx.TensorProto.FLOAT, (1, 4)),
        "image.top": (onnx.TensorProto.UINT8, (1, 20, 24, 3)),
        "feature": (onnx.TensorProto.FLOAT, (1, 16)),
        "features": (onnx.TensorProto.FLOAT, (1, 3, 16)),
        "mask": (onnx.TensorProto.BOOL, (1, 3)),
        "noise": (onnx.TensorProto.FLOAT, (1, 3, 2)),
        "actions": (onnx.TensorProto.FLOAT, (1, 3, 2)),
    }


def test_noise_samples_and_zeros_do_not(exported) -> None:
    _, folder = exported
    graphs = Graphs((folder / ENCODER_FILE).read_bytes(), (folder / DECODER_FILE).read_bytes())
    features, mask = np.ones((3, 16), np.float32), np.ones(3, np.bool_)
    quiet = np.zeros((3, 2), np.float32)
    loud = np.ones((3, 2), np.float32)
    assert np.array_equal(graphs.decode(features, mask, quiet), graphs.decode(features, mask, quiet))
    assert np.abs(graphs.decode(features, mask, quiet) - graphs.decode(features, mask, loud)).max() > 1e-3


def test_masked_slots_do_not_reach_the_actions(exported) -> None:
    _, folder = exported
    graphs = Graphs((folder / ENCODER_FILE).read_bytes(), (folder / DECODER_FILE).read_bytes())
    mask, quiet = np.array([False, True, True]), np.zeros((3, 2), np.float32)
    one, other = np.ones((3, 16), np.float32), np.ones((3, 16), np.float32)
    other[0] = np.nan
    assert np.array_equal(graphs.decode(one, mask, quiet), graphs.decode(other, mask, quiet))


def test_parallel_and_delta_actors_export_too() -> None:
    actor = _actor(
        decoder=DecoderKind.PARALLEL,
        pooling=Pooling.KEYPOINTS,
        action_space=ActionSpace.JOINT_DELTA,
        act_n_decoder_layers=1,
    )
    graphs = Graphs(encoder_graph(actor), decoder_graph(actor))
    assert measure_parity(actor, graphs, _windows(actor), lambda: None).max_abs < 1e-5


def test_parity_sees_a_changed_actor(exported) -> None:
    """What refusal rests on: a graph of other weights is measured as different, and in the right unit."""
    checkpoint, folder = exported
    actor, _ = load_checkpoint(checkpoint)
    graphs = Graphs((folder / ENCODER_FILE).read_bytes(), (folder / DECODER_FILE).read_bytes())
    with torch.no_grad():
        actor.normalization.action_low += 0.01
        actor.normalization.action_high += 0.01
    parity = measure_parity(actor, graphs, _windows(actor), lambda: None)
    assert parity.max_abs_rad > 0.008
    assert parity.max_ticks == pytest.approx(parity.max_abs_rad * 4096 / (2 * np.pi))


def test_refused_above_the_tolerance_and_nothing_is_written(tmp_path, capsys) -> None:
    checkpoint = _checkpoint(tmp_path / "checkpoint", _actor(decoder=DecoderKind.PARALLEL, act_n_decoder_layers=1))
    out = tmp_path / "bundle"
    assert main(["export", str(checkpoint), "--out", str(out), "--max-ticks", "0"]) == 2
    error = capsys.readouterr().err
    assert "--max-ticks 0" in error
    assert error.count("\n") == 1
    assert not out.exists()


def test_refused_without_real_windows(tmp_path) -> None:
    checkpoint = _checkpoint(tmp_path / "checkpoint", _actor(), windows=False)
    with pytest.raises(SpecError, match="--data"):
        export_checkpoint(checkpoint, tmp_path / "bundle")


def test_refused_with_windows_of_another_actor(tmp_path) -> None:
    checkpoint = _checkpoint(tmp_path / "checkpoint", _actor())
    save_checkpoint(checkpoint, (other := _actor(obs_history_length=2)), CheckpointConfig(actor=other.config))
    with pytest.raises(MisfitError, match="windows of another actor"):
        export_checkpoint(checkpoint, tmp_path / "bundle")


def test_a_policy_that_is_not_finite_is_refused(exported) -> None:
    checkpoint, folder = exported
    actor, _ = load_checkpoint(checkpoint)
    graphs = Graphs((folder / ENCODER_FILE).read_bytes(), (folder / DECODER_FILE).read_bytes())
    broken = _windows(actor)
    broken.state[1, -1] = float("nan")
    with pytest.raises(CadenzaError, match="not a usable policy"):
        measure_parity(actor, graphs, broken, lambda: None)


def test_only_an_older_bundle_is_ever_replaced(exported, tmp_path) -> None:
    """``--out runs`` used to wipe out the whole folder runs."""
    checkpoint, folder = exported
    (tmp_path / "runs").mkdir()
    (tmp_path / "runs" / "precious.mcap").write_bytes(b"episode")
    with pytest.raises(SpecError, match="other things in it"):
        export_checkpoint(checkpoint, tmp_path / "runs")
    bundle = read_bundle(folder)
    files = {name: (folder / name).read_bytes() for name in bundle.manifest.files}
    with pytest.raises(SpecError, match="other things in it"):
        write_bundle(tmp_path / "runs", bundle.manifest, files)
    assert (tmp_path / "runs" / "precious.mcap").read_bytes() == b"episode"
    for _ in range(2):
        write_bundle(tmp_path / "bundle", bundle.manifest, files)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["bundle", "runs"]


def test_parity_with_an_actor_that_is_not_finite_is_refused(exported) -> None:
    """Compared with NaN nothing is larger: such an actor used to be called equal to its graphs."""
    checkpoint, folder = exported
    actor, _ = load_checkpoint(checkpoint)
    graphs = Graphs((folder / ENCODER_FILE).read_bytes(), (folder / DECODER_FILE).read_bytes())
    with torch.no_grad():
        actor.normalization.action_high.fill_(float("nan"))
    with pytest.raises(CadenzaError, match="the actor gives nan"):
        measure_parity(actor, graphs, _windows(actor), lambda: None)

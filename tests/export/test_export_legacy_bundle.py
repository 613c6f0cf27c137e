"""A legacy checkpoint becomes a bundle that says what the original says at run time."""

from __future__ import annotations

import contextlib
import io
import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from legacy_reference import loaded, observed

from cadenza.cli import main
from export.bundle import Bundle, read_bundle
from export.legacy.anatomy import Told
from export.legacy.fixture import SMALL, actor_tensors, write_fixture
from export.legacy.formats import Format
from export.legacy.original import drawn_noise
from export.legacy.policy import Place, load_original, placed
from export.parity import Graphs
from spec.action import ActionSpace
from spec.errors import MisfitError, SpecError
from spec.manifest import StateFeature, check_fit
from spec.robotfile import load_robot

SIZE = replace(SMALL, encoder_layers=1, decoder_layers=1, chunk=3, environment=2, normalized=True)
LOW, HIGH = (-0.1, -0.2, 0.0), (0.1, 0.2, 0.5)
FLAGS = ["--joints", "a", "b", "c", "--action-space", "joint_delta", "--step-s", "0.05"]
FLAGS += ["--action-low", *map(str, LOW), "--action-high", *map(str, HIGH)]


@pytest.fixture(scope="module")
def bundle(tmp_path_factory) -> Bundle:
    folder = tmp_path_factory.mktemp("legacy")
    path = write_fixture(folder, Format.WARMUP, SIZE)
    said = io.StringIO()
    with contextlib.redirect_stdout(said):
        assert main(["export", str(path), "--out", str(folder / "bundle"), *FLAGS, "--json"]) == 0
    assert json.loads(said.getvalue())["parity"] == read_bundle(folder / "bundle").manifest.parity.model_dump()
    return read_bundle(folder / "bundle")


def _graphs(bundle: Bundle) -> Graphs:
    return Graphs(bundle.encoder.read_bytes(), bundle.decoder.read_bytes())


def _features(graphs: Graphs, history: list[dict[str, torch.Tensor]], row: int) -> np.ndarray:
    """As the robot encodes them: one frame after the other, 8-bit RGB rows of pixels."""
    features = []
    for observation in history:
        state = np.concatenate([observation[f"observation.{key}"][row] for key in ("environment_state", "state")])
        image = (observation["observation.images.front"][row] * 255).round().to(torch.uint8).permute(1, 2, 0)
        features.append(graphs.encode(state.astype(np.float32), {"front": np.ascontiguousarray(image.numpy())}))
    return np.stack(features)


def test_graphs_say_what_the_original_says(bundle) -> None:
    """Means, and chunks sampled from a seed, against stock torch layers; histories whole and short."""
    graphs, reference = _graphs(bundle), loaded(SIZE, actor_tensors(SIZE))
    history = observed(SIZE, batch=2, frames=SIZE.history)
    half, middle = (np.array(HIGH) - LOW) / 2, (np.array(HIGH) + LOW) / 2
    for real in range(1, SIZE.history + 1):
        torch.manual_seed(4)
        said = reference(history[-real:])
        noise = drawn_noise(2, SIZE.chunk, SIZE.action_dim, torch.Generator().manual_seed(4)).numpy()
        mask = np.arange(SIZE.history) >= SIZE.history - real
        for row in range(2):
            features = np.where(mask[:, None], _features(graphs, history, row), np.float32(np.nan))
            quiet = graphs.decode(features, mask, np.zeros_like(noise[row]))
            assert np.abs((quiet - middle) / half - said.means[row].tanh().numpy()).max() <= 1e-5
            loud = graphs.decode(features, mask, noise[row])
            assert np.abs((loud - middle) / half - said.actions[row].numpy()).max() <= 1e-5


def test_the_manifest_says_where_it_is_from(bundle) -> None:
    manifest = bundle.manifest
    assert manifest.actor == "legacy_sequence_actor/1"
    assert manifest.observation.vectors == {"environment_state": 2, "state": 7}
    assert manifest.observation.state == ()
    assert manifest.observation.history == SIZE.history
    assert (manifest.observation.step_s, manifest.action.step_s) == (0.05, 0.05)
    assert manifest.action.space is ActionSpace.JOINT_DELTA
    # No real windows were at hand, and nobody is told that there were.
    assert (manifest.parity.windows, manifest.parity.random) == (0, 12)
    assert manifest.parity.max_abs <= 1e-5


def test_no_arm_is_driven_by_numbers_that_it_cannot_measure(bundle) -> None:
    robot = load_robot(Path("robots/virtual.yaml"))
    manifest = bundle.manifest.model_copy(update={"joints": robot.follower.names})
    with pytest.raises(MisfitError, match=r"wants environment_state \(2 numbers\), state \(7 numbers\)"):
        check_fit(manifest, robot)


def test_a_state_that_fits_the_joints_can_be_said_to_be_theirs(tmp_path) -> None:
    """Then joints come first, as in every bundle; the same numbers give the same chunk."""
    path = write_fixture(tmp_path, Format.WARMUP, size := replace(SIZE, state=6))
    original, _ = load_original(path, Told())
    bare = Place(("a", "b", "c"), ActionSpace.JOINT_POSITION, 0.1, (-1.0,), (1.0,))
    said = replace(bare, state=(StateFeature.POSITION, StateFeature.VELOCITY))
    policies = [placed(original, place, path) for place in (bare, said)]
    assert policies[1].config.observation().vectors == {"environment_state": 2}
    history = observed(size, batch=1, frames=size.history)
    chunks = []
    for policy, order in zip(policies, (("environment_state", "state"), ("state", "environment_state")), strict=True):
        state = torch.cat([torch.stack([o[f"observation.{key}"] for o in history], 1) for key in order], -1)
        images = {"front": torch.zeros(1, size.history, 64, 64, 3, dtype=torch.uint8)}
        with torch.no_grad():
            mask = torch.ones(1, size.history, dtype=torch.bool)
            chunks.append(policy(state, images, mask, torch.zeros(1, size.chunk, 3)))
    assert torch.equal(*chunks)
    with pytest.raises(SpecError, match="the checkpoint's state has 6"):
        placed(original, replace(bare, state=(StateFeature.POSITION,)), path)


def test_a_folder_of_other_things_is_left_alone(tmp_path, capsys) -> None:
    path = write_fixture(tmp_path, Format.WARMUP, SIZE)
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "thesis.txt").write_text("x")
    assert main(["export", str(path), "--out", str(tmp_path / "out"), *FLAGS]) == 2
    assert "not replaced" in capsys.readouterr().err


def test_episodes_hold_no_such_numbers(tmp_path, capsys) -> None:
    path = write_fixture(tmp_path, Format.WARMUP, SIZE)
    assert main(["export", str(path), "--out", str(tmp_path / "b"), *FLAGS, "--data", str(tmp_path)]) == 2
    assert "episodes hold no environment_state, state" in capsys.readouterr().err

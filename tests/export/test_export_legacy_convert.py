"""A legacy checkpoint becomes an actor of ours that says what the original said in training."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest
import torch
from legacy_reference import loaded, observed

from cadenza.cli import main
from export.legacy.anatomy import ResnetPadding, Told
from export.legacy.convert import converted, disagreement
from export.legacy.fixture import SMALL, Size, actor_tensors, write_fixture
from export.legacy.formats import Format
from export.legacy.original import drawn_noise
from export.legacy.policy import LegacyPolicy, Place, load_original, placed
from learning.checkpoint import load_checkpoint
from learning.network.actor import SequenceActor
from spec.action import ActionSpace
from spec.errors import CadenzaError
from spec.manifest import StateFeature

SIZES = {
    "plain": SMALL,
    "statistics": replace(SMALL, normalized=True),
    "two cameras, environment": replace(SMALL, cameras=("wrist", "front"), environment=5, normalized=True),
    "environment alone": replace(SMALL, cameras=(), state=0, environment=4),
    "resnet": replace(SMALL, resnet=True),
    "norms first": replace(SMALL, pre_norm=True),
    "gelu": replace(SMALL, cameras=(), activation="gelu"),
}
PLACE = Place(("a", "b", "c"), ActionSpace.JOINT_DELTA, 0.1, action_low=(-0.1, -0.2, 0.0), action_high=(0.1, 0.2, 0.5))
SPAN = ("--action-low", "-0.1", "--action-high", "0.1")


def _policy(folder, size: Size, place: Place = PLACE, told: Told | None = None) -> LegacyPolicy:
    path = write_fixture(folder, Format.WARMUP, size)
    return placed(load_original(path, told or Told())[0], place, path)


def _seen(size: Size, history: list[dict[str, torch.Tensor]], order: tuple[str, ...]) -> tuple[torch.Tensor, dict]:
    """The same as a robot of ours would see it."""
    state = torch.cat([torch.stack([o[f"observation.{key}"] for o in history], 1) for key in order], -1)
    images = {}
    for name in size.cameras:
        pixels = torch.stack([o[f"observation.images.{name}"] for o in history], 1)
        images[name] = (pixels * 255).round().to(torch.uint8).permute(0, 1, 3, 4, 2)
    return state, images


def _compare(actor: SequenceActor, size: Size, order: tuple[str, ...]) -> None:
    history = observed(size, batch=3, frames=size.history)
    wanted = loaded(size, actor_tensors(size))(history, training=True).means
    state, images = _seen(size, history, order)
    memory = actor.remember(actor.encode_history(state, images), torch.ones(3, size.history, dtype=torch.bool))
    for seed in range(2):  # whatever was done before
        done = torch.rand(3, size.chunk, size.action_dim, generator=torch.Generator().manual_seed(seed)) * 2 - 1
        assert (actor.distribution(memory, done).mu - wanted).abs().max() <= 1e-5
    noise = drawn_noise(3, size.chunk, size.action_dim, torch.Generator().manual_seed(1))
    for drawn in (actor.decode(memory), actor.decode(memory, noise)):
        assert (drawn.distribution.mu - wanted).abs().max() <= 1e-5


@pytest.mark.parametrize("size", SIZES.values(), ids=SIZES)
@torch.no_grad()
def test_says_what_the_original_said_in_training(tmp_path, size) -> None:
    """Teacher-forced and step by step; with the original's standard deviation, which was exp(log_std / 2)."""
    policy = _policy(tmp_path, size)
    actor = converted(policy)
    _compare(actor, size, tuple(key for key in ("environment_state", "state") if getattr(size, key.split("_")[0])))
    assert disagreement(policy, actor) <= 1e-5  # log-stds too
    assert torch.equal(actor.normalization.action_low, torch.tensor([-0.1, -0.2, 0.0]))
    assert torch.allclose(actor.normalization.action_high, torch.tensor([0.1, 0.2, 0.5]))


@torch.no_grad()
def test_a_state_of_joints_comes_first(tmp_path) -> None:
    size = replace(SMALL, state=6, environment=2, cameras=())
    place = replace(PLACE, state=(StateFeature.POSITION, StateFeature.VELOCITY))
    policy = _policy(tmp_path, size, place)
    assert policy.slices == {"observation_state": slice(0, 6), "observation_environment_state": slice(6, 8)}
    _compare(converted(policy), size, ("state", "environment_state"))


@torch.no_grad()
def test_a_difference_would_be_seen(tmp_path) -> None:
    policy = _policy(tmp_path, SMALL)
    actor = converted(policy)
    actor.action_embedding.weight.add_(0.1)
    assert disagreement(policy, actor) > 1e-3
    actor = converted(policy)
    actor.log_std_head.bias.mul_(2.0)
    assert disagreement(policy, actor) > 1e-3
    # A NaN in the second of what is compared was lost.
    policy.original.action_std_head.weight.copy_(3e38 * torch.tensor([1.0, -1.0]).repeat(SMALL.dim // 2))
    assert not disagreement(policy, actor) <= 1e-3


@torch.no_grad()
def test_wide_bounds_of_the_log_std_stay_within_the_originals_of_the_variance(tmp_path) -> None:
    """It keeps the variance within 1e-6 and 10 besides; ours had σ of up to e^10."""
    path = write_fixture(tmp_path, Format.LEROBOT, replace(SMALL, cameras=()))
    policy = placed(load_original(path, Told(log_std_min=-20.0, log_std_max=20.0))[0], PLACE, path)
    policy.original.action_std_head.weight.mul_(60.0)
    assert disagreement(policy, converted(policy)) <= 1e-4


def test_it_can_learn_from_there(tmp_path) -> None:
    """Every part takes a gradient, also the embedding that begins at zero."""
    actor = converted(_policy(tmp_path, SMALL))
    history = observed(SMALL, batch=2, frames=SMALL.history)
    state, images = _seen(SMALL, history, ("state",))
    memory = actor.remember(actor.encode_history(state, images), torch.ones(2, SMALL.history, dtype=torch.bool))
    done = torch.rand(2, SMALL.chunk, SMALL.action_dim) * 2 - 1
    distribution = actor.distribution(memory, done)
    (distribution.mu.square().sum() + distribution.log_std.square().sum()).backward()
    still = [name for name, p in actor.named_parameters() if p.grad is None or not p.grad.abs().max() > 0]
    assert still == []


def test_what_has_no_place_is_refused(tmp_path) -> None:
    """In a line that says what can be done with it."""
    unwrapped = replace(SMALL, resnet=True, wrapped=False)
    with pytest.raises(CadenzaError, match="pads one all round; it can be exported as it is: cadenza export"):
        converted(_policy(tmp_path, unwrapped, told=Told(resnet_padding=ResnetPadding.ONE)))
    policy = _policy(tmp_path, SMALL)
    policy.original.anatomy = replace(policy.original.anatomy, squash=False)
    with pytest.raises(CadenzaError, match="do not pass through tanh; it can be exported as it is: cadenza export"):
        converted(policy)


def test_cameras_of_different_statistics_are_refused(tmp_path) -> None:
    policy = _policy(tmp_path, replace(SMALL, cameras=("a", "b"), normalized=True))
    policy.original.encoder.input_normalization.observation_images_b_mean.add_(0.1)
    with pytest.raises(CadenzaError, match="normalised differently"):
        converted(policy)


def test_command(tmp_path, capsys) -> None:
    path = write_fixture(tmp_path, Format.LEROBOT, replace(SMALL, normalized=True))
    flags = ["--joints", "a", "b", "c", "--action-space", "joint_delta", "--step-s", "0.1", *SPAN]
    bounds = ["--log-std-min", "-5", "--log-std-max", "2"]
    out = tmp_path / "warm"
    assert main(["import", str(path), "--out", str(out), *flags, *bounds, "--json"]) == 0
    said = json.loads(capsys.readouterr().out)
    assert said["format"] == "lerobot"
    assert said["apart"] <= 1e-5
    assert said["left"]["critic_ensemble"] > 0
    actor, config = load_checkpoint(out)
    assert config.training["not_carried"] == said["not_carried"] != []
    assert config.actor.log_std_min == -2.5
    assert sum(p.numel() for p in actor.parameters()) > 0
    before = (out / "model.safetensors").read_bytes()
    assert main(["import", str(path), "--out", str(out), *flags, *bounds]) == 2
    assert "choose another --out" in capsys.readouterr().err
    assert (out / "model.safetensors").read_bytes() == before


def test_a_checkpoint_is_not_imported_over_itself(tmp_path, capsys) -> None:
    """A folder with nothing but tensors was taken for an import that had been cut off, and written over."""
    path = write_fixture(tmp_path, Format.SAFETENSORS, replace(SMALL, cameras=())).rename(
        tmp_path / "model.safetensors"
    )
    before = path.read_bytes()
    flags = ["--joints", "a", "b", "c", "--action-space", "joint_delta", "--step-s", "0.1", *SPAN, "--n-heads", "4"]
    flags += ["--activation", "relu", "--pre-norm", "False", "--log-std-min", "-5", "--log-std-max", "2"]
    assert main(["import", str(path), "--out", str(tmp_path), *flags]) == 2
    assert "choose another --out" in capsys.readouterr().err
    assert path.read_bytes() == before
    assert main(["import", str(path), "--out", str(tmp_path / "warm"), *flags]) == 0

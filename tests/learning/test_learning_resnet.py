"""ResNets as image encoders: padding, names of published weights, and their place in the actor."""

from __future__ import annotations

import math

import pytest
import torch
from small_actors import make_actor, observe, small_config
from torch import nn

from learning.network.actor import SequenceActor
from learning.network.config import ActorConfig, Backbone
from learning.network.resnet import ResNet, from_published, same_padding
from learning.network.vision import FrameEncoder
from spec.manifest import ImageInput


@pytest.mark.parametrize("kernel", [1, 3, 7])
@pytest.mark.parametrize("stride", [1, 2])
def test_same_padding_is_as_much_as_the_output_needs(kernel, stride) -> None:
    for size in range(1, 40):
        before, after = same_padding(size, kernel, stride)
        assert after - before in {0, 1}
        padded = size + before + after
        assert (padded - kernel) // stride + 1 == math.ceil(size / stride)
        if before + after:  # and no more
            assert (padded - 1 - kernel) // stride + 1 < math.ceil(size / stride)


def test_at_stride_two_the_odd_column_is_at_the_end() -> None:
    """Not one all round: weights trained under the one give other features under the other."""
    torch.manual_seed(0)
    same, one = ResNet((1, 1, 1, 1)), ResNet((1, 1, 1, 1), same=False)
    one.load_state_dict(same.state_dict())
    x = torch.randn(1, 3, 64, 64)
    with torch.no_grad():
        stem = same.stem_norm(same.stem(x)).relu()
        padded = nn.functional.pad(stem, (0, 1, 0, 1), value=-math.inf)
        pooled = nn.functional.max_pool2d(padded, 3, 2)
        first, second = same.blocks[0], same.blocks[1]
        y = first(pooled)
        z = second.norm1(nn.functional.conv2d(nn.functional.pad(y, (0, 1, 0, 1)), second.conv1.weight, None, 2)).relu()
        z = second.norm2(nn.functional.conv2d(z, second.conv2.weight, None, 1, 1))
        wanted = (z + second.shortcut_norm(second.shortcut(y))).relu()
        assert torch.allclose(second(y), wanted, atol=1e-6)
        assert (same(x) - one(x)).abs().max() > 0.1


@pytest.mark.parametrize("size", [(224, 224), (96, 128), (75, 33)])
def test_feature_map_is_the_one_that_is_foretold(size) -> None:
    config = small_config(backbone=Backbone.RESNET10)
    with torch.no_grad():
        found = ResNet((1, 1, 1, 1))(torch.zeros(1, 3, *size)).shape
    assert tuple(found[2:]) == config.feature_map(ImageInput(height=size[0], width=size[1]))


def test_published_names_with_and_without_wrappers() -> None:
    network = ResNet((1, 1, 1, 1))
    blocks = {0: 64, 1: 128, 2: 256, 3: 512}
    for conv, group in (("", ""), (".conv", ".group_norm"), (".conv", "")):
        names = {"embedder.0.weight": "stem.weight"}
        names |= {f"embedder.1{group}.{kind}": f"stem_norm.{kind}" for kind in ("weight", "bias")}
        for number in blocks:
            theirs, ours = f"encoder.stages.{number}", f"blocks.{number}"
            for half in (1, 2):
                names[f"{theirs}.conv{half}{conv}.weight"] = f"{ours}.conv{half}.weight"
                names |= {f"{theirs}.norm{half}{group}.{k}": f"{ours}.norm{half}.{k}" for k in ("weight", "bias")}
            if number:
                names[f"{theirs}.shortcut.0{conv}.weight"] = f"{ours}.shortcut.weight"
                names |= {f"{theirs}.shortcut.1{group}.{k}": f"{ours}.shortcut_norm.{k}" for k in ("weight", "bias")}
        tensors = network.state_dict()
        found = from_published({theirs: tensors[ours] for theirs, ours in names.items()})
        assert found.keys() == tensors.keys()
        network.load_state_dict(found)
    assert sum(parameter.numel() for parameter in network.parameters()) == 4_905_792


@pytest.mark.parametrize("backbone", [Backbone.RESNET10, Backbone.RESNET18])
def test_an_actor_sees_with_it(backbone) -> None:
    actor = make_actor(backbone=backbone)
    state, images = observe(actor, 1)
    mask = torch.ones(1, actor.config.obs_history_length, dtype=torch.bool)
    with torch.no_grad():
        chunk = actor(state, images, mask)
        images["top"] = 255 - images["top"]
        assert (actor(state, images, mask) - chunk).abs().max() > 1e-4


def test_vectors_may_have_features_of_their_own() -> None:
    """Each is normalised by itself then: a large one does not drown a small one."""
    config = small_config(cameras={}, vectors={"cube": 3, "goal": 2}, vector_encoders=True)
    encoder = FrameEncoder(config)
    state = torch.randn(4, config.state_dim)
    with torch.no_grad():
        feature = encoder(state, {})
        parts = [encoder.vectors[0](state[:, 6:9]), encoder.vectors[1](state[:, 9:]), encoder.state(state[:, :6])]
        assert torch.equal(feature, encoder.project(torch.cat(parts, -1)))


def test_joints_may_be_absent() -> None:
    for own in (False, True):
        actor = make_actor(cameras={}, state=(), vectors={"cube": 3}, vector_encoders=own)
        assert hasattr(actor.frame, "state") is not own
        state, images = observe(actor, 2)
        assert actor(state, images, torch.ones(2, 3, dtype=torch.bool)).isfinite().all()


def test_configs_of_before_still_mean_what_they_meant() -> None:
    old = small_config().model_dump(mode="json")
    for name in ("backbone", "vector_encoders", "vectors"):
        del old[name]
    config = ActorConfig.model_validate(old)
    assert config == small_config()
    torch.manual_seed(0)
    names = SequenceActor(config).state_dict().keys()
    assert {"frame.state.0.weight", "frame.images.0.cnn.0.weight", "frame.images.1.pool.kernel"} <= names

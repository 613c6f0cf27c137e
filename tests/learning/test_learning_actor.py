"""One decoder for training and inference, masks that mask, a distribution that is what it says."""

from __future__ import annotations

import math

import pytest
import torch
from pydantic import ValidationError
from small_actors import make_actor, observe

from learning.cloning.loss import CloningLoss, cloning_loss, spread_loss
from learning.network.actor import SequenceActor
from learning.network.config import Activation, DecoderKind
from learning.network.gaussian import TanhGaussian
from learning.network.vision import Keypoints


def _memory(actor: SequenceActor, batch: int = 4, seed: int = 0):
    state, images = observe(actor, batch, seed)
    mask = torch.ones(batch, actor.config.obs_history_length, dtype=torch.bool)
    mask[0, 0] = False
    return actor.remember(actor.encode_history(state.to(actor.start.dtype), images), mask)


@pytest.mark.parametrize("pre_norm", [False, True])
@pytest.mark.parametrize("activation", list(Activation))
@pytest.mark.parametrize(("dtype", "bound"), [(torch.float32, 1e-6), (torch.float64, 1e-13)])
def test_teacher_forcing_and_steps_agree(pre_norm, activation, dtype, bound) -> None:
    actor = make_actor(act_pre_norm=pre_norm, act_activation=activation).to(dtype)
    with torch.no_grad():
        memory = _memory(actor)
        noise = torch.randn(4, 5, 3, dtype=dtype)
        stepwise = actor.decode(memory, noise)
        forced = actor.distribution(memory, stepwise.actions)
    assert (stepwise.distribution.mu - forced.mu).abs().max() <= bound
    assert (stepwise.distribution.log_std - forced.log_std).abs().max() <= bound


def test_feedback_matters() -> None:
    """A decoder that ignored its own actions would pass the agreement test."""
    actor = make_actor()
    with torch.no_grad():
        memory = _memory(actor)
        actions = torch.zeros(4, 5, 3)
        changed = actions.clone()
        changed[:, 2] = 1.0
        before, after = actor.distribution(memory, actions).mu, actor.distribution(memory, changed).mu
    assert torch.equal(before[:, :3], after[:, :3])
    assert (before[:, 3:] - after[:, 3:]).abs().max() > 1e-2


def test_parallel_ignores_actions() -> None:
    actor = make_actor(decoder=DecoderKind.PARALLEL)
    with torch.no_grad():
        state, images = observe(actor, 2)
        memory = actor.remember(actor.encode_history(state, images), torch.ones(2, 3, dtype=torch.bool))
        forced = actor.distribution(memory, torch.randn(2, 5, 3))
        assert torch.equal(forced.mu, actor.decode(memory).distribution.mu)


@pytest.mark.parametrize("decoder", list(DecoderKind))
def test_padding_has_no_effect_and_no_gradient(decoder) -> None:
    actor = make_actor(decoder=decoder)
    mask = torch.tensor([[False, True, True]])
    features = torch.randn(1, 3, 32, requires_grad=True)
    actions = actor.decode(actor.remember(features, mask)).actions
    actions.sum().backward()
    assert features.grad is not None
    assert torch.count_nonzero(features.grad[:, 0]) == 0
    assert torch.count_nonzero(features.grad[:, 1:]) > 0
    other = features.detach().clone()
    other[:, 0] = float("nan")
    assert torch.equal(actor.decode(actor.remember(other, mask)).actions, actions)
    shown = actor.decode(actor.remember(features.detach(), torch.ones_like(mask))).actions
    assert (shown - actions).abs().max() > 1e-3


def test_padding_does_not_touch_the_callers_tensors() -> None:
    actor = make_actor()
    features, mask = torch.randn(1, 3, 32), torch.tensor([[False, True, True]])
    kept = features.clone()
    actor.remember(features, mask)
    assert torch.equal(features, kept)


def test_only_the_newest_frame_needs_encoding() -> None:
    actor = make_actor()
    with torch.no_grad():
        state, images = observe(actor, 1)
        whole = actor.encode_history(state, images)
        newest = actor.encode(state[:, -1], {name: image[:, -1] for name, image in images.items()})
    assert (whole[:, -1] - newest).abs().max() < 1e-5


def test_first_action_is_the_first_of_the_sequence() -> None:
    actor = make_actor()
    state, images = observe(actor, 2)
    mask = torch.ones(2, 3, dtype=torch.bool)
    whole = actor(state, images, mask)
    assert whole.shape == (2, 5, 3)
    assert torch.equal(actor(state, images, mask, return_sequence=False), whole[:, 0])
    low, high = actor.normalization.action_low, actor.normalization.action_high
    assert bool(((whole >= low) & (whole <= high)).all())


def test_sigma_is_the_standard_deviation() -> None:
    distribution = TanhGaussian(torch.full((200_000, 1), 0.3), torch.full((200_000, 1), math.log(0.25)))
    drawn = distribution.pre_tanh(torch.randn(200_000, 1, generator=torch.Generator().manual_seed(1)))
    assert float(drawn.std()) == pytest.approx(0.25, rel=0.01)


def test_log_prob_matches_torch_and_stays_finite_when_saturated() -> None:
    mu, log_std = torch.tensor([[0.2, -1.0]], dtype=torch.float64), torch.tensor([[-0.5, 0.1]], dtype=torch.float64)
    u = torch.tensor([[0.4, -2.0]], dtype=torch.float64)
    reference = torch.distributions.TransformedDistribution(
        torch.distributions.Normal(mu, log_std.exp()), [torch.distributions.transforms.TanhTransform()]
    ).log_prob(torch.tanh(u))
    assert torch.allclose(TanhGaussian(mu, log_std).log_prob(u), reference.sum(-1), atol=1e-9)
    for extreme in (9.0, -9.0, 80.0):
        saturated = TanhGaussian(torch.full((1, 2), extreme), torch.full((1, 2), -1.0))
        assert bool(saturated.log_prob(saturated.mu).isfinite().all())


def test_joint_log_prob_is_the_sum_over_the_chunk() -> None:
    actor = make_actor()
    with torch.no_grad():
        memory = _memory(actor)
        drawn = actor.decode(memory, torch.randn(4, 5, 3))
        by_step = torch.stack([drawn.distribution.log_prob(drawn.pre_tanh)[:, k] for k in range(5)])
    assert drawn.log_prob.shape == (4,)
    assert torch.allclose(drawn.log_prob, by_step.sum(0), atol=1e-5)


def test_cloning_is_zero_when_perfect_and_blind_to_padding() -> None:
    expert = torch.rand(3, 4, 2, generator=torch.Generator().manual_seed(2)) * 1.6 - 0.8
    mask = torch.tensor([[1, 1, 1, 1], [1, 1, 0, 0], [1, 0, 0, 0]], dtype=torch.bool)
    expert[~mask] = float("nan")
    mu = torch.atanh(torch.where(mask[..., None], expert, 0.5)).requires_grad_()
    log_std = torch.zeros_like(mu, requires_grad=True)
    assert cloning_loss(CloningLoss.MSE, TanhGaussian(mu, log_std), expert, mask).item() < 1e-12
    for kind in CloningLoss:
        mu.grad = None
        cloning_loss(kind, TanhGaussian(mu + 0.3, log_std), expert, mask).backward()
        assert mu.grad is not None
        assert torch.count_nonzero(mu.grad[~mask]) == 0
        assert torch.count_nonzero(mu.grad[mask]) == mu.grad[mask].numel()
    mu.grad = None
    spread_loss(TanhGaussian(mu, log_std), expert, mask).backward()
    assert mu.grad is None


def test_keypoints_find_a_spot_wherever_it_is() -> None:
    pool = Keypoints(1, 9, 13)
    with torch.no_grad():
        pool.log_sharpness.fill_(2.0)
        for row, column in ((0, 0), (8, 12), (4, 6), (2, 9)):
            x = torch.full((1, 1, 9, 13), 0.3)
            x[0, 0, row, column] = 0.5
            found = pool(x)[0]
            assert torch.allclose(found, torch.tensor([column / 6.0 - 1.0, row / 4.0 - 1.0]), atol=1e-3)
        assert bool(pool(torch.zeros(1, 1, 9, 13)).abs().max() < 1e-5)  # an even picture has its middle, and no NaN


def test_impossible_sizes_are_refused() -> None:
    for wrong in ({"act_n_heads": 5}, {"log_std_min": 3.0}, {"act_chunk_size": 0}, {"act_chunksize": 8}):
        with pytest.raises(ValidationError):
            make_actor(**wrong)

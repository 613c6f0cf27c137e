"""One update: what moves, what must not, what is remembered, and that the formulas are what they claim to be."""

from __future__ import annotations

import dataclasses

import pytest
import torch
from small_actors import make_actor, small_config
from synthetic_rows import random_batch

from learning.cloning.loss import CloningLoss
from learning.network.actor import SequenceActor
from learning.network.config import ActorConfig, DecoderKind
from learning.replay.batch import Batch
from learning.sac.agent import Agent
from learning.sac.objectives import Sight
from learning.sac.settings import Agg, Objective, Settings
from spec.errors import CadenzaError, MisfitError

H, C, A = 3, 5, 3
DECODERS = list(DecoderKind)
SCORED = [Objective.CHUNK, Objective.SEED, Objective.SINGLE]


def _settings(**changes) -> Settings:
    chosen = {"h": H, "critics": 3, "critic_hidden": 16, "feedback_noise": 0.0, "actor_lr": 1e-3, "ramp": 1}
    return Settings(**{**chosen, **changes})


def _agent(seed: int = 0, actor: dict | None = None, **changes) -> Agent:
    return Agent(make_actor(seed, **{"cameras": {}, **(actor or {})}), _settings(**changes))


def _batch(agent: Agent, rows: int = 8, seed: int = 0) -> Batch:
    return random_batch(agent.actor.config, agent.settings.window, rows, seed)


def _changed(before: dict[str, torch.Tensor], after: dict[str, torch.Tensor]) -> set[str]:
    """Parts of an agent (first word of the tensor's name) that differ."""
    assert before.keys() == after.keys()
    return {name.split(".")[0] for name in before if not torch.equal(before[name], after[name])}


def _seen(agent: Agent, batch: Batch) -> tuple[torch.Tensor, torch.Tensor]:
    sight = Sight.of(agent.actor, batch.now).newest(agent.mind.critics.frames)
    assert agent.mind.critics.frame is not None
    return sight.encoded(agent.mind.critics.frame), sight.mask


@pytest.mark.parametrize("objective", list(Objective))
@pytest.mark.parametrize("decoder", DECODERS)
def test_the_next_update_after_restoring_is_equal_to_the_bit(objective: Objective, decoder: DecoderKind) -> None:
    first = _agent(actor={"decoder": decoder}, objective=objective)
    for step in range(3):
        first.update(_batch(first, seed=step), step)
    second = _agent(seed=7, actor={"decoder": decoder}, objective=objective)
    second.restore(first.tensors())
    for step in range(3, 6):
        batch = _batch(first, seed=step)
        assert first.update(batch, step) == second.update(batch, step)
    before, after = first.tensors(), second.tensors()
    assert not _changed(before, after)
    assert any(name.startswith("adam.actor.") for name in before)


def test_temperature_is_restored() -> None:
    """It used to begin anew: the policy after a restart was told that entropy is worth a hundred times as much."""
    first = _agent(temperature_lr=0.1)
    for step in range(3):
        facts = first.update(_batch(first), step)
    second = _agent()
    second.restore(first.tensors())
    assert second.update(_batch(first), 3)["alpha"] == first.update(_batch(first), 3)["alpha"] != facts["alpha"]
    assert facts["alpha"] != pytest.approx(0.01, rel=0.05)


@pytest.mark.parametrize(
    "spoilt",
    [
        {"critics": 4},
        {"critic_hidden": 20},
        {"objective": Objective.SEED},
        {"freeze_encoder": True},
    ],
)
def test_state_of_another_agent_is_refused(spoilt: dict) -> None:
    agent = _agent()
    agent.update(_batch(agent), 0)
    with pytest.raises(MisfitError, match="state of another learner"):
        _agent(**spoilt).restore(agent.tensors())


@pytest.mark.parametrize("lost", ["adam.actor.0.exp_avg", "adam.critic.1.", "adam.temperature.0.step", "averaged."])
def test_a_state_that_lacks_something_is_refused(lost: str) -> None:
    """Lost moments used to be taken for an optimiser that had not begun, or to end the next update in a KeyError."""
    agent, other = _agent(), _agent(seed=1)
    agent.update(_batch(agent), 0)
    before = other.tensors()
    left = {name: tensor for name, tensor in agent.tensors().items() if not name.startswith(lost)}
    with pytest.raises(MisfitError, match="is missing"):
        other.restore(left)
    with pytest.raises(MisfitError, match=r"adam.actor.0.extra of shape .* is not ours"):
        other.restore(agent.tensors() | {"adam.actor.0.extra": torch.zeros(())})
    assert not _changed(before, other.tensors())


def test_chance_is_a_matter_of_the_updates_number_alone() -> None:
    """Of torch's generator, of dropout in the actor's configuration, and of its mode nothing may show."""
    results = []
    for number in range(2):
        agent = _agent(actor={"act_dropout": 0.5})
        agent.actor.train()
        torch.manual_seed(number)
        results.append(agent.update(_batch(agent), 4))
    assert results[0] == results[1]
    agent = _agent(actor={"act_dropout": 0.5})
    assert agent.update(_batch(agent), 5)["target"] != results[0]["target"]


@pytest.mark.parametrize("decoder", DECODERS)
def test_every_scored_action_moves_the_value(decoder: DecoderKind) -> None:
    agent = _agent(actor={"decoder": decoder})
    batch = _batch(agent)
    actions = batch.actions.clone().requires_grad_()
    features, mask = _seen(agent, batch)
    values = agent.mind.critics(features, mask, actions)
    assert values.shape == (3, 8)
    for critic in values:
        (gradient,) = torch.autograd.grad(critic.sum(), actions, retain_graph=True)
        assert torch.count_nonzero(gradient) == gradient.numel()


@pytest.mark.parametrize("decoder", DECODERS)
@pytest.mark.parametrize(("objective", "covered"), [(Objective.CHUNK, H), (Objective.SEED, C), (Objective.SINGLE, 1)])
def test_entropy_covers_the_steps_it_should_and_no_other(
    objective: Objective, covered: int, decoder: DecoderKind
) -> None:
    """Steps that no critic scores, yet are asked for entropy, drift to uniform noise: only ``seed`` still does that."""
    settings = _settings(objective=objective)
    actor = make_actor(cameras={}, decoder=decoder)
    bias = torch.zeros(C, A, requires_grad=True)
    heads = actor.heads
    steps = iter(range(C))

    def shifted(hidden: torch.Tensor):
        distribution = heads(hidden)
        first = next(steps) if decoder is DecoderKind.AUTOREGRESSIVE else 0
        return distribution._replace(log_std=distribution.log_std + bias[first : first + hidden.shape[1]])

    actor.heads = shifted  # type: ignore[method-assign]
    batch = random_batch(actor.config, 1)
    memory = actor.remember(actor.encode_history(batch.now.state, {}), batch.now.mask)
    drawn = actor.decode(memory, torch.zeros(8, C, A), settings.entropy_steps(C))
    (gradient,) = torch.autograd.grad(drawn.log_prob.sum(), bias)
    assert torch.equal(gradient[covered:], torch.zeros(C - covered, A))
    assert torch.count_nonzero(gradient[:covered]) == covered * A


@pytest.mark.parametrize("decoder", DECODERS)
def test_unscored_steps_get_no_gradient_from_the_policy_loss(decoder: DecoderKind) -> None:
    """Through the agent itself: only cloning may teach the steps after the h-th."""
    for weight, taught in ((0.0, False), (1.0, True)):
        agent = _agent(actor={"decoder": decoder}, bc_initial=weight, bc_final=weight)
        agent.update(_batch(agent), 0)
        gradient = agent.actor.action_position.grad
        assert gradient is not None
        assert bool(gradient[:H].any())
        if decoder is DecoderKind.AUTOREGRESSIVE:  # the parallel one's steps attend to each other
            assert bool(gradient[H:].any()) is taught


@pytest.mark.parametrize("objective", SCORED)
def test_target_entropy_fits_the_steps_that_entropy_covers(objective: Objective) -> None:
    settings = _settings(objective=objective)
    steps = {Objective.CHUNK: H, Objective.SEED: C, Objective.SINGLE: 1}[objective]
    assert settings.entropy_target(C, A) == -0.5 * A * steps
    assert _settings(objective=objective, target_entropy=-7.0).entropy_target(C, A) == -7.0


def test_temperature_falls_where_there_is_more_entropy_than_wanted() -> None:
    for target, sign in ((-1000.0, -1.0), (1000.0, 1.0)):
        agent = _agent(target_entropy=target)
        before = float(agent.mind.temperature())
        agent.update(_batch(agent), 0)
        assert (float(agent.mind.temperature()) - before) * sign > 0.0


@pytest.mark.parametrize("decoder", DECODERS)
@pytest.mark.parametrize("objective", SCORED)
def test_the_actors_loss_is_the_formula(objective: Objective, decoder: DecoderKind) -> None:
    """Worked out once more from the public parts: entropy, value, cloning, and how they are mixed."""
    agent = _agent(actor={"decoder": decoder}, objective=objective, bc_initial=0.6, bc_final=0.6, temperature=0.2)
    batch, step = _batch(agent), 11
    with torch.no_grad():
        actor, window = agent.actor, agent.settings.window
        memory = actor.remember(actor.encode_history(batch.now.state, {}), batch.now.mask)
        drawn = actor.decode(memory, agent.mind.chance(8, step).now)
        features, mask = _seen(agent, batch)
        values = agent.mind.critics(features, mask, drawn.actions[:, :window])
        by_step = drawn.distribution.log_prob(drawn.pre_tanh)
        expert = actor.normalization.action(batch.expert)
        means = actor.distribution(memory, torch.where(batch.expert_mask[..., None], expert, 0.0)).mean_action()
        cloning = (means - expert).square().mean(-1)[batch.expert_mask].mean()
        alpha = 0.2
        match objective:
            case Objective.CHUNK:
                assert agent.mind.critics.frames == 3
                wanted = (alpha * by_step[:, :H].sum(1) - values.mean(0)).mean() + 0.6 * cloning
            case Objective.SEED:
                assert agent.mind.critics.frames == 1
                policy = (alpha * by_step.sum(1) - values.amin(0)).mean()
                wanted = 0.4 * policy + 0.6 * cloning
            case _:
                wanted = (alpha * by_step[:, 0] - values.mean(0)).mean()
    assert agent.update(batch, step)["actor_loss"] == pytest.approx(float(wanted), abs=1e-5)


def test_seed_without_examples_is_the_policy_loss_alone() -> None:
    agent = _agent(objective=Objective.SEED, bc_initial=0.6)
    batch = _batch(agent)
    batch = dataclasses.replace(batch, expert_mask=torch.zeros_like(batch.expert_mask))
    facts = agent.update(batch, 0)
    assert facts["actor_loss"] == facts["policy_loss"]
    assert facts["bc_loss"] == 0.0


def test_weight_of_cloning_falls_geometrically_and_no_further() -> None:
    settings = _settings(bc_initial=0.5, bc_final=0.1, bc_decay=1000)
    assert settings.bc_weight(0) == 0.5
    assert settings.bc_weight(500) == pytest.approx((0.5 * 0.1) ** 0.5)
    assert settings.bc_weight(1000) == pytest.approx(0.1)
    assert settings.bc_weight(100_000) == 0.1


@pytest.mark.parametrize("decoder", DECODERS)
def test_cloning_its_own_demonstrations_is_free(decoder: DecoderKind) -> None:
    agent = _agent(actor={"decoder": decoder}, objective=Objective.CHUNK)
    batch = _batch(agent)
    with torch.no_grad():
        agent.actor.mean_head.weight.mul_(0.25)  # examples are clipped near ±1; these shall lie within
        own = agent.actor(batch.now.state, {}, batch.now.mask)
    batch = dataclasses.replace(batch, expert=own, expert_mask=torch.ones(8, C, dtype=torch.bool))
    assert agent.update(batch, 0)["bc_loss"] < 1e-12


@pytest.mark.parametrize("decoder", DECODERS)
@pytest.mark.parametrize("kind", list(CloningLoss))
def test_padded_examples_have_no_effect(decoder: DecoderKind, kind: CloningLoss) -> None:
    """Nor do examples count for rows that are none of theirs: every row is cloned from its own observation."""
    results = []
    for filler in (0.0, 0.7):
        agent = _agent(actor={"decoder": decoder}, bc_loss=kind, feedback_noise=0.1)
        batch = _batch(agent)
        assert not bool(batch.expert_mask[4:].any())
        expert = torch.where(batch.expert_mask[..., None], batch.expert, filler)
        agent.update(dataclasses.replace(batch, expert=expert), 0)
        results.append(agent.tensors())
    assert not _changed(results[0], results[1])


def test_saturated_actions_have_finite_losses() -> None:
    """Where log π is taken from the action by atanh, μ = 9 gives NaN."""
    for objective in SCORED:
        agent = _agent(objective=objective)
        with torch.no_grad():
            agent.actor.mean_head.bias.fill_(9.0)
        assert agent.update(_batch(agent), 0)["skipped"] == 0.0
        assert all(bool(tensor.isfinite().all()) for tensor in agent.tensors().values())


def _poisoned(batch: Batch, what: str) -> Batch:
    tensor = getattr(batch, what).clone()
    tensor[0, 0] = torch.inf if what == "actions" else torch.nan
    return dataclasses.replace(batch, **{what: tensor})


@pytest.mark.parametrize("what", ["rewards", "actions", "expert"])
def test_a_loss_that_is_not_finite_changes_nothing_and_is_counted(what: str) -> None:
    agent = _agent(patience=3)
    agent.update(_batch(agent), 0)
    before = agent.tensors()
    assert agent.update(_poisoned(_batch(agent), what), 1)["skipped"] == 1.0
    assert agent.skipped == 1
    assert _changed(before, agent.tensors()) == {"skipped"}
    agent.update(_batch(agent), 2)
    agent.update(_poisoned(_batch(agent), what), 3)
    agent.update(_poisoned(_batch(agent), what), 4)
    resumed = _agent(patience=3)
    resumed.restore(agent.tensors())
    with pytest.raises(CadenzaError, match="not finite 3 times in a row"):
        resumed.update(_poisoned(_batch(agent), what), 5)


def test_what_is_seen_after_the_end_has_no_effect() -> None:
    agent, other = _agent(), _agent()
    batch = _batch(agent)
    spoilt = batch.later.state.clone()
    spoilt[~batch.bootstrap] = 1e6
    rewards = torch.where(torch.arange(H) < batch.length[:, None], batch.rewards, 55.0)
    assert not bool(batch.bootstrap.all())
    assert bool((batch.length < H).any())
    later = dataclasses.replace(batch.later, state=spoilt)
    facts = other.update(dataclasses.replace(batch, later=later, rewards=rewards), 0)
    assert facts == agent.update(batch, 0)


def test_a_window_that_was_cut_short_does_not_teach_standing_still() -> None:
    """Past its end a batch has the arm stand; critics are shown what the policy would do there instead."""
    agent, other = _agent(), _agent()
    batch = _batch(agent)
    cut = (torch.arange(H) >= batch.length[:, None]) & batch.bootstrap[:, None]
    assert bool(cut.any())
    standing = torch.where(cut[..., None], 0.0, batch.actions)
    assert other.update(dataclasses.replace(batch, actions=standing), 0) == agent.update(batch, 0)


def test_padded_frames_have_no_effect() -> None:
    agent, other = _agent(), _agent()
    batch = _batch(agent)
    assert not bool(batch.now.mask.all())
    state = torch.where(batch.now.mask[..., None], batch.now.state, 1e3)
    kept = state.clone()
    facts = other.update(dataclasses.replace(batch, now=dataclasses.replace(batch.now, state=state)), 0)
    assert facts == agent.update(batch, 0)
    assert torch.equal(state, kept)


def test_targets_are_what_the_target_critics_say() -> None:
    """And not the critics that are learning: those would chase themselves."""
    plain, slow, fast = _agent(), _agent(), _agent()
    with torch.no_grad():
        slow.mind.targets.layers[-1].bias += 2.0
        fast.mind.critics.layers[-1].bias += 2.0
    batch = _batch(plain)
    later = torch.where(batch.bootstrap, plain.settings.gamma**batch.length, 0.0).mean().item()
    said = [agent.update(batch, 0)["target"] for agent in (plain, slow, fast)]
    assert said == pytest.approx([said[0], said[0] + 2.0 * later, said[0]], abs=1e-5)


def test_targets_follow_slowly_encoder_and_all() -> None:
    agent = _agent(ema=0.1)
    before = agent.tensors()
    agent.update(_batch(agent), 0)
    after = agent.tensors()
    followed = [name for name in after if name.startswith("targets.")]
    assert any(".frame." in name for name in followed)
    for name in followed:
        wanted = 0.9 * before[name] + 0.1 * after["critics." + name.removeprefix("targets.")]
        assert torch.allclose(after[name], wanted, atol=1e-6)


def test_the_robot_is_driven_by_the_actors_average() -> None:
    agent = _agent(actor_ema=0.1, critic_warmup=1)
    for step in range(3):
        before = agent.tensors()
        agent.update(_batch(agent), step)
        after = agent.tensors()
        for name, tensor in agent.averaged.state_dict().items():
            wanted = 0.9 * before[f"averaged.{name}"] + 0.1 * after[f"actor.{name}"]
            assert torch.allclose(tensor, wanted, atol=1e-6)
            assert step or torch.equal(tensor, before[f"averaged.{name}"])
    assert {"actor", "averaged"} <= _changed(before, after)
    assert agent.averaged is not agent.actor
    plain = _agent(actor_ema=0.0)
    assert plain.averaged is plain.actor


def test_a_frozen_encoder_stays_and_is_nobodys_copy() -> None:
    agent = _agent(actor={"cameras": small_config().cameras}, freeze_encoder=True)
    before = agent.tensors()
    agent.update(_batch(agent), 0)
    after = agent.tensors()
    frames = [name for name in after if ".frame." in name and not name.startswith("adam.")]
    assert {name.split(".")[0] for name in frames} == {"actor", "averaged"}
    assert all(torch.allclose(before[name], after[name], atol=1e-7) for name in frames)
    assert {"actor", "critics", "targets", "temperature"} <= _changed_parts(before, after)


def _changed_parts(before: dict[str, torch.Tensor], after: dict[str, torch.Tensor]) -> set[str]:
    return _changed(before, {name: after[name] for name in before})


def test_critics_own_encoder_sees_pictures() -> None:
    agent = _agent(actor={"cameras": small_config().cameras})
    before = agent.tensors()
    assert torch.equal(before["critics.frame.project.weight"], before["actor.frame.project.weight"])
    agent.update(_batch(agent), 0)
    after = agent.tensors()
    images = [name for name in before if name.startswith("critics.frame.images.")]
    assert images
    assert all(not torch.equal(before[name], after[name]) for name in images)


def test_the_actor_waits_for_the_critics() -> None:
    agent = _agent(critic_warmup=2, actor_every=2)
    moved = []
    for step in range(6):
        before = agent.tensors()
        agent.update(_batch(agent, seed=step), step)
        parts = _changed_parts(before, agent.tensors())
        assert "critics" in parts
        assert ("actor" in parts) == ("temperature" in parts)
        moved.append("actor" in parts)
    assert moved == [False, False, True, False, True, False]


def test_an_update_at_which_nobody_learns_changes_nothing() -> None:
    """Cloning has no critics that could learn while the actor waits."""
    agent = _agent(objective=Objective.BC, critic_warmup=1)
    before = agent.tensors()
    assert agent.update(_batch(agent), 0) == {"skipped": 0.0}
    assert not _changed_parts(before, agent.tensors())
    agent.update(_batch(agent), 1)
    assert _changed_parts(before, agent.tensors())


def test_the_actor_sets_out_slowly() -> None:
    """Ten updates of a fresh optimiser once moved a shipped policy's chunk by 0.44 rad, and the robot refused it."""
    moved = []
    for ramp in (1, 1000):
        agent = _agent(ramp=ramp, critic_warmup=5)
        batch = _batch(agent)
        before = agent.actor(batch.now.state, {}, batch.now.mask)
        for step in range(5, 15):
            agent.update(batch, step)
        moved.append((agent.actor(batch.now.state, {}, batch.now.mask) - before).abs().max().item())
    assert moved[1] < 0.2 * moved[0]
    settings = _settings(ramp=10, critic_warmup=5)
    assert settings.actor_rate(5) == pytest.approx(1e-4)
    assert settings.actor_rate(14) == settings.actor_rate(10_000) == 1e-3


def test_the_actor_can_end_calm() -> None:
    settings = _settings(ramp=10, critic_warmup=5, anneal=100)
    rates = [settings.actor_rate(step) for step in range(5, 200)]
    assert max(rates) <= 1e-3
    assert rates.index(max(rates)) == 9, "falls once it has risen"
    assert rates[99] == pytest.approx(1e-4)
    assert set(rates[99:]) == {rates[99]}, "and stays at a tenth"


def test_entropy_in_the_backup_is_a_choice() -> None:
    plain, soft = _agent(temperature=0.5), _agent(temperature=0.5, entropy_in_backup=True)
    batch = _batch(plain)
    assert plain.update(batch, 0)["target"] != soft.update(batch, 0)["target"]


def test_cloning_weighs_the_same_whatever_rewards_are_counted_in() -> None:
    """Values ten times as large, and α with them: the same loss."""
    losses = []
    for scale in (1.0, 10.0):
        agent = _agent(value_scale=True, temperature=0.1 * scale)
        last = agent.mind.critics.layers[-1]
        with torch.no_grad():
            last.bias += 0.5
            last.weight *= scale
            last.bias *= scale
        losses.append(agent.update(_batch(agent), 0)["actor_loss"])
    assert losses[0] == pytest.approx(losses[1], rel=1e-5)


def test_targets_stay_within_what_rewards_allow() -> None:
    agent = _agent(value_low=0.4, value_high=0.4001)
    assert agent.update(_batch(agent), 0)["target"] == pytest.approx(0.4, abs=1e-3)
    high = _agent(value_high=0.25)
    assert high.update(_batch(high), 0)["target"] < _agent().update(_batch(high), 0)["target"]


@pytest.mark.parametrize("agg", list(Agg))
def test_lower_of_a_pair_lies_between_lowest_and_mean(agg: Agg) -> None:
    targets = {kind: _agent(agg=kind).update(_batch(_agent()), 0)["target"] for kind in Agg}
    assert targets[Agg.MIN] <= targets[agg] <= targets[Agg.MEAN]


def test_windows_of_another_length_are_refused() -> None:
    agent = _agent(objective=Objective.SINGLE)
    with pytest.raises(MisfitError, match="windows of 3 steps"):
        agent.update(random_batch(agent.actor.config, 3), 0)
    with pytest.raises(MisfitError, match="longer than the actor's chunk"):
        _agent(h=C + 1)


@pytest.mark.parametrize(
    "wrong",
    [
        {"bc_final": 2.0},
        {"objective": "seed", "bc_initial": 1.5},
        {"critics": 1},
        {"value_low": 1.0, "value_high": 0.0},
    ],
)
def test_settings_that_contradict_themselves_are_refused(wrong: dict) -> None:
    with pytest.raises(ValueError, match=r"bc_|critics|value_low"):
        _settings(**wrong)


def test_the_seeds_triple() -> None:
    """Chunk, joint log-probability, means; or the first step of each, for immediate execution."""
    config: ActorConfig = small_config(cameras={})
    actor: SequenceActor = make_actor(cameras={})
    batch = random_batch(config, 1)
    noise = torch.randn(8, C, A)
    with torch.no_grad():
        whole = actor.sample(batch.now.state, {}, batch.now.mask, noise)
        first = actor.sample(batch.now.state, {}, batch.now.mask, noise, return_sequence=False)
        again = actor.sample(batch.now.state, {}, batch.now.mask)
    assert (whole.actions.shape, whole.log_prob.shape, whole.means.shape) == ((8, C, A), (8,), (8, C, A))
    assert (first.actions.shape, first.log_prob.shape, first.means.shape) == ((8, A), (8,), (8, A))
    assert torch.equal(first.actions, whole.actions[:, 0])
    assert torch.equal(first.means, whole.means[:, 0])
    assert bool((again.actions != whole.actions).any())

"""Two tasks whose answers are known on paper: what a chunk is worth, and where entropy comes to rest."""

from __future__ import annotations

import math

import numpy as np
import torch
from small_actors import small_config

from learning.network.actor import SequenceActor
from learning.network.config import ActorConfig, DecoderKind
from learning.replay.batch import Batch, History
from learning.replay.rows import Rows
from learning.replay.store import Store
from learning.sac.agent import Agent
from learning.sac.settings import Agg, Settings
from spec.manifest import StateFeature

FORWARD = 0.8


def _config(joints: tuple[str, ...]) -> ActorConfig:
    return small_config(
        cameras={},
        joints=joints,
        state=(StateFeature.POSITION,),
        obs_history_length=1,
        act_chunk_size=4,
        decoder=DecoderKind.PARALLEL,
        act_dim_model=16,
        act_n_heads=2,
        act_dim_feedforward=16,
        act_n_encoder_layers=1,
        act_n_decoder_layers=1,
        latent_dim=32,
    )


def _walk(length: int, rng: np.random.Generator) -> Rows:
    """Along a chain by actions drawn at random: forward where positive, back where not. Its end is worth 1, once."""
    place, places, actions = int(rng.integers(length)), [], []
    while place < length and len(actions) < 30:
        places.append(place)
        actions.append(FORWARD if rng.uniform() < 0.7 else -FORWARD)
        place = place + 1 if actions[-1] > 0.0 else max(0, place - 1)
    rows = len(places) + 1
    last = np.arange(rows) == rows - 1
    arrived = (np.arange(rows) == rows - 2) & (place == length)
    return Rows(
        observed_ns=np.arange(rows, dtype=np.int64) * 100_000_000,
        segment=np.zeros(rows, dtype=np.int64),
        state=np.array([*places, place], dtype=np.float32)[:, None],
        images={},
        acted=~last,
        action=np.array([*actions, 0.0], dtype=np.float32)[:, None],
        expert=np.zeros(rows, dtype=np.bool_),
        plan=None,
        reward=arrived.astype(np.float32),
        terminated=arrived,
        breaks=last,
    )


def test_value_of_a_sparse_chain() -> None:
    """An actor that always goes forward: from place p the end is n − p steps away, so Q = γ^(n − p − 1), to 2 %.

    The only reward ever seen lies at the end, mostly in the middle of a chunk; all else is bootstrapped.
    """
    length, h, gamma = 6, 3, 0.9
    torch.manual_seed(0)
    actor = SequenceActor(_config(("a",)))
    with torch.no_grad():
        for head, value in ((actor.mean_head, math.atanh(FORWARD)), (actor.log_std_head, -5.0)):
            head.weight.zero_()
            head.bias.fill_(value)
        actor.normalization.state_mean.fill_(length / 2)
        actor.normalization.state_std.fill_(length / 4)
    store = Store.in_memory(actor.config, h, 10_000)
    rng = np.random.default_rng(0)
    for _ in range(150):
        store.append(_walk(length, rng))
    settings = Settings(h=h, gamma=gamma, critic_warmup=10**9, critic_hidden=64, critic_lr=2e-3, ema=0.02, agg=Agg.MEAN)
    agent = Agent(actor, settings)
    for step in range(300):
        agent.update(store.draw(np.random.default_rng((0, step)), 64), step)
    with torch.no_grad():
        assert agent.mind.critics.frame is not None
        sight = actor.normalization.state(torch.arange(float(length))[:, None])
        features = agent.mind.critics.frame(sight, {})[:, None]
        mask = torch.ones(length, 1, dtype=torch.bool)
        found = agent.mind.critics(features, mask, torch.full((length, h, 1), FORWARD)).mean(0)
    wanted = gamma ** torch.arange(length - 1.0, -1.0, -1.0)
    assert ((found - wanted) / wanted).abs().max() <= 0.02


def test_entropy_settles_at_its_target() -> None:
    """A bandit that pays for nearness to .3: the temperature comes to rest where entropy is −½ a number, to 5 %."""
    rows, h = 32, 2
    torch.manual_seed(0)
    settings = Settings(
        h=h,
        actor_lr=3e-3,
        ramp=1,
        critic_lr=3e-3,
        temperature_lr=3e-2,
        temperature=0.06,
        critic_hidden=64,
        bc_initial=0.0,
        bc_final=0.0,
        ema=0.1,
    )
    agent = Agent(SequenceActor(_config(("a", "b"))), settings)
    target = settings.entropy_target(4, 2)
    assert target == -2.0
    seen = History(torch.zeros(rows, 1, 2), {}, torch.ones(rows, 1, dtype=torch.bool))
    over = torch.zeros(rows, dtype=torch.bool)
    entropy = []
    for step in range(350):
        actions = torch.rand(rows, h, 2, generator=torch.Generator().manual_seed(step)) * 2.0 - 1.0
        rewards = torch.zeros(rows, h)
        rewards[:, -1] = -(actions - 0.3).square().sum((1, 2))
        nothing = torch.zeros(rows, 4, 2)
        length = torch.full((rows,), h)
        batch = Batch(seen, actions, length, rewards, over, seen, nothing, torch.zeros(rows, 4, dtype=torch.bool))
        entropy.append(agent.update(batch, step)["entropy"])
    assert abs(np.mean(entropy[-50:]) - target) <= 0.05 * abs(target)
    with torch.no_grad():
        best = agent.actor(seen.state[:1], {}, seen.mask[:1])[0, :h]
    assert (best - 0.3).abs().max() < 0.1

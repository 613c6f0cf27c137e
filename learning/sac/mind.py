"""What learns, as one module: actor, critics, their targets, temperature; and what each of them is to get better at."""

from __future__ import annotations

import copy
from collections.abc import Collection
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor, nn

from learning.network.actor import Sampled, SequenceActor
from learning.network.config import DecoderKind
from learning.network.critic import Critics
from learning.network.vision import FrameEncoder
from learning.replay.batch import Batch, History
from learning.sac.objectives import Sight, clone, critic_loss, mixed, policy_loss, rows_of, taught
from learning.sac.settings import Objective, Settings
from learning.sac.targets import aggregate, chunk_target, continued
from learning.sac.temperature import Temperature
from spec.errors import MisfitError


class Chance(NamedTuple):
    """All that is random in one update."""

    now: Tensor
    """Standard normal, shape (batch, C, A): what the actor would do."""
    later: Tensor
    """Likewise, for the target."""
    fed: Tensor
    """Likewise, on the examples fed back in cloning."""
    pair: tuple[int, int]
    """Two different critics."""


class Losses(NamedTuple):
    """Scalars."""

    parts: dict[str, Tensor]
    """What to descend, by the part that learns: ``critic``, ``temperature``, ``actor``."""
    facts: dict[str, Tensor]
    """What else is worth knowing."""


class Mind(nn.Module):
    """See :class:`learning.sac.agent.Agent`."""

    def __init__(self, actor: SequenceActor, settings: Settings) -> None:
        super().__init__()
        config = actor.config
        if settings.h > config.act_chunk_size and settings.objective is Objective.CHUNK:
            raise MisfitError(f"h {settings.h} is longer than the actor's chunk of {config.act_chunk_size}")
        self.settings = settings
        self.actor = actor
        self.averaged = copy.deepcopy(actor) if settings.actor_ema else None
        self.device = actor.mean_head.weight.device
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(settings.seed)
            critics = Critics(
                config,
                frames=settings.critic_frames(config.obs_history_length),
                steps=settings.window,
                critics=settings.critics,
                hidden=settings.critic_hidden,
                layers=settings.critic_layers,
                own_encoder=not settings.freeze_encoder,
            )
        if critics.frame is not None:
            critics.frame.load_state_dict(actor.frame.state_dict())
        self.critics = critics.to(self.device)
        self.targets = copy.deepcopy(self.critics)
        self.temperature = Temperature(settings.temperature).to(self.device)
        self.requires_grad_()
        self.targets.requires_grad_(requires_grad=False)
        if self.averaged is not None:
            self.averaged.requires_grad_(requires_grad=False)
        actor.frame.requires_grad_(not settings.freeze_encoder)
        self.eval()

    def losses(self, batch: Batch, step: int) -> Losses:
        """Of every part that learns at update ``step``.

        Raises:
            MisfitError: windows of another length than ``settings.window``.
        """
        settings, actor = self.settings, self.actor
        chance = self.chance(len(batch), step)
        now = Sight.of(actor, self._here(batch.now))
        parts: dict[str, Tensor] = {}
        facts: dict[str, Tensor] = {}
        features: Tensor | None = None
        if settings.scores:
            seen = now.newest(self.critics.frames)
            features = self._features(seen, actor.frame if self.critics.frame is None else self.critics.frame)
            taken = actor.normalization.action(self._windows(batch))
            target, then = self._target(batch, chance)
            length, bootstrap = batch.length.to(self.device), batch.bootstrap.to(self.device)
            values = self.critics(features, seen.mask, continued(taken, length, bootstrap, then))
            parts["critic"] = critic_loss(values, target)
            facts |= {"q": values.mean(), "q_spread": values.std(0).mean(), "target": target.mean()}
            features = features.detach()
        if settings.actor_learns(step):
            known = batch.expert_mask.to(self.device)
            learned = self._actor(now, features, batch.expert.to(self.device), known, chance, step)
            parts, facts = parts | learned.parts, facts | learned.facts
        return Losses(parts, facts)

    @torch.no_grad()
    def actor_losses(self, now: History, expert: Tensor, known: Tensor, step: int) -> dict[str, float]:
        """The actor's part of :meth:`losses` alone, as numbers; shapes as in :class:`learning.replay.batch.Batch`."""
        sight = Sight.of(self.actor, self._here(now))
        features: Tensor | None = None
        if self.settings.scores:
            frame = self.actor.frame if self.critics.frame is None else self.critics.frame
            features = sight.newest(self.critics.frames).encoded(frame)
        chance = self.chance(len(now), step)
        found = self._actor(sight, features, expert.to(self.device), known.to(self.device), chance, step)
        return {name: float(value) for name, value in {"actor_loss": found.parts["actor"], **found.facts}.items()}

    def chance(self, rows: int, step: int) -> Chance:
        """What is random in update ``step``; drawn on the CPU, so that it is the same on every device."""
        config = self.actor.config
        seeds = np.random.SeedSequence((self.settings.seed, step)).generate_state(2, np.uint64)
        generator = torch.Generator().manual_seed(int(seeds[0]))
        noise = torch.randn(3, rows, config.act_chunk_size, config.action_dim, generator=generator).to(self.device)
        first, second = np.random.default_rng(int(seeds[1])).choice(self.settings.critics, 2, replace=False)
        return Chance(noise[0], noise[1], noise[2], (int(first), int(second)))

    @torch.no_grad()
    def follow(self, parts: Collection[str]) -> None:
        """After those parts have learned: the target critics go after the critics, encoder and all, and the average
        after the actor."""
        if "critic" in parts:
            _lerp(self.targets, self.critics, self.settings.ema)
        if "actor" in parts and self.averaged is not None:
            _lerp(self.averaged, self.actor, self.settings.actor_ema)

    def _actor(
        self, now: Sight, features: Tensor | None, expert: Tensor, known: Tensor, chance: Chance, step: int
    ) -> Losses:
        settings, config = self.settings, self.actor.config
        weight = settings.bc_weight(step)
        drawn, cloning = self._imagine(now, self.actor.normalization.action(expert), known, chance, weight)
        policy = torch.zeros((), device=self.device)
        parts: dict[str, Tensor] = {}
        facts = {"bc_loss": cloning, "bc_weight": torch.tensor(weight, device=self.device)}
        if drawn is not None and features is not None:
            mask = now.mask[:, -self.critics.frames :]
            values = self.critics(features, mask, drawn.actions[:, : settings.window])
            log_prob, alpha = drawn.log_prob, self.temperature()
            policy = policy_loss(log_prob, values, alpha, settings)
            goal = settings.entropy_target(config.act_chunk_size, config.action_dim)
            parts["temperature"] = self.temperature.loss(log_prob, goal)
            facts |= {"policy_loss": policy, "policy_q": values.mean(), "entropy": -log_prob.mean(), "alpha": alpha}
        parts["actor"] = mixed(policy, cloning, weight, known.any(), settings)
        return Losses(parts, facts)

    def _imagine(
        self, now: Sight, expert: Tensor, known: Tensor, chance: Chance, weight: float
    ) -> tuple[Sampled | None, Tensor]:
        """What the actor would do, as far as the entropy term covers it, and the loss of cloning.

        What has no weight is not worked out: None, or zero.
        """
        settings, actor, config = self.settings, self.actor, self.actor.config
        memory = actor.remember(self._features(now, actor.frame), now.mask)
        steps = settings.entropy_steps(config.act_chunk_size)
        rows = known.any(-1).nonzero()[:, 0]
        if config.decoder is DecoderKind.PARALLEL:
            hidden = actor.hidden(memory, expert)  # which does not look at what is fed: one pass serves both
            drawn = actor.drawn(hidden, chance.now, steps) if settings.scores else None
            return drawn, clone(actor, hidden[rows], expert[rows], known[rows], settings)
        drawn = actor.decode(memory, chance.now, steps) if settings.scores else None
        if not weight:
            return drawn, torch.zeros((), device=self.device)
        hidden = taught(actor, rows_of(memory, rows), expert[rows], known[rows], chance.fed[rows], settings)
        return drawn, clone(actor, hidden, expert[rows], known[rows], settings)

    @torch.no_grad()
    def _target(self, batch: Batch, chance: Chance) -> tuple[Tensor, Tensor]:
        """What the critics should say of the windows, shape (batch,), and the chunks it counts on after them,
        normalised, shape (batch, h, A)."""
        settings, actor, config = self.settings, self.actor, self.actor.config
        later = Sight.of(actor, self._here(batch.later))
        steps = settings.entropy_steps(config.act_chunk_size) if settings.entropy_in_backup else settings.window
        drawn = actor.decode(actor.remember(later.encoded(actor.frame), later.mask), chance.later, steps)
        seen = later.newest(self.targets.frames)
        features = seen.encoded(actor.frame if self.targets.frame is None else self.targets.frame)
        then = drawn.actions[:, : settings.window]
        values = self.targets(features, seen.mask, then)
        value = aggregate(settings.agg, values, chance.pair)
        if settings.entropy_in_backup:
            value = value - self.temperature() * drawn.log_prob
        rewards, length, bootstrap = (x.to(self.device) for x in (batch.rewards, batch.length, batch.bootstrap))
        target = chunk_target(rewards, length, bootstrap, value, settings.gamma)
        if settings.value_low is None and settings.value_high is None:
            return target, then
        return target.clamp(settings.value_low, settings.value_high), then

    def _features(self, sight: Sight, frame: FrameEncoder) -> Tensor:
        with torch.set_grad_enabled(torch.is_grad_enabled() and not self.settings.freeze_encoder):
            return sight.encoded(frame)

    def _windows(self, batch: Batch) -> Tensor:
        if batch.actions.shape[1] != self.settings.window:
            raise MisfitError(
                f"batch: windows of {batch.actions.shape[1]} steps; objective {self.settings.objective} "
                f"learns from windows of {self.settings.window}"
            )
        return batch.actions.to(self.device)

    def _here(self, history: History) -> History:
        images = {name: image.to(self.device) for name, image in history.images.items()}
        return History(history.state.to(self.device), images, history.mask.to(self.device))


def _lerp(slow: nn.Module, fast: nn.Module, share: float) -> None:
    torch._foreach_lerp_(list(slow.parameters()), list(fast.parameters()), share)

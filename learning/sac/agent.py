"""The learner's mind: actor, critics, targets, temperature and their optimisers, and one update of all of them."""

from __future__ import annotations

import copy
import math
from collections.abc import Mapping
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
from learning.sac.targets import aggregate, chunk_target
from learning.sac.temperature import Temperature
from spec.errors import CadenzaError, MisfitError


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


class Agent:
    """Learns from batches. What an update does depends on weights, moments, batch and its number alone.

    Dropout is off, whatever the actor's configuration says: targets and what is compared with them come from one
    network, not from a different one each time.

    Args:
        actor: from the warm-up, on the device to learn on; it is trained in place.
        settings: how.
    """

    def __init__(self, actor: SequenceActor, settings: Settings) -> None:
        config = actor.config
        if settings.h > config.act_chunk_size and settings.objective is Objective.CHUNK:
            raise MisfitError(f"h {settings.h} is longer than the actor's chunk of {config.act_chunk_size}")
        self.actor, self.settings = actor.eval(), settings
        self.device = actor.mean_head.weight.device
        self._frames = settings.critic_frames(config.obs_history_length)
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(settings.seed)
            critics = Critics(
                config,
                frames=self._frames,
                steps=settings.window,
                critics=settings.critics,
                hidden=settings.critic_hidden,
                layers=settings.critic_layers,
                own_encoder=not settings.freeze_encoder,
            )
        if critics.frame is not None:
            critics.frame.load_state_dict(actor.frame.state_dict())
        self.critics = critics.to(self.device).eval()
        self.targets = copy.deepcopy(self.critics).requires_grad_(requires_grad=False)
        self.temperature = Temperature(settings.temperature).to(self.device)
        self.skipped = 0
        """Batches without a finite loss so far."""
        self._bad = 0
        actor.requires_grad_()
        actor.frame.requires_grad_(not settings.freeze_encoder)
        self._optimizers = {
            "actor": _adam(actor, settings.actor_lr),
            "critic": _adam(self.critics, settings.critic_lr),
            "temperature": _adam(self.temperature, settings.temperature_lr),
        }

    def update(self, batch: Batch, step: int) -> dict[str, float]:
        """Learn from one batch.

        Args:
            batch: windows of ``settings.window`` steps.
            step: number of the update, from 0. It decides what is drawn, and how much cloning weighs.

        Returns:
            What there is to plot. Where a loss or a gradient was not finite, ``skipped`` is 1 and nothing was changed.

        Raises:
            MisfitError: windows of another length.
            CadenzaError: no finite loss for ``settings.patience`` batches in a row.
        """
        self.actor.eval()  # whoever exports it or looks at it may have left it otherwise
        losses, facts = self._losses(batch, step)
        norms = {name: self._gradients(name, loss) for name, loss in losses.items()}
        facts |= {f"{name}_loss": loss for name, loss in losses.items()}
        facts |= {f"{name}_gradient": norm for name, norm in norms.items()}
        numbers = dict(
            zip(facts, torch.stack([fact.detach().float() for fact in facts.values()]).tolist(), strict=True)
        )
        if not all(math.isfinite(numbers[f"{name}_{what}"]) for name in losses for what in ("loss", "gradient")):
            self._skip(step)
            return numbers | {"skipped": 1.0}
        self._bad = 0
        for name in losses:
            self._optimizers[name].step()
        if "critic" in losses:
            self._follow()
        return numbers | {"skipped": 0.0}

    def tensors(self) -> dict[str, Tensor]:
        """Everything that the next update depends on, copied."""
        found = {"skipped": torch.tensor([self.skipped, self._bad])}
        for prefix, module in self._modules().items():
            found |= {f"{prefix}.{name}": tensor for name, tensor in module.state_dict().items()}
        for name, optimizer in self._optimizers.items():
            for index, moments in optimizer.state_dict()["state"].items():
                found |= {f"adam.{name}.{index}.{moment}": tensor for moment, tensor in moments.items()}
        return {name: tensor.detach().clone() for name, tensor in found.items()}

    def restore(self, tensors: Mapping[str, Tensor]) -> None:
        """Take up what :meth:`tensors` gave. The next update is then, on a CPU, the same to the bit.

        Raises:
            MisfitError: of another agent: a tensor is missing, not ours, or has another shape.
        """
        own = self.tensors()
        moments: dict[str, dict[int, dict[str, Tensor]]] = {name: {} for name in self._optimizers}
        for name, tensor in tensors.items():
            if name.startswith("adam."):
                part, index, moment = _moment(name)
                if part not in moments:
                    raise MisfitError(f"state of another learner: {name} is not ours")
                moments[part].setdefault(index, {})[moment] = tensor.clone()
            elif name not in own or own[name].shape != tensor.shape:
                raise MisfitError(f"state of another learner: {name} of shape {tuple(tensor.shape)} is not ours")
        for name in own.keys() - tensors.keys():
            if not name.startswith("adam."):
                raise MisfitError(f"state of another learner: {name} is missing")
        for prefix, module in self._modules().items():
            module.load_state_dict({name: tensors[f"{prefix}.{name}"] for name in module.state_dict()})
        for name, optimizer in self._optimizers.items():
            optimizer.load_state_dict({**optimizer.state_dict(), "state": moments[name]})
        self.skipped, self._bad = (int(count) for count in tensors["skipped"].tolist())

    def _modules(self) -> dict[str, nn.Module]:
        return {
            "actor": self.actor,
            "critics": self.critics,
            "targets": self.targets,
            "temperature": self.temperature,
        }

    def _losses(self, batch: Batch, step: int) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
        """Loss of each part that learns at this update, and what else is worth knowing; scalars all."""
        settings, actor, config = self.settings, self.actor, self.actor.config
        chance = self._chance(len(batch), step)
        now = Sight.of(actor, self._here(batch.now))
        losses: dict[str, Tensor] = {}
        facts: dict[str, Tensor] = {}
        seen = now.newest(self._frames)
        features: Tensor | None = None
        if settings.scores:
            features = self._encoded(seen)
            actions = actor.normalization.action(self._windows(batch))
            values = self.critics(features, seen.mask, actions)
            target = self._target(batch, chance)
            losses["critic"] = critic_loss(values, target)
            facts |= {"q": values.mean(), "q_spread": values.std(0).mean(), "target": target.mean()}
        if not settings.actor_learns(step):
            return losses, facts
        known = batch.expert_mask.to(self.device)
        expert = actor.normalization.action(batch.expert.to(self.device))
        drawn, cloning = self._imagine(now, expert, known, chance, settings.bc_weight(step))
        policy = torch.zeros((), device=self.device)
        if drawn is not None and features is not None:
            values = self.critics(features.detach(), seen.mask, drawn.actions[:, : settings.window])
            log_prob, alpha = drawn.log_prob, self.temperature()
            policy = policy_loss(log_prob, values, alpha, settings)
            goal = settings.entropy_target(config.act_chunk_size, config.action_dim)
            losses["temperature"] = self.temperature.loss(log_prob, goal)
            facts |= {"policy_loss": policy, "policy_q": values.mean(), "entropy": -log_prob.mean(), "alpha": alpha}
        weight = settings.bc_weight(step)
        losses["actor"] = mixed(policy, cloning, weight, known.any(), settings)
        facts |= {"bc_loss": cloning, "bc_weight": torch.tensor(weight, device=self.device)}
        return losses, facts

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
    def _target(self, batch: Batch, chance: Chance) -> Tensor:
        """What the critics should say of the windows, shape (batch,)."""
        settings, actor, config = self.settings, self.actor, self.actor.config
        later = Sight.of(actor, self._here(batch.later))
        steps = settings.entropy_steps(config.act_chunk_size) if settings.entropy_in_backup else settings.window
        drawn = actor.decode(actor.remember(later.encoded(actor.frame), later.mask), chance.later, steps)
        seen = later.newest(self._frames)
        features = seen.encoded(actor.frame if self.targets.frame is None else self.targets.frame)
        values = self.targets(features, seen.mask, drawn.actions[:, : settings.window])
        value = aggregate(settings.agg, values, chance.pair)
        if settings.entropy_in_backup:
            value = value - self.temperature() * drawn.log_prob
        rewards, length, bootstrap = (x.to(self.device) for x in (batch.rewards, batch.length, batch.bootstrap))
        target = chunk_target(rewards, length, bootstrap, value, settings.gamma)
        if settings.value_low is None and settings.value_high is None:
            return target
        return target.clamp(settings.value_low, settings.value_high)

    def _encoded(self, sight: Sight) -> Tensor:
        """Features for the critics, from their own encoder or from the actor's where that is frozen."""
        return self._features(sight, self.actor.frame if self.critics.frame is None else self.critics.frame)

    def _features(self, sight: Sight, frame: FrameEncoder) -> Tensor:
        with torch.set_grad_enabled(not self.settings.freeze_encoder):
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

    def _chance(self, rows: int, step: int) -> Chance:
        """Drawn on the CPU, so that it is the same on every device."""
        config = self.actor.config
        seeds = np.random.SeedSequence((self.settings.seed, step)).generate_state(2, np.uint64)
        generator = torch.Generator().manual_seed(int(seeds[0]))
        noise = torch.randn(3, rows, config.act_chunk_size, config.action_dim, generator=generator).to(self.device)
        first, second = np.random.default_rng(int(seeds[1])).choice(self.settings.critics, 2, replace=False)
        return Chance(noise[0], noise[1], noise[2], (int(first), int(second)))

    def _gradients(self, name: str, loss: Tensor) -> Tensor:
        """Put the clipped gradient of ``loss`` into the parameters of one part, and nobody else's; returns its norm."""
        parameters = self._optimizers[name].param_groups[0]["params"]
        gradients = torch.autograd.grad(loss, parameters, retain_graph=True, materialize_grads=True)
        for parameter, gradient in zip(parameters, gradients, strict=True):
            parameter.grad = gradient
        return nn.utils.clip_grad_norm_(parameters, self.settings.clip)

    def _skip(self, step: int) -> None:
        self.skipped += 1
        self._bad += 1
        if self._bad >= self.settings.patience:
            raise CadenzaError(
                f"update {step}: the loss was not finite {self._bad} times in a row; learning stops here"
            )

    @torch.no_grad()
    def _follow(self) -> None:
        """The target critics go after the critics, encoder and all."""
        torch._foreach_lerp_(list(self.targets.parameters()), list(self.critics.parameters()), self.settings.ema)


def _adam(module: nn.Module, rate: float) -> torch.optim.Adam:
    return torch.optim.Adam([p for p in module.parameters() if p.requires_grad], lr=rate, fused=True)


def _moment(name: str) -> tuple[str, int, str]:
    """``adam.actor.3.exp_avg`` → its parts."""
    try:
        _, part, index, moment = name.split(".")
        return part, int(index), moment
    except ValueError:
        raise MisfitError(f"state of another learner: {name} is not ours") from None

"""The losses of critics and actor, one function each, the same for every objective.

They differ in what :class:`learning.sac.settings.Settings` says of them: how many steps the critics score, how many the
entropy covers, and how cloning is mixed in.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from learning.cloning.loss import CloningLoss, cloning_loss, spread_loss
from learning.network.actor import Memory, SequenceActor
from learning.network.transformer import KeyValue
from learning.network.vision import FrameEncoder
from learning.replay.batch import History
from learning.sac.settings import Objective, Settings

_SPREAD_WEIGHT = 0.01
"""Of the likelihood of σ where nothing but cloning teaches it, as in :mod:`learning.cloning.warmup`."""

_LEAST_VALUE = 0.01
"""Values of fresh critics lie about zero; what is divided by them must not swamp the rest."""


class Sight(NamedTuple):
    """A batch of histories, normalised once for all who encode them; frames lie one after the other."""

    state: Tensor
    """Shape (batch · H, S)."""
    images: dict[str, Tensor]
    """By camera, shape (batch · H, 3, height, width)."""
    mask: Tensor
    """Shape (batch, H)."""

    @classmethod
    def of(cls, actor: SequenceActor, history: History) -> Sight:
        """As ``actor`` normalises it."""
        normalization = actor.normalization
        images = {name: normalization.image(image.flatten(0, 1)) for name, image in history.images.items()}
        return cls(normalization.state(history.state.flatten(0, 1)), images, history.mask)

    def newest(self, frames: int) -> Sight:
        """The newest ``frames`` of each history."""
        length = self.mask.shape[1]
        if frames == length:
            return self
        kept = torch.arange(len(self.state), device=self.state.device).reshape(-1, length)[:, -frames:].flatten()
        images = {name: image[kept] for name, image in self.images.items()}
        return Sight(self.state[kept], images, self.mask[:, -frames:])

    def encoded(self, frame: FrameEncoder) -> Tensor:
        """Features, shape (batch, H, D)."""
        features: Tensor = frame(self.state, self.images)
        return features.reshape(*self.mask.shape, -1)


def taught(
    actor: SequenceActor, memory: Memory, expert: Tensor, mask: Tensor, noise: Tensor, settings: Settings
) -> Tensor:
    """Hidden states of every step, given the examples before it, shape (batch, C, D).

    Args:
        memory: of the histories.
        expert: normalised, shape (batch, C, A).
        mask: True where it is known, shape (batch, C).
        noise: standard normal, added to what is fed back as far as ``settings`` say, shape (batch, C, A).
        settings: how much of it.
    """
    fed = (expert + settings.feedback_noise * noise).clamp(-1.0, 1.0)
    return actor.hidden(memory, torch.where(mask[..., None], fed, 0.0))


def clone(actor: SequenceActor, hidden: Tensor, expert: Tensor, mask: Tensor, settings: Settings) -> Tensor:
    """Loss of cloning examples, shapes as in :func:`taught`; zero where there are none."""
    loss = cloning_loss(settings.bc_loss, actor.heads(hidden), expert, mask)
    if settings.objective is Objective.BC and settings.bc_loss is CloningLoss.MSE:
        loss = loss + _SPREAD_WEIGHT * spread_loss(actor.heads(hidden.detach()), expert, mask)
    return loss


def rows_of(memory: Memory, rows: Tensor) -> Memory:
    """The memory of some rows of a batch."""
    layers = tuple(KeyValue(layer.key[rows], layer.value[rows]) for layer in memory.layers)
    return Memory(layers, memory.bias[rows])


def critic_loss(values: Tensor, target: Tensor) -> Tensor:
    """Squared error of every critic, summed over critics: values (critics, batch), target (batch,)."""
    return (values - target).square().mean(-1).sum()


def policy_loss(log_prob: Tensor, values: Tensor, alpha: Tensor, settings: Settings) -> Tensor:
    """α · log π − Q, a scalar, divided by the mean of |Q| where ``settings`` say so.

    Args:
        log_prob: joint, of the steps that the entropy term covers, shape (batch,).
        values: of the actions drawn, shape (critics, batch).
        alpha: temperature.
    """
    value = values.amin(0) if settings.objective is Objective.SEED else values.mean(0)
    loss = (alpha * log_prob - value).mean()
    return loss / value.detach().abs().mean().clamp_min(_LEAST_VALUE) if settings.value_scale else loss


def mixed(policy: Tensor, cloning: Tensor, weight: float, examples: Tensor, settings: Settings) -> Tensor:
    """The actor's loss: ``chunk`` adds cloning, ``seed`` shares out one between the two.

    Args:
        examples: whether the batch holds any; without, ``seed`` is α · log π − Q alone.
    """
    if settings.objective is Objective.SEED:
        share = torch.where(examples, weight, 0.0)
        return (1.0 - share) * policy + share * cloning
    return policy + weight * cloning

"""What fine-tuning is told: objective, horizon, rates, and how the loss of cloning is mixed in."""

from __future__ import annotations

import math
from enum import StrEnum
from typing import Self

from pydantic import Field, NonNegativeFloat, NonNegativeInt, PositiveFloat, PositiveInt, model_validator

from learning.cloning.loss import CloningLoss
from spec.robot import Section


class Objective(StrEnum):
    """What the critics score and what the actor follows. C is the chunk, h the steps executed of it."""

    CHUNK = "chunk"
    """Q(history, a_0:h) with an h-step target; entropy over the same h steps; cloning beside it."""
    SEED = "seed"
    """Q(o, a_0) with a one-step target, o the newest frame, entropy over all C steps; mixed with cloning."""
    SINGLE = "single"
    """Q(o, a_0) with a one-step target, entropy of that step; no cloning."""
    BC = "bc"
    """Cloning alone: no critic."""


class Agg(StrEnum):
    """How the values of several critics become one."""

    MIN = "min"
    MEAN = "mean"
    PAIR = "pair"
    """The lower of two drawn at random for each batch (Chen et al. 2021): less pessimistic than the lowest of many."""


class Settings(Section):
    """How an :class:`learning.sac.agent.Agent` learns. Steps are policy steps."""

    objective: Objective = Objective.CHUNK
    h: PositiveInt = 4
    """Steps executed of each chunk: what the critics of ``chunk`` score."""
    gamma: float = Field(default=0.98, gt=0.0, le=1.0)
    """Discount for each step."""

    critics: int = Field(default=2, ge=2, le=10)
    critic_hidden: PositiveInt = 256
    critic_layers: PositiveInt = 2
    agg: Agg = Agg.PAIR
    """Of the target critics. The actor follows the mean of its critics, and in ``seed`` the lowest."""
    value_scale: bool = False
    """Divide α · log π − Q by the mean of |Q|, so that the weight of cloning beside it means the same
    whatever rewards are counted in (Fujimoto and Gu 2021)."""
    value_low: float | None = None
    """The least that anything can be worth, where the rewards tell; no target of the critics lies below."""
    value_high: float | None = None
    """The most, e.g. 1 where success is worth 1 and nothing else counts. Values that feed on their own errors stop
    there."""
    ema: float = Field(default=0.005, gt=0.0, le=1.0)
    """Share of the critics that the target critics take over at each update."""
    freeze_encoder: bool = False
    """Keep the actor's frame encoder as it is, and let the critics use it too; otherwise they have their own, which
    begins as a copy, and the target critics a slow copy of that."""

    actor_lr: PositiveFloat = 1e-4
    ramp: PositiveInt = 500
    """Updates over which the actor's rate rises from nothing. Adam's first steps move every weight by the whole rate,
    and a chunk by a good part of a radian, whatever the loss."""
    anneal: PositiveInt | None = None
    """Updates after the ``critic_warmup`` over which the actor's rate falls to a tenth, by half a cosine, so that a
    learning of known length ends calm. None: it stays."""
    actor_ema: float = Field(default=0.005, ge=0.0, le=1.0)
    """Share of the actor that its average takes over whenever it has learned; the average is what drives the robot,
    because from one update to the next the actor itself swings about what it has learned. 0: no average."""
    critic_lr: PositiveFloat = 3e-4
    temperature_lr: PositiveFloat = 3e-4
    clip: PositiveFloat = 10.0
    """Largest gradient norm, of actor and critics each."""

    temperature: PositiveFloat = 1e-2
    """α at the beginning."""
    target_entropy: float | None = None
    """Of the steps that the entropy term covers, normalised actions; None: −½ for each number of each such step."""
    entropy_in_backup: bool = False

    bc_initial: NonNegativeFloat = 1.0
    bc_final: NonNegativeFloat = 0.1
    bc_decay: PositiveInt = 20_000
    """Updates K over which the weight of cloning falls geometrically from ``bc_initial`` to ``bc_final``."""
    bc_loss: CloningLoss = CloningLoss.MSE
    feedback_noise: NonNegativeFloat = 0.05
    """Noise on the examples fed back to an autoregressive decoder in cloning, normalised, as in the warm-up."""

    batch: PositiveInt = 256
    utd: PositiveFloat = 1.0
    """Updates for each online row."""
    critic_warmup: NonNegativeInt = 0
    """First updates, in which the critics alone learn: fresh ones would lead a trained actor astray."""
    actor_every: PositiveInt = 1
    """The actor and the temperature learn at every n-th update."""
    patience: PositiveInt = 20
    """Batches in a row without a finite loss after which learning is given up."""
    seed: NonNegativeInt = 0

    @model_validator(mode="after")
    def _holds_together(self) -> Self:
        if self.bc_final > self.bc_initial:
            raise ValueError(f"bc_final {self.bc_final} is above bc_initial {self.bc_initial}")
        if self.objective is Objective.SEED and self.bc_initial > 1.0:
            raise ValueError(f"bc_initial {self.bc_initial}: objective seed shares out 1 between cloning and Q")
        if self.value_low is not None and self.value_high is not None and self.value_low >= self.value_high:
            raise ValueError(f"value_low {self.value_low} is not below value_high {self.value_high}")
        return self

    @property
    def window(self) -> int:
        """Steps h of the batches that :meth:`learning.sac.agent.Agent.update` wants."""
        return 1 if self.objective in {Objective.SEED, Objective.SINGLE} else self.h

    @property
    def scores(self) -> bool:
        """Whether there are critics to learn from."""
        return self.objective is not Objective.BC

    def critic_frames(self, history: int) -> int:
        """Newest frames the critics see, of a history of H: all in ``chunk``, the last alone in the others."""
        return history if self.objective is Objective.CHUNK else 1

    def entropy_steps(self, chunk: int) -> int:
        """Steps that the entropy term covers, of a chunk of C."""
        return chunk if self.objective is Objective.SEED else self.window

    def entropy_target(self, chunk: int, action_dim: int) -> float:
        """The entropy that the temperature steers to.

        −½ for each number of each step *that the entropy term covers*: h steps in ``chunk``, where these are the steps
        the critic scores, all C in ``seed``. A target for one step beside an entropy of C would push every step towards
        uniform noise, and the formula is bad enough without.
        """
        if self.target_entropy is not None:
            return self.target_entropy
        return -0.5 * action_dim * self.entropy_steps(chunk)

    def bc_weight(self, step: int) -> float:
        """Weight of cloning at update k: w(k) = max(w_f, w_0 (w_f / w_0)^(k / K)); none in ``single``."""
        if self.objective is Objective.SINGLE or not self.bc_initial:
            return 0.0
        return max(self.bc_final, self.bc_initial * math.pow(self.bc_final / self.bc_initial, step / self.bc_decay))

    def actor_rate(self, step: int) -> float:
        """The actor's learning rate at update ``step``."""
        since = max(1, step + 1 - self.critic_warmup)
        rate = self.actor_lr * min(1.0, since / self.ramp)
        if self.anneal is None:
            return rate
        return rate * (0.55 + 0.45 * math.cos(math.pi * min(1.0, since / self.anneal)))

    def actor_learns(self, step: int) -> bool:
        """Whether update ``step`` moves the actor."""
        return step >= self.critic_warmup and step % self.actor_every == 0

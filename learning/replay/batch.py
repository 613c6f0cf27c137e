"""What the learner is given for one update."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol, Self

import numpy as np
import torch
from torch import Tensor


@dataclass(frozen=True, slots=True, eq=False)
class History:
    """Observation histories, oldest frame first.

    Shapes: state (batch, H, S) [rad, rad/s, ...]; images by camera (batch, H, height, width, 3) uint8 RGB; mask
    (batch, H), True where a frame is real.
    """

    state: Tensor
    images: dict[str, Tensor]
    mask: Tensor

    def __len__(self) -> int:
        return int(self.state.shape[0])

    def joined(self, *others: Self) -> Self:
        """All of them, one after the other."""
        all_ = (self, *others)
        images = {name: torch.cat([part.images[name] for part in all_]) for name in self.images}
        return type(self)(torch.cat([part.state for part in all_]), images, torch.cat([part.mask for part in all_]))


@dataclass(frozen=True, slots=True, eq=False)
class Batch:
    """Windows of h executed steps, each within one episode; none goes on where a chunk was aborted."""

    now: History
    """At the first step."""
    actions: Tensor
    """As :attr:`learning.replay.rows.Rows.action`, shape (batch, h, A). Past ``length`` the arm is made to stand: the
    last target again, or no change, as the action space has it."""
    length: Tensor
    """L, real steps in the window, 1 to h, int64, shape (batch,)."""
    rewards: Tensor
    """Shape (batch, h), zero past ``length``."""
    bootstrap: Tensor
    """False where the task was over within the window; True otherwise, truncation included. Shape (batch,)."""
    later: History
    """At step L; what it holds where ``bootstrap`` is False has no meaning."""
    expert: Tensor
    """Example to clone from ``now`` on, units of the action space, shape (batch, C, A); zero where masked."""
    expert_mask: Tensor
    """True where it is known, shape (batch, C). Never true on rows that the policy drove."""

    def __len__(self) -> int:
        return len(self.length)

    def joined(self, *others: Self) -> Self:
        """All of them, one after the other."""
        all_ = (self, *others)
        return type(self)(
            self.now.joined(*(part.now for part in others)),
            torch.cat([part.actions for part in all_]),
            torch.cat([part.length for part in all_]),
            torch.cat([part.rewards for part in all_]),
            torch.cat([part.bootstrap for part in all_]),
            self.later.joined(*(part.later for part in others)),
            torch.cat([part.expert for part in all_]),
            torch.cat([part.expert_mask for part in all_]),
        )


class Source(Protocol):
    """Where batches are drawn from."""

    def __len__(self) -> int:
        """Rows that a window can begin at."""

    def draw(self, rng: np.random.Generator, batch: int) -> Batch:
        """Windows that begin at rows drawn evenly; depends on ``rng`` and on what is stored alone."""

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

    def joined(self, other: Self) -> Self:
        """Both, one after the other."""
        images = {name: torch.cat([image, other.images[name]]) for name, image in self.images.items()}
        return type(self)(torch.cat([self.state, other.state]), images, torch.cat([self.mask, other.mask]))


@dataclass(frozen=True, slots=True, eq=False)
class Batch:
    """Windows of h executed steps, each within one chunk's execution and one episode."""

    now: History
    """At the first step."""
    actions: Tensor
    """Executed, in units of the action space, shape (batch, h, A). Past ``length`` the arm is made to stand: the last
    target again, or no change, as the action space has it."""
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

    def joined(self, other: Self) -> Self:
        """Both, one after the other."""
        return type(self)(
            self.now.joined(other.now),
            torch.cat([self.actions, other.actions]),
            torch.cat([self.length, other.length]),
            torch.cat([self.rewards, other.rewards]),
            torch.cat([self.bootstrap, other.bootstrap]),
            self.later.joined(other.later),
            torch.cat([self.expert, other.expert]),
            torch.cat([self.expert_mask, other.expert_mask]),
        )


class Source(Protocol):
    """Where batches are drawn from."""

    def __len__(self) -> int:
        """Rows that a window can begin at."""

    def draw(self, rng: np.random.Generator, batch: int) -> Batch:
        """Windows that begin at rows drawn evenly; depends on ``rng`` and on what is stored alone."""

"""Training windows: what the policy would have seen, and what the expert did next."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor


@dataclass(frozen=True, slots=True, eq=False)
class Windows:
    """A batch of windows, oldest frame first.

    Shapes: state (batch, H, S) [rad, rad/s]; images by camera (batch, H, height, width, 3) uint8 RGB; mask
    (batch, H), True where a frame is real; actions (batch, C, A) in action units; action_mask (batch, C), True where
    the episode really went on that long.
    """

    state: Tensor
    images: dict[str, Tensor]
    mask: Tensor
    actions: Tensor
    action_mask: Tensor

    def __len__(self) -> int:
        return int(self.state.shape[0])

    def select(self, rows: Tensor) -> Windows:
        """The windows with these indices."""
        return Windows(
            self.state[rows],
            {name: image[rows] for name, image in self.images.items()},
            self.mask[rows],
            self.actions[rows],
            self.action_mask[rows],
        )

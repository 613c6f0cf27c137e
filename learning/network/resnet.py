"""ResNet-10 and ResNet-18 with group normalisation, as HIL-SERL (Luo et al. 2024) sees with.

3×3 blocks with padding of the SAME kind: as much as the output needs, the odd row and column at the bottom and right.
At stride 2 that is not the padding of one all round that most ResNets have, and weights trained under the one give
other features under the other.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence

from torch import Tensor, nn

from learning.network.config import RESNET_CHANNELS

GROUPS = 4
"""Of every group normalisation."""

_STEM = {"embedder.0": "stem", "embedder.1": "stem_norm"}
_WRAPPED = re.compile(r"\.(conv|group_norm)\.(?=weight$|bias$)")
_BLOCK = re.compile(r"encoder\.stages\.(\d+)\.(conv1|norm1|conv2|norm2|shortcut\.[01])\.(weight|bias)")
_SHORTCUT = {"shortcut.0": "shortcut", "shortcut.1": "shortcut_norm"}


def same_padding(size: int, kernel: int, stride: int) -> tuple[int, int]:
    """Padding before and after one axis so that ⌈size / stride⌉ outputs come of it."""
    total = max(0, (-(-size // stride) - 1) * stride + kernel - size)
    return total // 2, total - total // 2


def pad_same(x: Tensor, kernel: int, stride: int, value: float = 0.0) -> Tensor:
    """Pad the last two axes for a window of ``kernel`` moved by ``stride``."""
    height, width = x.shape[-2:]
    return nn.functional.pad(
        x, (*same_padding(width, kernel, stride), *same_padding(height, kernel, stride)), value=value
    )


class Block(nn.Module):
    """Two 3×3 convolutions and what they add to: the input, or a 1×1 convolution of it where the width changes."""

    def __init__(self, inputs: int, outputs: int, stride: int, same: bool) -> None:
        super().__init__()
        self.stride, self.same = stride, same
        self.conv1 = nn.Conv2d(inputs, outputs, 3, stride, bias=False)
        self.norm1 = nn.GroupNorm(GROUPS, outputs)
        self.conv2 = nn.Conv2d(outputs, outputs, 3, bias=False)
        self.norm2 = nn.GroupNorm(GROUPS, outputs)
        if inputs != outputs:
            self.shortcut = nn.Conv2d(inputs, outputs, 1, stride, bias=False)
            self.shortcut_norm = nn.GroupNorm(GROUPS, outputs)

    def forward(self, x: Tensor) -> Tensor:
        y = self.norm1(self.conv1(self._padded(x, self.stride))).relu()
        y = self.norm2(self.conv2(self._padded(y, 1)))
        kept = self.shortcut_norm(self.shortcut(x)) if hasattr(self, "shortcut") else x
        result: Tensor = (y + kept).relu()
        return result

    def _padded(self, x: Tensor, stride: int) -> Tensor:
        return pad_same(x, 3, stride) if self.same else nn.functional.pad(x, (1, 1, 1, 1))


class ResNet(nn.Module):
    """(N, 3, height, width) → (N, last of ``channels``, ⌈height / 32⌉, ⌈width / 32⌉).

    Args:
        depths: blocks in each stage; (1, 1, 1, 1) is ResNet-10, (2, 2, 2, 2) ResNet-18.
        channels: of each stage; the stem has the first.
        same: padding of the blocks as above; otherwise one all round.
    """

    def __init__(self, depths: Sequence[int], channels: Sequence[int] = RESNET_CHANNELS, same: bool = True) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, channels[0], 7, 2, padding=3, bias=False)
        self.stem_norm = nn.GroupNorm(GROUPS, channels[0])
        blocks: list[Block] = []
        width = channels[0]
        for stage, (depth, outputs) in enumerate(zip(depths, channels, strict=True)):
            for number in range(depth):
                blocks.append(Block(width, outputs, 2 if stage and not number else 1, same))
                width = outputs
        self.blocks = nn.Sequential(*blocks)

    def forward(self, x: Tensor) -> Tensor:
        stem = self.stem_norm(self.stem(x)).relu()
        pooled = nn.functional.max_pool2d(pad_same(stem, 3, 2, float("-inf")), 3, 2)
        result: Tensor = self.blocks(pooled)
        return result


def from_published(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Weights of a published ResNet-10 under the names used here; names of no such network are kept as they are.

    Published ones differ in whether convolutions and normalisations sit in wrappers (``.conv.``, ``.group_norm.``).
    """
    renamed = {}
    for name, tensor in tensors.items():
        plain = _WRAPPED.sub(".", name)
        layer, _, kind = plain.rpartition(".")
        if layer in _STEM:
            plain = f"{_STEM[layer]}.{kind}"
        elif block := _BLOCK.fullmatch(plain):
            number, layer, kind = block.groups()
            plain = f"blocks.{number}.{_SHORTCUT.get(layer, layer)}.{kind}"
        renamed[plain] = tensor
    return renamed

"""Chunk latency: the exported bundle on ONNX Runtime against eager PyTorch, one thread each.

The bundle does what the robot does at a policy step: encode the newest frame, decode with the features of the older
ones kept. It is compared with

``eager``    the same actor in PyTorch, which encodes the whole history, then takes all decoding steps; same actions;
``as_seed``  an actor of the same sizes built and run as the seed does it (:class:`AsTheSeedRunsIt`).

Rounds of all are interleaved, so that they see the same machine.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from export.graphs import decoder_graph, encoder_graph
from export.parity import Graphs
from learning.network.actor import SequenceActor
from learning.network.config import ActorConfig, Convolution, DecoderKind, Pooling
from learning.network.normalization import Normalization
from learning.network.vision import FrameEncoder
from spec.manifest import ImageInput, StateFeature

_JOINTS = ("shoulder_pan", "shoulder_lift", "elbow_flex", "wrist_flex", "wrist_roll", "gripper")

DEMO = ActorConfig(
    joints=_JOINTS,
    cameras={"top": ImageInput(height=64, width=64)},
    obs_history_length=2,
    act_chunk_size=8,
    act_dim_model=128,
    act_n_heads=4,
    act_dim_feedforward=256,
    act_n_encoder_layers=2,
    act_n_decoder_layers=2,
    act_dropout=0.0,
    act_pre_norm=True,
    latent_dim=128,
    pooling=Pooling.KEYPOINTS,
    cnn=(
        Convolution(channels=12, kernel=5),
        Convolution(channels=24, kernel=3),
        Convolution(channels=32, kernel=3, stride=1),
    ),
)
"""Sizes of the shipped actor."""

SEED_SIZE = ActorConfig(
    joints=_JOINTS,
    state=(StateFeature.POSITION, StateFeature.VELOCITY),
    cameras={"top": ImageInput(height=224, width=224)},
)
"""dim 512, 4 + 4 layers, feed-forward 3200, 8 heads, history 5, chunk 8, one 224² camera, 6 actions."""


ACTORS = {
    "demo": DEMO,
    "seed_size": SEED_SIZE,
    "seed_size_parallel": SEED_SIZE.model_copy(update={"decoder": DecoderKind.PARALLEL}),
}


class AsTheSeedRunsIt(nn.Module):
    """The seed's actor as it acts: stock layers, sequence first; each frame of the history by itself through the image
    encoder and the newest once more; then step by step the decoder's own output fed back as a single token, with the
    keys and values of the cross-attention computed anew each time; always sampled. Weights are random: only the work
    is compared."""

    def __init__(self, config: ActorConfig) -> None:
        super().__init__()
        self.config, dim = config, config.act_dim_model
        sizes = (dim, config.act_n_heads, config.act_dim_feedforward, config.act_dropout, config.act_activation.value)
        self.normalization, self.frame = Normalization(config), FrameEncoder(config)
        self.encoder = nn.TransformerEncoder(
            nn.TransformerEncoderLayer(*sizes), config.act_n_encoder_layers, enable_nested_tensor=False
        )
        self.decoder = nn.TransformerDecoder(nn.TransformerDecoderLayer(*sizes), config.act_n_decoder_layers)
        self.start = nn.Parameter(torch.randn(1, 1, dim))
        self.history_position = nn.Parameter(torch.randn(config.obs_history_length, 1, dim))
        self.action_position = nn.Parameter(torch.randn(config.act_chunk_size, 1, dim))
        self.mean_head, self.log_std_head = nn.Linear(dim, config.action_dim), nn.Linear(dim, config.action_dim)

    def forward(self, state: Tensor, images: dict[str, Tensor]) -> Tensor:
        """State (1, H, S) and images (1, H, height, width, 3) by camera → actions (C, A)."""
        newest = self.config.obs_history_length - 1
        seen = [self._see(state, images, slot) for slot in (*range(newest + 1), newest)]
        memory = self.encoder(torch.stack(seen[:-1]) + self.history_position)
        token, outputs = self.start, []
        for position in self.action_position:
            token = self.decoder(token + position, memory)
            outputs.append(token)
        hidden = torch.cat(outputs)[:, 0]
        spread = self.log_std_head(hidden).clamp(self.config.log_std_min, self.config.log_std_max).exp()
        return torch.tanh(self.mean_head(hidden) + spread * torch.randn_like(spread))

    def _see(self, state: Tensor, images: dict[str, Tensor], slot: int) -> Tensor:
        pictures = {name: self.normalization.image(image[:, slot]) for name, image in images.items()}
        feature: Tensor = self.frame(self.normalization.state(state[:, slot]), pictures)
        return feature


def measure(seconds: float = 20.0) -> dict[str, Any]:
    """Latencies [ms] and how many times faster the bundle is; takes about ``seconds`` plus the exports."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        return {name: _compare(config, seconds / len(ACTORS)) for name, config in ACTORS.items()}
    finally:
        torch.set_num_threads(threads)


@torch.no_grad()
def _compare(config: ActorConfig, seconds: float) -> dict[str, Any]:
    torch.manual_seed(0)
    actor = SequenceActor(config).eval()
    graphs = Graphs(encoder_graph(actor), decoder_graph(actor))
    shape = (1, config.obs_history_length)
    state = torch.randn(*shape, config.state_dim)
    images = {
        name: torch.randint(0, 256, (*shape, image.height, image.width, 3), dtype=torch.uint8)
        for name, image in config.cameras.items()
    }
    mask = torch.ones(shape, dtype=torch.bool)
    kept = actor.encode_history(state, images)[0].numpy().copy()
    newest = {name: image[0, -1].numpy() for name, image in images.items()}
    quiet = np.zeros((config.act_chunk_size, config.action_dim), dtype=np.float32)

    def bundle() -> np.ndarray:
        kept[-1] = graphs.encode(state[0, -1].numpy(), newest)
        return graphs.decode(kept, mask[0].numpy(), quiet)

    def eager() -> np.ndarray:
        actions: np.ndarray = actor(state, images, mask)[0].numpy()
        return actions

    seed = AsTheSeedRunsIt(config).eval()
    contestants: dict[str, Callable[[], object]] = {
        "bundle": bundle,
        "eager": eager,
        "as_seed": lambda: seed(state, images),
    }
    apart = float(np.abs(bundle() - eager()).max())
    seed(state, images)
    taken: dict[str, list[float]] = {name: [] for name in contestants}
    until = time.monotonic() + seconds
    while time.monotonic() < until or len(taken["bundle"]) < 20:
        for name, call in contestants.items():
            taken[name].append(_timed(call))
    result: dict[str, Any] = {"max_abs_difference": apart, "rounds": len(taken["bundle"])}
    for name, values in taken.items():
        result[f"{name}_ms"] = {f"p{p}": round(float(np.percentile(values, p)), 3) for p in (50, 99)}
    for name in ("eager", "as_seed"):
        slower, faster = result[f"{name}_ms"], result["bundle_ms"]
        result[f"{name}_over_bundle"] = {p: round(slower[p] / faster[p], 2) for p in ("p50", "p99")}
    result["parameters"] = sum(parameter.numel() for parameter in actor.parameters())
    return result


def _timed(call: Callable[[], object]) -> float:
    """Milliseconds."""
    start = time.perf_counter()
    call()
    return (time.perf_counter() - start) * 1e3


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=20.0)
    print(json.dumps(measure(parser.parse_args().seconds), indent=2))


if __name__ == "__main__":
    main()

"""Chunk latency: the exported bundle on ONNX Runtime against the same actor in eager PyTorch, one thread each.

The bundle does what the robot does at a policy step: encode the newest frame, decode with the features of the older
ones kept. PyTorch does what the original did: encode the whole history, then all decoding steps. Both give the same
actions. Runs of the two are interleaved, so that both see the same machine.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable
from typing import Any

import numpy as np
import torch

from export.graphs import decoder_graph, encoder_graph
from export.parity import Graphs
from learning.actor import SequenceActor
from learning.config import ActorConfig, Convolution, Pooling
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


def measure(seconds: float = 20.0) -> dict[str, Any]:
    """Latencies [ms] and ratios for both sizes; takes about ``seconds`` plus the two exports."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        return {name: _compare(config, seconds / 2) for name, config in (("demo", DEMO), ("seed_size", SEED_SIZE))}
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

    apart = float(np.abs(bundle() - eager()).max())
    taken: dict[str, list[float]] = {"bundle": [], "eager": []}
    until = time.monotonic() + seconds
    while time.monotonic() < until or len(taken["eager"]) < 20:
        taken["bundle"].append(_timed(bundle))
        taken["eager"].append(_timed(eager))
    result: dict[str, Any] = {"max_abs_difference": apart, "rounds": len(taken["eager"])}
    for name, values in taken.items():
        result[f"{name}_ms"] = {f"p{p}": round(float(np.percentile(values, p)), 3) for p in (50, 99)}
    result["ratio"] = {p: round(result["eager_ms"][p] / result["bundle_ms"][p], 2) for p in ("p50", "p99")}
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

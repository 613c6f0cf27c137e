"""How far the exported graphs are from the actor they came from, run as the robot runs them."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import onnxruntime
import torch
from torch import Tensor

from learning.cloning.windows import Windows
from learning.network.actor import SequenceActor
from spec.action import decode
from spec.arrays import Float, Float32
from spec.errors import CadenzaError
from spec.manifest import Parity

TICKS_PER_TURN = 4096
"""Encoder resolution of the X series."""


class Graphs:
    """Encoder and decoder graphs in ONNX Runtime: CPU, one thread, no spinning, as on the robot."""

    def __init__(self, encoder: bytes, decoder: bytes) -> None:
        self._encoder, self._decoder = _session(encoder), _session(decoder)

    def encode(self, state: Float32, images: dict[str, np.ndarray]) -> Float32:
        """One frame: state (S,), images uint8 (height, width, 3) → feature (D,)."""
        feeds = {f"image.{name}": image[None] for name, image in images.items()}
        feature: Float32 = self._encoder.run(["feature"], {"state": state[None], **feeds})[0][0]
        return feature

    def decode(self, features: Float32, mask: np.ndarray, noise: Float32) -> Float32:
        """One history: features (H, D), mask (H,), noise (C, A) → actions (C, A)."""
        feeds = {"features": features[None], "mask": mask[None], "noise": noise[None]}
        actions: Float32 = self._decoder.run(["actions"], feeds)[0][0]
        return actions


def measure_parity(actor: SequenceActor, graphs: Graphs, real: Windows, progress: Callable[[], None]) -> Parity:
    """Compare on real windows, and on as many random ones with random masks and sampled noise.

    ``progress`` is called after each of the 2 · len(real) windows.
    """
    generator = torch.Generator().manual_seed(0)
    config = actor.config
    quiet = torch.zeros(len(real), config.act_chunk_size, config.action_dim)
    loud = torch.randn(quiet.shape, generator=generator)
    worst, worst_rad = 0.0, 0.0
    for windows, noise in ((real, quiet), (_random_like(actor, real, generator), loud)):
        for row in range(len(windows)):
            wanted = _from_actor(actor, windows, row, noise)
            found = _from_graphs(graphs, windows, row, noise)
            for whose, said in (("the graphs give", found), ("the actor gives", wanted)):
                if not np.isfinite(said).all():
                    raise CadenzaError(f"export: {whose} {_first_bad(said)} for window {row}; not a usable policy")
            worst = max(worst, float(np.abs(found - wanted).max()))
            reference = np.zeros(config.action_dim)
            apart = decode(config.action_space, found, reference) - decode(config.action_space, wanted, reference)
            worst_rad = max(worst_rad, float(np.abs(apart).max()))
            progress()
    return Parity(
        windows=len(real),
        max_abs=worst,
        max_abs_rad=worst_rad,
        max_ticks=worst_rad * TICKS_PER_TURN / (2.0 * np.pi),
    )


@torch.no_grad()
def _from_actor(actor: SequenceActor, windows: Windows, row: int, noise: Tensor) -> Float:
    images = {name: image[row : row + 1] for name, image in windows.images.items()}
    actions = actor(windows.state[row : row + 1], images, windows.mask[row : row + 1], noise[row : row + 1])
    return np.asarray(actions[0].numpy(), dtype=np.float64)


def _from_graphs(graphs: Graphs, windows: Windows, row: int, noise: Tensor) -> Float:
    """As the robot does it: each frame encoded by itself, masked slots left at zero."""
    mask = windows.mask[row].numpy()
    features = [
        graphs.encode(windows.state[row, slot].numpy(), {n: i[row, slot].numpy() for n, i in windows.images.items()})
        for slot in range(len(mask))
    ]
    stacked = np.where(mask[:, None], np.stack(features), np.float32(0.0))
    return np.asarray(graphs.decode(stacked, mask, noise[row].numpy()), dtype=np.float64)


def _random_like(actor: SequenceActor, real: Windows, generator: torch.Generator) -> Windows:
    """Windows of noise: states around the normalisation's, pictures of static, any frames but the newest missing."""
    state = torch.randn(real.state.shape, generator=generator)
    mask = torch.rand(real.mask.shape, generator=generator) < 0.7
    mask[:, -1] = True
    images = {
        name: torch.randint(0, 256, image.shape, generator=generator, dtype=torch.uint8)
        for name, image in real.images.items()
    }
    normal = actor.normalization
    return Windows(normal.state_mean + normal.state_std * state, images, mask, real.actions, real.action_mask)


def _session(content: bytes) -> onnxruntime.InferenceSession:
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    options.log_severity_level = 4
    return onnxruntime.InferenceSession(content, options, providers=["CPUExecutionProvider"])


def _first_bad(values: Float) -> float:
    return float(values[~np.isfinite(values)][0])

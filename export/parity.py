"""How far the exported graphs are from the actor they came from, run as the robot runs them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

import numpy as np
import onnxruntime
import torch
from torch import Tensor

from learning.cloning.windows import Windows
from learning.network.config import ActorConfig
from spec.action import decode
from spec.arrays import Float, Float32
from spec.errors import CadenzaError
from spec.manifest import Parity

TICKS_PER_TURN = 4096
"""Encoder resolution of the X series."""
RANDOM_WINDOWS = 12
"""Compared where no real ones are at hand."""


class Scales(Protocol):
    """Where states lie, shape (S,) [rad, rad/s, ...]."""

    @property
    def state_mean(self) -> Tensor: ...

    @property
    def state_std(self) -> Tensor: ...


class Policy(Protocol):
    """What a bundle is made of: an actor of ours, or another that is called like one."""

    config: ActorConfig

    @property
    def normalization(self) -> Scales: ...

    def __call__(self, state: Tensor, images: dict[str, Tensor], mask: Tensor, noise: Tensor) -> Tensor:
        """See :meth:`learning.network.actor.SequenceActor.forward`."""


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


def measure_parity(actor: Policy, graphs: Graphs, real: Windows | None, progress: Callable[[], None]) -> Parity:
    """Compare on real windows, and on as many random ones with random masks and sampled noise.

    Without real ones at hand, on :data:`RANDOM_WINDOWS` random ones alone. ``progress`` is called after each window.
    """
    generator = torch.Generator().manual_seed(0)
    config = actor.config
    count = RANDOM_WINDOWS if real is None else len(real)
    quiet = torch.zeros(count, config.act_chunk_size, config.action_dim)
    loud = torch.randn(quiet.shape, generator=generator)
    compared = [] if real is None else [(real, quiet)]
    worst, worst_rad = 0.0, 0.0
    for windows, noise in (*compared, (_random(actor, count, generator), loud)):
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
        windows=0 if real is None else count,
        random=count,
        max_abs=worst,
        max_abs_rad=worst_rad,
        max_ticks=worst_rad * TICKS_PER_TURN / (2.0 * np.pi),
    )


@torch.no_grad()
def _from_actor(actor: Policy, windows: Windows, row: int, noise: Tensor) -> Float:
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


def _random(actor: Policy, count: int, generator: torch.Generator) -> Windows:
    """Windows of noise: states around the normalisation's, pictures of static, any frames but the newest missing."""
    config = actor.config
    shape = (count, config.obs_history_length)
    state = torch.randn(*shape, config.state_dim, generator=generator)
    mask = torch.rand(shape, generator=generator) < 0.7
    mask[:, -1] = True
    images = {
        name: torch.randint(0, 256, (*shape, i.height, i.width, 3), generator=generator, dtype=torch.uint8)
        for name, i in config.cameras.items()
    }
    nothing = torch.zeros(count, config.act_chunk_size, config.action_dim)
    normal = actor.normalization
    state = normal.state_mean + normal.state_std * state
    return Windows(state, images, mask, nothing, torch.zeros(nothing.shape[:2], dtype=torch.bool))


def _session(content: bytes) -> onnxruntime.InferenceSession:
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    options.log_severity_level = 4
    return onnxruntime.InferenceSession(content, options, providers=["CPUExecutionProvider"])


def _first_bad(values: Float) -> float:
    return float(values[~np.isfinite(values)][0])

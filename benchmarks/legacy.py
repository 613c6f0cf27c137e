"""Full-size legacy checkpoints of each form: read, made a bundle, and how far its graphs are from the original.

``means``     largest difference of a mean from the original written anew, float32 on one CPU thread, in [−1, 1]
``rounding``  how far that original itself is from one in float64: what lies below this says nothing
``chunk_ms``  one frame encoded and one chunk decoded on ONNX Runtime, one thread, median
``eager_ms``  the same by the original in PyTorch, which encodes every frame of the history
"""

from __future__ import annotations

import copy
import resource
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from export.legacy.anatomy import Told
from export.legacy.bundle import export_legacy
from export.legacy.fixture import Size, write_fixture
from export.legacy.formats import Format
from export.legacy.policy import LegacyPolicy, Place, load_original, placed
from export.parity import Graphs
from learning.network.config import Activation
from spec.action import ActionSpace

_TOLD = {
    Format.WARMUP: Told(),
    Format.LEROBOT: Told(log_std_min=-5.0, log_std_max=2.0),
    Format.SAFETENSORS: Told(
        n_heads=8, activation=Activation.RELU, pre_norm=False, log_std_min=-5.0, log_std_max=2.0, image=(224, 224)
    ),
}
_PLACE = Place(tuple("abcdef"), ActionSpace.JOINT_DELTA, 0.1, (-1.0,), (1.0,))
_WINDOWS = 4


def measure(seconds: float) -> dict[str, Any]:
    torch.set_num_threads(1)
    results: dict[str, Any] = {}
    for form, told in _TOLD.items():
        with tempfile.TemporaryDirectory() as folder:
            results[form.value] = _one(Path(folder), form, told, seconds / 8.0)
    results["peak_gb"] = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6
    return results


@torch.no_grad()
def _one(folder: Path, form: Format, told: Told, seconds: float) -> dict[str, Any]:
    path = write_fixture(folder, form, Size())
    begun = time.perf_counter()
    original, legacy = load_original(path, told)
    policy = placed(original, _PLACE, path)
    read = time.perf_counter()
    bundle = export_legacy(policy, path, folder / "bundle")
    exported = time.perf_counter()
    graphs = Graphs(bundle.encoder.read_bytes(), bundle.decoder.read_bytes())
    exact = copy.deepcopy(policy).double()
    means, rounding = 0.0, 0.0
    for seed in range(_WINDOWS):
        state, image, mask = _window(policy, seed)
        quiet = torch.zeros(1, original.anatomy.chunk, original.anatomy.action_dim)
        wanted = policy(state, {"front": image}, mask, quiet)[0].numpy()
        found = _on_graphs(graphs, state, image, mask, quiet)
        means = max(means, float(np.abs(found - wanted).max()))
        truth = exact(state.double(), {"front": image}, mask, quiet.double())[0].numpy()
        rounding = max(rounding, float(np.abs(wanted - truth).max()))
    state, image, mask = _window(policy, 0)
    features = np.zeros((original.anatomy.history, original.anatomy.dim), np.float32)

    def chunk() -> None:
        features[-1] = graphs.encode(state[0, -1].numpy(), {"front": image[0, -1].numpy()})
        graphs.decode(features, mask[0].numpy(), quiet[0].numpy())

    def eager() -> None:
        policy(state, {"front": image}, mask, quiet)

    return {
        "tensors": len(legacy.tensors),
        "parameters": sum(parameter.numel() for parameter in original.parameters()),
        "read_s": read - begun,
        "export_s": exported - read,
        "bundle_mb": sum((bundle.folder / name).stat().st_size for name in bundle.manifest.files) / 1e6,
        "means": means,
        "rounding": rounding,
        "within_1e-5": means <= 1e-5,
        "chunk_ms": _median_ms(chunk, seconds),
        "eager_ms": _median_ms(eager, seconds),
    }


def _window(policy: LegacyPolicy, seed: int) -> tuple[Tensor, Tensor, Tensor]:
    """State (1, H, S), pictures (1, H, height, width, 3) and mask (1, H); all frames but the newest may be missing."""
    generator = torch.Generator().manual_seed(seed)
    config = policy.config
    shape = (1, config.obs_history_length)
    size = config.cameras["front"]
    mask = torch.rand(shape, generator=generator) < (0.6 if seed else 2.0)
    mask[:, -1] = True
    image = torch.randint(0, 256, (*shape, size.height, size.width, 3), generator=generator, dtype=torch.uint8)
    return torch.randn(*shape, config.state_dim, generator=generator), image, mask


def _on_graphs(graphs: Graphs, state: Tensor, image: Tensor, mask: Tensor, noise: Tensor) -> np.ndarray:
    frames = zip(state[0].numpy(), image[0].numpy(), strict=True)
    features = np.stack([graphs.encode(numbers, {"front": picture}) for numbers, picture in frames])
    features[~mask[0].numpy()] = np.nan
    return graphs.decode(features, mask[0].numpy(), noise[0].numpy())


def _median_ms(run: Callable[[], None], seconds: float) -> float:
    run()
    taken: list[float] = []
    until = time.perf_counter() + seconds
    while time.perf_counter() < until or len(taken) < 5:
        begun = time.perf_counter()
        run()
        taken.append(time.perf_counter() - begun)
    return 1e3 * float(np.median(taken))

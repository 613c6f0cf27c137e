"""A bundle's two ONNX graphs, ready to run beside a real-time loop: one thread, no spinning."""

from __future__ import annotations

import hashlib
import math
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime

from export.bundle import Bundle
from spec.arrays import Bool, Bytes, Float, Float32
from spec.errors import SpecError

_QUIET = 4  # onnxruntime's "fatal": everything else becomes an exception anyway
_GPU = Path("/dev/nvidiactl")


class Policy:
    """Encoder and decoder of one bundle.

    Args:
        bundle: verified.

    Raises:
        SpecError: a graph that cannot be loaded, was altered since, or whose inputs are not those the manifest
            promises.
    """

    def __init__(self, bundle: Bundle) -> None:
        self.manifest = bundle.manifest
        self._encoder = _session(bundle.encoder, self.manifest.files[self.manifest.encoder])
        self._decoder = _session(bundle.decoder, self.manifest.files[self.manifest.decoder])
        self.provider: str = self._decoder.get_providers()[0]
        self.think_s = 0.0
        """Processor time that one look and one chunk take, once warmed up [s]."""
        images = {f"image.{name}" for name in self.manifest.observation.cameras}
        _expect(bundle.encoder, self._encoder, {"state"} | images, {"feature"})
        _expect(bundle.decoder, self._decoder, {"features", "mask", "noise"}, {"actions"})
        self._noise = np.zeros((1, self.manifest.action.chunk, len(self.manifest.joints)), dtype=np.float32)
        self._features: Float32 = np.zeros(
            (1, self.manifest.observation.history, self.manifest.feature_dim), dtype=np.float32
        )

    def encode(self, state: Float32, images: Mapping[str, Bytes]) -> Float32:
        """Feature of one frame, shape (D,).

        Args:
            state: shape (S,), see :func:`spec.observation.policy_state`.
            images: by camera, uint8 RGB (height, width, 3).
        """
        feeds: dict[str, Any] = {f"image.{name}": image[None] for name, image in images.items()}
        feature = self._encoder.run(["feature"], {"state": state[None], **feeds})[0]
        return np.asarray(feature[0], dtype=np.float32)

    def decode(self, features: Float32, mask: Bool, noise: Float32 | None = None) -> Float:
        """One action chunk.

        Args:
            features: shape (H, D), oldest first.
            mask: shape (H,), True where a frame is real.
            noise: shape (C, A), see :mod:`spec.manifest`; None: the mean chunk.

        Returns:
            Actions in the units of the action space, shape (C, A).
        """
        feeds = {"features": features[None], "mask": mask[None], "noise": self._noise if noise is None else noise[None]}
        return np.asarray(self._decoder.run(["actions"], feeds)[0][0], dtype=np.float64)

    def warm_up(self, rounds: int = 3) -> None:
        """Run both graphs on zeros, so that the first real chunk is not the slow one, and see how long they take.

        Raises:
            SpecError: a graph fails, or answers in another shape than the manifest says.
        """
        observation = self.manifest.observation
        state = np.zeros(observation.state_dim(len(self.manifest.joints)), dtype=np.float32)
        images = {name: np.zeros((i.height, i.width, 3), np.uint8) for name, i in observation.cameras.items()}
        mask = np.ones(observation.history, dtype=np.bool_)
        self.think_s = math.inf
        for _ in range(rounds):
            begun_s = time.thread_time()  # of this thread alone: other programs make no policy slow
            try:
                feature = self.encode(state, images)
                actions = self.decode(np.repeat(feature[None], observation.history, axis=0), mask)
            except Exception as error:  # noqa: BLE001 (onnxruntime's own classes have no other common root)
                raise SpecError(f"bundle {self.manifest.name}", _one_line(error), "the graphs do not run") from None
            if feature.shape != (self.manifest.feature_dim,) or actions.shape != self._noise.shape[1:]:
                raise SpecError(
                    f"bundle {self.manifest.name}", (feature.shape, actions.shape), "shapes differ from the manifest's"
                )
            self.think_s = min(self.think_s, time.thread_time() - begun_s)


def _session(path: Path, sha256: str) -> Any:
    """What runs is what was hashed: a graph is read once, and may not point to weights in other files."""
    try:
        content = path.read_bytes()
    except OSError as error:
        raise SpecError(str(path), error.strerror, "file of the bundle cannot be read") from None
    if (found := hashlib.sha256(content).hexdigest()) != sha256:
        raise SpecError(str(path), found[:12], f"altered: the manifest says sha256 {sha256[:12]}...")
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    options.execution_mode = onnxruntime.ExecutionMode.ORT_SEQUENTIAL
    # Threads that spin while they wait take the core away from the control loop: p99 11 ms instead of 0.1 ms.
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    options.log_severity_level = _QUIET
    providers = ["CPUExecutionProvider"]
    if _GPU.exists() and "CUDAExecutionProvider" in onnxruntime.get_available_providers():
        providers.insert(0, "CUDAExecutionProvider")
    try:
        return onnxruntime.InferenceSession(content, options, providers=providers)
    except Exception as error:  # noqa: BLE001 (as above)
        raise SpecError(str(path), _one_line(error), "not a usable ONNX graph") from None


def _expect(path: Path, session: Any, inputs: set[str], outputs: set[str]) -> None:
    for kind, wanted, found in (
        ("inputs", inputs, {item.name for item in session.get_inputs()}),
        ("outputs", outputs, {item.name for item in session.get_outputs()}),
    ):
        if wanted != found:
            raise SpecError(f"{path}: {kind}", sorted(found), "differ from the manifest's", sorted(wanted))


def _one_line(error: Exception) -> str:
    return " ".join(str(error).split())[:200]

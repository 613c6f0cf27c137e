"""A bundle without graphs, for tests in which none is run."""

from __future__ import annotations

from pathlib import Path

from export.bundle import Bundle, write_bundle
from spec.manifest import Manifest


def hollow_bundle(folder: Path, weights: int) -> Bundle:
    """Whole, though no graph: nothing here runs one."""
    digest = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"
    manifest = {
        "name": "none",
        "files": {"encoder.onnx": digest, "decoder.onnx": digest},
        "encoder": "encoder.onnx",
        "decoder": "decoder.onnx",
        "joints": ["a"],
        "observation": {"history": 1, "step_s": 0.1},
        "action": {"space": "joint_position", "chunk": 2, "step_s": 0.1},
        "feature_dim": 1,
        "actor": "none/1",
        "exporter": "by hand",
        "weights": weights,
        "parity": {"windows": 1, "max_abs": 0, "max_abs_rad": 0, "max_ticks": 0},
    }
    return write_bundle(folder, Manifest.model_validate(manifest), {"encoder.onnx": b"", "decoder.onnx": b""})

"""A bundle whose chunks tell what its decoder was given: an ordinary ramp, and behind it the features and the mask.

Scaled by a power of two, which costs no bit, so that what stands for angles is small. With the newest chunk in use
the arm never gets as far as the echo.
"""

from __future__ import annotations

import hashlib
from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper
from tiny_bundle import SIZE, _encoder, _graph

from export.bundle import Bundle, write_bundle
from spec.action import ActionSpace
from spec.arrays import Bool, Float, Float32
from spec.manifest import Action, ImageInput, Manifest, Observation, Parity, StateFeature

RAMP = 8
"""Actions before the echo."""
_SCALE = 2.0**-10


def write_echo_bundle(
    folder: Path, joints: tuple[str, ...], camera: str, history: int = 3, ramp: float = 0.0
) -> Bundle:
    """Features (H, joints + 1) and mask (H,) must fill whole actions: H · (joints + 2) divisible by joints."""
    count, width = len(joints), len(joints) + 1
    echoed, rest = divmod(history * (width + 1), count)
    assert rest == 0
    files = {
        "encoder.onnx": _encoder(count, (camera,)),
        "decoder.onnx": _decoder(count, width, history, echoed, ramp),
    }
    manifest = Manifest(
        name="echo",
        files={name: hashlib.sha256(content).hexdigest() for name, content in files.items()},
        encoder="encoder.onnx",
        decoder="decoder.onnx",
        joints=joints,
        observation=Observation(
            history=history,
            step_s=0.1,
            state=(StateFeature.POSITION,),
            cameras={camera: ImageInput(height=SIZE, width=SIZE)},
        ),
        action=Action(space=ActionSpace.JOINT_POSITION, chunk=RAMP + echoed, step_s=0.1),
        feature_dim=width,
        actor="echo/1",
        exporter="by hand",
        weights=1,
        parity=Parity(windows=1, max_abs=0, max_abs_rad=0, max_ticks=0),
    )
    return write_bundle(folder, manifest, files)


def heard(targets: Float, history: int) -> tuple[Float32, Bool]:
    """What the decoder was given when it made this chunk: features (H, D) and mask (H,)."""
    told = (targets[RAMP:] / _SCALE).astype(np.float32).ravel()
    return told[:-history].reshape(history, -1), told[-history:] == 1.0


def _decoder(count: int, width: int, history: int, echoed: int, ramp: float) -> bytes:
    steps = (np.arange(1, RAMP + 1, dtype=np.float32) * ramp)[None, :, None] * np.ones((1, 1, count), np.float32)
    nodes: list[onnx.NodeProto] = [
        helper.make_node("Gather", ["features", "newest"], ["last"], axis=1),
        helper.make_node("Slice", ["last", "zero", "count", "two"], ["position"]),
        helper.make_node("Add", ["position", "steps"], ["ramped"]),
        helper.make_node("Reshape", ["features", "flat"], ["told"]),
        helper.make_node("Cast", ["mask"], ["real"], to=TensorProto.FLOAT),
        helper.make_node("Concat", ["told", "real"], ["line"], axis=1),
        helper.make_node("Mul", ["line", "scale"], ["small"]),
        helper.make_node("Reshape", ["small", "rows"], ["echo"]),
        helper.make_node("Concat", ["ramped", "echo"], ["chunk"], axis=1),
        helper.make_node("Add", ["chunk", "noise"], ["actions"]),
    ]
    return _graph(
        "decoder",
        nodes,
        {
            "features": (TensorProto.FLOAT, [1, history, width]),
            "mask": (TensorProto.BOOL, [1, history]),
            "noise": (TensorProto.FLOAT, [1, RAMP + echoed, count]),
        },
        {"actions": (TensorProto.FLOAT, [1, RAMP + echoed, count])},
        {
            "newest": np.array([history - 1]),
            "zero": np.array([0]),
            "count": np.array([count]),
            "two": np.array([2]),
            "steps": steps,
            "flat": np.array([1, history * width]),
            "rows": np.array([1, echoed, count]),
            "scale": np.array(_SCALE, dtype=np.float32),
        },
    )

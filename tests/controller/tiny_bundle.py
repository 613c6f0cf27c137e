"""A bundle small enough to write by hand: its feature is the joint state, its chunk a ramp from the newest state.

The graphs keep the contract of spec.manifest, so what is tested with them holds for any bundle.
"""

from __future__ import annotations

import hashlib
from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from export.bundle import Bundle, write_bundle
from spec.action import ActionSpace
from spec.manifest import Action, ImageInput, Manifest, Observation, Parity, StateFeature

SIZE = 16


def _graph(name: str, nodes: list[onnx.NodeProto], inputs: dict, outputs: dict, constants: dict) -> bytes:
    def described(values: dict) -> list[onnx.ValueInfoProto]:
        return [helper.make_tensor_value_info(key, kind, shape) for key, (kind, shape) in values.items()]

    initial = [numpy_helper.from_array(value, key) for key, value in constants.items()]
    graph = helper.make_graph(nodes, name, described(inputs), described(outputs), initial)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)
    onnx.checker.check_model(model)
    return model.SerializeToString()


def write_tiny_bundle(
    folder: Path,
    joints: tuple[str, ...],
    cameras: tuple[str, ...] = ("top",),
    history: int = 3,
    chunk: int = 8,
    step_s: float = 0.1,
    ramp: float = 0.01,
    space: ActionSpace = ActionSpace.JOINT_POSITION,
    weights: int = 7,
    calibration: str | None = None,
) -> Bundle:
    """Action k of every chunk: newest position + (k + 1) * ramp + (real frames in the history − H) * 0.001.

    The feature also holds the mean brightness of every picture, behind the state. ``ramp`` may be NaN.
    """
    count = len(joints)
    width = count + len(cameras)
    files = {"encoder.onnx": _encoder(count, cameras), "decoder.onnx": _decoder(count, width, history, chunk, ramp)}
    manifest = Manifest(
        name="tiny",
        files={name: hashlib.sha256(content).hexdigest() for name, content in files.items()},
        encoder="encoder.onnx",
        decoder="decoder.onnx",
        joints=joints,
        observation=Observation(
            history=history,
            step_s=step_s,
            state=(StateFeature.POSITION,),
            cameras={name: ImageInput(height=SIZE, width=SIZE) for name in cameras},
        ),
        action=Action(space=space, chunk=chunk, step_s=step_s),
        feature_dim=width,
        actor="tiny/1",
        exporter="by hand",
        weights=weights,
        calibration=calibration,
        parity=Parity(windows=1, max_abs=0, max_abs_rad=0, max_ticks=0),
    )
    return write_bundle(folder, manifest, files)


def _encoder(count: int, cameras: tuple[str, ...]) -> bytes:
    """State and mean brightness of every picture, one after the other."""
    nodes = []
    for name in cameras:
        nodes += [
            helper.make_node("Cast", [f"image.{name}"], [f"float.{name}"], to=TensorProto.FLOAT),
            helper.make_node("ReduceMean", [f"float.{name}"], [f"mean.{name}"], axes=[1, 2, 3], keepdims=0),
            helper.make_node("Reshape", [f"mean.{name}", "one_by_one"], [f"column.{name}"]),
        ]
    nodes.append(helper.make_node("Concat", ["state", *(f"column.{name}" for name in cameras)], ["feature"], axis=1))
    images = {f"image.{name}": (TensorProto.UINT8, [1, SIZE, SIZE, 3]) for name in cameras}
    return _graph(
        "encoder",
        nodes,
        {"state": (TensorProto.FLOAT, [1, count]), **images},
        {"feature": (TensorProto.FLOAT, [1, count + len(cameras)])},
        {"one_by_one": np.array([1, 1])},
    )


def _decoder(count: int, width: int, history: int, chunk: int, ramp: float) -> bytes:
    """A ramp from the newest position, lower by what is masked."""
    steps = (np.arange(1, chunk + 1, dtype=np.float32) * ramp)[None, :, None] * np.ones((1, 1, count), np.float32)
    return _graph(
        "decoder",
        [
            helper.make_node("Gather", ["features", "newest"], ["last"], axis=1),
            helper.make_node("Slice", ["last", "zero", "count", "two"], ["position"]),
            helper.make_node("Add", ["position", "steps"], ["ramped"]),
            helper.make_node("Cast", ["mask"], ["real"], to=TensorProto.FLOAT),
            helper.make_node("ReduceSum", ["real"], ["seen"], keepdims=0),
            helper.make_node("Sub", ["seen", "slots"], ["missing"]),
            helper.make_node("Mul", ["missing", "milli"], ["shift"]),
            helper.make_node("Add", ["ramped", "shift"], ["shifted"]),
            helper.make_node("Add", ["shifted", "noise"], ["actions"]),
        ],
        {
            "features": (TensorProto.FLOAT, [1, history, width]),
            "mask": (TensorProto.BOOL, [1, history]),
            "noise": (TensorProto.FLOAT, [1, chunk, count]),
        },
        {"actions": (TensorProto.FLOAT, [1, chunk, count])},
        {
            "newest": np.array([history - 1]),
            "zero": np.array([0]),
            "count": np.array([count]),
            "two": np.array([2]),
            "steps": steps,
            "slots": np.array(history, dtype=np.float32),
            "milli": np.array(0.001, dtype=np.float32),
        },
    )

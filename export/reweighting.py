"""New weights in a graph that was traced before: milliseconds instead of the many seconds that tracing takes.

The optimiser of the exporter computes what follows from weights alone ahead of time: transposed matrices, rows of a
table, sums. The graph as it was traced still has the nodes that do so; they are kept as a graph of their own, and run
again for every new set of weights. Some of those nodes take a shape or a type from an input; what they say is the same
for any, so they are given zeros. What comes out is compared with the actor like every other export.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping
from typing import Self

import numpy as np
import onnx
import onnxruntime
import torch
from onnx import numpy_helper
from onnxscript import optimizer
from torch import Tensor, nn

from export.graphs import quiet, serialised, trace_decoder, trace_encoder
from learning.network.actor import SequenceActor

_PREFIX = "actor."
"""Of the names of weights in a graph: the traced modules hold the actor under this name."""


class Template:
    """A traced graph, for any weights of the actor it was traced from.

    Args:
        traced: not optimised.
    """

    def __init__(self, traced: onnx.ModelProto) -> None:
        with quiet():
            self._graph = optimizer.optimize(onnx.ModelProto.FromString(traced.SerializeToString()))
        weights = {initializer.name for initializer in traced.graph.initializer}
        made = _descendants(traced, weights)
        names = [initializer.name for initializer in self._graph.graph.initializer]
        self._weights = [name for name in names if name in weights]
        self._folded = [name for name in names if name in made]
        self._folding = _subgraph(traced, self._folded)

    @classmethod
    def encoder(cls, actor: SequenceActor) -> Self:
        return cls(trace_encoder(_scrambled(actor), optimize=False))

    @classmethod
    def decoder(cls, actor: SequenceActor) -> Self:
        return cls(trace_decoder(_scrambled(actor), optimize=False))

    def weighted(self, actor: nn.Module) -> bytes:
        """The graph with the weights of ``actor``."""
        named = (*actor.named_parameters(), *actor.named_buffers())
        values = {f"{_PREFIX}{name}": _array(tensor) for name, tensor in named}
        _fill(self._folding, values)
        if self._folded:
            session = onnxruntime.InferenceSession(
                self._folding.SerializeToString(), providers=["CPUExecutionProvider"]
            )
            inputs = {item.name: _zeros(item) for item in self._folding.graph.input}
            values |= dict(zip(self._folded, session.run(self._folded, inputs), strict=True))
        _fill(self._graph, {name: values[name] for name in (*self._weights, *self._folded)})
        return serialised(self._graph)


def _scrambled(actor: SequenceActor) -> SequenceActor:
    """Any weights, no two alike: the optimiser makes one of tensors that are equal, and drops an addition of zero."""
    other = copy.deepcopy(actor).cpu()
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for tensor in (*other.parameters(), *other.buffers()):
            if tensor.is_floating_point():
                tensor.copy_(torch.randn(tensor.shape, generator=generator))
    return other


def _fill(model: onnx.ModelProto, values: Mapping[str, np.ndarray]) -> None:
    for initializer in model.graph.initializer:
        if initializer.name in values:
            initializer.CopyFrom(numpy_helper.from_array(values[initializer.name], initializer.name))


def _descendants(model: onnx.ModelProto, names: set[str]) -> set[str]:
    """What nodes make out of ``names``, directly or not."""
    made: set[str] = set()
    for node in model.graph.node:  # in the order in which they can be computed
        if (names | made).intersection(node.input):
            made.update(node.output)
    return made


def _subgraph(model: onnx.ModelProto, outputs: list[str]) -> onnx.ModelProto:
    """The nodes that ``outputs`` come from, and the inputs that those need."""
    wanted, nodes = set(outputs), []
    for node in reversed(model.graph.node):
        if wanted.intersection(node.output):
            nodes.append(node)
            wanted.update(node.input)
    graph = onnx.helper.make_graph(
        nodes[::-1],
        "folding",
        [item for item in model.graph.input if item.name in wanted],
        [onnx.helper.make_empty_tensor_value_info(name) for name in outputs],
        [initializer for initializer in model.graph.initializer if initializer.name in wanted],
    )
    return onnx.helper.make_model(graph, opset_imports=model.opset_import, ir_version=model.ir_version)


def _zeros(item: onnx.ValueInfoProto) -> np.ndarray:
    shape = [axis.dim_value for axis in item.type.tensor_type.shape.dim]
    return np.zeros(shape, onnx.helper.tensor_dtype_to_np_dtype(item.type.tensor_type.elem_type))


def _array(tensor: Tensor) -> np.ndarray:
    return np.ascontiguousarray(tensor.detach().cpu().numpy())

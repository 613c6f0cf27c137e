"""The two ONNX graphs of a bundle, and the session that runs them. Inputs and outputs: see spec.manifest."""

from __future__ import annotations

import contextlib
import io
import logging
import warnings
from collections.abc import Iterator

import onnx
import torch
from torch import Tensor, nn

from learning.network.actor import SequenceActor
from spec.errors import CadenzaError

OPSET = 20


class EncoderGraph(nn.Module):
    """One frame → feature. Image normalisation and channel order are inside."""

    def __init__(self, actor: SequenceActor) -> None:
        super().__init__()
        self.actor = actor

    def forward(self, state: Tensor, *images: Tensor) -> Tensor:
        return self.actor.encode(state, dict(zip(self.actor.config.cameras, images, strict=True)))


class DecoderGraph(nn.Module):
    """History of features → actions. The loop over the chunk has a fixed length and is unrolled when traced."""

    def __init__(self, actor: SequenceActor) -> None:
        super().__init__()
        self.actor = actor

    def forward(self, features: Tensor, mask: Tensor, noise: Tensor) -> Tensor:
        sampled = self.actor.decode(self.actor.remember(features, mask), noise)
        return self.actor.normalization.to_action_units(sampled.actions)


def encoder_graph(actor: SequenceActor) -> bytes:
    """ONNX of :class:`EncoderGraph` for a single frame."""
    return serialised(trace_encoder(actor))


def decoder_graph(actor: SequenceActor) -> bytes:
    """ONNX of :class:`DecoderGraph` for a single history."""
    return serialised(trace_decoder(actor))


def trace_encoder(actor: SequenceActor, optimize: bool = True) -> onnx.ModelProto:
    """The graph itself. Not optimised, its initializers are the weights under their own names, and nothing else."""
    config = actor.config
    images = [torch.zeros(1, i.height, i.width, 3, dtype=torch.uint8) for i in config.cameras.values()]
    names = ["state", *(f"image.{name}" for name in config.cameras)]
    return traced(EncoderGraph(actor), (torch.zeros(1, config.state_dim), *images), names, "feature", optimize)


def trace_decoder(actor: SequenceActor, optimize: bool = True) -> onnx.ModelProto:
    """See :func:`trace_encoder`."""
    config = actor.config
    features = torch.zeros(1, config.obs_history_length, config.act_dim_model)
    mask = torch.ones(1, config.obs_history_length, dtype=torch.bool)
    noise = torch.zeros(1, config.act_chunk_size, config.action_dim)
    names = ["features", "mask", "noise"]
    return traced(DecoderGraph(actor), (features, mask, noise), names, "actions", optimize)


def serialised(model: onnx.ModelProto) -> bytes:
    """A sound graph as bytes."""
    onnx.checker.check_model(model)
    content: bytes = model.SerializeToString()
    return content


def traced(
    module: nn.Module, inputs: tuple[Tensor, ...], names: list[str], output: str, optimize: bool = True
) -> onnx.ModelProto:
    """The graph of ``module`` for inputs such as these. Raises CadenzaError."""
    try:
        with quiet():
            program = torch.onnx.export(
                module.eval(),
                inputs,
                input_names=names,
                output_names=[output],
                opset_version=OPSET,
                dynamo=True,
                optimize=optimize,
                verbose=False,
            )
    except torch.onnx.errors.OnnxExporterError as error:
        raise CadenzaError(f"export: {output} graph: {str(error).splitlines()[0]}") from error
    if program is None:
        raise CadenzaError(f"export: {output} graph: the exporter returned nothing")
    return program.model_proto


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """The exporter prints its progress and warns about its own insides; failures still arrive as exceptions."""
    level = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(level)

"""From a checkpoint to a bundle, refused unless the graphs say what the actor says."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from importlib import metadata
from pathlib import Path
from typing import NamedTuple

from export.bundle import Bundle, refuse_to_replace, write_bundle
from export.graphs import decoder_graph, encoder_graph
from export.parity import Graphs, Policy, measure_parity
from learning.checkpoint import CheckpointConfig, load_checkpoint, read_config
from learning.cloning.samples import COUNT, SAMPLES_FILE, load_samples, save_samples
from learning.cloning.windows import Demonstrations, Labels, Windows, episode_paths
from learning.network.config import ActorConfig
from spec.errors import CadenzaError, SpecError
from spec.manifest import Manifest

ENCODER_FILE, DECODER_FILE = "encoder.onnx", "decoder.onnx"
_EPISODES = 8
"""Episodes that real windows are taken from."""


def export_checkpoint(
    checkpoint: Path,
    out: Path,
    data: Path | None = None,
    max_ticks: float = 1.0,
    progress: Callable[[str], None] = lambda _: None,
) -> Bundle:
    """Export, measure, and only then write the bundle.

    Args:
        checkpoint: folder as ``cadenza learn warmup`` writes it.
        out: folder of the bundle; replaced when it exists.
        data: folder of episodes to take real windows from; None uses the windows kept beside the checkpoint.
        max_ticks: largest difference from the actor that is accepted, in encoder ticks.
        progress: told what is being done.

    Raises:
        CadenzaError: no usable checkpoint, no real windows, ``out`` is something else than a bundle, or graphs that
            differ by more than ``max_ticks``.
    """
    refuse_to_replace(out)
    actor, config = load_checkpoint(checkpoint)
    windows = _real_windows(checkpoint, data, config.actor)
    progress("tracing the encoder")
    encoder = encoder_graph(actor)
    progress("tracing the decoder")
    decoder = decoder_graph(actor)
    progress("measuring parity")
    return checked_bundle(checkpoint, actor, config, Traced(encoder, decoder), windows, out, max_ticks)


class Traced(NamedTuple):
    """The two graphs, serialised."""

    encoder: bytes
    decoder: bytes


def checked_bundle(
    checkpoint: Path,
    actor: Policy,
    config: CheckpointConfig,
    traced: Traced,
    windows: Windows | None,
    out: Path,
    max_ticks: float,
) -> Bundle:
    """Write a bundle of graphs that say what the actor says. Raises CadenzaError for others.

    Without ``windows``, parity is measured on random ones alone.
    """
    parity = measure_parity(actor, Graphs(*traced), windows, lambda: None)
    if not parity.max_ticks <= max_ticks:
        raise CadenzaError(
            f"{checkpoint}: the exported graphs are {parity.max_ticks:.3g} ticks ({parity.max_abs_rad:.3g} rad) "
            f"from the actor, more than --max-ticks {max_ticks:g}; no bundle was written"
        )
    files = {ENCODER_FILE: traced.encoder, DECODER_FILE: traced.decoder}
    manifest = Manifest(
        name=out.resolve().name,
        files={name: hashlib.sha256(content).hexdigest() for name, content in files.items()},
        encoder=ENCODER_FILE,
        decoder=DECODER_FILE,
        joints=config.actor.joints,
        observation=config.actor.observation(),
        action=config.actor.action(),
        feature_dim=config.actor.act_dim_model,
        actor=config.kind,
        exporter=f"cadenza {metadata.version('cadenza')}",
        weights=config.weights,
        parity=parity,
        calibration=config.calibration,
    )
    return write_bundle(out, manifest, files)


def keep_windows(checkpoint: Path, data: Path) -> Path:
    """Put some real windows beside a checkpoint, so that it can be exported without its episodes."""
    path = checkpoint / SAMPLES_FILE
    save_samples(path, _demonstrations(data, read_config(checkpoint).actor))
    return path


def _real_windows(checkpoint: Path, data: Path | None, config: ActorConfig) -> Windows:
    kept = checkpoint / SAMPLES_FILE
    if data is not None:
        return windows_from(data, config)
    if not kept.exists():
        raise SpecError(
            str(kept), "missing", "parity is measured on real windows; give --data FOLDER with episodes of this robot"
        )
    return load_samples(kept, config)


def windows_from(data: Path, config: ActorConfig) -> Windows:
    """Real windows of a folder of episodes. Raises SpecError where no episode could hold what the actor sees."""
    if config.vectors:
        raise SpecError("--data", str(data), f"episodes hold no {', '.join(config.vectors)}")
    found = _demonstrations(data, config)
    step = max(1, len(found) // (4 * COUNT))
    return found.windows(found.every(step))


def _demonstrations(data: Path, config: ActorConfig) -> Demonstrations:
    return Demonstrations(episode_paths(data)[:_EPISODES], config, Labels.SENT)

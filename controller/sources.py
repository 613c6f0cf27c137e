"""Where the chunks of a run come from: a process beside the control loop, the policy's or another."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from controller.exploration import Exploration
from controller.workers.playback import STEP_S
from export.bundle import Bundle

INFERENCE, PLAYBACK = "inference", "playback"


@dataclass(frozen=True, slots=True)
class ChunkSource:
    """A process that publishes chunks while it is told to (``resume``), and none before or after (``pause``)."""

    name: str
    """Of the process, in reports and logs."""
    module: str
    """Run as ``python -m``; speaks the language of :mod:`controller.wiring.child`."""
    arguments: tuple[str, ...]
    """Of its command line, beside those every process gets."""
    step_s: float
    """Time between chunks [s]."""
    explore: Exploration | None = None
    """How the policy explores; put on record with every episode."""


def policy_source(bundle: Bundle, explore: Exploration | None = None) -> ChunkSource:
    """The policy of a verified bundle."""
    arguments: tuple[str, ...] = ("--bundle", str(bundle.folder.resolve()), "--sha256", bundle.sha256)
    if explore is not None:
        arguments += ("--explore", repr(explore.scale), str(explore.seed))
    module, step_s = "controller.workers.inference_process", bundle.manifest.action.step_s
    return ChunkSource(INFERENCE, module, arguments, step_s, explore)


def playback_source(motion: Path) -> ChunkSource:
    """A recorded motion, as :func:`controller.workers.playback.write_motion` wrote it."""
    return ChunkSource(PLAYBACK, "controller.workers.playback_process", ("--motion", str(motion.resolve())), STEP_S)

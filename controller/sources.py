"""Where the chunks of a run come from: a process beside the control loop, the policy's or another."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

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


def policy_source(bundle: Bundle) -> ChunkSource:
    """The policy of a verified bundle."""
    arguments = ("--bundle", str(bundle.folder.resolve()))
    return ChunkSource(INFERENCE, "controller.workers.inference_process", arguments, bundle.manifest.action.step_s)


def playback_source(motion: Path) -> ChunkSource:
    """A recorded motion, as :func:`controller.workers.playback.write_motion` wrote it."""
    return ChunkSource(PLAYBACK, "controller.workers.playback_process", ("--motion", str(motion.resolve())), STEP_S)

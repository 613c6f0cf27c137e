"""Bundles of a learner that goes on: made from its checkpoint again and again, and put on a shelf."""

from __future__ import annotations

import shutil
from pathlib import Path

from export.bundle import Bundle
from export.exporter import Traced, checked_bundle
from export.reweighting import Template
from export.shelf import bundle_name, clear_half_made, highest, offer, read_newest, versions
from learning.checkpoint import load_checkpoint
from learning.cloning.samples import SAMPLES_FILE, load_samples
from learning.network.actor import SequenceActor
from learning.network.config import ActorConfig
from spec.errors import CadenzaError


class ShelfPublisher:
    """Traces the graphs once, and puts new weights into them.

    Args:
        shelf: folder, see :mod:`export.shelf`.
        max_ticks: largest difference between graphs and actor, in encoder ticks.
        keep: newest bundles that stay on the shelf; one that drives may be asked for again.
    """

    def __init__(self, shelf: Path, max_ticks: float = 1.0, keep: int = 20) -> None:
        self._shelf, self._max_ticks, self._keep = shelf, max_ticks, keep
        self._templates: tuple[ActorConfig, Template, Template] | None = None

    def prepare(self, actor: SequenceActor) -> None:
        """Make the shelf, or clear it of what a kill left, and trace the graphs while nobody waits for them."""
        self._shelf.mkdir(parents=True, exist_ok=True)
        clear_half_made(self._shelf)
        self._traced_for(actor)

    def newest(self) -> int:
        """Weight version on offer, or the highest there is where an operator went back; 0 for none."""
        newest = read_newest(self._shelf)
        if newest is None:
            return 0
        if newest.rollback:  # what was gone back from is not to be offered again
            return highest(self._shelf)
        return newest.weights

    def publish(self, checkpoint: Path) -> Path:
        """Make a bundle of a checkpoint with the windows kept beside it, and offer it.

        Raises:
            CadenzaError: graphs and actor differ, a number is not finite, or a newer bundle is on offer: robots keep
                what they had.
        """
        actor, config = load_checkpoint(checkpoint)
        if (newest := self.newest()) > config.weights:
            raise CadenzaError(f"{self._shelf}: offers weights {newest} already, newer than {config.weights}")
        traced = Traced(*(template.weighted(actor) for template in self._traced_for(actor)))
        windows = load_samples(checkpoint / SAMPLES_FILE, config.actor)
        out = self._shelf / bundle_name(config.weights)
        bundle = checked_bundle(checkpoint, actor, config, traced, windows, out, self._max_ticks)
        offer(self._shelf, bundle)
        self._clear(bundle)
        return bundle.folder

    def _traced_for(self, actor: SequenceActor) -> tuple[Template, Template]:
        if self._templates is None or self._templates[0] != actor.config:
            self._templates = (actor.config, Template.encoder(actor), Template.decoder(actor))
        return self._templates[1:]

    def _clear(self, newest: Bundle) -> None:
        """The oldest bundles go, and nothing that somebody else has put there."""
        older = [weights for weights in versions(self._shelf) if weights < newest.weights]
        for weights in older[: max(0, len(older) + 1 - self._keep)]:
            shutil.rmtree(self._shelf / bundle_name(weights), ignore_errors=True)

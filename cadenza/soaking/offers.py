"""New weights for a running arm at random moments: the same graphs as another version, on the shelf it follows."""

from __future__ import annotations

import hashlib
import os
import shutil
from pathlib import Path

import numpy as np

from cadenza.soaking.journal import Journal
from export.bundle import Bundle
from export.shelf import bundle_name, offer
from export.staging import holding
from spec.files import write_atomically
from spec.manifest import MANIFEST_FILE

_BETWEEN_S = (15.0, 60.0)
"""From one offer to the next [s]; until an offer drives it takes some two seconds."""
_FIRST_S, _EARLY_S, _EARLY = 5.0, 15.0, 4
"""The first comes so soon, and the next so soon after one another: only with the third change of weights does the
inference process hold all it ever holds, what drives, what drove before and what is tried; that is warm-up."""
_KEPT = 4
"""Versions that stay on the shelf: the one that drives, the one before, and what is offered."""


class Offers:
    """Puts bundles on a shelf.

    Args:
        bundle: drives at the beginning; every other is a copy of it.
        shelf: made here.
        journal: takes what was offered.
        seed: of the moments.
    """

    def __init__(self, bundle: Bundle, shelf: Path, journal: Journal, seed: int) -> None:
        self._bundle, self._shelf, self._journal = bundle, shelf, journal
        self._rng = np.random.default_rng([seed, 1])
        self.weights = bundle.manifest.weights
        self._next_s = _FIRST_S
        shelf.mkdir(parents=True, exist_ok=True)

    def look(self) -> None:
        """Offer one if it is time to."""
        if self._journal.now_s() < self._next_s:
            return
        self.weights += 1
        self._next_s = self._journal.now_s() + self._pause()
        offer(self._shelf, self._copied())
        self._journal.note("offer", weights=self.weights)
        shutil.rmtree(self._shelf / bundle_name(self.weights - _KEPT), ignore_errors=True)

    def _pause(self) -> float:
        early = self.weights - self._bundle.manifest.weights < _EARLY
        return _EARLY_S if early else float(self._rng.uniform(*_BETWEEN_S))

    def _copied(self) -> Bundle:
        """The graphs by a second name: a new version costs no room on the disk."""
        folder = self._shelf / bundle_name(self.weights)
        manifest = self._bundle.manifest.model_copy(update={"weights": self.weights})
        with holding(self._shelf):
            folder.mkdir()
            for name in manifest.files:
                _given_second_name(self._bundle.folder / name, folder / name)
            content = (manifest.model_dump_json(indent=2) + "\n").encode()
            write_atomically(folder / MANIFEST_FILE, content)
        return Bundle(folder, manifest, hashlib.sha256(content).hexdigest())


def _given_second_name(file: Path, place: Path) -> None:
    """Or copied, where the two are on different disks."""
    try:
        os.link(file, place)
    except OSError:
        shutil.copyfile(file, place)

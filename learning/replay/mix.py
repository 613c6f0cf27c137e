"""Half examples, half experience: every batch keeps what a person showed in view, however much the robot has done."""

from __future__ import annotations

import numpy as np

from learning.replay.batch import Batch, Source
from learning.replay.store import Store
from spec.errors import CadenzaError, SpecError


class Mixed:
    """Batches of which a share are examples, and the rest whatever the robot did.

    Examples are the demonstrations and, evenly among them, the rows of the online store at which a person drove; those
    count as experience too.

    Args:
        demonstrations: None where there are none.
        online: what came in while the robot worked.
        share: of examples in a batch, 0 to 1.
        least: rows of one kind below which a batch is made of the other alone.
    """

    def __init__(self, demonstrations: Store | None, online: Store, share: float = 0.5, least: int = 1) -> None:
        if not 0.0 <= share <= 1.0:
            raise SpecError("share", share, "the share of examples in a batch is 0 to 1")
        self._demonstrations, self._online = demonstrations, online
        self._share, self._least = share, max(1, least)

    def __len__(self) -> int:
        return len(self._online) + (0 if self._demonstrations is None else len(self._demonstrations))

    @property
    def share(self) -> float:
        """Of examples in a batch as things stand."""
        examples, online = self._counts()
        few_examples, few_online = examples < self._least, online < self._least
        if not examples or (few_examples and not few_online):
            return 0.0
        return 1.0 if not online or (few_online and not few_examples) else self._share

    @property
    def note(self) -> str | None:
        """What a person should know about the mixture, e.g. that half of it is missing."""
        examples, online = self._counts()
        if self.share == self._share:
            return None
        kind, count = ("rows of the robot's own", online) if self.share else ("examples", examples)
        return f"too few {kind} yet ({count} of {self._least}): batches are made without"

    def draw(self, rng: np.random.Generator, batch: int) -> Batch:
        """Examples first, then experience.

        Raises:
            CadenzaError: there is nothing to draw from.
        """
        if not len(self):
            raise CadenzaError("replay: neither demonstrations nor experience to learn from")
        shown = round(self.share * batch)
        corrections = self._corrections(rng, shown)
        parts: list[tuple[Source | None, int]] = [
            (self._demonstrations, shown - corrections),
            (self._online.examples, corrections),
            (self._online, batch - shown),
        ]
        drawn = [source.draw(rng, count) for source, count in parts if source is not None and count]
        return drawn[0].joined(*drawn[1:]) if drawn[1:] else drawn[0]

    def _corrections(self, rng: np.random.Generator, shown: int) -> int:
        """How many of so many examples come from the online store: each row has the same chance."""
        own = len(self._online.examples)
        total = own + (0 if self._demonstrations is None else len(self._demonstrations))
        return int(rng.binomial(shown, own / total)) if shown and total else 0

    def _counts(self) -> tuple[int, int]:
        """Rows that are examples, and rows of experience."""
        demonstrations = 0 if self._demonstrations is None else len(self._demonstrations)
        return demonstrations + len(self._online.examples), len(self._online)

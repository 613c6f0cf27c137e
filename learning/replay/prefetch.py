"""The next batch is made while the learner works on this one."""

from __future__ import annotations

from concurrent.futures import Future, ThreadPoolExecutor

import numpy as np

from learning.replay.batch import Batch, Source

_BATCHES = 1
"""Keeps this use of the seed apart from others."""


class Prefetch:
    """Batches by number. The batch of update k depends on the seed, on k, and on what the source holds, and on nothing
    else: neither on whether it was made ahead, nor on what was asked before.

    Whoever changes the source calls :meth:`discard` first.

    Args:
        source: drawn from on another thread, one draw at a time.
        seed: of all batches.
        batch: windows in each.
        ahead: False draws when asked.
    """

    def __init__(self, source: Source, seed: int, batch: int, ahead: bool = True) -> None:
        self._source, self._seed, self._batch = source, seed, batch
        self._thread = ThreadPoolExecutor(1, "replay") if ahead else None
        self._made: tuple[int, Future[Batch]] | None = None

    def batch(self, update: int) -> Batch:
        """The batch of one update; that of the next is begun.

        Raises:
            CadenzaError: as the source says.
        """
        if self._thread is None:
            return self._draw(update)
        if self._made is not None and self._made[0] == update:
            batch = self._made[1].result()
        else:
            self.discard()
            batch = self._draw(update)
        self._made = (update + 1, self._thread.submit(self._draw, update + 1))
        return batch

    def discard(self) -> None:
        """Forget what was made ahead; when this returns, nobody reads the source."""
        if self._made is not None:
            self._made[1].cancel()
            self._made[1].exception() if not self._made[1].cancelled() else None
            self._made = None

    def close(self) -> None:
        """End the thread."""
        self.discard()
        if self._thread is not None:
            self._thread.shutdown()

    def _draw(self, update: int) -> Batch:
        return self._source.draw(np.random.default_rng((self._seed, _BATCHES, update)), self._batch)

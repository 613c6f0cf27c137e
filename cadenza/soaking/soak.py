"""A whole run on the virtual arm for as long as is wanted: a policy at work, taken over and given back at random
moments, its weights changed under it, recording after recording.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from cadenza.soaking.housekeeper import Housekeeper
from cadenza.soaking.journal import Journal
from cadenza.takeover_bench import TakeoverBench
from cadenza.takeovers import Means
from controller.supervisor import Supervisor
from episodes.records import Mode
from spec.errors import CadenzaError

_PER_EPISODE = (4, 16)
"""Takeovers in one recording: from ten seconds to two minutes."""
_UNDISTURBED_S = (0.0, 8.0)
"""The policy drives alone for so long between two takeovers [s], more than the bench of takeovers lets it."""


class Soaked(Supervisor):
    """A supervisor that lets somebody look each time it does itself."""

    def __init__(self, *wanted: Any, **options: Any) -> None:
        super().__init__(*wanted, **options)
        self.beside: Callable[[], None] = lambda: None

    @property
    def namespace(self) -> str:
        """Of its topics."""
        return self._namespace

    def poll(self) -> list[dict[str, Any]]:
        said = super().poll()
        self.beside()
        return said


class Soak:
    """One soak.

    Args:
        run: entered.
        bench: takes the arm over and gives it back.
        means: by which it may.
        housekeeper: takes closed episodes.
        journal: takes what came about.
        seed: of everything random.
    """

    def __init__(
        self,
        run: Supervisor,
        bench: TakeoverBench,
        means: Sequence[Means],
        housekeeper: Housekeeper,
        journal: Journal,
        seed: int,
    ) -> None:
        self._run, self._bench, self._means = run, bench, means
        self._housekeeper, self._journal = housekeeper, journal
        self._rng = np.random.default_rng([seed, 2])
        self._end_s = 0.0
        self._handed = 0
        """So many recordings were given to the housekeeper."""
        self._telling: set[Path] = set()
        """Recordings in which something went wrong with a takeover."""
        self.takeovers = 0

    def perform(self, seconds: float) -> None:
        """Go on until so much time has passed. What went wrong with one takeover ends its recording only.

        Raises:
            CadenzaError: the arm faulted, or a process that is needed is gone.
            KeyboardInterrupt: somebody wants the end.
        """
        self._end_s = seconds
        while self._journal.now_s() < seconds:
            try:
                for means in self._bench.episode(self._chosen()):
                    self.takeovers += 1
                    self._journal.note("takeover", means=str(means))
            except CadenzaError as error:
                begun = self._bench.episodes[self._handed :]
                self._telling.update(begun)
                self._journal.note("trouble", text=str(error), recordings=[path.name for path in begun])
                if not self._run.driving or self._run.watch.mode is Mode.FAULT:
                    raise
                self._bench.give_up()
            self.hand_over()
            self.hear()

    def hand_over(self) -> None:
        """Let the housekeeper have what was recorded since; nothing, where no recording was begun."""
        for path in self._bench.episodes[self._handed :]:
            self._housekeeper.take(path, keep=path in self._telling)
        self._handed = len(self._bench.episodes)

    def hear(self) -> None:
        """Put on record what was found in the episodes."""
        for facts in self._housekeeper.found():
            self._journal.note("episode", **facts)

    def _chosen(self) -> Iterator[Means]:
        """Means of the takeovers of one recording; each is asked for when the policy has driven for long enough."""
        for _ in range(int(self._rng.integers(*_PER_EPISODE))):
            self._bench.wait(float(self._rng.uniform(*_UNDISTURBED_S)))
            if self._journal.now_s() >= self._end_s:
                return
            yield self._means[int(self._rng.integers(len(self._means)))]

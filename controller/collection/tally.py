"""What is counted in one episode as it goes."""

from __future__ import annotations

import time
from collections.abc import Mapping

from controller.collection.ledger import Line
from controller.collection.machine import Collection, Verdict
from controller.watch import Watch
from episodes.outcome import ending


class EpisodeTally:
    """One episode, from the moment its recording begins.

    Args:
        watch: of the run.
        rate_hz: of its ticks.
        labels: of the episode.
    """

    def __init__(self, watch: Watch, rate_hz: float, labels: Mapping[str, str]) -> None:
        self._tally, self._rate_hz = watch.tally, rate_hz
        self._taken_before, self._human_before = watch.tally.flags["taken_over"], watch.tally.human_ticks
        self._seconds = 0.0
        self.labels = labels
        self.rewards: list[float] = []

    @property
    def takeovers(self) -> int:
        return self._tally.flags["taken_over"] - self._taken_before

    @property
    def human_s(self) -> float:
        """For so long a person has driven [s]."""
        return (self._tally.human_ticks - self._human_before) / self._rate_hz

    def seconds(self, now: Collection) -> float:
        """Since somebody began to drive, up to the verdict [s]."""
        if now.driving_s is not None and now.verdict is None:
            self._seconds = time.monotonic() - now.driving_s
        return self._seconds

    def line(self, now: Collection, verdict: Verdict, *, demonstration: bool) -> Line:
        """As the ledger has it, without its recordings."""
        final = ending(verdict.outcome, verdict.termination).reward
        rewards = [*self.rewards, *([] if final is None else [final])]
        return Line(
            number=now.number,
            outcome=verdict.outcome.value,
            termination=verdict.termination.value,
            seconds=self.seconds(now),
            files=(),
            reward=sum(rewards) if rewards else None,
            interventions=0 if demonstration else self.takeovers,
            human_seconds=self.human_s,
            operator=self.labels.get("operator", ""),
        )

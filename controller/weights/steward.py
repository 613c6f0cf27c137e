"""Looks after the process that a run's chunks come from: whether it makes any, and what its successor begins with."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict
from typing import Any

from controller.sources import ChunkSource, policy_source
from controller.weights.office import Office
from controller.weights.rollout import Said
from controller.wiring.crew import Crew
from export.bundle import Bundle


class Steward:
    """Of one source.

    Args:
        source: where the chunks come from.
        crew: has its process, once the run has started.
        office: of the bundles that may drive; None where no policy does.
        next_chunk: tells the first chunk number nobody has used.
    """

    def __init__(self, source: ChunkSource, crew: Crew, office: Office | None, next_chunk: Callable[[], int]) -> None:
        self.name = source.name
        """Of the process."""
        self._source, self._crew, self._office, self._next_chunk = source, crew, office, next_chunk
        self.following = False
        """Whether it is to make chunks."""

    @property
    def driving(self) -> Bundle | None:
        """The bundle that drives."""
        return None if self._office is None else self._office.rollout.driving

    @property
    def office(self) -> Office | None:
        """Of the bundles that may drive."""
        return self._office

    def follow(self, following: bool) -> None:
        """Have the source make chunks, or not."""
        self.following = following
        process = self._crew.processes[self._source.name]
        if following:
            process.tell(do="resume", sequence=self._next_chunk())
        else:
            process.tell(do="pause")

    def heed(self, message: dict[str, Any]) -> None:
        """A successor of one that dies starts with the bundle that drives now, paused or not as it is now."""
        kind = message["kind"]
        if kind == "ready":
            self.follow(self.following)
        if self._office is None:
            return
        rollout = self._office.rollout
        if kind in {"swap_trial", "swap", "rollback", "swap_refused"}:
            rollout.heard(kind, message)
            self._brief(rollout.driving)
        elif kind == "died" and rollout.died():
            self._brief(rollout.driving)

    def look(self, now_s: float) -> list[Said]:
        """Hear the operator and the shelf; returns what has come about.

        Where what drives cannot be loaded again, the one before is.
        """
        if self._office is None:
            return []
        name, rollout = self._source.name, self._office.rollout
        said = self._office.look(now_s, ready=self._crew.is_ready(name))
        process = self._crew.processes[name]
        if process.refusal is not None and not process.alive and rollout.step_back():
            self._brief(rollout.driving)
        return said

    def report(self) -> dict[str, Any]:
        """What drove, and how it explored. JSON-able."""
        office, explore = self._office, self._source.explore
        return {
            **({} if office is None else {"weights": office.rollout.report()}),
            **({} if explore is None else {"explore": asdict(explore)}),
        }

    def _brief(self, bundle: Bundle) -> None:
        """What the next inference process is to begin with: another bundle, the same exploration."""
        self._crew.brief(self._source.name, *policy_source(bundle, self._source.explore).arguments)

"""Which episodes to delete: a pure choice over what is known about each of them."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from pathlib import Path

from episodes.outcome import Outcome

DISCARDED = "discarded"
"""Folder that takes the episodes an operator did not want."""


@dataclass(frozen=True, slots=True)
class Stored:
    """One file."""

    path: Path
    outcome: Outcome
    age_s: float
    """Since it was last written [s]."""
    size: int

    @property
    def discarded(self) -> bool:
        return DISCARDED in self.path.parts[:-1]


@dataclass(frozen=True, slots=True)
class Rules:
    """What is not wanted any more. A file that meets one of the first three goes."""

    outcomes: Collection[Outcome] = ()
    discarded: bool = False
    older_than_s: float | None = None
    budget: int | None = None
    """Most bytes that may remain: beyond them the oldest go as well."""


def to_delete(stored: Sequence[Stored], rules: Rules) -> dict[Path, str]:
    """The files to delete, oldest first, each with the reason."""
    chosen: dict[Path, str] = {}
    oldest_first = sorted(stored, key=lambda file: (-file.age_s, file.path))
    for file in oldest_first:
        reason = _reason(file, rules)
        if reason is not None:
            chosen[file.path] = reason
    if rules.budget is not None:
        remaining = sum(file.size for file in stored if file.path not in chosen)
        for file in oldest_first:
            if remaining <= rules.budget:
                break
            if file.path not in chosen:
                chosen[file.path] = "over the size budget"
                remaining -= file.size
    return {file.path: chosen[file.path] for file in oldest_first if file.path in chosen}


def _reason(file: Stored, rules: Rules) -> str | None:
    if rules.discarded and file.discarded:
        return "discarded"
    if file.outcome in rules.outcomes:
        return file.outcome.value
    if rules.older_than_s is not None and file.age_s > rules.older_than_s:
        return f"{file.age_s / 86_400:.1f} days old"
    return None

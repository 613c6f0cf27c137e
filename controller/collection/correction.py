"""When to record where only corrections are kept: from before a person takes the arm until after it is given back."""

from __future__ import annotations

from dataclasses import dataclass, replace
from enum import Enum, auto


class Cut(Enum):
    """What to do with the recording."""

    BEGIN = auto()
    END = auto()


@dataclass(frozen=True, slots=True)
class Correction:
    """State: pure, as the session's machine."""

    on: bool = False
    released_s: float | None = None
    """When the person gave the arm back; None while it is held, and before."""


def cut(now: Correction, human: bool, tail_s: float, now_s: float) -> tuple[Correction, Cut | None]:
    """One look at who drives.

    Args:
        now: state.
        human: a person drives.
        tail_s: how long to go on after the release [s].
        now_s: instant [s].
    """
    if human:
        return Correction(on=True), None if now.on else Cut.BEGIN
    if not now.on:
        return now, None
    if now.released_s is None:
        return replace(now, released_s=now_s), None
    if now_s - now.released_s >= tail_s:
        return Correction(), Cut.END
    return now, None

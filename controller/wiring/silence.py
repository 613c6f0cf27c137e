"""How long nothing has come from somebody, without blaming them for a time in which nobody listened."""

from __future__ import annotations

import math
from collections.abc import Hashable
from dataclasses import dataclass

LOOK_S = 0.1
"""Longest time between two looks of who has nothing else to do [s]."""


@dataclass(slots=True)
class Silence:
    """For how long nothing has come while somebody looked for it.

    Time in which nobody looked says nothing: after a recovery of files, or on a machine that slept, there is one look
    before those that were away as well have had their turn.
    """

    most_s: float = LOOK_S
    """The time from one look to the next counts for at most this much [s]: longer than it usually is."""
    seconds: float = 0.0
    _seen: Hashable = 0
    _looked_s: float = math.inf

    def look(self, seen: Hashable, now_s: float) -> None:
        """Take in what is new whenever anything came, such as how many have so far, at an instant [s]."""
        passed = min(max(now_s - self._looked_s, 0.0), self.most_s)
        self.seconds = self.seconds + passed if seen == self._seen else 0.0
        self._seen, self._looked_s = seen, now_s

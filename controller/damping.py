"""Lines about cameras that come and go: the first at once, what follows as one line a minute.

On a busy PC pictures come late many times a minute. Each time is on record and in the ticks (:mod:`controller.eyes`).
In a log it would bury what else there is.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass

from episodes.schema.cadenza_pb2 import Event

QUIET_NS = 60_000_000_000
"""Of a camera that was just told of, further lines are summed up for so long [ns]."""

_LINE = re.compile(r"camera (.+): (no new picture for \d+ ms|seen again)")
"""As :class:`controller.eyes.Eyes` says it."""


@dataclass(slots=True)
class _Spell:
    """What is known of one camera."""

    quiet_until_ns: int = 0
    since_ns: int | None = None
    """When its pictures came to be too old; None where they are not."""
    told: bool = False
    """A person knows of that, so its end is told as well."""
    times: int = 0
    """It came about untold."""
    oldest_ns: int = 0
    """Greatest age of its newest picture meanwhile [ns]."""


class Damping:
    """Of one run.

    Args:
        stale_ns: by camera: older than this its newest picture is too old [ns].
    """

    def __init__(self, stale_ns: Mapping[str, int]) -> None:
        self._stale_ns = dict(stale_ns)
        self._spells = {name: _Spell() for name in stale_ns}

    def passes(self, event: Event) -> bool:
        """Whether a person is to be told of it now."""
        found = _LINE.fullmatch(event.text) if event.kind == "control" else None
        if found is None or found[1] not in self._spells:
            return True
        name, spell = found[1], self._spells[found[1]]
        if found[2] == "seen again":
            self._note_age(name, event.time_ns)
            spell.since_ns = None
            return spell.told
        spell.since_ns = event.time_ns
        spell.told = not spell.times and event.time_ns >= spell.quiet_until_ns
        if spell.told:
            spell.quiet_until_ns = event.time_ns + QUIET_NS
        else:
            spell.times += 1
        return spell.told

    def due(self, now_ns: int) -> list[str]:
        """What was kept back, in a line for each camera, once it is time for that."""
        lines = []
        for name, spell in self._spells.items():
            if spell.times and now_ns >= spell.quiet_until_ns:
                self._note_age(name, now_ns)
                times = "once" if spell.times == 1 else f"{spell.times} times"
                line = f"camera {name}: no new picture {times} more, the oldest {spell.oldest_ns * 1e-6:.0f} ms"
                spell.told = spell.since_ns is not None
                lines.append(f"{line}, and none now" if spell.told else line)
                spell.times = spell.oldest_ns = 0
                spell.quiet_until_ns = now_ns + QUIET_NS
        return lines

    def _note_age(self, name: str, now_ns: int) -> None:
        spell = self._spells[name]
        if spell.since_ns is not None and not spell.told:
            spell.oldest_ns = max(spell.oldest_ns, now_ns - spell.since_ns + self._stale_ns[name])

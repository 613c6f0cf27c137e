"""How long parts of a tick took that its own record cannot know: it is published before they are over."""

from __future__ import annotations

from episodes.records import TickRecord

_MOST_US = 50_000
"""Longer ones count as this [µs]."""


class Spent:
    """Counts by whole microseconds, in memory that was there before: it must not disturb what it measures."""

    def __init__(self) -> None:
        self._publish = [0] * (_MOST_US + 1)
        self._tick = [0] * (_MOST_US + 1)

    def add(self, record: TickRecord, now_ns: int) -> None:
        """A tick whose record has just been published."""
        self._publish[min((now_ns - record.written_ns) // 1000, _MOST_US)] += 1
        self._tick[min((now_ns - record.woke_ns) // 1000, _MOST_US)] += 1

    def as_dict(self) -> dict[str, dict[int, int]]:
        """How many took so many microseconds, by what: ``publish`` (and fill the record), the whole ``tick``."""
        counts = {"publish": self._publish, "tick": self._tick}
        return {name: {us: count for us, count in enumerate(all_us) if count} for name, all_us in counts.items()}

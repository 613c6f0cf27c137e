"""The last seconds of everything, in memory, for recordings that begin before somebody asked for them."""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from typing import NamedTuple

from episodes.messages import Carried, LogMessage, size_of


class Cut(NamedTuple):
    """What a recording begins with."""

    carried: tuple[LogMessage, ...]
    """See :class:`episodes.messages.Carried`."""
    messages: list[LogMessage]
    """Everything from the cut on."""


class Ring:
    """The newest messages, bounded in time and in bytes, and what an episode carries of those that fell out.

    Args:
        seconds: how long a message stays; 0 keeps none.
        most_bytes: where there are more, the oldest go earlier.
    """

    def __init__(self, seconds: float = 0.0, most_bytes: int = 0) -> None:
        self._before = Carried()
        self._kept: deque[tuple[int, int, LogMessage]] = deque()  # came when [ns], size, message
        self.bytes = 0
        self.bound(seconds, most_bytes)

    def bound(self, seconds: float, most_bytes: int) -> None:
        """Set both bounds; what is kept beyond them goes with the next message."""
        self._span_ns, self._most_bytes = round(seconds * 1e9), most_bytes

    def __len__(self) -> int:
        return len(self._kept)

    def add(self, now_ns: int, messages: Sequence[LogMessage]) -> None:
        """Take in what came by ``now_ns``, which never falls."""
        if self._span_ns > 0:
            for message in messages:
                size = size_of((message,))
                self._kept.append((now_ns, size, message))
                self.bytes += size
        else:
            self._before.see(messages)
        oldest_ns = now_ns - self._span_ns
        while self._kept and (self._kept[0][0] < oldest_ns or self.bytes > self._most_bytes):
            _, size, message = self._kept.popleft()
            self.bytes -= size
            self._before.see((message,))

    def since(self, from_ns: int) -> Cut:
        """What came at ``from_ns`` or later, or is of a later instant, and is still there: whoever waited for the disk
        takes in what came meanwhile as if it had come before."""
        before = Carried(self._before.messages())
        messages = []
        for came_ns, _, message in self._kept:
            if max(came_ns, message.time_ns) >= from_ns:
                messages.append(message)
            else:
                before.see((message,))
        return Cut(before.messages(), messages)

    def held_s(self, now_ns: int) -> float:
        """How far back it reaches [s]."""
        return (now_ns - self._kept[0][0]) * 1e-9 if self._kept else 0.0

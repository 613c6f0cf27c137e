"""How old each camera's newest picture is, as the control loop sees it: a header for every picture, no picture.

The policy's process judges for itself what it can still use. This is for the record and the operator: a camera that is
lost, frozen or whose process died shows in every tick from the moment its pictures are too old.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

from episodes.records import FrameHeader

FIRST_NS = 5_000_000_000
"""From the start a camera may take so long until its first picture [ns]: opening one takes a second or two."""


class Eyes:
    """Keeps the instant of each camera's newest picture.

    Args:
        stale_ns: by camera, in robot-file order: older than this its newest picture is stale [ns].
        receive: the oldest header not yet handed over; returns at once.
        now_ns: the start.
    """

    __slots__ = ("_due_ns", "_names", "_newest_ns", "_receive", "_stale", "_stale_ns")

    def __init__(self, stale_ns: Mapping[str, int], receive: Callable[[], FrameHeader | None], now_ns: int) -> None:
        self._names, self._stale_ns = tuple(stale_ns), tuple(stale_ns.values())
        self._receive = receive
        self._newest_ns = [now_ns + FIRST_NS] * len(self._names)
        self._stale = [False] * len(self._names)
        self._due_ns = self._next_due_ns()

    def look(self, now_ns: int, say: Callable[[str], None]) -> bool:
        """Whether any camera is stale; says it of each once when that sets in, and once when it is over."""
        news = False
        while (header := self._receive()) is not None:
            news = True
            if header.camera < len(self._names):
                self._newest_ns[header.camera] = min(header.captured_ns, now_ns)
        if news:
            self._due_ns = self._next_due_ns()
        if now_ns <= self._due_ns and not (news and any(self._stale)):  # nearly every tick
            return False
        return self._told(now_ns, say)

    def _next_due_ns(self) -> int:
        """When the first of them is stale."""
        return min(newest + limit for newest, limit in zip(self._newest_ns, self._stale_ns, strict=True))

    def _told(self, now_ns: int, say: Callable[[str], None]) -> bool:
        for k, name in enumerate(self._names):
            limit_ns = self._stale_ns[k]
            stale = now_ns - self._newest_ns[k] > limit_ns
            if stale is not self._stale[k]:
                self._stale[k] = stale
                say(f"camera {name}: " + (f"no new picture for {limit_ns * 1e-6:.0f} ms" if stale else "seen again"))
        return any(self._stale)

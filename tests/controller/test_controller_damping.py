"""A camera whose pictures keep coming late: told of at once, then once a minute, and never forgotten."""

from __future__ import annotations

from collections import deque

from controller.damping import QUIET_NS, Damping
from controller.eyes import Eyes
from episodes.records import FrameHeader
from episodes.schema.cadenza_pb2 import Event

STALE_NS = 250_000_000
MS = 1_000_000


class Log:
    """What a person reads of two cameras, of which only the first is looked at by eyes of its own."""

    def __init__(self) -> None:
        self.lines: list[str] = []
        self._headers: deque[FrameHeader] = deque()
        self._eyes = Eyes({"top": STALE_NS}, lambda: self._headers.popleft() if self._headers else None, 0)
        self._damping = Damping({"top": STALE_NS, "front": STALE_NS})

    def picture(self, now_ns: int) -> None:
        self._headers.append(FrameHeader(camera=0, captured_ns=now_ns))
        self.look(now_ns)

    def look(self, now_ns: int) -> None:
        self._eyes.look(now_ns, lambda text: self.hear(now_ns, text))
        self.lines += self._damping.due(now_ns)

    def hear(self, now_ns: int, text: str, kind: str = "control") -> None:
        if self._damping.passes(Event(time_ns=now_ns, source="control", kind=kind, text=text)):
            self.lines.append(text)


def test_a_flickering_camera_is_told_of_at_once_then_once_a_minute() -> None:
    log = Log()
    log.picture(0)
    for k in range(1, 30):  # a picture every two seconds, and late by as much
        log.look(2000 * MS * k - 1000 * MS)
        log.picture(2000 * MS * k + (k == 20) * 500 * MS)
    assert log.lines == ["camera top: no new picture for 250 ms", "camera top: seen again"]
    log.picture(1000 * MS + QUIET_NS)
    (line,) = log.lines[2:]
    assert line == "camera top: no new picture 28 times more, the oldest 1750 ms"
    log.look(62_000 * MS)
    log.picture(62_000 * MS)
    assert log.lines[3:] == []


def test_one_that_stays_away_meanwhile_is_told_of_until_it_is_back() -> None:
    log = Log()
    log.picture(0)
    log.look(STALE_NS + 1)
    log.picture(2 * STALE_NS)
    log.look(4 * STALE_NS)
    log.look(QUIET_NS + 2 * STALE_NS)
    assert log.lines[2] == "camera top: no new picture once more, the oldest 59750 ms, and none now"
    log.picture(QUIET_NS + 3 * STALE_NS)
    assert log.lines[3:] == ["camera top: seen again"]


def test_after_a_quiet_minute_it_is_news_again() -> None:
    log = Log()
    log.picture(0)
    log.look(STALE_NS + 1)
    log.picture(2 * STALE_NS)
    log.picture(2 * QUIET_NS)
    log.look(2 * QUIET_NS + 2 * STALE_NS)
    log.picture(2 * QUIET_NS + 3 * STALE_NS)
    assert log.lines == ["camera top: no new picture for 250 ms", "camera top: seen again"] * 2


def test_cameras_are_counted_apart_and_nothing_else_is_kept_back() -> None:
    log = Log()
    for text in ("camera top: no new picture for 250 ms", "camera front: no new picture for 250 ms"):
        log.hear(1, text)
    for _ in range(3):
        log.hear(2, "POLICY -> HOLD")
        log.hear(2, "camera other: seen again")
    assert len(log.lines) == 2 + 6

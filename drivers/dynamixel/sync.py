"""The two bus exchanges of a tick: read every joint at once, write every joint at once. Neither raises nor outlasts
its deadline.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field

from drivers.arm import BusFault
from drivers.dynamixel.line import PATIENCE_NS, Line, PortGoneError
from drivers.dynamixel.protocol import (
    ALERT,
    JointAnswer,
    Status,
    StatusStream,
    SyncWriting,
    fast_status_size,
    parse_fast,
    request_size,
    status_size,
    sync_read,
)

_LEAST_PATIENCE_NS = 1_500_000
"""An answer may come later than computed by this before it is asked for again. On a busy machine the kernel hands on
some a millisecond late, while a sound bus loses one in many thousands."""
_SPARE_NS = 400_000
"""Waiting for longer than this is time in which the caller can do something."""
_SLACK_NS = 500_000
"""Likewise for the answer to a retry, and for the rest of one that has begun to come."""


@dataclass(slots=True)
class BusStatistics:
    """Counts since the port was opened; every single lost or broken answer shows here, healed by a retry or not."""

    reads: int = 0
    writes: int = 0
    requests: int = 0
    """Packets that asked for answers: one a read, and its retries."""
    answers: int = 0
    silent: int = 0
    """Answers that did not come to one request."""
    corrupt: int = 0
    """Answers with a wrong checksum or a broken frame."""
    retries: int = 0
    stale: int = 0
    """Joint values that were missing when a read ended."""
    skipped: int = 0
    """Reads and writes not tried for lack of time."""
    failed_writes: int = 0
    disconnected: int = 0


@dataclass(slots=True)
class SyncReader:
    """One sync read of ``length`` bytes at ``address`` from all ``servos``, repeated for those who stay silent.

    A lost answer looks like a late one, and asking twice for a late one costs more than waiting: the second answer
    meets whatever is sent next. So a retry comes at the last moment at which it fits before the deadline, and where it
    does not fit the deadline alone ends the wait; but once bytes have come, the rest is soon there or nowhere. Answers
    do not say what they answer: one that comes after the deadline, during the next read of as many bytes, is taken for
    that one's, a tick old.

    Args:
        return_delay_ns: what each servo waits before it answers.
        fast: use fast sync read (one joint answer) for the first request.
        retries: further requests for the silent servos within one read, while time is left.
    """

    port: Line
    servos: Sequence[int]
    address: int
    length: int
    statistics: BusStatistics
    return_delay_ns: int = 0
    fast: bool = False
    retries: int = 2
    _index: dict[int, int] = field(init=False)
    _latency_ns: int = field(init=False)
    _everybody: dict[bool, bytes] = field(init=False)
    _all_ns: dict[bool, int] = field(init=False)
    _joint: JointAnswer = field(init=False)

    def __post_init__(self) -> None:
        self._index = {servo: k for k, servo in enumerate(self.servos)}
        self._everybody = {fast: sync_read(self.address, self.length, self.servos, fast=fast) for fast in (False, True)}
        self._latency_ns = (self.port.latency_timer_ms or 0) * 1_000_000
        self._all_ns = {fast: self._duration_ns(len(self.servos), fast) for fast in (False, True)}
        self._joint = JointAnswer(self.servos, self.length)

    def read(
        self, into: bytearray, fresh: list[bool], deadline_ns: int, meanwhile: Callable[[], None] | None = None
    ) -> BusFault:
        """Fill ``into`` (length bytes a servo, in order) and mark who answered.

        Args:
            into: ``len(servos) * length`` bytes; a silent servo's part is left alone.
            fresh: one entry a servo, overwritten.
            deadline_ns: CLOCK_MONOTONIC.
            meanwhile: called once where the servos have been asked and their answer is not due for a while.

        Returns:
            Everything that happened, faults healed by a retry included; ``fresh`` says what is missing.
        """
        fault = BusFault.NONE
        fresh[:] = [False] * len(self.servos)
        missing, fast = list(self.servos), self.fast
        self.statistics.reads += 1
        try:
            for attempt in range(1 + self.retries):
                needed = self._needed_ns(len(missing), fast)
                due = self.port.now_ns() + needed
                if due > deadline_ns:
                    if attempt == 0:
                        self.statistics.skipped += 1
                        fault |= BusFault.SKIPPED
                    break
                self.statistics.retries += attempt > 0
                until = wait_until_ns(due, deadline_ns, needed if attempt < self.retries else None)
                self._ask(missing, fast, meanwhile if attempt == 0 and needed > _SPARE_NS else None)
                fault |= self._answers(missing, fast, due, until, into, fresh)
                silent = [servo for servo in missing if not fresh[self._index[servo]]]
                if not silent:
                    if attempt:
                        self._outlast(min(due, deadline_ns))
                    break
                # A joint answer that stayed away whole is asked for as such once more, lest its first servo is the one
                # that is gone; single servos answer for themselves.
                missing, fast = silent, fast and attempt == 0 and len(silent) == len(self.servos)
        except PortGoneError:
            self.statistics.disconnected += 1
            fault |= BusFault.DISCONNECTED
        self.statistics.stale += fresh.count(False)
        return fault

    def _answers(
        self, asked: Sequence[int], fast: bool, due_ns: int, until_ns: int, into: bytearray, fresh: list[bool]
    ) -> BusFault:
        """Hear one request's answers, put them where they belong, and count them."""
        if fast:
            heard = self._hear(due_ns, until_ns)
            if self._joint.sound(heard):
                self._joint.data(heard, into)
                fresh[:] = [True] * len(fresh)
                self.statistics.answers += len(fresh)
                return BusFault.NONE
            answers, corrupt = self._parts(heard)
        else:
            answers, corrupt = self._collect(asked, self._arriving(due_ns, until_ns))
        fault = self._take(answers, into, fresh)
        silent = sum(not fresh[self._index[servo]] for servo in asked)
        self._count(len(asked) - silent, silent, corrupt)
        if corrupt:
            fault |= BusFault.CORRUPT
        if silent > corrupt:
            fault |= BusFault.TIMEOUT
        return fault

    def _take(self, answers: list[Status], into: bytearray, fresh: list[bool]) -> BusFault:
        fault = BusFault.NONE
        for servo, error, data in answers:
            k = self._index.get(servo)
            if error & ALERT:
                fault |= BusFault.SERVO
            if k is not None and len(data) == self.length and not error & ~ALERT:
                into[k * self.length : (k + 1) * self.length] = data
                fresh[k] = True
        return fault

    def _outlast(self, until_ns: int) -> None:
        """Wait for the answer to a retry that was answered sooner than it can have been, by the late one to an earlier
        request: the write that follows would meet it on the line."""
        while self.port.receive(until_ns):
            pass

    def _count(self, answered: int, silent: int, corrupt: int) -> None:
        counts = self.statistics
        counts.answers += answered
        counts.corrupt += corrupt
        counts.silent += max(0, silent - corrupt)

    def _ask(self, servos: Sequence[int], fast: bool, meanwhile: Callable[[], None] | None) -> None:
        self.statistics.requests += 1
        self.port.flush_input()
        whole = len(servos) == len(self.servos)
        self.port.send(self._everybody[fast] if whole else sync_read(self.address, self.length, servos, fast=fast))
        if meanwhile is not None:
            meanwhile()

    def _arriving(self, due_ns: int, until_ns: int) -> Iterator[bytes]:
        """What comes in until ``until_ns``, or until it has begun to come and then stops."""
        while data := self.port.receive(until_ns):
            yield data
            until_ns = self._soon_ns(due_ns, until_ns)

    def _soon_ns(self, due_ns: int, until_ns: int) -> int:
        """How long to wait for the rest, now that something has come."""
        return min(until_ns, max(due_ns, self.port.now_ns()) + _SLACK_NS)

    def _collect(self, servos: Sequence[int], arriving: Iterator[bytes]) -> tuple[list[Status], int]:
        stream = StatusStream(self.length)
        answers: list[Status] = []
        for data in arriving:
            answers += stream.feed(data)
            # They answer in the order asked: after the last nobody follows.
            if len(answers) + stream.corrupt >= len(servos) or (answers and answers[-1].servo == servos[-1]):
                break
        if len(answers) < len(servos):
            answers += stream.finish()
        return answers, stream.corrupt

    def _hear(self, due_ns: int, until_ns: int) -> bytes:
        """What comes in answer to a fast sync read: a whole joint answer, or as much as came of it."""
        heard, size, head = b"", self._joint.size, self._joint.head
        while data := self.port.receive(until_ns):
            heard += data
            # Noise or the end of an earlier answer may stand in front.
            if len(heard) >= size and len(heard) >= max(0, heard.rfind(head)) + size:
                break
            until_ns = self._soon_ns(due_ns, until_ns)
        return heard

    def _parts(self, heard: bytes) -> tuple[list[Status], int]:
        """The intact parts of a joint answer, and how many are broken."""
        answers, broken = parse_fast(heard, self.servos, self.length)
        return answers, max(1, len(heard) * len(self.servos) // self._joint.size - len(answers)) if broken else 0

    def _needed_ns(self, servos: int, fast: bool) -> int:
        return self._all_ns[fast] if servos == len(self.servos) else self._duration_ns(servos, fast)

    def _duration_ns(self, servos: int, fast: bool) -> int:
        """Shortest time from asking to the last byte of the last answer [ns]."""
        answer = fast_status_size(self.length, servos) if fast else servos * status_size(self.length)
        delay_ns = self.return_delay_ns * (1 if fast else servos)  # in a joint answer only the first servo's counts
        return self.port.wire_ns(request_size(servos) + answer) + delay_ns + self._latency_ns


def wait_until_ns(due_ns: int, deadline_ns: int, retry_ns: int | None) -> int:
    """How long to wait for answers due at ``due_ns``; ``retry_ns``: what asking again takes, None: that is not done."""
    until = deadline_ns
    if retry_ns is not None and deadline_ns - retry_ns - _SLACK_NS >= due_ns + _LEAST_PATIENCE_NS:
        until = deadline_ns - retry_ns - _SLACK_NS
    return min(until, due_ns + PATIENCE_NS)


@dataclass(slots=True)
class SyncWriter:
    """One sync write of a register to all ``servos``. Nobody answers, so a lost one shows only in where they go."""

    port: Line
    servos: Sequence[int]
    address: int
    length: int
    statistics: BusStatistics
    _writing: SyncWriting = field(init=False)

    def __post_init__(self) -> None:
        self._writing = SyncWriting(self.address, self.length, self.servos)

    def write(self, values: Sequence[int], deadline_ns: int) -> BusFault:
        """Send signed register ``values`` in servo order before ``deadline_ns`` (CLOCK_MONOTONIC)."""
        self.statistics.writes += 1
        if self.port.now_ns() >= deadline_ns:
            self.statistics.skipped += 1
            return BusFault.SKIPPED
        try:
            if self.port.send(self._writing.packet(values)):
                return BusFault.NONE
        except PortGoneError:
            self.statistics.disconnected += 1
            return BusFault.DISCONNECTED
        self.statistics.failed_writes += 1
        return BusFault.TIMEOUT

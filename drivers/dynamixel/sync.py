"""The two bus exchanges of a tick: read every joint at once, write every joint at once. Neither raises nor outlasts
its deadline.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass, field

from drivers.arm import BusFault
from drivers.dynamixel.port import Port, PortGoneError
from drivers.dynamixel.protocol import (
    ALERT,
    Status,
    StatusStream,
    fast_status_size,
    parse_fast,
    status_size,
    sync_read,
    sync_write,
)

PATIENCE_NS = 1_000_000
"""How much later than computed an answer may come before it is asked for again."""
_MORE_PATIENCE_NS = 2_000_000
"""Likewise, where the deadline leaves room for a retry even so."""
_SHORTEST_RETRY_NS = 200_000


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

    Args:
        return_delay_ns: what each servo waits before it answers.
        fast: use fast sync read (one joint answer) for the first request.
        retries: further requests for the silent servos within one read, while time is left.
        patience_ns: how much later than computed an answer may come before it is asked for again. Answers do not say
            what they answer, so one that comes after that may be taken for the next: of the same register in a tick,
            which is a value one tick old; where different registers are read in turn this must be generous.
    """

    port: Port
    servos: Sequence[int]
    address: int
    length: int
    statistics: BusStatistics
    return_delay_ns: int = 0
    fast: bool = False
    retries: int = 2
    patience_ns: int = PATIENCE_NS
    _index: dict[int, int] = field(init=False)
    _latency_ns: int = field(init=False)
    _everybody: dict[bool, bytes] = field(init=False)

    def __post_init__(self) -> None:
        self._index = {servo: k for k, servo in enumerate(self.servos)}
        self._everybody = {fast: sync_read(self.address, self.length, self.servos, fast=fast) for fast in (False, True)}
        self._latency_ns = (self.port.latency_timer_ms or 0) * 1_000_000

    def read(self, into: bytearray, fresh: list[bool], deadline_ns: int) -> BusFault:
        """Fill ``into`` (length bytes a servo, in order) and mark who answered.

        Args:
            into: ``len(servos) * length`` bytes; a silent servo's part is left alone.
            fresh: one entry a servo, overwritten.
            deadline_ns: CLOCK_MONOTONIC.

        Returns:
            Everything that happened, faults healed by a retry included; ``fresh`` says what is missing.
        """
        fault = BusFault.NONE
        fresh[:] = [False] * len(self.servos)
        missing, fast = list(self.servos), self.fast
        self.statistics.reads += 1
        try:
            for attempt in range(1 + self.retries):
                needed = self._duration_ns(len(missing), fast)
                now = time.monotonic_ns()
                if now + (needed if attempt == 0 else needed + _SHORTEST_RETRY_NS) > deadline_ns:
                    if attempt == 0:
                        self.statistics.skipped += 1
                        fault |= BusFault.SKIPPED
                    break
                self.statistics.retries += attempt > 0
                until = now + needed + self.patience_ns
                spare = deadline_ns - until - needed - _SHORTEST_RETRY_NS
                if spare < 0:  # no time to ask again: giving up early would gain nothing
                    until = deadline_ns
                until += max(0, min(spare // 2, _MORE_PATIENCE_NS - PATIENCE_NS))  # the other half for waking up
                answers, corrupt = self._request(missing, fast, min(deadline_ns, until))
                fault |= self._take(answers, into, fresh)
                silent = [servo for servo in missing if not fresh[self._index[servo]]]
                self._count(len(missing) - len(silent), len(silent), corrupt)
                if not silent and not corrupt:
                    break
                fault |= BusFault.CORRUPT if corrupt else BusFault.TIMEOUT
                fault |= BusFault.TIMEOUT if len(silent) > corrupt else BusFault.NONE
                if not silent:
                    break
                # A joint answer that stayed away whole is asked for as such; single servos answer for themselves.
                missing, fast = silent, fast and len(silent) == len(self.servos)
        except PortGoneError:
            self.statistics.disconnected += 1
            fault |= BusFault.DISCONNECTED
        self.statistics.stale += fresh.count(False)
        return fault

    def _take(self, answers: list[Status], into: bytearray, fresh: list[bool]) -> BusFault:
        fault = BusFault.NONE
        for servo, error, data in answers:
            k = self._index.get(servo)
            if error & ALERT:
                fault |= BusFault.SERVO
            if k is not None and len(data) == self.length:
                into[k * self.length : (k + 1) * self.length] = data
                fresh[k] = True
        return fault

    def _count(self, answered: int, silent: int, corrupt: int) -> None:
        counts = self.statistics
        counts.answers += answered
        counts.corrupt += corrupt
        counts.silent += max(0, silent - corrupt)

    def _request(self, servos: Sequence[int], fast: bool, until_ns: int) -> tuple[list[Status], int]:
        """Ask and collect until everybody answered, the last one answered, or ``until_ns``: answers, broken ones."""
        self.statistics.requests += 1
        self.port.flush_input()
        whole = len(servos) == len(self.servos)
        self.port.send(self._everybody[fast] if whole else sync_read(self.address, self.length, servos, fast=fast))
        return self._collect_fast(servos, until_ns) if fast else self._collect(servos, until_ns)

    def _collect(self, servos: Sequence[int], until_ns: int) -> tuple[list[Status], int]:
        stream = StatusStream(self.length)
        answers: list[Status] = []
        while len(answers) + stream.corrupt < len(servos) and (data := self.port.receive(until_ns)):
            answers += stream.feed(data)
            # They answer in the order asked: after the last nobody follows.
            if answers and answers[-1].servo == servos[-1]:
                break
        if len(answers) < len(servos):
            answers += stream.finish()
        return answers, stream.corrupt

    def _collect_fast(self, servos: Sequence[int], until_ns: int) -> tuple[list[Status], int]:
        size = fast_status_size(self.length, len(servos))
        buffer = bytearray()
        while len(buffer) < size and (data := self.port.receive(until_ns)):
            buffer += data
        answers, broken = parse_fast(buffer, servos, self.length)
        return answers, max(1, len(buffer) * len(servos) // size - len(answers)) if broken else 0

    def _duration_ns(self, servos: int, fast: bool) -> int:
        """Shortest time from asking to the last byte of the last answer [ns]."""
        request = 14 + servos
        answer = fast_status_size(self.length, servos) if fast else servos * status_size(self.length)
        return self.port.wire_ns(request + answer) + servos * self.return_delay_ns + self._latency_ns


@dataclass(slots=True)
class SyncWriter:
    """One sync write of a register to all ``servos``. Nobody answers, so a lost one shows only in where they go."""

    port: Port
    servos: Sequence[int]
    address: int
    length: int
    statistics: BusStatistics

    def write(self, values: Sequence[int], deadline_ns: int) -> BusFault:
        """Send signed register ``values`` in servo order before ``deadline_ns`` (CLOCK_MONOTONIC)."""
        self.statistics.writes += 1
        if time.monotonic_ns() >= deadline_ns:
            self.statistics.skipped += 1
            return BusFault.SKIPPED
        length = self.length
        data = {s: v.to_bytes(length, "little", signed=True) for s, v in zip(self.servos, values, strict=True)}
        try:
            if self.port.send(sync_write(self.address, length, data)):
                return BusFault.NONE
        except PortGoneError:
            self.statistics.disconnected += 1
            return BusFault.DISCONNECTED
        self.statistics.failed_writes += 1
        return BusFault.TIMEOUT

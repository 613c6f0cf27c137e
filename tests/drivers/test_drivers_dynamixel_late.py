"""Answers that come too late: how long they are waited for, and that none is ever taken for another."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import pytest
from dynamixel_wire import Wire, soon
from hypothesis import given
from hypothesis import strategies as st

from drivers.arm import BusFault
from drivers.dynamixel.bus import Bus
from drivers.dynamixel.port import PATIENCE_NS, Port
from drivers.dynamixel.sync import BusStatistics, SyncReader, wait_until_ns
from drivers.dynamixel.tables import model

MS = 1_000_000
TABLE = model("XL330-M288")


@pytest.fixture
def wire() -> Iterator[Wire]:
    with Wire({1: "XL330-M288"}, fast=False) as servos:
        yield servos


@contextmanager
def opened(wire: Wire, baud: int = 1_000_000) -> Iterator[Port]:
    port = Port(wire.path, baud)
    port.open()
    try:
        yield port
    finally:
        port.close()


def later(*seconds: float) -> Callable[[int, bytes], bytes]:
    """Each answer that much later than the one before it; those beyond the list at once."""
    delays = iter(seconds)

    def delayed(_servo: int, answer: bytes) -> bytes:
        time.sleep(next(delays, 0.0))
        return answer

    return delayed


def test_a_retry_comes_at_the_last_moment_it_fits() -> None:
    # The Koch at 100 Hz and 1 Mbps: 1.12 ms an exchange, 7 ms for reading.
    assert wait_until_ns(1_120_000, 7_000_000, 1_120_000) == 5_380_000


def test_without_time_for_a_retry_only_the_deadline_ends_the_wait() -> None:
    assert wait_until_ns(1_120_000, 3_500_000, 1_120_000) == 3_500_000  # at 200 Hz
    assert wait_until_ns(1_120_000, 3_500_000, None) == 3_500_000


@given(st.integers(0, 100 * MS), st.integers(0, 200 * MS), st.integers(0, 100 * MS))
def test_the_wait(due: int, spare: int, retry: int) -> None:
    deadline = due + spare
    until = wait_until_ns(due, deadline, retry)
    assert due <= until <= min(deadline, due + PATIENCE_NS)
    assert until == min(deadline, due + PATIENCE_NS) or until + retry < deadline


@pytest.mark.parametrize("fast", [True, False])
def test_an_answer_is_waited_for_while_there_is_time(fast: bool) -> None:
    """It was asked for again after a millisecond, which counted a time-out and left an answer on the line."""
    with Wire({1: "XL330-M288"}, fast=fast) as wire, opened(wire) as port:
        reader = SyncReader(port, [1], 132, 10, BusStatistics(), fast=fast)
        fresh = [False]
        wire.fault = later(0.015)
        assert reader.read(bytearray(10), fresh, soon()) == BusFault.NONE
        assert fresh == [True]
        assert reader.statistics.requests == 1


def test_who_falls_silent_in_a_joint_answer_is_not_waited_for() -> None:
    """All the time went into waiting for the rest of it, and none was left to ask the others."""
    with Wire(dict.fromkeys((1, 2, 3), "XL330-M288")) as wire, opened(wire) as port:
        wire.mute.add(2)
        spoken: list[int] = []
        wire.fault = lambda _servo, answer: (spoken.append(time.monotonic_ns()), answer)[1]
        reader = SyncReader(port, [1, 2, 3], 132, 10, BusStatistics(), fast=True)
        fresh = [False]
        reader.read(bytearray(30), fresh, soon(1.0))
        assert fresh == [True, False, True]
        assert spoken[1] - spoken[0] < PATIENCE_NS


@pytest.mark.parametrize("together", [True, False])
def test_a_late_goal_is_not_taken_for_a_position(wire: Wire, together: bool) -> None:
    """Held at its old goal as if it stood there, an arm jumps."""
    wire.servos[1].put("goal_position", 1000)
    wire.servos[1].put("present_position", 2000)
    with opened(wire) as port:
        bus = Bus(port, {})

        def read(name: str) -> int:
            register = TABLE[name]
            return register.decode(bus.read_all([1], register.address, 4)[1]) if together else bus.read(1, register)

        wire.fault = later(0.060, 0.015)  # the retry is answered by the first answer, the second comes after it
        assert read("goal_position") == 1000
        assert read("present_position") == 2000


def test_after_a_retry_the_line_is_free(wire: Wire) -> None:
    """The late answer to the first request ends the read; that to the second would meet the next write."""
    with opened(wire, 9600) as port:  # an exchange takes 102 ms, so that threads are prompt enough
        reader = SyncReader(port, [1], 64, 72, BusStatistics())
        fresh = [False]
        wire.fault = later(0.165, 0.015)  # asked again at 142 ms
        reader.read(bytearray(72), fresh, soon(1.0))
        assert fresh == [True]
        assert reader.statistics.retries == 1
        assert port.receive(soon(0.1)) == b""

"""Pacing on a virtual clock, exact to the nanosecond; the real clock only where it must be real."""

from __future__ import annotations

import signal
import time
from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from controller.clock import MonotonicClock, TickGrid, VirtualClock

rates = st.floats(min_value=1.0, max_value=5000.0, allow_nan=False)
starts = st.integers(min_value=0, max_value=2**62)
ticks = st.integers(min_value=0, max_value=10**10)


@given(rates, starts, ticks)
def test_instants_lie_on_the_exact_grid(rate: float, start: int, tick: int) -> None:
    instant = TickGrid.at(rate, start).instant_ns(tick)
    exact = start + tick * 10**9 / Fraction(rate)
    assert 0 <= exact - instant < 1


@given(rates, starts, ticks, st.integers(min_value=0, max_value=10**12))
def test_a_late_wake_up_skips_whole_periods_and_keeps_the_phase(
    rate: float, start: int, planned: int, late: int
) -> None:
    grid = TickGrid.at(rate, start)
    woke = grid.instant_ns(planned) + late
    wake = grid.wake(planned, woke)
    assert wake.instant_ns == grid.instant_ns(wake.tick)
    assert wake.instant_ns <= woke < grid.instant_ns(wake.tick + 1)
    assert wake.skipped == wake.tick - planned >= 0


@given(rates, starts, ticks, st.integers(min_value=1, max_value=10**6))
def test_an_early_wake_up_still_runs_its_own_tick(rate: float, start: int, planned: int, early: int) -> None:
    grid = TickGrid.at(rate, start)
    wake = grid.wake(planned, grid.instant_ns(planned) - early)
    assert (wake.tick, wake.skipped) == (planned, 0)


def test_rounding_never_adds_up() -> None:
    grid = TickGrid.at(300.0, 0)
    assert grid.instant_ns(300 * 3600) == 3600 * 10**9  # an hour of a period that is no whole number of nanoseconds


def test_the_virtual_clock_moves_only_when_told() -> None:
    clock = VirtualClock(5)
    clock.sleep_until_ns(3)
    assert clock.now_ns() == 5
    clock.sleep_until_ns(9)
    clock.advance(2)
    assert clock.now_ns() == 11


def test_sleep_returns_after_the_deadline_even_when_signals_arrive() -> None:
    clock = MonotonicClock()
    seen: list[int] = []
    before = signal.signal(signal.SIGALRM, lambda number, _frame: seen.append(number))
    try:
        signal.setitimer(signal.ITIMER_REAL, 0.005, 0.005)
        deadline = time.monotonic_ns() + 60_000_000
        clock.sleep_until_ns(deadline)
        assert time.monotonic_ns() >= deadline
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
    assert seen


def test_a_deadline_that_has_passed_returns_at_once() -> None:
    clock = MonotonicClock()
    clock.sleep_until_ns(0)
    assert clock.now_ns() > 0


def test_an_impossible_deadline_is_an_error() -> None:
    with pytest.raises(OSError, match="Invalid argument"):
        MonotonicClock().sleep_until_ns(-(10**9))

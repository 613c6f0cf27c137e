"""The window code against plain loops that say the same in the slowest, clearest way."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from controller.workers.history import History, Seen
from episodes.records import Mode
from episodes.windows import MISSING, action_targets, history, newest_at, policy_grid, sample, segments

STEP = 100


@st.composite
def instants(draw: st.DrawFn, largest_gap: int = 250) -> np.ndarray:
    gaps = draw(st.lists(st.integers(min_value=1, max_value=largest_gap), min_size=1, max_size=25))
    return np.cumsum(np.array(gaps, dtype=np.int64)) + 1000


@given(instants(), st.integers(min_value=1, max_value=5), st.data())
def test_history_equals_a_plain_loop(observed: np.ndarray, length: int, data: st.DataObject) -> None:
    rise = data.draw(st.lists(st.booleans(), min_size=len(observed), max_size=len(observed)))
    segment = np.cumsum(np.array(rise, dtype=np.int64))
    index, mask = history(observed, np.arange(len(observed)), length, STEP, segment)
    for a in range(len(observed)):
        for slot in range(length):
            wanted = observed[a] - (length - 1 - slot) * STEP
            near = [j for j in range(a + 1) if 2 * abs(observed[j] - wanted) < STEP]
            best = min(near, key=lambda j: (abs(observed[j] - wanted), j)) if near else None
            if slot == length - 1:
                best = a
            real = best is not None and segment[best] == segment[a]
            assert mask[a, slot] == real
            assert index[a, slot] == (best if real else 0)


@given(instants(), st.integers(min_value=1, max_value=5))
def test_no_sample_fills_two_slots_and_slots_are_in_order(observed: np.ndarray, length: int) -> None:
    index, mask = history(observed, np.arange(len(observed)), length, STEP)
    for row, real in zip(index, mask, strict=True):
        assert (np.diff(row[real]) > 0).all()


@given(instants(), st.integers(min_value=1, max_value=5), st.data())
def test_live_history_is_the_one_rebuilt_from_a_log(observed: np.ndarray, length: int, data: st.DataObject) -> None:
    """The live worker knows only the past and keeps few steps; the learner sees the whole log. Same answer."""
    rise = data.draw(st.lists(st.booleans(), min_size=len(observed), max_size=len(observed)))
    segment = np.cumsum(np.array(rise, dtype=np.int64))
    features = np.arange(len(observed) * 3, dtype=np.float32).reshape(-1, 3) + 1
    live = History(length, STEP, 3)
    index, mask = history(observed, np.arange(len(observed)), length, STEP, segment)
    for k in range(len(observed)):
        live.add(Seen(int(observed[k]), int(segment[k]), features[k]))
        seen, seen_mask = live.window()
        # Steps closer together than half a step may have pushed older ones out of the live memory.
        reach = observed[max(0, k - 2 * length + 1)]
        wanted = observed[k] - (length - 1 - np.arange(length)) * STEP
        known = (wanted - STEP // 2 >= reach) | (k < 2 * length)
        assert np.array_equal(seen_mask[known], mask[k][known])
        assert np.array_equal(seen[known], np.where(mask[k][:, None], features[index[k]], 0)[known])


@given(instants(), instants(), st.one_of(st.none(), st.integers(min_value=0, max_value=300)))
def test_newest_at_equals_a_plain_loop(times: np.ndarray, asked: np.ndarray, age: int | None) -> None:
    for instant, found in zip(asked, newest_at(times, asked, age), strict=True):
        old = [k for k, time in enumerate(times) if time <= instant and (age is None or instant - time <= age)]
        assert found == (old[-1] if old else MISSING)


@given(instants(30), instants(60), st.integers(min_value=0, max_value=80))
def test_sampling_never_sees_the_future(ticks: np.ndarray, frames: np.ndarray, delay: int) -> None:
    grid = policy_grid(1000, 3000, STEP)
    seen = sample(grid, ticks, {"top": frames}, {"top": delay})
    assert (np.diff(seen.observed_ns) > 0).all()
    assert np.array_equal(seen.observed_ns, ticks[seen.tick])
    for tick, frame in zip(seen.tick, seen.frames["top"], strict=True):
        step = grid[np.searchsorted(grid, ticks[tick])]
        assert frames[frame] + delay <= max(step, grid[-1])
        assert frame != MISSING


@given(instants(40), st.integers(min_value=1, max_value=6), st.data())
def test_action_targets_equal_a_plain_loop(times: np.ndarray, length: int, data: st.DataObject) -> None:
    values = np.array(data.draw(st.lists(st.floats(-3, 3), min_size=len(times), max_size=len(times))))[:, None]
    observed = np.array([900, 1000, int(times[0]), int(times[-1]) - STEP], dtype=np.int64)
    targets, mask = action_targets(observed, length, STEP, times, values)
    for row, start in enumerate(observed):
        for k in range(length):
            due = start + (k + 1) * STEP
            assert mask[row, k] == (times[0] <= due <= times[-1])
            assert np.isclose(targets[row, k, 0], np.interp(due, times, values[:, 0]), atol=1e-12)


def test_resting_ticks_begin_new_segments() -> None:
    modes = np.array([Mode.POLICY, Mode.HOLD, Mode.EASE_IN, Mode.POLICY, Mode.POLICY, Mode.FAULT, Mode.POLICY])
    assert segments(modes).tolist() == [0, 0, 1, 1, 1, 2, 2]


def test_a_persons_turn_belongs_to_the_history_before_and_after_it() -> None:
    """What the policy sees when it gets the arm back is where the person brought it."""
    modes = np.array([Mode.POLICY, Mode.BLEND, Mode.HUMAN, Mode.HOLD, Mode.BLEND, Mode.POLICY])
    assert segments(modes).tolist() == [0] * 6


def test_a_regular_run_fills_every_slot() -> None:
    observed = 1000 + STEP * np.arange(6, dtype=np.int64) + np.array([0, 9, -8, 3, 0, -12])
    index, mask = history(observed, np.array([0, 1, 5]), 3, STEP)
    assert mask.tolist() == [[False, False, True], [False, True, True], [True, True, True]]
    assert index[2].tolist() == [3, 4, 5]

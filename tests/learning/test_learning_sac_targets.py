"""Targets of h steps: against a loop over the rows of episodes, through the store, wherever a window can end."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from small_actors import small_config
from synthetic_rows import random_rows

from learning.replay.rows import Rows
from learning.replay.store import Store
from learning.sac.settings import Agg
from learning.sac.targets import aggregate, chunk_target, continued

CONFIG = small_config(cameras={})
GAMMA = 0.9


def _value(state: np.ndarray) -> float:
    """Of a sight: anything that tells one from the other."""
    return float(np.sin(3.0 * state.astype(np.float64)).sum())


def _looped(episodes: list[Rows], first: int, h: int) -> tuple[float, int]:
    """Target of the window that begins at row ``first`` of all rows ever stored, and its length; row after row."""
    for rows in episodes:
        if first < len(rows):
            break
        first -= len(rows)
    total, discount, length = 0.0, 1.0, 0
    while length < h:
        row = first + length
        total += discount * float(rows.reward[row])
        discount *= GAMMA
        length += 1
        if rows.terminated[row]:
            return total, length
        if rows.breaks[row] or not rows.acted[row + 1]:
            break
    return total + discount * _value(rows.state[first + length]), length


@settings(max_examples=40, deadline=None)
@given(
    seed=st.integers(0, 10_000),
    h=st.integers(1, 5),
    lengths=st.lists(st.integers(2, 12), min_size=1, max_size=6),
    capacity=st.integers(8, 60),
)
def test_targets_equal_a_loop_over_the_rows(seed: int, h: int, lengths: list[int], capacity: int) -> None:
    """Terminated within a chunk, broken off, aborted, and after the ring has wrapped."""
    rng = np.random.default_rng(seed)
    store = Store.in_memory(CONFIG, h, capacity)
    episodes = [random_rows(CONFIG, rng, length) for length in lengths]
    for rows in episodes:
        store.append(rows)
    acted = np.concatenate([rows.acted for rows in episodes])
    starts = np.flatnonzero(acted & (np.arange(len(acted)) >= store.head - capacity))
    if not len(starts):
        return
    batch = store.windows(starts)
    value = torch.tensor([_value(state) for state in batch.later.state[:, -1].numpy()], dtype=torch.float64)
    found = chunk_target(batch.rewards.double(), batch.length, batch.bootstrap, value, GAMMA)
    wanted = [_looped(episodes, int(start), h) for start in starts]
    assert batch.length.tolist() == [length for _, length in wanted]
    assert np.abs(found.numpy() - np.array([target for target, _ in wanted])).max() <= 1e-6


def test_truncation_is_worth_what_comes_after_and_termination_is_not() -> None:
    """Rewards past the end are not looked at, nor what is seen there where the task is over."""
    rewards = torch.tensor([[1.0, 2.0, 100.0], [1.0, 2.0, 100.0], [1.0, 2.0, 4.0]], dtype=torch.float64)
    value = torch.tensor([10.0, torch.nan, 10.0], dtype=torch.float64)
    target = chunk_target(rewards, torch.tensor([2, 2, 3]), torch.tensor([True, False, True]), value, 0.5)
    assert target.tolist() == [1.0 + 1.0 + 0.25 * 10.0, 2.0, 1.0 + 1.0 + 1.0 + 0.125 * 10.0]


def test_a_chunk_cut_short_goes_on_as_its_target_does() -> None:
    """a_0, a_1, then what the policy would do from there; where the task is over nothing is put in."""
    taken = torch.tensor([[1.0, 2.0, 0.0, 0.0]] * 3)[..., None]
    then = torch.tensor([[5.0, 6.0, 7.0, 8.0]] * 3)[..., None]
    found = continued(taken, torch.tensor([2, 4, 2]), torch.tensor([True, True, False]), then)
    assert found[..., 0].tolist() == [[1.0, 2.0, 5.0, 6.0], [1.0, 2.0, 0.0, 0.0], [1.0, 2.0, 0.0, 0.0]]


@pytest.mark.parametrize(("kind", "wanted"), [(Agg.MIN, [1.0, 2.0]), (Agg.MEAN, [3.0, 4.0]), (Agg.PAIR, [3.0, 2.0])])
def test_values_of_several_critics_become_one(kind: Agg, wanted: list[float]) -> None:
    values = torch.tensor([[1.0, 6.0], [3.0, 4.0], [5.0, 2.0]])
    assert aggregate(kind, values, (1, 2)).tolist() == wanted

"""Who is in a batch, and that making it ahead changes nothing."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pytest
import torch
from made_rows import made_rows, replay_config

from learning.replay.batch import Batch
from learning.replay.mix import Mixed
from learning.replay.prefetch import Prefetch
from learning.replay.store import Store
from spec.errors import CadenzaError, SpecError

CONFIG = replay_config(cameras={})
DEMONSTRATION, CORRECTION, OWN = 1.0, 2.0, 3.0
"""Rewards by which rows are known."""


def store(*kinds: tuple[float, int]) -> Store:
    """Rows of these kinds, so many of each."""
    made = Store.in_memory(CONFIG, 2, 10_000)
    for number, (kind, count) in enumerate(kinds):
        rows = made_rows(number, count + 1, CONFIG, calm=True)
        expert = rows.acted if kind != OWN else np.zeros_like(rows.acted)
        made.append(replace(rows, reward=np.where(rows.acted, kind, 0.0).astype(np.float32), expert=expert))
    return made


def kinds(batch: Batch) -> list[float]:
    return batch.rewards[:, 0].tolist()


def test_half_are_examples_and_each_of_them_is_as_likely() -> None:
    mixed = Mixed(store((DEMONSTRATION, 300)), store((OWN, 500), (CORRECTION, 100)))
    batch = mixed.draw(np.random.default_rng(0), 4000)
    first, second = kinds(batch)[:2000], kinds(batch)[2000:]
    assert len(batch) == 4000
    assert bool(batch.expert_mask[:2000, 0].all())
    assert first.count(OWN) == 0
    assert first.count(CORRECTION) == pytest.approx(500, rel=0.15)
    assert second.count(CORRECTION) == pytest.approx(2000 / 6, rel=0.15)  # they are experience too
    assert second.count(DEMONSTRATION) == 0
    assert mixed.note is None


@pytest.mark.parametrize(
    ("demonstrations", "online", "share", "note"),
    [
        ([], [(OWN, 50)], 0.0, "too few examples yet (0 of 20)"),
        ([(DEMONSTRATION, 5)], [(OWN, 50)], 0.0, "too few examples yet (5 of 20)"),
        ([(DEMONSTRATION, 50)], [], 1.0, "too few rows of the robot's own yet (0 of 20)"),
        ([(DEMONSTRATION, 50)], [(OWN, 19)], 1.0, "too few rows of the robot's own yet (19 of 20)"),
        ([(DEMONSTRATION, 5)], [], 1.0, "too few rows of the robot's own yet (0 of 20)"),
        ([(DEMONSTRATION, 5)], [(OWN, 5)], 0.25, None),
        ([(DEMONSTRATION, 15)], [(CORRECTION, 20)], 0.25, None),
    ],
)
def test_with_too_few_of_one_kind_the_other_fills_the_batch(
    demonstrations: Sequence[tuple[float, int]], online: Sequence[tuple[float, int]], share: float, note: str | None
) -> None:
    mixed = Mixed(store(*demonstrations) if demonstrations else None, store(*online), 0.25, least=20)
    assert mixed.share == share
    assert (mixed.note or "").startswith(note or "")
    assert bool(mixed.note) == bool(note)
    batch = mixed.draw(np.random.default_rng(0), 16)
    assert len(batch) == 16
    if share == 0.0:
        assert kinds(batch) == [OWN] * 16
    if share == 1.0:
        assert kinds(batch) == [DEMONSTRATION] * 16


def test_nothing_to_draw_from_and_no_share_are_refused() -> None:
    with pytest.raises(CadenzaError, match="neither"):
        Mixed(None, store()).draw(np.random.default_rng(0), 4)
    with pytest.raises(SpecError, match="share"):
        Mixed(None, store(), 1.5)


def same(a: Batch, b: Batch) -> bool:
    return torch.equal(a.now.state, b.now.state) and torch.equal(a.rewards, b.rewards)


def test_a_batch_depends_on_its_number_and_the_rows_alone() -> None:
    source = store((OWN, 60))
    plain, ahead = Prefetch(source, 5, 8, ahead=False), Prefetch(source, 5, 8)
    first = [plain.batch(k) for k in range(6)]
    assert not same(first[0], first[1])
    for k in (0, 1, 2, 5, 3, 3, 4):  # in order, skipped, gone back, asked twice
        assert same(ahead.batch(k), first[k])
    ahead.batch(0)
    ahead.discard()
    source.append(made_rows(9, 200, CONFIG, calm=True))
    after = [Prefetch(source, 5, 8, ahead=False).batch(k) for k in range(2)]
    assert not same(after[1], first[1])
    assert same(ahead.batch(1), after[1])
    ahead.close()
    assert not same(Prefetch(source, 6, 8, ahead=False).batch(0), after[0])


class Slow:
    """A source that says when another thread reads it, and keeps that one until told to go on."""

    def __init__(self, source: Store) -> None:
        self.source, self.reading, self.go_on = source, threading.Event(), threading.Event()

    def __len__(self) -> int:
        return len(self.source)

    def draw(self, rng: np.random.Generator, batch: int) -> Batch:
        if threading.current_thread() is not threading.main_thread():
            self.reading.set()
            assert self.go_on.wait(30)
            self.reading.clear()
        return self.source.draw(rng, batch)


def test_whoever_discards_has_the_source_alone() -> None:
    slow = Slow(store((OWN, 60)))
    ahead = Prefetch(slow, 0, 4)
    ahead.batch(0)
    assert slow.reading.wait(30)
    threading.Timer(0.05, slow.go_on.set).start()
    ahead.discard()
    assert not slow.reading.is_set()
    ahead.close()


def test_what_goes_wrong_ahead_is_said_when_it_is_asked_for() -> None:
    empty = store()
    ahead = Prefetch(empty, 0, 4)
    with pytest.raises(CadenzaError, match="no row"):
        ahead.batch(0)
    empty.append(made_rows(0, 9, CONFIG, calm=True))
    ahead.batch(0)
    ahead.discard()
    empty.truncate(0)
    ahead._made = (7, ahead._thread.submit(ahead._draw, 7))  # type: ignore[union-attr]
    with pytest.raises(CadenzaError, match="no row"):
        ahead.batch(7)
    ahead.discard()
    ahead.close()

"""Stores against a loop that says the same in the slowest, clearest way; disk against memory; what a crash leaves."""

from __future__ import annotations

import errno
import json
import os
from collections.abc import Iterator
from dataclasses import fields
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from made_rows import made_rows, replay_config

from learning.network.config import ActorConfig
from learning.replay.batch import Batch, History
from learning.replay.columns import Memory
from learning.replay.layout import columns_of, reach, row_bytes
from learning.replay.rows import Rows
from learning.replay.store import Store
from spec.action import ActionSpace
from spec.errors import CadenzaError, MisfitError, SpecError
from spec.manifest import ImageInput

ON_DISK = settings(deadline=None, max_examples=25, suppress_health_check=[HealthCheck.function_scoped_fixture])


@pytest.fixture(autouse=True, scope="module")
def no_waiting_for_the_disk() -> Iterator[None]:
    """A power cut is played by scribbling over what was not synced; no test gains from a slow disk."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(os, "fsync", lambda _: None)
        patch.setattr(os, "fdatasync", lambda _: None)
        yield


def plain_slot(rows: Rows, at: int, wanted: int, step_ns: int) -> int | None:
    """The row that stands in a slot of a history: the nearest that is not newer, half a step away at most."""
    row = min(range(at + 1), key=lambda k: (abs(int(rows.observed_ns[k]) - wanted), k))
    near = 2 * abs(int(rows.observed_ns[row]) - wanted) < step_ns
    return row if near and rows.segment[row] == rows.segment[at] else None


def check_history(found: History, number: int, rows: Rows, at: int, config: ActorConfig) -> None:
    step_ns = round(config.obs_step_s * 1e9)
    for slot in range(config.obs_history_length):
        ago = config.obs_history_length - 1 - slot
        row = at if not ago else plain_slot(rows, at, int(rows.observed_ns[at]) - ago * step_ns, step_ns)
        assert bool(found.mask[number, slot]) == (row is not None)
        state = np.zeros_like(rows.state[0]) if row is None else rows.state[row]
        assert np.array_equal(found.state[number, slot].numpy(), state)
        for name, images in rows.images.items():
            image = np.zeros_like(images[0]) if row is None else images[row]
            assert np.array_equal(found.images[name][number, slot].numpy(), image)


def check_window(batch: Batch, number: int, rows: Rows, at: int, config: ActorConfig, h: int) -> None:
    """Window ``number`` of a batch is the one that begins at row ``at`` of an episode."""
    covered = [at]
    while len(covered) < h and not rows.breaks[covered[-1]] and not rows.terminated[covered[-1]]:
        if not rows.acted[covered[-1] + 1]:
            break
        covered.append(covered[-1] + 1)
    last = covered[-1]
    check_history(batch.now, number, rows, at, config)
    check_history(batch.later, number, rows, last + 1, config)
    assert int(batch.length[number]) == len(covered)
    assert bool(batch.bootstrap[number]) == (not rows.terminated[last])
    standing = rows.action[last] if config.action_space is ActionSpace.JOINT_POSITION else 0.0 * rows.action[last]
    for k in range(h):
        real = k < len(covered)
        assert np.array_equal(batch.actions[number, k].numpy(), rows.action[at + k] if real else standing)
        assert float(batch.rewards[number, k]) == (float(rows.reward[at + k]) if real else 0.0)
    shown = at
    for k in range(config.act_chunk_size):
        shown_here = shown == at + k and rows.acted[shown] and rows.expert[shown]
        planned = rows.plan is not None and rows.expert[at] and np.isfinite(rows.plan[at, k]).all()
        assert bool(batch.expert_mask[number, k]) == (planned or shown_here)
        right = rows.plan[at, k] if planned else rows.action[shown] if shown_here else 0.0 * rows.action[0]
        assert np.array_equal(batch.expert[number, k].numpy(), right)
        if shown_here and not rows.breaks[shown] and not rows.terminated[shown]:
            shown += 1


def every_window(store: Store, episodes: list[Rows], step: int = 1) -> None:
    """All windows of a store are right, and there are no others. Looks at each ``step``-th, the oldest included."""
    at = [(episode, row) for episode in episodes for row in range(len(episode))][store.tail :]
    begins = [store.tail + k for k, (episode, row) in enumerate(at) if episode.acted[row]]
    assert len(store) == len(begins)
    assert len(store.examples) == sum(bool(episode.expert[row]) for episode, row in at)
    if not begins:
        return
    begins = begins[::step]
    batch = store.windows(np.array(begins))
    for number, begin in enumerate(begins):
        episode, row = at[begin - store.tail]
        check_window(batch, number, episode, row, store.config, store.h)


def assert_same(a: Batch, b: Batch) -> None:
    for field in fields(Batch):
        one, other = getattr(a, field.name), getattr(b, field.name)
        if not isinstance(one, History):
            assert torch.equal(one, other), field.name
            continue
        assert torch.equal(one.state, other.state)
        assert torch.equal(one.mask, other.mask)
        assert all(torch.equal(image, other.images[name]) for name, image in one.images.items())


@st.composite
def episode_lists(draw: st.DrawFn, config: ActorConfig, at_most: int = 7) -> list[Rows]:
    sizes = draw(st.lists(st.integers(1, 14), min_size=1, max_size=at_most))
    seed = draw(st.integers(0, 2**32))
    return [made_rows(seed + k, size, config, planned=(seed + k) % 3 == 0) for k, size in enumerate(sizes)]


SETTINGS = [
    replay_config(),
    replay_config(action_space=ActionSpace.JOINT_DELTA, obs_step_s=0.2, cameras={}),
    replay_config(obs_history_length=1),
]


@settings(deadline=None, max_examples=60)
@given(st.data())
def test_windows_equal_a_plain_loop(data: st.DataObject) -> None:
    config = data.draw(st.sampled_from(SETTINGS))
    episodes = data.draw(episode_lists(config))
    capacity = data.draw(st.integers(1, 60))
    store = Store.in_memory(config, data.draw(st.integers(1, 4)), capacity)
    for episode in episodes:
        store.append(episode)
    assert store.head == sum(map(len, episodes))
    every_window(store, episodes)


@ON_DISK
@given(st.data())
def test_the_disk_draws_what_memory_draws(tmp_path_factory: pytest.TempPathFactory, data: st.DataObject) -> None:
    config = data.draw(st.sampled_from(SETTINGS))
    disk = Store.on_disk(tmp_path_factory.mktemp("store"), config, 2, small(config))
    memory = Store(config, 2, Memory(columns_of(config), disk.capacity + reach(config) + 1), disk.capacity)
    for number, episode in enumerate(data.draw(episode_lists(config, 40))):
        if disk.slack < len(episode):
            disk.sync()
        for store in (disk, memory):
            store.append(episode)
        assert (len(disk), len(disk.examples)) == (len(memory), len(memory.examples))
        if len(disk):
            assert_same(*(store.draw(np.random.default_rng(number), 5) for store in (disk, memory)))


def small(config: ActorConfig) -> int:
    """Room for about 300 rows, in files of six."""
    return 64 * 6 * row_bytes(config)


class Crash:
    """A learner that saves now and then and is killed in between, and what its state would say."""

    def __init__(self, folder: Path, config: ActorConfig) -> None:
        self.folder, self.config = folder, config
        self.taken: list[Rows] = []
        self.saved = 0
        self.store = self._opened()

    def _opened(self) -> Store:
        return Store.on_disk(self.folder, self.config, 2, small(self.config))

    @property
    def saved_head(self) -> int:
        return sum(len(rows) for rows in self.taken[: self.saved])

    def take(self, rows: Rows) -> None:
        if self.store.slack < len(rows):
            self.save()
        self.store.append(rows)
        self.taken.append(rows)

    def save(self) -> None:
        self.store.sync()
        self.saved = len(self.taken)

    def die(self, while_saving: bool, scribble: bool) -> None:
        """Killed: the state is the one saved last, whether or not the store was already synced for the next."""
        if while_saving:
            self.store.sync()
        elif scribble:  # rows that were never synced may hold anything after a power cut
            self._scribble()
        self.store = self._opened()
        self.store.truncate(self.saved_head)
        del self.taken[self.saved :]

    def _scribble(self) -> None:
        """Bytes of rows from the saved head on are lost."""
        disk = self.store._columns
        for segment, file in list(disk._files.items()):  # type: ignore[attr-defined]
            first = max(0, self.saved_head - segment * disk._rows)  # type: ignore[attr-defined]
            for name, column in disk._columns.items():  # type: ignore[attr-defined]
                lost = (disk._rows - first) * column.row_bytes  # type: ignore[attr-defined]
                if lost > 0:
                    os.pwrite(file, b"\xab" * lost, disk._offsets[name] + first * column.row_bytes)  # type: ignore[attr-defined]


@pytest.mark.parametrize("seed", range(6))
def test_a_kill_loses_nothing_that_a_state_counts_on(tmp_path: Path, seed: int) -> None:
    config, rng = SETTINGS[1], np.random.default_rng(seed)
    learner = Crash(tmp_path, config)
    deaths = 0
    while learner.saved_head < 2 * learner.store.capacity or deaths < 3:
        if (luck := rng.random()) < 0.8:
            number = int(rng.integers(2**32))
            learner.take(made_rows(number, int(rng.integers(1, 36)), config, planned=number % 2 == 0))
        elif luck < 0.9:
            learner.save()
        else:
            learner.die(while_saving=luck < 0.95, scribble=luck > 0.98)
            every_window(learner.store, learner.taken, 7)
            deaths += 1
    every_window(learner.store, learner.taken, 7)


def test_the_disk_it_takes_stays_within_its_bound(tmp_path: Path) -> None:
    config = SETTINGS[0]
    store = Store.on_disk(tmp_path, config, 2, small(config))
    most = 0
    for number in range(80):
        rows = made_rows(number, 36, config)
        if store.slack < 36:
            store.sync()
        store.append(rows)
        most = max(most, sum(path.stat().st_size for path in tmp_path.glob("*.rows")))
    assert store.head > 3 * store.capacity
    assert 0.5 * small(config) < most <= small(config)


def test_a_full_disk_is_one_line_and_leaves_the_store_as_it_was(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = SETTINGS[0]
    store = Store.on_disk(tmp_path, config, 2, small(config))
    kept = [made_rows(k, 10, config) for k in range(2)]
    for rows in kept:
        store.append(rows)
    pwrite, calls = os.pwrite, iter(range(100))

    def full(file: int, content: Any, offset: int) -> int:
        if next(calls) == 3:
            raise OSError(errno.ENOSPC, "No space left on device")
        return pwrite(file, content[: len(content) // 2 + 1], offset)

    with monkeypatch.context() as patch:
        patch.setattr(os, "pwrite", full)
        with pytest.raises(CadenzaError, match="the disk is full") as error:
            store.append(made_rows(9, 12, config))
    assert "\n" not in str(error.value)
    every_window(store, kept)
    store.append(made_rows(10, 12, config))
    every_window(store, [*kept, made_rows(10, 12, config)])


def test_a_disk_that_is_full_at_a_save_forgets_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A save that failed must not count as one: the state before it is still what a restart goes on from."""
    learner = Crash(tmp_path, SETTINGS[0])
    for number in range(30):
        learner.take(made_rows(number, 20, learner.config))
    learner.save()
    learner.take(made_rows(30, 30, learner.config))

    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    for where in ("os.fdatasync", "learning.replay.disk.write_atomically"):
        with monkeypatch.context() as patch:
            patch.setattr(where, full)
            with pytest.raises(CadenzaError, match="the disk is full"):
                learner.store.sync()
    every_window(learner.store, learner.taken, 7)
    learner.die(while_saving=True, scribble=False)
    every_window(learner.store, learner.taken, 7)
    assert len(learner.taken) == 30


def test_more_rows_than_fit_between_two_saves_are_refused(tmp_path: Path) -> None:
    config = SETTINGS[0]
    store = Store.on_disk(tmp_path, config, 2, small(config))
    rows = made_rows(0, store.slack + 1, config)
    with pytest.raises(CadenzaError, match=f"room for {store.slack} before the next save"):
        store.append(rows)
    assert store.head == len(store) == 0


def test_another_actors_store_is_refused(tmp_path: Path) -> None:
    config = SETTINGS[0]
    Store.on_disk(tmp_path, config, 2, small(config)).sync()
    Store.on_disk(tmp_path, config.model_copy(update={"latent_dim": 7}), 3, small(config))
    with pytest.raises(MisfitError, match=r"observation is .* choose another folder"):
        Store.on_disk(tmp_path, config.model_copy(update={"obs_history_length": 2}), 2, small(config))
    with pytest.raises(MisfitError, match="joints is"):
        Store.on_disk(tmp_path, config.model_copy(update={"joints": ("a", "c")}), 2, small(config))
    with pytest.raises(MisfitError, match="segment_rows is"):
        Store.on_disk(tmp_path, config, 2, 2 * small(config))


def test_a_damaged_store_is_refused(tmp_path: Path) -> None:
    config = SETTINGS[0]
    store = Store.on_disk(tmp_path, config, 2, small(config))
    store.append(made_rows(0, 36, config, calm=True))
    store.sync()
    with pytest.raises(CadenzaError, match="cannot go back to row 37 of 36"):
        store.truncate(37)
    content = (tmp_path / "00000000.rows").read_bytes()
    (tmp_path / "00000000.rows").write_bytes(content[:100])
    with pytest.raises(SpecError, match=r"cut short.*remove .*fills it again"):
        Store.on_disk(tmp_path, config, 2, small(config))
    (tmp_path / "00000000.rows").unlink()
    with pytest.raises(SpecError, match=r"missing.*remove"):
        Store.on_disk(tmp_path, config, 2, small(config))
    (tmp_path / "head.json").write_text(json.dumps({"head": "many"}))
    with pytest.raises(SpecError, match="how many rows"):
        Store.on_disk(tmp_path, config, 2, small(config))
    (tmp_path / "store.json").write_text("[]")
    with pytest.raises(SpecError, match=r"not a store's.*remove"):
        Store.on_disk(tmp_path, config, 2, small(config))
    (tmp_path / "store.json").unlink()
    with pytest.raises(SpecError, match="without their header"):
        Store.on_disk(tmp_path, config, 2, small(config))


def test_a_store_that_could_hold_nothing_is_refused(tmp_path: Path) -> None:
    with pytest.raises(SpecError, match="too few bytes") as error:
        Store.on_disk(tmp_path, SETTINGS[0], 2, 1000)
    enough = int(str(error.value).split("give it ")[1].split()[0])
    assert Store.on_disk(tmp_path / "enough", SETTINGS[0], 2, enough).capacity > 0
    with pytest.raises(SpecError, match="must be 1 to 4"):
        Store.in_memory(SETTINGS[0], 5, 10)
    with pytest.raises(CadenzaError, match="no row that a window could begin at"):
        Store.in_memory(SETTINGS[0], 2, 10).draw(np.random.default_rng(0), 1)


@pytest.mark.parametrize("capacity", [20, 60])
def test_memory_goes_back_only_to_what_it_still_holds(capacity: int) -> None:
    """A ring that had gone on since used to give windows of later rows for earlier ones."""
    store = Store.in_memory(SETTINGS[1], 2, capacity)
    episodes = [made_rows(k, 12, SETTINGS[1]) for k in range(6)]
    for rows in episodes[:4]:
        store.append(rows)
    store.append(episodes[4])
    if capacity == 20:
        with pytest.raises(CadenzaError, match="cannot go back to row 48 of 60"):
            store.truncate(48)
        every_window(store, episodes[:5])
        return
    store.truncate(48)
    every_window(store, episodes[:4])
    store.append(episodes[5])
    every_window(store, [*episodes[:4], episodes[5]])


def test_rows_of_another_actor_are_refused_and_change_nothing() -> None:
    config = SETTINGS[0]
    store = Store.in_memory(config, 2, 100)
    others = {
        "state": config.model_copy(update={"state": ("position", "velocity")}),
        "camera front": config.model_copy(update={"cameras": {"top": ImageInput(height=4, width=6)}}),
        "camera top": config.model_copy(
            update={"cameras": {**config.cameras, "top": ImageInput(height=6, width=4)}},
        ),
        "plan": config.model_copy(update={"act_chunk_size": 9}),
    }
    for what, other in others.items():
        with pytest.raises(MisfitError, match=what):
            store.append(made_rows(0, 10, other, planned=True))
    assert store.head == 0


def test_every_row_is_as_likely_as_any_other() -> None:
    config = SETTINGS[1]
    store = Store.in_memory(config, 2, 40)
    episodes = [made_rows(k, 13, config) for k in range(5)]
    for rows in episodes:
        store.append(rows)
    at = [(rows, k) for rows in episodes for k in range(len(rows))][store.tail :]
    wanted = sorted(float(rows.reward[k]) for rows, k in at if rows.acted[k])
    drawn = store.draw(np.random.default_rng(0), 20_000).rewards[:, 0].numpy()
    values, counts = np.unique(drawn, return_counts=True)
    assert np.array_equal(values, np.array(wanted, dtype=np.float32))
    assert counts.min() > 0.8 * 20_000 / len(wanted)
    examples = store.examples.draw(np.random.default_rng(1), 2000)
    assert bool(examples.expert_mask[:, 0].all())

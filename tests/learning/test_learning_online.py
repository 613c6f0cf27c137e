"""The learner that goes on while the robot works: what it takes in, when it learns, and what is left after a crash."""

from __future__ import annotations

import errno
import os
import shutil
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

import spec.files
from benchmarks.stand_ins.learner import Shelf, small_actor, write_episode
from learning.checkpoint import load_checkpoint, read_tensors
from learning.network.actor import SequenceActor
from learning.online import intake as intake_module
from learning.online.curves import plot_curves
from learning.online.intake import Intake
from learning.online.journal import JOURNAL_FILE, Journal, read_journal
from learning.online.learner import CHECKPOINT, STORE, Did, Learner, Plan
from learning.online.lock import only_learner
from learning.online.metrics import Metrics, read_metrics
from learning.online.state import STATE_FILE, read_counters
from learning.online.watch import Watch
from learning.replay.batch import Batch
from learning.replay.cut import Source
from learning.replay.mix import Mixed
from learning.replay.store import Store
from spec.errors import CadenzaError, MisfitError, SpecError

ROWS = 11
"""With an action, of each episode."""


class CountingAgent:
    """Its state is a hash of all batches in order; it is no faster than it must be to be killed between two of them."""

    def __init__(self) -> None:
        self.actor: SequenceActor = small_actor()
        self.averaged: SequenceActor = small_actor()
        self.sum = torch.zeros(1, dtype=torch.float64)

    def update(self, batch: Batch, step: int) -> dict[str, float]:
        seen = batch.actions.sum(dtype=torch.float64) + batch.now.state.sum(dtype=torch.float64)
        self.sum = self.sum * 0.9 + seen + step
        self._fill()
        return {"q": float(self.sum), "skipped": 0.0}

    def tensors(self) -> dict[str, Tensor]:
        return {"sum": self.sum}

    def restore(self, tensors: dict[str, Tensor]) -> None:
        self.sum = tensors["sum"].clone()
        self._fill()

    def _fill(self) -> None:
        with torch.no_grad():
            self.actor.mean_head.bias.fill_(-1.0)
            self.averaged.mean_head.bias.fill_(float(self.sum) % 1.0)


class Place:
    """Folders of one run."""

    def __init__(self, root: Path, episodes: Path) -> None:
        self.run, self.watched, self.shown = root / "run", root / "watched", root / "shown"
        self._episodes = episodes
        for folder in (self.run, self.watched, self.shown):
            folder.mkdir(parents=True)
        self.told: list[dict[str, Any]] = []

    def come(self, *numbers: int, demonstrations: bool = False) -> None:
        for number in numbers:
            to = self.shown if demonstrations else self.watched
            shutil.copy2(self._episodes / f"{number:03d}.mcap", to / f"{number:03d}.mcap")

    def learner(self, agent: Any = None, shelf: Any = None, store_bytes: int = 3_000_000, **plan: Any) -> Learner:
        agent = CountingAgent() if agent is None else agent
        config = agent.actor.config
        stores = {source: Store.on_disk(self.run / STORE / source, config, 2, store_bytes) for source in Source}
        settings: dict[str, Any] = {"utd": 1.0, "batch": 4, "seed": 0, "save_every": 4, "export_every": 9, **plan}
        return Learner(
            self.run,
            agent,
            Plan(**settings),
            stores,
            Mixed(stores[Source.DEMONSTRATION], stores[Source.ONLINE]),
            Intake(config),
            lambda journal: Watch({self.shown: Source.DEMONSTRATION, self.watched: Source.ONLINE}, journal.entries),
            Shelf(self.run / "shelf") if shelf is None else shelf,
            Metrics(self.run, every=5),
            self.told.append,
        )

    def heard(self, event: str) -> list[dict[str, Any]]:
        return [told for told in self.told if told["event"] == event]


@pytest.fixture(scope="module")
def episodes(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("episodes")
    for number in range(4):
        write_episode(folder / f"{number:03d}.mcap", number)
    return folder


@pytest.fixture
def place(tmp_path: Path, episodes: Path) -> Place:
    return Place(tmp_path, episodes)


def work(learner: Learner, until: int = 10_000) -> Learner:
    """Turn until there is nothing to do, or so many updates are made."""
    while learner.counters.update < until and learner.turn() is not Did.NOTHING:
        pass
    return learner


def test_every_episode_is_taken_in_once_and_paid_with_updates(place: Place) -> None:
    place.come(3, demonstrations=True)
    place.come(0, 1)
    learner = work(place.learner(offline_updates=5))
    assert learner.counters.update == learner.budget == 2 * ROWS + 5
    assert learner.counters.online_rows == 2 * ROWS
    place.come(0)  # the same once more, only newer
    (place.watched / "sub").mkdir()
    shutil.copy(place.watched / "001.mcap", place.watched / "sub" / "copied.mcap")
    assert work(learner).counters.update == learner.budget == 2 * ROWS + 5
    place.come(2)
    assert work(learner).counters.update == 3 * ROWS + 5
    learner.finish()
    learner.close()
    facts = [entry.facts for entry in learner.journal.entries if entry.source is Source.ONLINE]
    assert [f.outcome for f in facts if f] == ["fail", "success", "success"]
    assert [f.reward for f in facts if f] == [0.0, 1.0, 1.0]
    assert facts[1] is not None
    assert 0.4 < facts[1].intervention < 0.6
    again = place.learner(offline_updates=5)
    assert work(again).counters == learner.counters
    again.close()


def test_what_cannot_be_used_is_named_counted_and_left_alone(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    place.come(0)
    whole = (place.watched / "000.mcap").read_bytes()
    for name, content in {"a.mcap": b"no episode", "b.mcap": whole[:5000], "c.mcap.part": whole}.items():
        (place.watched / name).write_bytes(content)
    (place.watched / "discarded").mkdir()
    shutil.copy(place.watched / "000.mcap", place.watched / "discarded" / "d.mcap")
    learner = work(place.learner())
    assert [Path(told["path"]).name for told in place.heard("refused")] == ["a.mcap"]  # b may still be on its way
    monkeypatch.setattr(intake_module, "_SETTLED_S", 0.0)
    learner._watch._next_s = 0.0
    work(learner)
    assert [Path(told["path"]).name for told in place.heard("refused")] == ["a.mcap", "b.mcap"]
    assert all("\n" not in told["refused"] for told in place.heard("refused"))
    assert "cadenza episodes recover" in place.heard("refused")[1]["refused"]
    # What came whole after all is taken; what changed after it was taken is not taken twice.
    write_episode(place.watched / "new.mcap", 2).replace(place.watched / "b.mcap")
    (place.watched / "000.mcap").write_bytes(write_episode(place.run / "other.mcap", 3).read_bytes())
    learner._watch._next_s = 0.0
    work(learner)
    assert (learner.tally.episodes, learner.tally.refused) == (2, 3)
    assert "changed after it was taken in" in place.heard("refused")[2]["refused"]
    assert learner.counters.update == 2 * ROWS
    learner.close()


def test_what_cannot_be_read_is_said_once_and_taken_when_it_can(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    place.come(0)
    with monkeypatch.context() as disk:

        def fails(_: Path) -> str:
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))

        disk.setattr(intake_module, "sha256_of", fails)
        learner = place.learner()
        for _ in range(3):
            assert learner.turn() is Did.NOTHING
        (told,) = place.heard("unreadable")
        assert "000.mcap: Permission denied" in told["reason"]
        assert learner.tally.refused == 1
    learner._watch._next_s = 0.0
    assert work(learner).counters.update == ROWS
    assert (learner.tally.episodes, learner.tally.refused) == (1, 0)
    learner.close()


def test_a_copy_is_named_and_not_taken_in_twice(place: Place) -> None:
    place.come(0, demonstrations=True)
    place.come(0)
    learner = work(place.learner())
    learner.close()
    assert [Path(told["path"]) for told in place.heard("copy")] == [place.watched / "000.mcap"]
    assert str(place.shown / "000.mcap") in place.heard("copy")[0]["reason"]
    assert len(learner.journal.entries) == 1


class _Crash(BaseException):
    """As sudden as a kill, but the test lives on."""


@pytest.fixture(scope="module")
def crash_at() -> Iterator[Callable[[Path, int], None]]:
    """Raises before the n-th operation on a file of a folder; 0 for never."""
    armed: list[Any] = [None, 0]

    def watch(event: str, arguments: tuple[Any, ...]) -> None:
        if armed[1] and event in {"open", "os.rename", "os.truncate", "os.remove"}:
            path = str(arguments[0])
            if path.startswith(str(armed[0])):
                armed[1] -= 1
                if not armed[1]:
                    raise _Crash

    def arm(folder: Path, count: int) -> None:
        armed[:] = [folder, count]

    sys.addaudithook(watch)
    yield arm
    arm(Path(), 0)


def _reference(place: Place, tmp_path: Path) -> Place:
    """The run that nobody disturbed, with the same journal."""
    other = Place(tmp_path / "undisturbed", place._episodes)
    shutil.copy(place.run / JOURNAL_FILE, other.run / JOURNAL_FILE)
    learner = work(other.learner())
    learner.finish()
    learner.close()
    return other


def test_a_crash_before_any_file_operation_changes_nothing(place: Place, tmp_path: Path, crash_at: Any) -> None:
    """One crash after the other, each a little later in its life than the one before, with episodes coming between."""
    place.come(3, demonstrations=True)
    crashes, coming, count, ended = 0, iter((0, 1, 2)), 1, False
    while not ended:
        learner = None
        crash_at(place.run, count)
        try:
            learner = place.learner()
            if crashes % 9 == 4 and (number := next(coming, None)) is not None:
                place.come(number)
            work(learner)
            learner.finish()
            ended = next(coming, None) is None and crashes > 40
        except _Crash:
            crashes += 1
        crash_at(place.run, 0)
        if learner is not None:
            learner.close()
        count = 1 + (count + 1) % 47
    assert crashes > 40
    other = _reference(place, tmp_path)
    assert read_counters(place.run / STATE_FILE) == read_counters(other.run / STATE_FILE)
    one, wanted = (read_tensors(run / STATE_FILE)["sum"] for run in (place.run, other.run))
    assert torch.equal(one, wanted)
    shelves = [
        {file.name: file.read_bytes() for file in (run / "shelf").glob("[!.]*")} for run in (place.run, other.run)
    ]
    assert shelves[0] == shelves[1]
    assert not list(place.run.glob(f".{STATE_FILE}*"))


def test_episodes_come_again_at_the_very_same_updates(place: Place, tmp_path: Path) -> None:
    """The third episode came after 13 updates, the last state is of 12: taken in at once, it would be in batch 12."""
    place.come(0, 1)
    learner = work(place.learner(export_every=100), until=13)
    place.come(2)
    learner._watch._next_s = 0.0
    work(learner, until=15)
    learner.close()
    assert [entry.update for entry in learner.journal.entries] == [0, 0, 13]
    assert read_counters(place.run / STATE_FILE).update == 12
    resumed = work(place.learner(export_every=100), until=22)
    resumed.finish()
    resumed.close()
    other = Place(tmp_path / "straight", place._episodes)
    other.come(0, 1)
    straight = work(other.learner(export_every=100), until=13)
    other.come(2)
    straight._watch._next_s = 0.0
    work(straight, until=22)
    assert torch.equal(resumed.agent.tensors()["sum"], straight.agent.tensors()["sum"])
    straight.close()


def test_a_full_disk_is_said_and_costs_nothing(place: Place, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    place.come(0, 1)
    learner = work(place.learner(), until=6)
    real = os.fsync

    def full(descriptor: int) -> None:
        if STATE_FILE in str(Path(f"/proc/self/fd/{descriptor}").readlink()):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        real(descriptor)

    monkeypatch.setattr(spec.files.os, "fsync", full)
    with pytest.raises(CadenzaError, match="No space left") as caught:
        work(learner)
    assert "\n" not in str(caught.value)
    monkeypatch.undo()

    learner.close()
    resumed = work(place.learner())
    resumed.finish()
    resumed.close()
    other = _reference(place, tmp_path)
    assert torch.equal(*(read_tensors(run / STATE_FILE)["sum"] for run in (place.run, other.run)))


def test_a_journal_is_cut_back_to_its_last_whole_line(place: Place) -> None:
    place.come(0, 1)
    work(place.learner(), until=5).close()
    path = place.run / JOURNAL_FILE
    lines = path.read_bytes().splitlines(keepends=True)
    path.write_bytes(b"".join(lines) + lines[0][:40])
    with Journal(path) as journal:
        assert len(journal) == 2
    assert path.read_bytes() == b"".join(lines)
    for damaged in (b"{}", b"{", b"\xff\x00", b"[" * 100_000, lines[0].strip()[:-1]):
        path.write_bytes(lines[0] + damaged + b"\n" + lines[1])
        with pytest.raises(SpecError) as refused:
            read_journal(path)
        said = str(refused.value)
        assert said.startswith(f"{path}: line 2: ")
        assert f"begin another run from the newest policy: --checkpoint {place.run / 'checkpoint'}" in said
        assert "\n" not in said
    path.write_bytes(b"")
    with pytest.raises(CadenzaError, match="memory of what was taken in"):
        place.learner()


def test_other_settings_are_refused_by_name(place: Place) -> None:
    place.come(0)
    work(place.learner(settings={"h": 2, "batch": 4})).close()
    with pytest.raises(MisfitError, match="batch is 8, was 4") as caught:
        place.learner(settings={"h": 2, "batch": 8})
    assert "--checkpoint" in str(caught.value)
    (place.run / STATE_FILE).write_bytes(b"nothing of ours")
    with pytest.raises(SpecError, match="not a safetensors file") as damaged:
        place.learner(settings={"h": 2, "batch": 4})
    assert f"remove {place.run / STATE_FILE}" in str(damaged.value)


def test_a_state_with_numbers_that_are_none_is_refused_and_can_be_removed(place: Place) -> None:
    place.come(0)
    learner = work(place.learner())
    whole = learner.agent.tensors()["sum"].clone()
    learner.agent.sum[:] = torch.nan  # type: ignore[attr-defined]
    learner.save()
    learner.close()
    with pytest.raises(SpecError, match="sum: 'not finite'") as refused:
        place.learner()
    assert f"remove {place.run / STATE_FILE}" in str(refused.value)
    (place.run / STATE_FILE).unlink()
    again = work(place.learner())
    assert torch.equal(again.agent.tensors()["sum"], whole)
    again.close()


def test_a_store_that_is_gone_is_filled_again(place: Place) -> None:
    place.come(3, demonstrations=True)
    place.come(0, 1)
    learner = work(place.learner(), until=12)
    learner.save()
    learner.close()
    shutil.rmtree(place.run / STORE)
    again = work(place.learner())
    again.close()
    shutil.rmtree(place.run)
    place.run.mkdir()
    straight = work(place.learner())
    straight.close()
    assert torch.equal(again.agent.tensors()["sum"], straight.agent.tensors()["sum"])


def test_an_episode_that_is_gone_after_a_crash_is_said(place: Place) -> None:
    place.come(0, 1)
    work(place.learner(), until=2).close()
    (place.watched / "001.mcap").unlink()
    learner = work(place.learner())
    assert learner.counters.online_rows == ROWS
    assert "lost" in place.heard("lost")[0]["reason"]
    learner.close()


def test_an_episode_that_is_gone_does_not_keep_later_ones_waiting(place: Place) -> None:
    """The next one came after updates that only its rows allowed: the learner used to wait for those for ever."""
    place.come(0)
    learner = work(place.learner(save_every=1000, export_every=1000, critic_warmup=1000))
    place.come(1)
    learner._watch._next_s = 0.0
    assert learner.turn() is Did.TOOK_IN
    learner.close()
    assert [entry.update for entry in learner.journal.entries] == [0, ROWS]
    (place.watched / "000.mcap").unlink()
    place.come(2)
    again = work(place.learner(save_every=1000, export_every=1000, critic_warmup=1000))
    again.close()
    assert len(place.heard("lost")) == 1
    assert again.counters.update == again.counters.online_rows == 2 * ROWS


class _NoGood:
    """A shelf on which nothing is fit to be driven."""

    def newest(self) -> int:
        return 0

    def publish(self, checkpoint: Path) -> Path:
        raise CadenzaError(f"{checkpoint}: differs from its graphs")


def test_weights_unfit_to_be_driven_are_said_and_learning_goes_on(place: Place) -> None:
    place.come(0, 1)
    learner = work(place.learner(shelf=_NoGood()))
    assert learner.counters.update == 2 * ROWS
    assert len(place.heard("not_offered")) >= 2
    assert not place.heard("weights")
    learner.close()


def test_weights_come_when_an_episode_has_been_learned_from(place: Place) -> None:
    """A learner that is slower than the robot never makes all its updates; its robot must hear of it nevertheless."""
    place.come(0, 1)
    learner = work(place.learner(export_every=1000))
    assert [told["update"] for told in place.heard("weights")] == [ROWS, 2 * ROWS]
    place.come(2)
    learner._watch._next_s = 0.0
    assert learner.turn() is Did.TOOK_IN
    place.come(3)
    work(learner, until=2 * ROWS + 3)
    learner._watch._next_s = 0.0
    work(learner)
    assert [told["update"] for told in place.heard("weights")] == [ROWS, 2 * ROWS, 3 * ROWS, 4 * ROWS]
    assert [told["weights"] for told in place.heard("weights")] == [1, 2, 3, 4]
    # What drives is the average of the actor; at first it was the actor itself.
    offered, _ = load_checkpoint(place.run / CHECKPOINT)
    assert torch.equal(offered.mean_head.bias, learner.agent.averaged.mean_head.bias)
    learner.close()


def test_an_episode_too_long_for_the_store_is_refused(place: Place, tmp_path: Path) -> None:
    """It used to be in the journal before the store said no: the run ended there each time that it was resumed."""
    place.come(0)
    write_episode(place.watched / "long.mcap", 1, steps=60)
    learner = work(place.learner(store_bytes=500_000))
    learner.finish()
    learner.close()
    assert "more --disk-gb" in place.heard("refused")[0]["refused"]
    assert (learner.tally.episodes, learner.counters.update) == (1, ROWS)
    resumed = work(place.learner(store_bytes=500_000))
    assert resumed.counters == learner.counters
    resumed.close()


def test_metrics_of_updates_that_are_made_again_are_there_once(place: Place) -> None:
    place.come(0, 1)
    work(place.learner(), until=15).close()
    with (place.run / "metrics.jsonl").open("ab") as file:
        file.write(b'5\n\xff\xfe\n{"update": "x"}\n[5]\n{"q": 1}\n{"update": 2')
    learner = work(place.learner())
    learner.finish()
    learner.close()
    assert [line["update"] for line in read_metrics(place.run)] == [5, 10, 15, 20]
    plot_curves(place.run, place.run / "curves.png")
    assert (place.run / "curves.png").stat().st_size > 10_000


class _FullBoard:
    """TensorBoard on a full disk; when it was closed it hid what the run had ended with."""

    def resume(self, update: int) -> None: ...

    def show(self, update: int, numbers: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    def flush(self) -> None:
        self.show(0, {})

    def close(self) -> None:
        self.show(0, {})


def test_numbers_that_cannot_be_written_are_said_once_and_learning_goes_on(place: Place) -> None:
    place.come(0)
    (place.run / "metrics.jsonl").mkdir()
    learner = place.learner()
    learner.metrics = Metrics(place.run, _FullBoard(), 5, place.told.append)
    work(learner).finish()
    learner.close()
    assert learner.counters.update == ROWS
    (said,) = place.heard("not_shown")
    assert said["reason"].endswith("; learning goes on without it")


def test_one_learner_for_one_folder(tmp_path: Path) -> None:
    with only_learner(tmp_path), pytest.raises(CadenzaError, match="another learner"), only_learner(tmp_path):
        pass
    with only_learner(tmp_path):
        pass

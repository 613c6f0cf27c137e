"""The learner that goes on while the robot works: takes episodes in, updates, saves, and publishes weights.

Everything it does follows from its settings, its first weights and the journal: which episode came after how many
updates. So a run that was killed at any instant is taken up at its last state, is given the same episodes at the same
updates, and ends with the same bits as one that was not.
"""

from __future__ import annotations

import contextlib
import math
import time
from collections import deque
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from enum import Enum, auto
from pathlib import Path
from typing import Any, Protocol

from learning.checkpoint import CheckpointConfig, save_checkpoint
from learning.cloning.samples import COUNT, SAMPLES_FILE, write_samples
from learning.online.intake import Intake, Taken
from learning.online.journal import JOURNAL_FILE, Entry, Journal
from learning.online.metrics import Metrics
from learning.online.state import Counters, load_state, save_state
from learning.online.watch import Found, Watch
from learning.replay.cut import Source
from learning.replay.mix import Mixed
from learning.replay.prefetch import Prefetch
from learning.replay.rows import Rows
from learning.replay.store import Store
from learning.sac.agent import Agent
from spec.errors import CadenzaError

CHECKPOINT, BUNDLES, STORE = "checkpoint", "bundles", "store"


class Publisher(Protocol):
    """Makes a bundle of a checkpoint and offers it to robots."""

    def newest(self) -> int:
        """Weight version on offer; 0 for none."""

    def publish(self, checkpoint: Path) -> Path:
        """The bundle. Raises CadenzaError where the weights are not fit to be driven."""


@dataclass(frozen=True, slots=True)
class Plan:
    """When the learner does what. Counted in updates."""

    utd: float
    """Updates for each online row."""
    batch: int
    seed: int
    """Of the batches."""
    offline_updates: int = 0
    """Made without any online row."""
    critic_warmup: int = 0
    """No weights are published before: they have not changed."""
    save_every: int = 500
    export_every: int = 500
    """Weights are also published once as many updates were made since an episode came as its rows allow."""
    first_weights: int = 0
    """Weight version begun with."""
    calibration: str | None = None
    """Hash of the calibration that the data was recorded under; None: any."""
    settings: Mapping[str, Any] = field(default_factory=dict)
    """Everything that must not change within a run, by name."""


@dataclass(slots=True)
class Tally:
    """Counts of the journal, for people."""

    episodes: int = 0
    """Online ones."""
    refused: int = 0
    demonstration_rows: int = 0

    def count(self, entry: Entry) -> None:
        """Add one line."""
        if entry.facts is None:
            self.refused += 1
        elif entry.source is Source.ONLINE:
            self.episodes += 1
        else:
            self.demonstration_rows += entry.facts.rows


class Did(Enum):
    """What one turn came to."""

    TOOK_IN = auto()
    UPDATED = auto()
    NOTHING = auto()
    """All updates are made, and no episode came."""


class Learner:
    """One run in ``folder``.

    Args:
        tell: hears of what happens, as JSON-able facts with a key ``event``.
        prepare: done once everything in the folder was found sound, and before anything is published: what takes long.
    """

    def __init__(
        self,
        folder: Path,
        agent: Agent,
        plan: Plan,
        stores: Mapping[Source, Store],
        source: Mixed,
        intake: Intake,
        watch: Callable[[Journal], Watch],
        publisher: Publisher,
        metrics: Metrics,
        tell: Callable[[dict[str, Any]], None] = lambda _: None,
        prepare: Callable[[], None] = lambda: None,
    ) -> None:
        self.folder, self.agent, self.plan, self.stores = folder, agent, plan, stores
        self.source, self._intake, self._publisher, self.metrics, self._tell = source, intake, publisher, metrics, tell
        self._batches = Prefetch(source, plan.seed, plan.batch)
        self.journal = Journal(folder / JOURNAL_FILE)
        self.counters = Counters(settings=dict(plan.settings), weights=plan.first_weights)
        self.tally = Tally()
        self._unreadable: set[Path] = set()
        try:
            with self._sound():
                self._resume()
                offered = self._publisher.newest()
                prepare()
                self._publish_again(offered)
        except BaseException:
            self.close()
            raise
        for entry in self.journal.entries[: self.counters.entries]:
            self.tally.count(entry)
        self._pending = deque(self.journal.entries[self.counters.entries :])
        self._watch = watch(self.journal)

    @property
    def budget(self) -> int:
        """Updates that the rows so far allow."""
        return int(self.plan.utd * self.counters.online_rows) + self.plan.offline_updates

    @property
    def _idle(self) -> bool:
        """No update can be made as things stand. Where episodes are lost the journal's next one may come later than
        their rows would have allowed: it is then taken in at once, or no turn would ever do anything again."""
        return self.counters.update >= self.budget or not len(self.source)

    def turn(self) -> Did:
        """Take in what came, or make one update.

        Raises:
            CadenzaError: the disk is full or fails, or learning does. What is in the folder is sound: the last state,
                and the journal.
        """
        with self._sound():
            if self._take_in():
                return Did.TOOK_IN
            if self._idle:
                return Did.NOTHING
            self._update()
            return Did.UPDATED

    def finish(self) -> None:
        """Save, and publish what was learned since the last time. Raises CadenzaError as :meth:`turn` does."""
        with self._sound():
            if self._export_due(at_the_end=True):
                self._export()
            else:
                self._save()

    def save(self) -> None:
        """Write the state; everything before it is then safe. Raises CadenzaError as :meth:`turn` does."""
        with self._sound():
            self._save()

    def _save(self) -> None:
        for store in self.stores.values():
            store.sync()
        heads = {source: store.head for source, store in self.stores.items()}
        self.counters = self.counters.model_copy(update={"heads": heads})
        save_state(self.folder, self.agent.tensors(), self.counters)
        self.metrics.flush()

    def close(self) -> None:
        """End the thread that makes batches, and close the files."""
        self._batches.close()
        self.journal.close()
        self.metrics.close()

    @contextlib.contextmanager
    def _sound(self) -> Iterator[None]:
        """Failures of the file system in one line."""
        try:
            yield
        except OSError as error:
            where = f": {error.filename}" if error.filename else ""
            raise CadenzaError(
                f"{self.folder}: {error.strerror}{where}; what is saved is sound, run the same command again"
            ) from None

    def _resume(self) -> None:
        """Take up the newest state, and roll the stores back to it."""
        if (state := load_state(self.folder, self.plan.settings)) is not None:
            tensors, self.counters = state
            self.agent.restore(tensors)
        if len(self.journal) < self.counters.entries:
            raise CadenzaError(
                f"{self.journal.path}: has {len(self.journal)} lines, the state beside it saw {self.counters.entries}; "
                f"it was shortened or removed, and with it the memory of what was taken in; choose another --out"
            )
        for source, store in self.stores.items():
            self._roll_back(source, store)
        self.metrics.resume(self.counters.update)

    def _publish_again(self, offered: int) -> None:
        """What the state did not come to publish."""
        saw = self.counters
        if saw.update and saw.update == saw.exported_at and offered < saw.weights:
            self._publish()

    def _roll_back(self, source: Source, store: Store) -> None:
        """To where the state saw it; a store that is behind, or gone, is filled again from the episodes."""
        head = self.counters.heads.get(source, 0)
        if store.head >= head:
            store.truncate(head)
            return
        store.truncate(0)
        for entry in self.journal.entries[: self.counters.entries]:
            if entry.source is source and not entry.refused:
                rows = self._intake.again(entry)
                if store.slack < len(rows):
                    store.sync()
                store.append(rows)
        if store.head != head:
            raise CadenzaError(
                f"{self.folder}: the episodes of {source} are not what they were: {store.head} rows, not {head}"
            )

    def _take_in(self) -> bool:
        """Take in the next episodes: first those that the journal says came now. False where there are none."""
        came = False
        if self._pending:
            while self._pending and (self._pending[0].update <= self.counters.update or self._idle):
                self._again(self._pending.popleft())
                came = True
            return came
        for found in self._watch.look(at_once=self.counters.update >= self.budget):
            taken = self._look_into(found)
            if taken is None:
                continue
            self._watch.settle(found)
            if taken.same_as is not None:
                reason = f"{found.path}: a copy of {taken.same_as.path}, which was taken in"
                self._tell({"event": "copy", "path": str(found.path), "reason": reason})
            if taken.entry is not None:
                entry, rows = self._make_room(taken.entry, taken.rows)
                self.journal.append(entry)
                self._append(entry, rows)
                came = True
        return came

    def _look_into(self, found: Found) -> Taken | None:
        """What came of a file. One that cannot be read is counted and told of once, and looked at again: its disk may
        come back, or its owner change the mode."""
        try:
            taken = self._intake.take(found, self.counters.update, self.journal.taken)
        except OSError as error:
            if found.path not in self._unreadable:
                self._unreadable.add(found.path)
                self.tally.refused += 1
                reason = f"{found.path}: {error.strerror or error}; taken in once it can be read"
                self._tell({"event": "unreadable", "path": str(found.path), "reason": reason})
            return None
        if found.path in self._unreadable:
            self._unreadable.remove(found.path)
            self.tally.refused -= 1
        return taken

    def _again(self, entry: Entry) -> None:
        """Take in an episode that the journal knows and the state does not."""
        rows = None
        if not entry.refused:
            try:
                rows = self._intake.again(entry)
            except CadenzaError as error:
                self._tell({"event": "lost", "path": entry.path, "reason": str(error)})
        self._append(*self._make_room(entry, rows))

    def _make_room(self, entry: Entry, rows: Rows | None) -> tuple[Entry, Rows | None]:
        """A store can be rolled back only so far: save before that is exceeded. What does not fit even then is refused
        before the journal has it, or no later start would get past it."""
        if rows is None:
            return entry, None
        store = self.stores[entry.source]
        if len(rows) > store.slack:
            self._save()
        if len(rows) <= store.slack:
            return entry, rows
        why = f"{len(rows)} rows at once, and the store takes {store.slack}; begin a run with more --disk-gb"
        return entry.model_copy(update={"facts": None, "refused": f"{entry.path}: {why}"}), None

    def _append(self, entry: Entry, rows: Rows | None) -> None:
        online = 0
        if rows is not None:
            self._batches.discard()
            self.stores[entry.source].append(rows)
            online = int(rows.acted.sum()) if entry.source is Source.ONLINE else 0
        counters = self.counters
        owed = counters.owed + math.ceil(self.plan.utd * online)
        counted = {"entries": counters.entries + 1, "online_rows": counters.online_rows + online, "owed": owed}
        self.counters = counters.model_copy(update=counted)
        self._set_due()
        self.metrics.episode(entry)
        self.tally.count(entry)
        self._tell({"event": "refused" if entry.refused else "episode", **entry.model_dump(mode="json")})

    def _update(self) -> None:
        counters = self.counters
        begun_s = time.monotonic()
        measured = self.agent.update(self._batches.batch(counters.update), counters.update)
        skipped = counters.skipped + int(measured.get("skipped", 0.0))
        self.counters = counters.model_copy(update={"update": counters.update + 1, "skipped": skipped})
        self.metrics.update(self.counters.update, measured, time.monotonic() - begun_s)
        if self._export_due():
            self._export()
        elif self.counters.update % self.plan.save_every == 0:
            self._save()

    def _export_due(self, at_the_end: bool = False) -> bool:
        """Depends on the updates and on the rows they were made for alone, so that a resumed run publishes the same
        weights under the same versions."""
        counters = self.counters
        made = counters.update - counters.exported_at
        if not made or counters.update <= self.plan.critic_warmup:
            return False
        if at_the_end or made >= self.plan.export_every:
            return True
        return counters.update == counters.due_at or counters.update >= self.budget

    def _set_due(self) -> None:
        counters = self.counters
        if counters.due_at <= counters.update:
            due_at = counters.update + counters.owed if counters.owed else 0
            self.counters = counters.model_copy(update={"due_at": due_at, "owed": 0})

    def _export(self) -> None:
        counters = self.counters
        due = {"weights": counters.weights + 1, "exported_at": counters.update}
        self.counters = counters.model_copy(update=due)
        self._set_due()
        self._save()
        self._publish()

    def _publish(self) -> None:
        """Write the checkpoint, and have a bundle made of it. What is not fit to be driven is said, and not offered."""
        checkpoint, actor, weights = self.folder / CHECKPOINT, self.agent.averaged, self.counters.weights
        training = {"update": self.counters.update, "settings": dict(self.plan.settings)}
        write_samples(checkpoint / SAMPLES_FILE, self._batches.batch(self.counters.update - 1).now, COUNT)
        save_checkpoint(
            checkpoint,
            actor,
            CheckpointConfig(actor=actor.config, weights=weights, calibration=self.plan.calibration, training=training),
        )
        facts: dict[str, Any] = {"weights": weights, "update": self.counters.update}
        try:
            bundle = self._publisher.publish(checkpoint)
        except CadenzaError as error:
            self._tell({"event": "not_offered", **facts, "reason": str(error)})
        else:
            self._tell({"event": "weights", **facts, "bundle": str(bundle)})

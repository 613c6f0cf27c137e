"""Rows of many episodes, the newest ``capacity`` of them, and windows drawn from them.

The same class draws from memory and from disk; a batch depends on the generator and on what is stored alone.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, Self

import numpy as np
import numpy.typing as npt
import torch

from learning.network.config import ActorConfig
from learning.replay.batch import Batch, History
from learning.replay.columns import Columns, Memory
from learning.replay.disk import Disk
from learning.replay.layout import FACTS, IMAGE, NO_FRAME, PLAN, STATE, columns_of, encoded, reach
from learning.replay.rows import Rows
from learning.replay.stretches import Stretches
from spec.action import ActionSpace
from spec.arrays import Int
from spec.errors import CadenzaError, SpecError

_SCAN = 65_536
"""Rows looked at in one go when a store is opened."""


class Store:
    """A :class:`learning.replay.batch.Source` that rows can be added to.

    Args:
        config: of the actor.
        h: steps executed per chunk: the longest window.
        columns: where the rows lie.
        capacity: rows that windows may begin at; older ones are out of reach.
    """

    def __init__(self, config: ActorConfig, h: int, columns: Columns, capacity: int) -> None:
        if not 1 <= h <= config.act_chunk_size:
            raise SpecError("h", h, f"must be 1 to {config.act_chunk_size}, the length of a chunk")
        if capacity < 1:
            raise SpecError("capacity", capacity, "a store needs room for a row at least")
        self.config, self.h, self.capacity = config, h, capacity
        self._columns = columns
        self._open, self._shown = Stretches(), Stretches()
        self._index_all()

    @classmethod
    def in_memory(cls, config: ActorConfig, h: int, capacity: int) -> Self:
        """An empty store that forgets everything with the process."""
        return cls(config, h, Memory(columns_of(config), capacity + reach(config) + 1), capacity)

    @classmethod
    def on_disk(cls, folder: Path, config: ActorConfig, h: int, max_bytes: int) -> Self:
        """The store in ``folder``, as it was last synced; an empty one where there is none.

        Args:
            folder: of this store alone.
            config: of the actor.
            h: steps executed per chunk.
            max_bytes: what it may take on the disk.

        Raises:
            CadenzaError: another actor's, damaged, or not to be written.
        """
        columns = Disk(folder, config, max_bytes)
        return cls(config, h, columns, columns.capacity)

    @property
    def head(self) -> int:
        """Rows ever taken in."""
        return self._columns.head

    @property
    def slack(self) -> int:
        """Rows that may be appended before the next :meth:`sync`."""
        return self._columns.slack

    @property
    def tail(self) -> int:
        """The oldest row a window may begin at."""
        return max(0, self.head - self.capacity)

    def __len__(self) -> int:
        return len(Part(self, self._open))

    def append(self, rows: Rows) -> None:
        """Take in an episode, all of it or nothing.

        Raises:
            MisfitError: rows of another actor.
            CadenzaError: no room before the next :meth:`sync`, or none on the disk; the store is what it was.
        """
        if not len(rows):
            return
        first, values = self.head, encoded(rows, self.config)
        self._columns.append(values)
        self._index(first, values[FACTS])
        self._open.forget(self.tail)
        self._shown.forget(self.tail)

    def sync(self) -> None:
        """Make what was taken in outlast a crash. Called before the state that counts on it is saved, each time: what
        the state before that one needs is kept."""
        self._columns.sync()

    def truncate(self, head: int) -> None:
        """Go back to when ``head`` rows had been taken in.

        Raises:
            CadenzaError: that state is out of reach.
        """
        self._columns.truncate(head)
        self._index_all()

    def draw(self, rng: np.random.Generator, batch: int) -> Batch:
        """Windows that begin at rows drawn evenly.

        Raises:
            CadenzaError: there are none.
        """
        return Part(self, self._open).draw(rng, batch)

    @property
    def examples(self) -> Part:
        """The rows that are to be cloned, as a source of their own."""
        return Part(self, self._shown)

    def windows(self, rows: Int) -> Batch:
        """The windows that begin at ``rows``, each with an action."""
        config = self.config
        ahead_rows = rows[:, None] + np.arange(max(self.h, config.act_chunk_size) + 1)
        facts = self._read(FACTS, np.minimum(ahead_rows, self.head - 1))
        here = facts[:, 0]
        length = np.minimum(here["left"].astype(np.int64), self.h)
        each = np.arange(len(rows))
        back = np.stack([here["back"], facts[each, length]["back"]])
        now, later = self._histories(np.stack([rows, rows + length]), back)
        done = np.arange(self.h) >= length[:, None]
        last = facts[each, length - 1]
        actions = facts["action"][:, : self.h].copy()
        standing = (
            last["action"] if config.action_space is ActionSpace.JOINT_POSITION else np.zeros_like(last["action"])
        )
        actions[done] = np.broadcast_to(standing[:, None], actions.shape)[done]
        expert, known = self._examples(rows, facts)
        return Batch(
            now=now,
            actions=torch.from_numpy(actions),
            length=torch.from_numpy(length),
            rewards=torch.from_numpy(np.where(done, np.float32(0.0), facts["reward"][:, : self.h])),
            bootstrap=torch.from_numpy(last["terminated"] == 0),
            later=later,
            expert=torch.from_numpy(expert),
            expert_mask=torch.from_numpy(known),
        )

    def _index_all(self) -> None:
        self._open, self._shown = Stretches(), Stretches()
        for first in range(self.tail, self.head, _SCAN):
            rows = np.arange(first, min(first + _SCAN, self.head), dtype=np.int64)
            self._index(first, self._columns.read(FACTS, rows))

    def _index(self, first: int, facts: npt.NDArray[Any]) -> None:
        self._open.add(first, facts["left"] > 0)
        self._shown.add(first, facts["shown"] > 0)

    def _read(self, name: str, rows: Int) -> npt.NDArray[Any]:
        values = self._columns.read(name, rows.ravel())
        return values.reshape(*rows.shape, *values.shape[1:])

    def _histories(self, rows: Int, back: npt.NDArray[np.uint16]) -> tuple[History, History]:
        """Of rows (2, batch) and their slots (2, batch, H): what was seen first and later. Empty slots hold zeros."""
        mask = back != NO_FRAME
        frames = rows[..., None] - np.where(mask, back, 0)
        state = self._read(STATE, frames)
        state[~mask] = 0.0
        images = {}
        for name in self.config.cameras:
            image = self._read(IMAGE + name, frames)
            image[~mask] = 0
            images[name] = torch.from_numpy(image)
        now, later = (
            History(torch.from_numpy(state[k]), {name: i[k] for name, i in images.items()}, torch.from_numpy(mask[k]))
            for k in (0, 1)
        )
        return now, later

    def _examples(self, rows: Int, facts: npt.NDArray[Any]) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.bool_]]:
        """What to clone and where it is known, shapes (batch, C, A) and (batch, C)."""
        length = self.config.act_chunk_size
        expert = facts["action"][:, :length].copy()
        known = np.arange(length) < facts["shown"][:, :1]
        planned = np.flatnonzero(facts["planned"][:, 0])
        if len(planned):
            plan = self._read(PLAN, rows[planned])
            sure = np.isfinite(plan).all(axis=-1)
            expert[planned] = np.where(sure[..., None], plan, expert[planned])
            known[planned] |= sure
        expert[~known] = 0.0
        return expert, known


class Part:
    """Some rows of a store, as a source."""

    def __init__(self, store: Store, rows: Stretches) -> None:
        self._store, self._rows = store, rows

    def __len__(self) -> int:
        return self._rows.count(self._store.tail)

    def draw(self, rng: np.random.Generator, batch: int) -> Batch:
        """As :meth:`Store.draw`, among these."""
        if not (count := len(self)):
            raise CadenzaError("store: holds no row that a window could begin at")
        return self._store.windows(self._rows.pick(rng.integers(count, size=batch), self._store.tail))

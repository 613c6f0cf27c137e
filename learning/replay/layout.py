"""What a store keeps of each row: what was given, and what a window needs to know of the rows about it.

Which rows make up a history, and how far a window may reach, are settled when rows come in, by the one window code;
drawing only gathers.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from episodes.windows import history
from learning.network.config import ActorConfig
from learning.replay.rows import Rows
from spec.arrays import Bool, Int
from spec.errors import MisfitError

FACTS, STATE, PLAN, IMAGE = "facts", "state", "plan", "image."
"""Columns; the last with the name of a camera."""
NO_FRAME = 65_535
"""In ``back``: the slot is empty."""
_FARTHEST = 65_534


@dataclass(frozen=True, slots=True)
class Column:
    """One array of a store: of what type and shape a row's entry is."""

    dtype: npt.DTypeLike
    shape: tuple[int, ...]

    @property
    def row_bytes(self) -> int:
        return int(np.dtype(self.dtype).itemsize * math.prod(self.shape))


def facts_dtype(config: ActorConfig) -> np.dtype[Any]:
    """One row's facts.

    ``back``: how many rows before it each slot of its history stands. ``left``: acted rows from it to the end of what
    a window may cover, itself included; 0 where it has no action. ``shown``: how many of them in a row are examples.
    """
    return np.dtype(
        [
            ("action", "<f4", (config.action_dim,)),
            ("reward", "<f4"),
            ("back", "<u2", (config.obs_history_length,)),
            ("left", "<u2"),
            ("shown", "<u2"),
            ("terminated", "u1"),
            ("planned", "u1"),
        ]
    )


def columns_of(config: ActorConfig) -> dict[str, Column]:
    """The columns of a store for an actor."""
    columns = {
        FACTS: Column(facts_dtype(config), ()),
        STATE: Column("<f4", (config.state_dim,)),
        PLAN: Column("<f4", (config.act_chunk_size, config.action_dim)),
    }
    for name, size in config.cameras.items():
        columns[IMAGE + name] = Column("u1", (size.height, size.width, 3))
    return columns


def row_bytes(config: ActorConfig) -> int:
    """What a row takes in a store."""
    return sum(column.row_bytes for column in columns_of(config).values())


def reach(config: ActorConfig) -> int:
    """Rows that a history may reach back over. Twice as many as even steps make, for rows that lie closer."""
    steps = (config.obs_history_length - 1) * config.obs_step_s / config.act_step_s
    return min(math.ceil(2.0 * steps) + 2, _FARTHEST)


def encoded(rows: Rows, config: ActorConfig) -> dict[str, npt.NDArray[Any]]:
    """Rows as columns; without the one of plans where nothing was planned.

    Raises:
        MisfitError: of another actor.
    """
    _refuse_misfit(rows, config)
    facts = np.zeros(len(rows), dtype=facts_dtype(config))
    facts["action"], facts["reward"] = rows.action, rows.reward
    facts["terminated"] = rows.terminated
    index, mask = history(
        rows.observed_ns,
        np.arange(len(rows), dtype=np.int64),
        config.obs_history_length,
        round(config.obs_step_s * 1e9),
        rows.segment,
    )
    back = np.arange(len(rows))[:, None] - index
    facts["back"] = np.where(mask & (back <= reach(config)), back, NO_FRAME)
    left = _left(rows.acted, rows.breaks | rows.terminated)
    facts["left"] = np.minimum(left, _FARTHEST)
    facts["shown"] = np.minimum(np.minimum(left, _until(~rows.expert)), _FARTHEST)
    columns: dict[str, npt.NDArray[Any]] = {FACTS: facts, STATE: rows.state}
    if rows.plan is not None:
        facts["planned"] = rows.expert & np.isfinite(rows.plan).all(axis=-1).any(axis=-1)
        columns[PLAN] = rows.plan
    return columns | {IMAGE + name: rows.images[name] for name in config.cameras}


def _left(acted: Bool, ends: Bool) -> Int:
    """Acted rows from each row to the end of its stretch, itself included."""
    stop = _until(~acted | ends)
    last = np.arange(len(acted)) + stop
    return np.where(acted, stop + acted[np.minimum(last, len(acted) - 1)], 0)


def _until(flags: Bool) -> Int:
    """How many rows after each the next one with the flag stands, 0 where it has it itself; to the end if none has."""
    at = np.append(np.flatnonzero(flags), len(flags))
    rows = np.arange(len(flags))
    return np.asarray(at[np.searchsorted(at, rows)] - rows, dtype=np.int64)


def _refuse_misfit(rows: Rows, config: ActorConfig) -> None:
    wanted: Mapping[str, tuple[tuple[int, ...], tuple[int, ...]]] = {
        "state": (rows.state.shape[1:], (config.state_dim,)),
        "action": (rows.action.shape[1:], (config.action_dim,)),
        "plan": (
            (config.act_chunk_size, config.action_dim) if rows.plan is None else rows.plan.shape[1:],
            (config.act_chunk_size, config.action_dim),
        ),
        **{
            f"camera {name}": (
                rows.images[name].shape[1:] if name in rows.images else (),
                (size.height, size.width, 3),
            )
            for name, size in config.cameras.items()
        },
    }
    for name, (found, needed) in wanted.items():
        if found != needed:
            raise MisfitError(f"rows: {name} of shape {found}, the actor's has {needed}")

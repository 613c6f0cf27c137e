"""What the online learner can do: updates a second with rows on disk against rows in memory, and how long it takes from
the end of an episode in which a person stepped in to new weights on the shelf. The shipped policy, one thread.

Episodes are noise; what is learned from them is of no interest here.
"""

from __future__ import annotations

import resource
import tempfile
import time
from pathlib import Path
from typing import Any

import torch

from benchmarks.stand_ins.learner import write_episode
from export.publishing import ShelfPublisher
from learning.checkpoint import load_checkpoint
from learning.online.intake import Intake
from learning.online.learner import BUNDLES, STORE, Did, Learner, Plan
from learning.online.metrics import Metrics
from learning.online.watch import Watch
from learning.replay.cut import Source, rows_of_episode
from learning.replay.mix import Mixed
from learning.replay.prefetch import Prefetch
from learning.replay.rows import Rows
from learning.replay.store import Store
from learning.sac.agent import Agent
from learning.sac.settings import Settings

_POLICY = Path(__file__).parents[1] / "assets" / "policy" / "push"
_BATCH, _COPIES, _SIDE = 32, 60, 64
_DISK_BYTES = 2_000_000_000
_EPISODES = 3
"""Of which each brings new weights."""


def measure(seconds: float) -> dict[str, object]:
    """Figures by store, their ratio, memory, and the time of an episode's way to the shelf."""
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory(prefix="cadenza-learner-") as name:
        folder = Path(name)
        episode = write_episode(folder / "first.mcap", 1, steps=50, side=_SIDE)
        rates = _rates(folder, rows_of_episode(episode, load_checkpoint(_POLICY)[1].actor), seconds)
        return {
            **rates,
            "ratio": rates["updates_per_s_disk"] / rates["updates_per_s_memory"],
            "episode_to_shelf_s": _episode_to_shelf_s(folder),
            "peak_memory_mb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e3,
        }


def _rates(folder: Path, rows: Rows, seconds: float) -> dict[str, float]:
    """Updates a second, both stores in turns so that both see the same machine."""
    settings = Settings(batch=_BATCH)
    agents, batches, spent, made = {}, {}, {"disk": 0.0, "memory": 0.0}, {"disk": 0, "memory": 0}
    for kind in spent:
        actor, _ = load_checkpoint(_POLICY)
        disk = kind == "disk"
        store = (
            Store.on_disk(folder / "rates", actor.config, settings.window, _DISK_BYTES)
            if disk
            else Store.in_memory(actor.config, settings.window, _COPIES * len(rows))
        )
        for _ in range(_COPIES):
            store.append(rows)
        store.sync()
        agents[kind] = Agent(actor, settings)
        batches[kind] = Prefetch(Mixed(None, store), settings.seed, settings.batch, ahead=False)
    end_s = time.monotonic() + seconds
    while time.monotonic() < end_s or not made["memory"]:
        for kind, agent in agents.items():
            begun_s = time.perf_counter()
            agent.update(batches[kind].batch(made[kind]), made[kind])
            spent[kind] += time.perf_counter() - begun_s
            made[kind] += 1
    for each in batches.values():
        each.close()
    return {f"updates_per_s_{kind}": made[kind] / spent[kind] for kind in spent}


def _episode_to_shelf_s(folder: Path) -> dict[str, float]:
    """From a file that is closed to its weights on the shelf, by what the time goes into; means [s]."""
    actor, config = load_checkpoint(_POLICY)
    settings = Settings(batch=_BATCH)
    came = folder / "came"
    came.mkdir()
    stores = {
        source: Store.on_disk(folder / STORE / source, actor.config, settings.window, _DISK_BYTES) for source in Source
    }
    publisher = ShelfPublisher(folder / BUNDLES)
    publisher.prepare(actor)
    marks: dict[str, float] = {}

    def tell(event: dict[str, Any]) -> None:
        marks[event["event"]] = time.monotonic()

    learner = Learner(
        folder,
        Agent(actor, settings),
        Plan(settings.utd, settings.batch, settings.seed, first_weights=config.weights),
        stores,
        Mixed(stores[Source.DEMONSTRATION], stores[Source.ONLINE]),
        Intake(actor.config),
        lambda journal: Watch({came: Source.ONLINE}, journal.entries),
        publisher,
        Metrics(folder),
        tell,
    )
    parts = {"taking_in": 0.0, "learning": 0.0, "publishing": 0.0, "whole": 0.0}
    for number in range(_EPISODES):
        write_episode(came / f"{number}.mcap", 2 * number + 1, steps=20, side=_SIDE)
        closed_s, learned_s = time.monotonic(), 0.0
        while learner.turn() is not Did.NOTHING or "weights" not in marks:
            if learner.counters.update == learner.budget - 1:
                learned_s = time.monotonic()
        taken_s, offered_s = marks["episode"], marks.pop("weights")
        for part, spent_s in zip(
            parts, (taken_s - closed_s, learned_s - taken_s, offered_s - learned_s, offered_s - closed_s), strict=True
        ):
            parts[part] += spent_s / _EPISODES
    learner.close()
    return parts

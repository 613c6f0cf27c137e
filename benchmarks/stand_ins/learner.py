"""A learner of seconds: the real one, with a small actor, short episodes, and a shelf without graphs.

Started by :class:`benchmarks.learner_kills.Crashes`, and killed: from outside at any instant, or by itself at the n-th
time that it opens, renames or removes a file of its own.
"""

from __future__ import annotations

import hashlib
import json
import os
import signal
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from benchmarks.rig import virtual_robot
from episodes.outcome import Outcome
from episodes.records import Driver, Mode, TickRecord
from episodes.writer import EpisodeWriter, Header
from learning.checkpoint import MODEL_FILE, read_config
from learning.network.actor import SequenceActor
from learning.network.config import ActorConfig, Convolution, DecoderKind
from learning.online.intake import Intake
from learning.online.learner import STORE, Did, Learner, Plan
from learning.online.lock import only_learner
from learning.online.metrics import Metrics
from learning.online.state import STATE_FILE, read_counters
from learning.online.watch import Watch
from learning.replay.cut import Source
from learning.replay.disk import HEAD_FILE
from learning.replay.mix import Mixed
from learning.replay.store import Store
from learning.sac.agent import Agent
from learning.sac.settings import Settings
from spec.files import write_atomically
from spec.manifest import ImageInput
from spec.observation import encode_jpeg

JOINTS = ("shoulder_pan", "shoulder_lift", "elbow_flex", "wrist_flex", "wrist_roll", "gripper")
NEWEST_FILE = "newest.json"
_TICK_NS, _TICKS_PER_STEP = 20_000_000, 5
_STORE_BYTES = 4_000_000
_EVENTS = frozenset({"open", "os.rename", "os.remove", "os.truncate", "os.mkdir"})


@dataclass(frozen=True, slots=True)
class Task:
    """One start of the learner."""

    folder: Path
    demonstrations: Path
    episodes: Path
    updates: int
    """To stop after."""
    dies_at: int = 0
    """Which of its own file operations it does not live to make; 0 for none."""
    dies_saving: bool = False
    """It does not live to replace a state that its stores are ahead of: they are synced, the state is not yet there."""


def small_actor() -> SequenceActor:
    """An actor of the virtual arm's joints with one tiny camera; the same each time."""
    torch.manual_seed(0)
    actor = SequenceActor(
        ActorConfig(
            joints=JOINTS,
            cameras={"top": ImageInput(height=16, width=16)},
            obs_history_length=2,
            act_chunk_size=4,
            act_dim_model=16,
            act_n_heads=2,
            act_dim_feedforward=24,
            act_n_encoder_layers=1,
            act_n_decoder_layers=1,
            act_dropout=0.0,
            decoder=DecoderKind.PARALLEL,
            latent_dim=8,
            cnn=(Convolution(channels=4, kernel=5),),
            spatial_features=2,
        )
    )
    actor.normalization.action_low.fill_(-1.0)
    actor.normalization.action_high.fill_(1.0)
    return actor


def write_episode(path: Path, number: int, steps: int = 12, side: int = 16) -> Path:
    """A short episode of noise; in every other one a person drives the second half."""
    rng = np.random.default_rng(number)
    robot = virtual_robot({})
    start = 7_000_000_000 + number * 60_000_000_000
    hidden = path.with_name(f".{path.name}")
    with EpisodeWriter(hidden, Header(robot, labels={"seed": str(number)})) as writer:
        for tick in range(steps * _TICKS_PER_STEP):
            now = start + tick * _TICK_NS
            if tick % _TICKS_PER_STEP == 0:
                picture = rng.integers(0, 256, (side, side, 3), dtype=np.uint8)
                writer.frame("top", encode_jpeg(picture, 90), now, tick // _TICKS_PER_STEP)
            record = TickRecord(tick=tick, now_ns=now, joints=len(JOINTS), mode=Mode.POLICY)
            record.driver = Driver.HUMAN if number % 2 and tick >= steps * _TICKS_PER_STEP // 2 else Driver.POLICY
            position = rng.uniform(-0.9, 0.9, len(JOINTS))
            record.position[: len(JOINTS)] = position.tolist()
            record.sent[: len(JOINTS)] = (position + 0.01).tolist()
            writer.tick(record)
        writer.close(Outcome.SUCCESS if number % 3 else Outcome.FAIL)
    hidden.rename(path)
    return path


class Shelf:
    """Instead of bundles, the hash of the weights of each version."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def newest(self) -> int:
        """Weight version on offer; 0 for none."""
        try:
            return int(json.loads((self._folder / NEWEST_FILE).read_bytes())["weights"])
        except FileNotFoundError:
            return 0

    def publish(self, checkpoint: Path) -> Path:
        """Offer a checkpoint."""
        version = read_config(checkpoint).weights
        digest = hashlib.sha256((checkpoint / MODEL_FILE).read_bytes()).hexdigest()
        write_atomically(self._folder / f"{version:06d}", digest.encode())
        write_atomically(self._folder / NEWEST_FILE, json.dumps({"weights": version}).encode())
        return self._folder / f"{version:06d}"


def run(task: Task) -> None:
    """Learn until the last update, waiting for episodes where none are there."""
    torch.set_num_threads(1)
    if task.dies_at:
        _die_at(task.folder, task.dies_at)
    if task.dies_saving:
        _die_saving(task.folder)
    settings = Settings(h=2, batch=8, critic_hidden=16, critic_layers=1, utd=1.0)
    actor = small_actor()
    with only_learner(task.folder):
        stores = {
            source: Store.on_disk(task.folder / STORE / source, actor.config, settings.window, _STORE_BYTES)
            for source in Source
        }
        watched = {task.demonstrations: Source.DEMONSTRATION, task.episodes: Source.ONLINE}
        plan = Plan(
            utd=settings.utd,
            batch=settings.batch,
            seed=settings.seed,
            offline_updates=30,
            save_every=10,
            export_every=25,
            settings=settings.model_dump(mode="json"),
        )
        learner = Learner(
            task.folder,
            Agent(actor, settings),
            plan,
            stores,
            Mixed(stores[Source.DEMONSTRATION], stores[Source.ONLINE]),
            Intake(actor.config),
            lambda journal: Watch(watched, journal.entries),
            Shelf(task.folder / "shelf"),
            Metrics(task.folder),
        )
        while learner.counters.update < task.updates:
            if learner.turn() is Did.NOTHING:
                time.sleep(0.01)
        learner.finish()
        learner.close()


def _die_at(folder: Path, count: int) -> None:
    """Kill this process before its ``count``-th operation on a file in ``folder``."""
    left = count

    def watch(event: str, arguments: tuple[Any, ...]) -> None:
        nonlocal left
        if event in _EVENTS and arguments and str(arguments[0]).startswith(str(folder)):
            left -= 1
            if left == 0:
                os.kill(os.getpid(), signal.SIGKILL)

    sys.addaudithook(watch)


def _die_saving(folder: Path) -> None:
    """Kill this process where it is about to replace a state that knows fewer rows than the stores."""
    state = folder / STATE_FILE

    def watch(event: str, arguments: tuple[Any, ...]) -> None:
        if event == "os.rename" and str(arguments[1]) == str(state):
            heads = read_counters(state).heads if state.exists() else {}
            stored = {
                source: json.loads((folder / STORE / source / HEAD_FILE).read_bytes())["head"] for source in Source
            }
            if any(rows > heads.get(source, 0) for source, rows in stored.items()):
                os.kill(os.getpid(), signal.SIGKILL)

    sys.addaudithook(watch)

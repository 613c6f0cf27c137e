"""What changing weights costs a running arm: ticks missed and lateness, beside the same run without changes; and how
long it takes from an offer until the new weights drive.

Episodes with a new bundle every few seconds and episodes without take turns, so that whatever else the machine does
falls on both.

python -m benchmarks --only swap
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from datetime import datetime
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.rig import percentiles, virtual_robot
from cadenza.report import lateness_us
from controller.session import Session
from controller.sources import policy_source
from controller.supervisor import Supervisor
from controller.weights.rollout import LOOK_S
from drivers.virtual import VirtualRobot
from episodes.messages import CHUNKS
from episodes.reader import Episode, read_episode
from export.bundle import Bundle, write_bundle
from export.exporter import export_checkpoint
from export.shelf import bundle_name, offer

PROJECT = Path(__file__).parents[1]
TURNS = 2
"""Episodes of each kind; each must last for several offers."""
EVERY_S = 2.5
"""A new bundle is offered this often; from the offer until it drives it takes two seconds."""
LONGEST_S = 15.0
"""What is in hand is settled by then."""


class Offering:
    """Puts bundles on the shelf while an episode runs. Stands where a judge does, and never says that it is done."""

    def __init__(self, supervisor: Supervisor, stock: list[Bundle], shelf: Path) -> None:
        self._run, self._stock, self._shelf = supervisor, stock, shelf
        self.active = False
        self._next_s = 0.0
        self.offered_s: dict[int, float] = {}

    def prepare(self, episode: int) -> Mapping[str, str]:
        return {"episode": str(episode)}

    def success(self) -> bool | None:
        now_s = time.monotonic()
        if self.active and self._stock and now_s >= self._next_s:
            self._next_s = now_s + EVERY_S
            bundle = self._stock.pop(0)
            self.offered_s[bundle.manifest.weights] = time.time()
            offer(self._shelf, bundle)
        return None


def measure(seconds: float) -> dict[str, Any]:
    """Four episodes that last ``seconds`` together.

    Returns:
        For runs ``with`` and ``without`` swaps: ticks, missed ticks, how late they woke [µs] and how long a chunk took
        [ms], and the swaps that fell into them. The ratio of lateness at p99.9, and from offer to driving [s].
    """
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        shelf = folder / "shelf"
        bundle = export_checkpoint(PROJECT / "assets/policy/push", folder / "bundle")
        virtual = stack.enter_context(VirtualRobot(virtual_robot({}), 0))
        supervisor = stack.enter_context(
            Supervisor(
                virtual.robot, policy_source(bundle), folder / "run", lambda _: None, bundle=bundle, follow=_made(shelf)
            )
        )
        stock = [_copy(bundle, shelf, bundle.manifest.weights + k) for k in range(1, 2 + int(seconds / EVERY_S))]
        offering = Offering(supervisor, stock, shelf)
        session = Session(supervisor, offering, max(2.0, seconds / (2 * TURNS)))
        paths: dict[bool, list[Path]] = {False: [], True: []}
        for turn in range(2 * TURNS):
            offering.active = turn % 2 == 1
            _settle(supervisor)
            result = session.episode(turn)
            if result.path is not None:
                paths[offering.active].append(result.path)
        supervisor.close()
        kinds = {name: [read_episode(path, cameras=()) for path in paths[kind]] for kind, name in _NAMES.items()}
        report = supervisor.report()
    figures = {name: _figures(episodes) for name, episodes in kinds.items()}
    waits = _waits(report["weights"]["drove"], offering.offered_s)
    return {
        **figures,
        "p99_9_ratio": figures["with"]["lateness_us"]["p99_9"] / figures["without"]["lateness_us"]["p99_9"],
        "refused": len(report["weights"]["refused"]),
        "offer_to_driving_s": {"median": float(np.median(waits)), "max": float(np.max(waits))} if waits else {},
    }


_NAMES = {False: "without", True: "with"}


def _settle(supervisor: Supervisor) -> None:
    """What was offered in one episode must not fall on the next."""
    began_s = time.monotonic()
    while (waited_s := time.monotonic() - began_s) < LONGEST_S:
        supervisor.poll()
        if waited_s > 2 * LOOK_S and supervisor.report()["weights"]["candidate"] is None:
            return


def _made(folder: Path) -> Path:
    folder.mkdir()
    return folder


def _copy(bundle: Bundle, shelf: Path, weights: int) -> Bundle:
    """The same graphs as another version."""
    files = {name: (bundle.folder / name).read_bytes() for name in bundle.manifest.files}
    return write_bundle(shelf / bundle_name(weights), bundle.manifest.model_copy(update={"weights": weights}), files)


def _figures(episodes: list[Episode]) -> dict[str, Any]:
    lateness = np.concatenate([lateness_us(episode) for episode in episodes])
    made = [episode.chunks[episode.carried.get(CHUNKS, 0) :] for episode in episodes]
    chunks = [(chunk.finished_ns - chunk.started_ns) * 1e-6 for episode in made for chunk in episode]
    gaps = [np.diff([chunk.finished_ns for chunk in episode]) * 1e-6 for episode in made]
    return {
        "ticks": int(lateness.size),
        "swaps": sum(event.kind == "swap" for episode in episodes for event in episode.events),
        "missed": sum(int(episode.ticks["skipped"].sum()) for episode in episodes),
        "lateness_us": percentiles(lateness),
        "chunk_ms": percentiles(np.array(chunks)),
        "longest_without_chunk_ms": max((float(gap.max()) for gap in gaps if len(gap)), default=0.0),
    }


def _waits(drove: Sequence[Mapping[str, Any]], offered_s: Mapping[int, float]) -> list[float]:
    """From each offer until its bundle was the one that makes chunks [s]."""
    return [
        datetime.fromisoformat(one["since"]).timestamp() - offered_s[one["weights"]]
        for one in drove
        if one["weights"] in offered_s
    ]

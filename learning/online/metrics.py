"""How learning goes: ``metrics.jsonl``, and the same for TensorBoard. Episodes are in the journal."""

from __future__ import annotations

import json
import math
import time
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

from torch.utils.tensorboard import SummaryWriter

from learning.online.journal import Entry
from learning.replay.cut import Source
from spec.files import write_atomically

METRICS_FILE, TENSORBOARD = "metrics.jsonl", "tb"


class Metrics:
    """Means over every ``every`` updates, one line each. Lost lines are written again by the updates that are."""

    def __init__(self, folder: Path, every: int = 20, clock: Callable[[], float] = time.monotonic) -> None:
        self._folder, self._every, self._clock = folder, every, clock
        self._sums: dict[str, float] = defaultdict(float)
        self._counts: dict[str, int] = defaultdict(int)
        self._updates, self._busy_s = 0, 0.0
        self.newest: dict[str, float] = {}
        self._board: SummaryWriter | None = None
        self._update = 0

    def resume(self, update: int) -> None:
        """Forget lines of updates that will be made again."""
        path = self._folder / METRICS_FILE
        self._folder.mkdir(parents=True, exist_ok=True)
        if path.exists():
            _shorten(path, update)
        self._update = update
        self._board = SummaryWriter(str(self._folder / TENSORBOARD), purge_step=update + 1, max_queue=1000)

    def update(self, update: int, measured: Mapping[str, float], seconds: float) -> None:
        """Count one update that took ``seconds``."""
        for name, value in measured.items():
            if math.isfinite(value):
                self._sums[name] += value
                self._counts[name] += 1
        self._updates += 1
        self._busy_s += seconds
        self._update = update
        if update % self._every == 0:
            self._write(update)

    def episode(self, entry: Entry) -> None:
        """Show an episode beside the updates it came at."""
        if entry.facts is None or entry.source is not Source.ONLINE or self._board is None:
            return
        facts = entry.facts
        numbers = {"return": facts.reward, "intervention": facts.intervention, "seconds": facts.seconds}
        if facts.outcome in {"success", "fail"}:
            numbers["success"] = float(facts.outcome == "success")
        if facts.weights:
            numbers["weights"] = float(max(facts.weights))
        for name, value in numbers.items():
            self._board.add_scalar(f"episode/{name}", value, entry.update)

    def flush(self) -> None:
        """Hand everything to the file system."""
        if self._board is not None:
            self._board.flush()

    def close(self) -> None:
        if self._board is not None:
            self._board.close()

    def _write(self, update: int) -> None:
        means = {name: self._sums[name] / count for name, count in self._counts.items()}
        if self._busy_s > 0.0:
            means["updates_per_s"] = self._updates / self._busy_s
        self._sums.clear()
        self._counts.clear()
        self._updates, self._busy_s = 0, 0.0
        self.newest = means
        with (self._folder / METRICS_FILE).open("a", encoding="utf-8") as file:
            file.write(json.dumps({"update": update, **means}) + "\n")
        if self._board is not None:
            for name, value in means.items():
                self._board.add_scalar(f"update/{name}", value, update)


def read_metrics(folder: Path) -> Iterator[dict[str, Any]]:
    """The lines so far; one that a crash cut off is left out."""
    try:
        file = (folder / METRICS_FILE).open(encoding="utf-8")
    except FileNotFoundError:
        return
    with file:
        for line in file:
            try:
                yield json.loads(line)
            except ValueError:
                continue


def _shorten(path: Path, update: int) -> None:
    kept = [json.dumps(line) for line in read_metrics(path.parent) if line.get("update", 0) <= update]
    write_atomically(path, "".join(line + "\n" for line in kept).encode())

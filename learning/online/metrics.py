"""How learning goes: ``metrics.jsonl``, and whatever else shows numbers. Episodes are in the journal."""

from __future__ import annotations

import contextlib
import json
import math
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, Protocol

from learning.online.journal import Entry
from learning.replay.cut import Source
from spec.files import write_atomically

METRICS_FILE = "metrics.jsonl"


class Board(Protocol):
    """What shows numbers; see :class:`learning.online.board.TensorBoard`."""

    def resume(self, update: int) -> None:
        """Forget what came after an update."""

    def show(self, update: int, numbers: Mapping[str, float]) -> None: ...

    def flush(self) -> None: ...

    def close(self) -> None: ...


class Metrics:
    """Means over every ``every`` updates, one line each. Lost lines are written again by the updates that are.

    All of it is for people: what cannot be written is told of once, and learning goes on.
    """

    def __init__(
        self,
        folder: Path,
        board: Board | None = None,
        every: int = 20,
        tell: Callable[[dict[str, Any]], None] = lambda _: None,
    ) -> None:
        self._folder, self._board, self._every, self._tell = folder, board, every, tell
        self._told = False
        self._sums: dict[str, float] = defaultdict(float)
        self._counts: dict[str, int] = defaultdict(int)
        self._updates, self._busy_s = 0, 0.0
        self.newest: dict[str, float] = {}

    def resume(self, update: int) -> None:
        """Forget lines of updates that will be made again."""
        path = self._folder / METRICS_FILE
        with self.not_needed(path):
            self._folder.mkdir(parents=True, exist_ok=True)
            if path.exists():
                _shorten(path, update)
        if self._board is not None:
            with self.not_needed(self._folder):
                self._board.resume(update)

    def update(self, update: int, measured: Mapping[str, float], seconds: float) -> None:
        """Count one update that took ``seconds``."""
        for name, value in measured.items():
            if math.isfinite(value):
                self._sums[name] += value
                self._counts[name] += 1
        self._updates += 1
        self._busy_s += seconds
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
        with self.not_needed(self._folder):
            self._board.show(entry.update, {f"episode/{name}": value for name, value in numbers.items()})

    def flush(self) -> None:
        """Hand everything to the file system."""
        if self._board is not None:
            with self.not_needed(self._folder):
                self._board.flush()

    def close(self) -> None:
        if self._board is not None:
            with self.not_needed(self._folder):
                self._board.close()

    @contextlib.contextmanager
    def not_needed(self, path: Path) -> Iterator[None]:
        """What is done here may fail as the file system likes."""
        try:
            yield
        except OSError as error:
            if not self._told:
                self._told = True
                reason = f"{error.filename or path}: {error.strerror or error}; learning goes on without it"
                self._tell({"event": "not_shown", "reason": reason})

    def _write(self, update: int) -> None:
        means = {name: self._sums[name] / count for name, count in self._counts.items()}
        if self._busy_s > 0.0:
            means["updates_per_s"] = self._updates / self._busy_s
        self._sums.clear()
        self._counts.clear()
        self._updates, self._busy_s = 0, 0.0
        self.newest = means
        path = self._folder / METRICS_FILE
        with self.not_needed(path), path.open("a", encoding="utf-8") as file:
            file.write(json.dumps({"update": update, **means}) + "\n")
        if self._board is not None:
            with self.not_needed(self._folder):
                self._board.show(update, {f"update/{name}": value for name, value in means.items()})


def read_metrics(folder: Path) -> Iterator[dict[str, Any]]:
    """The lines so far; what a crash cut off, or a bad disk altered, is left out."""
    try:
        file = (folder / METRICS_FILE).open(encoding="utf-8", errors="replace")
    except FileNotFoundError:
        return
    with file:
        for line in file:
            try:
                numbers = json.loads(line)
            except (ValueError, RecursionError):
                continue
            if not isinstance(numbers, dict) or "update" not in numbers:
                continue
            if all(isinstance(value, int | float) for value in numbers.values()):
                yield numbers


def _shorten(path: Path, update: int) -> None:
    kept = [json.dumps(line) for line in read_metrics(path.parent) if line["update"] <= update]
    write_atomically(path, "".join(line + "\n" for line in kept).encode())

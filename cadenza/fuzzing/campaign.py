"""Fuzzing one parser to its end: workers started, watched, and started again behind the case they died of."""

from __future__ import annotations

import base64
import json
import os
import selectors
import signal
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import IO, Any

from cadenza.fuzzing.hunt import BATCH, SLOWEST_S, Crash

_SILENCE_S = 60.0 + BATCH * 0.2
"""A worker that says nothing for so long hangs where no signal reaches it [s]."""
_MOST_DEATHS = 20
_LAST_WORDS_BYTES = 4096
"""Of what a worker that died left on its stderr, so much is looked at."""
_GROWTH_MB = 64.0
"""A million cases may leave no more than so much behind [MB]."""
_SETTLED = 0.1
"""Memory is compared with what it was after this share of the cases: caches are full then."""


@dataclass(slots=True)
class LayerCount:
    """Of one entrance."""

    cases: int = 0
    taken: int = 0
    seconds: float = 0.0


@dataclass(slots=True)
class Outcome:
    """What came of fuzzing one parser."""

    cases: int = 0
    layers: dict[str, LayerCount] = field(default_factory=dict)
    slowest_s: float = 0.0
    settled_mb: float = 0.0
    """Resident memory of the worker once it had settled."""
    last_mb: float = 0.0
    crashes: dict[str, Crash] = field(default_factory=dict)
    """By what came out; of each only the first."""

    @property
    def growth_mb(self) -> float:
        return max(0.0, self.last_mb - self.settled_mb) if self.settled_mb else 0.0

    @property
    def grows(self) -> bool:
        return self.growth_mb > _GROWTH_MB

    @property
    def held(self) -> bool:
        return not self.crashes and not self.grows


class Campaign:
    """Of one parser.

    Args:
        name: of the parser, see :data:`cadenza.fuzzing.targets.TARGETS`.
        seed: the same seed, the same cases.
        cases: how many, rounded up to whole batches.
    """

    def __init__(self, name: str, seed: int, cases: int) -> None:
        self._name, self._seed = name, seed
        self._batches = -(-cases // BATCH)
        self.outcome = Outcome()
        self._hung = False
        """The last worker met a case that hung, and ended itself."""
        self._ending = ""
        """How the last worker ended, and what it said last."""

    def run(self, progress: Callable[[Outcome], None]) -> Outcome:
        """Through all batches; ``progress`` is told after each."""
        batch, deaths = 0, 0
        while batch < self._batches and deaths < _MOST_DEATHS:
            for told in self._worker(batch):
                batch = told["batch"] + 1
                self._count(told, batch)
                progress(self.outcome)
            if batch < self._batches and not self._hung:
                deaths += 1
                what = f"in batch {batch} the process {self._ending}"
                self.outcome.crashes.setdefault(what, Crash("?", b"", what))
                batch += 1
        return self.outcome

    def _worker(self, batch: int) -> Iterator[dict[str, Any]]:
        """What one worker says, from this batch on, until it ends."""
        self._hung = False
        command = [sys.executable, "-m", "cadenza.fuzzing.worker", self._name]
        with tempfile.TemporaryFile() as errors:
            process = subprocess.Popen(
                [*command, str(self._seed), str(batch), str(self._batches)],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=errors,
                env={**os.environ, "OMP_NUM_THREADS": "1"},
            )
            assert process.stdout is not None  # noqa: S101 (it is a pipe)
            try:
                with process.stdout as output:
                    for line in _lines(output):
                        told = json.loads(line)
                        self._hung = any(crash["error"].startswith("HangError") for crash in told["crashes"])
                        yield told
            finally:
                if process.poll() is None:
                    process.kill()
                self._ending = _ending(process.wait(), errors)

    def _count(self, told: dict[str, Any], done: int) -> None:
        out = self.outcome
        layer = out.layers.setdefault(told["layer"], LayerCount())
        layer.cases += told["cases"]
        layer.taken += told["taken"]
        layer.seconds += told["seconds"]
        out.cases += told["cases"]
        out.slowest_s = max(out.slowest_s, told["slowest_s"])
        out.last_mb = told["resident_mb"]
        if not out.settled_mb and done >= _SETTLED * self._batches:
            out.settled_mb = out.last_mb
        for crash in told["crashes"]:
            found = Crash(crash["layer"], base64.b64decode(crash["data"]), crash["error"])
            out.crashes.setdefault(found.error, found)


def _ending(status: int, errors: IO[bytes]) -> str:
    """How a worker ended; of a traceback its last line says why."""
    how = f"died of {signal.Signals(-status).name}" if status < 0 else f"ended with status {status}"
    errors.seek(max(0, errors.seek(0, os.SEEK_END) - _LAST_WORDS_BYTES))
    said = errors.read().decode(errors="backslashreplace").split("\n")
    return ": ".join([how, *[line.strip() for line in said if line.strip()][-1:]])


def _lines(output: IO[bytes]) -> Iterator[bytes]:
    """Until there are no more, or none comes for too long."""
    heard = b""
    with selectors.DefaultSelector() as selector:
        selector.register(output, selectors.EVENT_READ)
        while selector.select(_SILENCE_S + SLOWEST_S):
            data = os.read(output.fileno(), 1 << 16)
            if not data:
                return
            *lines, heard = (heard + data).split(b"\n")
            yield from lines

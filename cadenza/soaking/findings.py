"""What the record of a soak holds, in arrays."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from cadenza.soaking.histogram import Histogram, together
from cadenza.soaking.journal import read_journal
from spec.arrays import Float

_WARM_UP_S, _WARM_UP_SHARE = 120.0, 1 / 3
"""After two minutes every process has what it needs, buffers are full and weights were changed three times [s]; a short
soak gives them a third of its time, and may judge too early."""
_TENTH, _SIXTH = 10, 6
HOUSEKEEPER = "housekeeper"


@dataclass(frozen=True, slots=True, eq=False)
class Block:
    """One stretch of time."""

    s: float
    """Its end, since the beginning of the soak [s]."""
    late: Histogram
    max_us: float
    missed: int
    """Periods skipped."""
    lost: int
    """Ticks that were published and never seen."""
    ours: float
    """Cores that the run, its virtual arm and the soak kept busy."""
    others: float
    """Cores that everything else on this machine kept busy."""

    @property
    def missed_share(self) -> float:
        return self.missed / max(1, self.missed + self.late.ticks)


@dataclass(frozen=True, slots=True)
class Growth:
    """What one process held after the warm-up, and at the end: medians of a tenth of the time."""

    first_mb: float
    last_mb: float
    descriptors: int
    """More than at first."""
    threads: int

    @property
    def share(self) -> float:
        return self.last_mb / self.first_mb - 1.0


@dataclass(frozen=True, slots=True, eq=False)
class Findings:
    """Of one soak."""

    begin: Mapping[str, Any]
    seconds: float
    """It lasted."""
    end: Mapping[str, Any] | None
    """None: it was killed."""
    blocks: tuple[Block, ...]
    sampled_s: Float
    """Instants of the looks at memory [s], shape (looks,)."""
    memory_mb: Mapping[str, Float]
    """Resident memory of each process [MB], NaN where it was not there, shape (looks,)."""
    growth: Mapping[str, Growth]
    segments: int
    """More segments of shared memory than at first."""
    takeovers: tuple[tuple[float, str], ...]
    """When [s], and by which means."""
    offers: tuple[tuple[float, int], ...]
    swaps: tuple[tuple[float, int], ...]
    episodes: tuple[Mapping[str, Any], ...]
    troubles: tuple[str, ...]
    faults: int
    restarts: int

    @property
    def window(self) -> int:
        """Blocks in a sixth of what was wanted: ten minutes of an hour."""
        return max(1, min(int(self.begin["blocks"]) // _SIXTH, len(self.blocks) // 2))

    def at_first(self) -> Histogram:
        return together(block.late for block in self.blocks[: self.window])

    def at_last(self) -> Histogram:
        return together(block.late for block in self.blocks[-self.window :])


def find(folder: Path) -> Findings:
    """Read the record of a soak. Raises SpecError where there is none."""
    notes = read_journal(folder)
    kinds: dict[str, list[dict[str, Any]]] = {}
    for note in notes:
        kinds.setdefault(note["kind"], []).append(note)
    begin, samples = kinds["begin"][0], kinds.get("sample", [])
    end = kinds.get("end", [None])[-1]
    report = {} if end is None else end["report"]
    newest: dict[str, Any] = samples[-1] if samples else {"faults": 0, "restarts": {}}
    sampled_s, memory_mb = _memory(samples)
    settled = _settled(samples, begin["wanted_s"])
    return Findings(
        begin=begin,
        seconds=float(notes[-1]["s"] if end is None else end["lasted_s"]),
        end=end,
        blocks=tuple(_block(note) for note in kinds.get("block", [])),
        sampled_s=sampled_s,
        memory_mb=memory_mb,
        growth=_growth(settled),
        segments=_more([sample["segments"] for sample in settled]),
        takeovers=tuple((note["s"], note["means"]) for note in kinds.get("takeover", [])),
        offers=tuple((note["s"], note["weights"]) for note in kinds.get("offer", [])),
        swaps=tuple((note["s"], note["weights"]) for note in kinds.get("swap", [])),
        episodes=tuple(kinds.get("episode", [])),
        troubles=tuple(note["text"] for note in kinds.get("trouble", [])),
        faults=max(newest["faults"], len(report.get("faults", []))),
        restarts=max(sum(newest["restarts"].values()), sum(report.get("restarts", {}).values())),
    )


def _block(note: Mapping[str, Any]) -> Block:
    late = Histogram.from_dict(note["bins"])
    return Block(note["s"], late, note["max_us"], note["missed"], note["lost"], note["ours"], note["others"])


def _memory(samples: Sequence[Mapping[str, Any]]) -> tuple[Float, dict[str, Float]]:
    names = sorted({name for sample in samples for name in sample["processes"]})
    times = np.array([sample["s"] for sample in samples], dtype=np.float64)
    return times, {
        name: np.array([sample["processes"].get(name, {}).get("rss_mb", np.nan) for sample in samples])
        for name in names
    }


def _settled(samples: Sequence[Mapping[str, Any]], wanted_s: float) -> Sequence[Mapping[str, Any]]:
    """Looks after the warm-up."""
    warm_s = min(_WARM_UP_S, _WARM_UP_SHARE * wanted_s)
    return [sample for sample in samples if sample["s"] >= warm_s]


def _growth(settled: Sequence[Mapping[str, Any]]) -> dict[str, Growth]:
    """Of each process that is there all the time; the one that looks through episodes is the soak's own."""
    if not settled:
        return {}
    names = set.intersection(*(set(sample["processes"]) for sample in settled)) - {HOUSEKEEPER}
    found = {}
    for name in sorted(names):
        used = [sample["processes"][name] for sample in settled]
        first, last = _tenths([one["rss_mb"] for one in used])
        counts = {kind: _more([one[kind] for one in used]) for kind in ("descriptors", "threads")}
        found[name] = Growth(first, last, counts["descriptors"], counts["threads"])
    return found


def _more(values: Sequence[float]) -> int:
    """By how much the last tenth is above the first."""
    if not values:
        return 0
    first, last = _tenths(values)
    return round(last - first)


def _tenths(values: Sequence[float]) -> tuple[float, float]:
    """Medians of the first and the last tenth: one look at an unusual moment decides nothing."""
    few = max(1, len(values) // _TENTH)
    return float(np.median(values[:few])), float(np.median(values[-few:]))

"""What a bench of learning at work comes to: who drove which episode, how soon new weights did, and at what cost."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from cadenza.online_bench import LEARNING, QUIET, Witness
from cadenza.report import percentiles
from cadenza.takeover_report import Bound
from episodes.reader import Episode
from episodes.records import Driver
from spec.arrays import Bool, Float, Int

_AROUND_S = 1.0
"""Ticks so near to a swap count as around it [s]."""
_MORE_MISSED = 0.001
"""So many more of the ticks may be missed with the learner at work, on a machine that is not all its own."""
LEGS = ("taken in", "learned", "bundled", "loaded", "tried", "driving")
"""From the end of an episode with an intervention to a tick that follows new weights: until the learner has taken the
episode in; until its updates are made; until the bundle is on offer; until inference has loaded it; until it has proved
itself in shadow; until the arm follows a chunk of it."""


@dataclass(frozen=True, slots=True)
class Driven:
    """One episode."""

    name: str
    phase: str
    begins_s: float
    """Since the bench began, as all times here [s]."""
    ends_s: float
    outcome: str
    by_hand: tuple[tuple[float, float], ...]
    """When a person drove: from, to [s]."""
    weights: tuple[tuple[int, float, float], ...]
    """Which version drove from when to when [s], as the ticks have it; a version may come twice."""
    ticks: int
    missed: int

    @property
    def versions(self) -> tuple[int, ...]:
        return tuple(dict.fromkeys(version for version, _, _ in self.weights))

    @property
    def hand_s(self) -> float:
        return sum(end - begin for begin, end in self.by_hand)


@dataclass(frozen=True, slots=True)
class Reaction:
    """From an intervention to the weights that learned from it."""

    episode: str
    weights: int
    closed_s: float
    legs: dict[str, float]
    """[s], by name, see :data:`LEGS`."""

    @property
    def total_s(self) -> float:
        return sum(self.legs.values())


@dataclass(frozen=True, slots=True, eq=False)
class Found:
    """Everything the bench shows."""

    episodes: tuple[Driven, ...]
    reactions: tuple[Reaction, ...]
    lateness_us: Mapping[str, Float]
    """Of all ticks of a phase [µs], by phase; ``around swaps`` holds those of both near one."""
    missed: Mapping[str, int]
    """Periods skipped, by the same names."""
    swaps: tuple[tuple[int, float], ...]
    """Version and time at which it came to drive [s]."""
    phases: tuple[tuple[float, str], ...]
    learner: tuple[tuple[float, str], ...]
    """What the learner did and when [s]: ``episode``, ``saved``, ``offered``."""


def find(seen: Witness, episodes: Sequence[Episode]) -> Found:
    """Put together what was seen and what is on record."""
    zero = seen.phases[0][0]
    phases = [((begin - zero) * 1e-9, phase) for begin, phase in seen.phases]
    driven = tuple(_driven(episode, seen.phases, zero) for episode in episodes)
    swaps = sorted((version, (at - zero) * 1e-9) for version, at in seen.swapped.items())[1:]
    lateness, missed = _punctuality(seen, episodes, zero, [at for _, at in swaps])
    did = [((at - zero) * 1e-9, "episode") for at, said in seen.learner if said.get("event") == "episode"]
    did += [((at - zero) * 1e-9, "saved") for at in seen.saved.values()]
    did += [((at - zero) * 1e-9, "offered") for at in seen.offered.values()]
    reactions = _reactions(seen, driven, zero)
    return Found(driven, reactions, lateness, missed, tuple(swaps), tuple(phases), tuple(sorted(did)))


def bounds(found: Found, seen: Witness) -> list[Bound]:
    """What must hold."""
    drove = sorted({version for one in found.episodes for version in one.versions})
    refused = seen.report["run"].get("weights", {}).get("refused", [])
    share = {phase: found.missed[phase] / max(1, len(found.lateness_us[phase])) for phase in (QUIET, LEARNING)}
    by_hand = sum(one.hand_s > 0 for one in found.episodes)
    later = [one for one in found.episodes if any(one.begins_s > at for _, at in found.swaps)]
    stale = [one.name for one in later if one.versions and max(one.versions) < _should(one, found)]
    ended = seen.report["ended"] == "complete" and all(status in {0, 130} for status in seen.status.values())
    return [
        Bound("interventions", f"in {by_hand} of {len(found.episodes)} episodes", "some", by_hand > 0),
        Bound("weight versions that drove", ", ".join(map(str, drove)) or "none", "3 or more", len(drove) >= 3),
        Bound("swaps refused", str(len(refused)), "none", not refused),
        Bound("episodes driven by older weights than there were", f"{len(stale)} of {len(later)}", "none", not stale),
        Bound(
            "ticks missed with learner and swaps",
            f"{share[LEARNING]:.3%}, without {share[QUIET]:.3%}",
            f"no more, but for {_MORE_MISSED:.1%}",
            share[LEARNING] <= share[QUIET] + _MORE_MISSED,
        ),
        Bound(
            "both ended in order",
            f"session {seen.report['ended']}, learner {'saved' if seen.status['learner'] in {0, 130} else 'died'}",
            "complete, saved",
            ended,
        ),
    ]


def figures(found: Found, seen: Witness) -> dict[str, Any]:
    """Everything as numbers, JSON-able."""
    totals = np.array([one.total_s for one in found.reactions])
    return {
        "episodes": [{**asdict(one), "versions": one.versions} for one in found.episodes],
        "reactions": [{**asdict(one), "total_s": one.total_s} for one in found.reactions],
        "reaction_s": percentiles(totals, (50, 100)),
        "legs_s": {leg: percentiles(_legs(found, leg), (50, 100)) for leg in LEGS},
        "lateness_us": {
            name: percentiles(values, (50, 99, 99.9, 100)) | {"ticks": len(values), "missed": found.missed[name]}
            for name, values in found.lateness_us.items()
        },
        "swaps": [{"weights": version, "at_s": at} for version, at in found.swaps],
        "weights": seen.report["run"].get("weights", {}),
        "status": seen.status,
    }


def _legs(found: Found, leg: str) -> Float:
    return np.array([one.legs[leg] for one in found.reactions])


def _should(one: Driven, found: Found) -> int:
    """The newest version that drove when the episode began."""
    return max(version for version, at in found.swaps if at < one.begins_s)


def _driven(episode: Episode, phases: Sequence[tuple[int, str]], zero: int) -> Driven:
    ticks = episode.ticks
    time_s = (ticks["now_ns"].astype(np.int64) - zero) * 1e-9
    drives = ticks["driver"] == Driver.POLICY
    weights = tuple(
        (int(ticks["weights"][begin]), float(time_s[begin]), float(time_s[end]))
        for begin, end in _runs(np.where(drives & (ticks["chunk"] >= 0), ticks["weights"].astype(np.int64), -1))
    )
    by_hand = tuple(
        (float(time_s[begin]), float(time_s[end]))
        for begin, end in _runs(np.where(ticks["driver"] == Driver.HUMAN, 1, -1))
    )
    return Driven(
        name=episode.path.stem,
        phase=_phase_at(phases, int(ticks["now_ns"][0])),
        begins_s=float(time_s[0]),
        ends_s=float(time_s[-1]),
        outcome=episode.outcome.value,
        by_hand=by_hand,
        weights=weights,
        ticks=len(ticks),
        missed=int(ticks["skipped"].sum()),
    )


def _runs(values: Int) -> list[tuple[int, int]]:
    """First and last index of each stretch of one value; −1 is none."""
    edges = np.flatnonzero(np.diff(values)) + 1
    stretches = zip([0, *edges], [*edges, len(values)], strict=True)
    return [(int(begin), int(end) - 1) for begin, end in stretches if values[begin] >= 0]


def _phase_at(phases: Sequence[tuple[int, str]], at_ns: int) -> str:
    begun = [phase for begin, phase in phases if begin <= at_ns]
    return begun[-1] if begun else QUIET


def _punctuality(
    seen: Witness, episodes: Sequence[Episode], zero: int, swaps_s: Sequence[float]
) -> tuple[dict[str, Float], dict[str, int]]:
    now = np.concatenate([episode.ticks["now_ns"].astype(np.int64) for episode in episodes])
    late = np.concatenate([_late_us(episode.ticks) for episode in episodes])
    skipped = np.concatenate([episode.ticks["skipped"].astype(np.int64) for episode in episodes])
    begins = np.array([begin for begin, _ in seen.phases], dtype=np.int64)
    which = np.array([phase == LEARNING for _, phase in seen.phases])
    learning: Bool = which[np.maximum(np.searchsorted(begins, now, side="right") - 1, 0)]
    near = np.zeros(len(now), dtype=np.bool_)
    for at in swaps_s:
        near |= np.abs((now - zero) * 1e-9 - at) <= _AROUND_S
    chosen = {QUIET: ~learning, LEARNING: learning, "around swaps": near}
    return (
        {name: late[mask] for name, mask in chosen.items()},
        {name: int(skipped[mask].sum()) for name, mask in chosen.items()},
    )


def _late_us(ticks: npt.NDArray[Any]) -> Float:
    return np.asarray((ticks["woke_ns"].astype(np.int64) - ticks["deadline_ns"].astype(np.int64)) * 1e-3, np.float64)


def _reactions(seen: Witness, driven: Iterable[Driven], zero: int) -> tuple[Reaction, ...]:
    """For each episode with an intervention that was handed over at once, the first weights that learned from it.

    Weights that came to nothing because newer ones took their place in the meantime are passed over.
    """
    episodes = list(driven)
    first_tick: dict[int, float] = {}
    for one in episodes:
        for version, begin, _ in one.weights:
            first_tick.setdefault(version, begin)
    taken = {
        Path(said["path"]).stem: (at, int(said["update"]))
        for at, said in seen.learner
        if said.get("event") == "episode"
    }
    made = {int(said["weights"]): int(said["update"]) for _, said in seen.learner if said.get("event") == "weights"}
    found = []
    for one in episodes:
        closed = seen.closed.get(f"{one.name}.mcap")
        if not one.by_hand or closed is None or one.name not in taken:
            continue
        if _phase_at(seen.phases, closed + 1_000_000_000) != LEARNING:
            continue
        at, update = taken[one.name]
        for version in sorted(made):
            marks = (seen.saved, seen.offered, seen.tried, seen.swapped)
            if made[version] <= update or version not in first_tick or any(version not in mark for mark in marks):
                continue
            times = [closed, at, *(mark[version] for mark in marks), zero + round(first_tick[version] * 1e9)]
            # Polled ten times a second: a mark may be seen after the one that follows it.
            ordered = np.minimum.accumulate(np.array(times, dtype=np.int64)[::-1])[::-1]
            legs = dict(zip(LEGS, (np.diff(ordered) * 1e-9).tolist(), strict=True))
            found.append(Reaction(one.name, version, (closed - zero) * 1e-9, legs))
            break
    return tuple(found)


def write(seen: Witness) -> str:
    """JSON of what was seen."""
    return json.dumps(asdict(seen), indent=1)

"""What a soak must keep, held against what is on record of it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from cadenza.soaking.drift import Drift, Slack, compared
from cadenza.soaking.findings import Block, Findings
from cadenza.soaking.histogram import Histogram
from cadenza.takeover_report import Bound

GROWTH = 0.05
"""Memory of a process may grow by this share."""
_MORE = 2
"""Descriptors, threads or segments above those after the warm-up: a file that is just open is no leak."""
_PERCENTILES = {"p50": 50.0, "p99": 99.0, "p99_9": 99.9}
_LATER = Slack(share=0.25, more=20.0)
"""[µs]; 20 µs are 0.4 % of a period at 200 Hz."""
_MISSED = Slack(share=0.5, more=0.0005)
_WHOLE = 0.99


def bounds(found: Findings) -> list[Bound]:
    """What was shown, against what is wanted."""
    begin = found.begin
    worst = max(found.growth.items(), key=lambda one: one[1].share, default=None)
    more = max([found.segments, *(max(one.descriptors, one.threads) for one in found.growth.values())], default=0)
    lost = sum(block.lost for block in found.blocks)
    dropped = sum(line.startswith(("dropped", "left out")) for one in found.episodes for line in one["wrong"])
    unsound = sum(bool(one["wrong"]) for one in found.episodes)
    recorded = found.end["recorded"] if found.end else len(found.episodes)
    refused = len(found.offers) - len(found.swaps)
    return [
        Bound(
            "lasted",
            f"{found.seconds / 60:.1f} min" + ("" if found.end else ", then killed"),
            f"{begin['wanted_s'] / 60:g} min",
            found.end is not None and found.seconds >= _WHOLE * begin["wanted_s"],
        ),
        Bound(
            "memory growth",
            "nothing sampled" if worst is None else f"{worst[1].share:+.1%}, {worst[0]}",
            f"< {GROWTH:.0%} in each process",
            worst is not None and worst[1].share < GROWTH,
        ),
        Bound("descriptors, threads, segments", f"{more:+d} at most", f"{_MORE:+d} at most", more <= _MORE),
        Bound(
            "ticks lost on the way",
            f"{lost} of {sum(block.late.ticks for block in found.blocks):,}",
            "0",
            bool(found.blocks) and not lost,
        ),
        Bound("episodes with drops", f"{dropped}", "0", not dropped),
        Bound(
            "episodes closed and sound",
            f"{len(found.episodes) - unsound} of {recorded}",
            "all",
            recorded > 0 and not unsound and len(found.episodes) == recorded,
        ),
        Bound("faults", f"{found.faults}", "0", not found.faults),
        Bound("restarts", f"{found.restarts}", "0", not found.restarts),
        Bound(
            "takeovers answered",
            f"{len(found.takeovers)}, {len(found.troubles)} went wrong",
            "all",
            bool(found.takeovers) and not found.troubles,
        ),
        # The last offer may be too late to drive before the end.
        Bound("swaps", f"{len(found.swaps)} of {len(found.offers)} offers", "all", bool(found.swaps) and refused <= 1),
        *_timing(found),
    ]


def _timing(found: Findings) -> list[Bound]:
    """Lateness and missed ticks of the last stretches against the first."""
    if len(found.blocks) < 2 * found.window:
        return [Bound("lateness of the end like the beginning", "too short", "two windows", held=False)]
    kept = []
    for name, drift in drifts(found).items():
        if name == "missed":
            shown, label = f"{drift.first:.3%} then {drift.last:.3%}", "missed ticks"
        else:
            shown, label = f"{drift.first:.0f} then {drift.last:.0f} µs", f"lateness {name.replace('_', '.')}"
        kept.append(Bound(label, f"{shown} (p {drift.chance:.2g})", "like at first", drift.held))
    return kept


def drifts(found: Findings) -> dict[str, Drift]:
    """First window against last, by figure: medians over the stretches of each."""
    first, last = found.blocks[: found.window], found.blocks[-found.window :]
    return {
        **{
            name: compared(_percentiles(first, share), _percentiles(last, share), _LATER)
            for name, share in _PERCENTILES.items()
        },
        "missed": compared([one.missed_share for one in first], [one.missed_share for one in last], _MISSED),
    }


def figures(found: Findings) -> dict[str, Any]:
    """Everything worth telling. JSON-able."""
    recorded_s = sum(one.get("seconds", 0.0) for one in found.episodes)
    written = sum(one.get("bytes", 0) for one in found.episodes)
    whole = len(found.blocks) >= 2 * found.window
    return {
        **found.begin,
        "seconds": found.seconds,
        "ticks": sum(block.late.ticks for block in found.blocks),
        "missed_ticks": sum(block.missed for block in found.blocks),
        "takeovers": len(found.takeovers),
        "swaps": len(found.swaps),
        "offers": len(found.offers),
        "episodes": len(found.episodes),
        "gb_per_hour": written / 1e9 / (recorded_s / 3600) if recorded_s else 0.0,
        "memory_mb": {
            name: {"first": one.first_mb, "last": one.last_mb, "growth": one.share}
            for name, one in found.growth.items()
        },
        "lateness_us": {"first": _spread(found.blocks[: found.window]), "last": _spread(found.blocks[-found.window :])},
        "distance": _distance(found.at_first(), found.at_last()),
        "drift": {
            name: {"first": one.first, "last": one.last, "chance": one.chance}
            for name, one in (drifts(found) if whole else {}).items()
        },
        "cores_busy": {
            "ours": _mean([block.ours for block in found.blocks]),
            "others": _mean([block.others for block in found.blocks]),
        },
        "wrong": [f"{one['path']}: {line}" for one in found.episodes for line in one["wrong"]],
        "troubles": list(found.troubles),
    }


def _spread(blocks: Sequence[Block]) -> dict[str, float]:
    """Of all ticks of a window together [µs]."""
    late = Histogram()
    for block in blocks:
        late.counts += block.late.counts
    return {
        **{name: late.percentile(share) for name, share in _PERCENTILES.items()},
        "max": max((block.max_us for block in blocks), default=0.0),
        "missed": float(sum(block.missed for block in blocks)),
    }


def _distance(first: Histogram, last: Histogram) -> float:
    """Largest difference between the shares of ticks later than any given time (Kolmogorov and Smirnov's)."""
    return float(abs(first.shares()[1] - last.shares()[1]).max())


def _percentiles(blocks: Sequence[Block], share: float) -> list[float]:
    return [block.late.percentile(share) for block in blocks]


def _mean(values: Sequence[float]) -> float:
    return sum(values) / max(1, len(values))

"""What a campaign comes to: by kind of fault how often, how soon the arm stood at worst, and what was broken."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from rich.table import Table

from cadenza.faults.campaign import Result


@dataclass(slots=True)
class Tally:
    """Of one kind of fault."""

    cases: int = 0
    """In which it took part."""
    measured: int = 0
    """Of them those in which it alone made the arm stand."""
    worst: int | None = None
    """Of these, the longest time until it stood, in ticks."""
    bound: int | None = None
    broken: Counter[str] = field(default_factory=Counter)
    """Cases with this fault that broke a verdict, by verdict."""


def tallies(results: Sequence[Result]) -> dict[str, Tally]:
    """By kind, in order of name."""
    found: dict[str, Tally] = {}
    for result in results:
        for kind in {trouble.kind for trouble in result.case.troubles}:
            tally = found.setdefault(kind, Tally())
            tally.cases += 1
            tally.broken.update(result.broken.keys())
        for one in result.latencies:
            tally = found.setdefault(one.kind, Tally())
            tally.measured += 1
            tally.bound = one.bound
            tally.worst = max(one.ticks, -1 if tally.worst is None else tally.worst)
    return dict(sorted(found.items()))


def figures(results: Sequence[Result], verdicts: Sequence[str]) -> dict[str, Any]:
    """Everything counted, JSON-able."""
    broken = Counter(name for result in results for name in result.broken)
    recoveries = [result.recovery_ticks for result in results if result.recovery_ticks is not None]
    return {
        "cases": len(results),
        "by_setting": dict(Counter(result.case.setting.value for result in results)),
        "robot_seconds": round(sum(result.seconds for result in results), 1),
        "broken_cases": sum(bool(result.broken) for result in results),
        "broken": {name: broken.get(name, 0) for name in verdicts},
        "recoveries": len(recoveries),
        "worst_recovery_ticks": max(recoveries, default=None),
        "kinds": {
            kind: {
                "cases": tally.cases,
                "measured": tally.measured,
                "worst_hold_ticks": tally.worst,
                "bound_ticks": tally.bound,
                "broken": dict(tally.broken),
            }
            for kind, tally in tallies(results).items()
        },
    }


def kind_table(results: Sequence[Result]) -> Table:
    """One row for each kind."""
    table = Table("fault", "cases", "stands after (ticks)", "bound", "broken verdicts", box=None)
    for kind, tally in tallies(results).items():
        worst = "" if tally.worst is None else f"{tally.worst} at most, of {tally.measured}"
        broken = ", ".join(f"{name} {count}" for name, count in tally.broken.items())
        table.add_row(
            kind.replace("_", " "),
            str(tally.cases),
            worst,
            "" if tally.bound is None else str(tally.bound),
            f"[bold red]{broken}[/]" if broken else "none",
        )
    return table


def verdict_lines(found: Mapping[str, Any]) -> list[str]:
    """How each verdict fared, one line for all."""
    counts = ", ".join(f"{name} {count}" for name, count in found["broken"].items())
    setting = ", ".join(f"{count} {name}" for name, count in found["by_setting"].items())
    lines = [f"{found['cases']} cases ({setting}), {found['robot_seconds']:,.0f} s of robot time; broken: {counts}"]
    if found["recoveries"]:
        lines.append(
            f"{found['recoveries']} recoveries on the operator's word, the policy drove again after "
            f"{found['worst_recovery_ticks']} ticks at most"
        )
    return lines

"""``cadenza bench fuzz``: does everything that reads what others wrote stand what nobody would write?"""

from __future__ import annotations

import hashlib
import json
import time
import traceback
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table

from cadenza.arguments import check_range, parse
from cadenza.bench_ending import refuse_used
from cadenza.fuzzing.campaign import Campaign, Outcome
from cadenza.fuzzing.hunt import Crash
from cadenza.fuzzing.target import SAMPLE, accepted
from cadenza.fuzzing.targets import TARGETS
from spec.errors import CadenzaError, SpecError
from spec.files import write_atomically

_CASE = ".case"
_MOST_CASES = 1_000_000_000
"""More than a week of one core, for one parser."""


@dataclass(frozen=True, slots=True)
class Args:
    """Feed every parser with bytes that are almost right: no crash, no hang, no memory without bound.

    Parsers: packets (servo bus, both ends), robot, calibration, bundle, episode (MCAP: reader, check, recovery), server
    and client (the link between robots and learner), desk (socket of a run). Each is tried in a process of its own.
    Refusals in one line are what is wanted; whatever else comes out is a finding: saved as small as it gets in --out,
    to be fed again with --again. The same seed makes the same cases. About a quarter of an hour of one core for a
    million cases of one parser. Exit status 1 when there is a finding.

    cadenza bench fuzz --cases 1000000

    cadenza bench fuzz --parser robot bundle --cases 20000 --seed 3 --json

    cadenza bench fuzz --again runs/bench-fuzz/robot.document.3f2a9c01.case
    """

    cases: int = 1_000_000
    """Of each parser."""
    parser: tuple[str, ...] = ()
    """Which; all by default."""
    seed: int = 0
    """Of the cases."""
    out: Path = Path("runs/bench-fuzz")
    """Folder for the report and for what was found; it must be new or empty."""
    again: Path | None = None
    """Feed one saved case once more, and show what comes out."""
    json: bool = False
    """Print the report as JSON and nothing else on standard output."""


def main(argv: Sequence[str]) -> int:
    """Run the command."""
    args = parse(Args, argv, "bench fuzz")
    if not SAMPLE.is_file():
        raise CadenzaError(f"{SAMPLE}: no such file; go to Cadenza's folder, whose robot file is one of the samples")
    if args.again is not None:
        return _feed_again(args.again)
    check_range("--cases", args.cases, 1, _MOST_CASES)
    if args.seed < 0:
        raise SpecError("--seed", args.seed, "at least 0")
    for name in args.parser:
        if name not in TARGETS:
            raise SpecError("--parser", name, "no such parser", TARGETS)
    refuse_used(args.out)
    console = Console(stderr=args.json)
    report: dict[str, Any] = {"seed": args.seed, "cases": args.cases, "parsers": {}}
    found = False
    columns = (TextColumn("{task.description:<12}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=console, transient=True) as progress:
        for name in args.parser or TARGETS:
            task = progress.add_task(name, total=args.cases)
            began_s = time.monotonic()
            outcome = Campaign(name, args.seed, args.cases).run(
                lambda so_far, task=task: progress.update(task, completed=so_far.cases)  # type: ignore[misc]
            )
            progress.remove_task(task)
            report["parsers"][name] = _figures(outcome, time.monotonic() - began_s)
            found = found or not outcome.held
            console.print(_table(name, outcome))
            for crash in outcome.crashes.values():
                saved = _save(args.out, name, crash)
                console.print(f"{name}: {crash.error}: {saved}", markup=False, highlight=False, soft_wrap=True)
            text = json.dumps(report, indent=2)
            write_atomically(args.out / "report.json", f"{text}\n".encode())
    if args.json:
        print(text)
    else:
        console.print(f"report {args.out / 'report.json'}", highlight=False, soft_wrap=True)
    return 1 if found else 0


def _feed_again(case: Path) -> int:
    """Of the file's name: ``<parser>.<layer>.<digest>.case``."""
    name, _, rest = case.name.partition(".")
    if name not in TARGETS or not case.name.endswith(_CASE):
        raise SpecError("--again", str(case), f"is no saved case: PARSER.LAYER.DIGEST{_CASE}")
    data = case.read_bytes()
    with TARGETS[name].open() as layers:
        chosen = [layer for layer in layers if rest.startswith(f"{_plain(layer.name)}.")]
        for layer in chosen:
            try:
                taken = accepted(layer.feed, data)
            except Exception:  # noqa: BLE001 (it is shown)
                traceback.print_exc()
                return 1
            print(f"{name}: {layer.name}: {'taken' if taken else 'refused in a line'}")
    if not chosen:
        raise SpecError("--again", str(case), "no such layer", [layer.name for layer in layers])
    return 0


def _save(out: Path, name: str, crash: Crash) -> Path:
    digest = hashlib.sha256(crash.data + crash.error.encode()).hexdigest()[:8]
    path = out / f"{name}.{_plain(crash.layer)}.{digest}{_CASE}"
    write_atomically(path, crash.data)
    return path


def _plain(layer: str) -> str:
    """The name of a layer as part of a file's."""
    return "".join(letter if letter.isalnum() else "-" for letter in layer)


def _figures(outcome: Outcome, seconds: float) -> dict[str, Any]:
    """JSON-able."""
    return {
        "cases": outcome.cases,
        "seconds": seconds,
        "slowest_ms": outcome.slowest_s * 1e3,
        "memory_growth_mb": outcome.growth_mb,
        "memory_grows": outcome.grows,
        "layers": {
            name: {
                "cases": layer.cases,
                "taken": layer.taken,
                "us_per_case": layer.seconds / max(1, layer.cases) * 1e6,
            }
            for name, layer in outcome.layers.items()
        },
        "findings": [crash.error for crash in outcome.crashes.values()],
    }


def _table(name: str, outcome: Outcome) -> Table:
    """Of one parser: how its cases divide, and how deep they got."""
    verdict = "ok" if outcome.held else "[bold red]broken[/]"
    table = Table(name, "cases", "taken", "µs a case", "slowest", "memory", verdict, box=None)
    for layer, count in outcome.layers.items():
        cells = (f"{count.cases:,}", f"{count.taken / max(1, count.cases):.1%}")
        table.add_row(f"  {layer}", *cells, f"{count.seconds / max(1, count.cases) * 1e6:.0f}", "", "", "")
    most = f"{outcome.slowest_s * 1e3:.0f} ms"
    crashes = len(outcome.crashes)
    found = f"{crashes} finding{'s' if crashes > 1 else ''}" if crashes else ""
    table.add_row("  all", f"{outcome.cases:,}", "", "", most, f"+{outcome.growth_mb:.1f} MB", found)
    return table

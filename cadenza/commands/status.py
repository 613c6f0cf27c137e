"""``cadenza status``: how a run is."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import tyro
from rich.console import Console
from rich.live import Live
from rich.text import Text

from cadenza.arguments import parse
from cadenza.collecting.view import times
from cadenza.runs import is_there, the_newest_run, the_run
from controller.desk import answer
from spec.errors import CadenzaError

_PATIENCE_S = 5.0
"""Longest time a run may take to answer [s]; it looks fifty times a second."""
_REFRESH_S = 1.0
_LOUD_S = 2.0
"""A process that has been silent for longer is worth a word [s]."""


@dataclass(frozen=True, slots=True)
class Args:
    """How a run is: what the arm does and who drives it, a fault and its cause, timing, processes, what to do next.

    Exit status: 0 the arm moves, or can be started; 1 it holds for a person; 2 there is no run, or it does not answer.
    With --watch that of the last look. One that hangs is asked again (with --json: kind "silent").

    cadenza status
    cadenza status runs/run-20260101-120000 --watch
    cadenza status --json
    """

    run: tyro.conf.Positional[Annotated[str | None, tyro.conf.arg(metavar="[RUN]")]] = None
    """Folder of the run; by default the newest under runs/ that is on."""
    watch: bool = False
    """Look again every second, until Ctrl-C or the end of the run."""
    json: bool = False
    """Print JSON instead of text; with --watch a line each time."""


def main(argv: Sequence[str]) -> int:
    """Run the command."""
    args = parse(Args, argv, "status")
    run = the_run(args.run) if args.run is not None else the_newest_run()
    if args.watch:
        return _watch(run, args)
    seen = _ask(run)
    print(json.dumps(seen, indent=2) if args.json else "\n".join(told(seen)))
    return _verdict(seen)


def _ask(run: Path) -> dict[str, Any]:
    return answer(run, {"do": "status"}, _PATIENCE_S)


def _verdict(seen: dict[str, Any]) -> int:
    return int(seen["fault"] is not None or seen["waiting"])


def _watch(run: Path, args: Args) -> int:
    """A run that does not answer may do so again: as long as it is there it is asked."""
    seen, silence = _ask(run), ""
    console = Console()
    with nullcontext(_line) if args.json else _screen(console) as show:
        try:
            while True:
                show(seen, silence)
                time.sleep(_REFRESH_S)
                try:
                    seen, silence = _ask(run), ""
                except CadenzaError as error:
                    if not is_there(run):
                        break
                    silence = str(error)
        except KeyboardInterrupt:
            return 2 if silence else _verdict(seen)
    if not args.json:
        console.print(f"{run}: the run ended", markup=False, highlight=False, soft_wrap=True)
    return _verdict(seen)


def _line(seen: dict[str, Any], silence: str) -> None:
    print(json.dumps({"kind": "silent", "text": silence} if silence else seen), flush=True)


@contextmanager
def _screen(console: Console) -> Iterator[Callable[[dict[str, Any], str], None]]:
    """Shows the newest in the place of the one before."""

    def show(seen: dict[str, Any], silence: str) -> None:
        live.update(Text("\n".join([*told(seen), *([f"silent     {silence}"] if silence else [])])), refresh=True)

    with Live(console=console, auto_refresh=False) as live:
        yield show
    if not console.is_terminal:
        console.print()  # rich ends a line only where it may have to go back to it


def told(seen: dict[str, Any]) -> Iterator[str]:
    """For people: what matters most comes first."""
    yield f"{seen['robot']}: {seen['run']}, process {seen['pid']}, up {span(seen['up_s'])}"
    yield _mode(seen)
    if (fault := seen["fault"]) is not None:
        yield f"fault      {fault['words']}: {fault['cause']}"
    if seen["next"] is not None:
        yield f"next       {seen['next']}"
    yield from _timing(seen)
    wide = max(map(len, seen["processes"]), default=0)
    for label, (name, process) in zip(_labels("processes"), seen["processes"].items(), strict=False):
        yield f"{label}{name:<{wide}}  {_process(process)}"
    if seen["cameras"]:
        ages = (f"{name} {'none yet' if age is None else f'{age:.0f} ms old'}" for name, age in seen["cameras"].items())
        yield f"pictures   {', '.join(ages)}"
    if (weights := seen["weights"]) is not None:
        candidate = weights["candidate"]
        trial = "" if candidate is None else f"; {candidate['what']}: {candidate['state']}"
        yield f"weights    {weights['driving']} of {weights['bundle']}{trial}"
    free = "unknown" if seen["disk_free_bytes"] is None else f"{seen['disk_free_bytes'] / 1e9:.1f} GB"
    yield f"recording  {'nothing' if seen['recording'] is None else Path(seen['recording']).name}; disk: {free} free"


def _mode(seen: dict[str, Any]) -> str:
    holds = ", waits for a person" if seen["waiting"] else ""
    if seen["mode"] is None:
        return f"mode       {'starting' if seen['fault'] is None else f'none, nobody ticks{holds}'}"
    since = "" if seen["since_s"] is None else f" for {span(seen['since_s'])}"
    lacks = "" if seen["lacking"] is None else f": {seen['lacking']}"
    return f"mode       {seen['mode'].lower().replace('_', ' ')}{since}, driven by {seen['driver']}{holds}{lacks}"


def _timing(seen: dict[str, Any]) -> Iterator[str]:
    timing = seen["timing"]
    parts = [f"{timing['measured_hz']:g} of {timing['rate_hz']:g} Hz"]
    if (late := timing["lateness_us"]) is not None:
        worst = f"p50 {late['p50']:.0f}, p99 {late['p99']:.0f}, max {late['max']:.0f} µs"
        parts.append(f"late by {worst} in the last {timing['seconds']:g} s")
    counts = f"{seen['missed_ticks']} of {seen['ticks']} ticks missed, {seen['bus_errors']} bus errors"
    for label, line in zip(_labels("timing"), (", ".join(parts), counts, timing["certificate"]), strict=False):
        yield f"{label}{line}"


def _labels(first: str) -> Iterator[str]:
    """The first of some lines says what they are about."""
    yield f"{first:<11}"
    while True:
        yield " " * 11


def _process(process: dict[str, Any]) -> str:
    if not process["alive"]:
        return "gone" if process["refusal"] is None else f"gone: {process['refusal']}"
    words = [f"{process['pid']:>7}", f"{process['memory_mb']:4.0f} MB"]
    if not process["ready"]:
        words.append("starting")
    if process["restarts"]:
        words.append(f"started again {times(process['restarts'])}")
    if process["silent_s"] > _LOUD_S:
        words.append(f"silent for {process['silent_s']:.0f} s")
    return ", ".join(words)


def span(seconds: float) -> str:
    """A duration in words."""
    whole = int(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60} s"
    return f"{whole // 3600} h {whole % 3600 // 60} min"

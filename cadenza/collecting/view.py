"""What there is to show of a running session, and the screen made of it."""

from __future__ import annotations

import shutil
import time
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from rich import box
from rich.align import Align
from rich.columns import Columns
from rich.console import Group, RenderableType
from rich.panel import Panel
from rich.progress_bar import ProgressBar
from rich.rule import Rule
from rich.table import Table
from rich.text import Text

from cadenza.collecting.keys import HELP
from controller.collection.collector import Collector
from controller.collection.machine import Phase
from episodes.records import Driver, Mode

_COLOURS = {
    Phase.HOMING: "cyan",
    Phase.RESET: "yellow",
    Phase.READY: "green",
    Phase.OPENING: "red",
    Phase.RUNNING: "red",
    Phase.STOPPING: "blue",
    Phase.SAVING: "blue",
    Phase.FAULT: "bright_red",
    Phase.DONE: "green",
}
_SHOWN = {
    Phase.HOMING: "to the start pose",
    Phase.RESET: "prepare the scene",
    Phase.READY: "ready",
    Phase.OPENING: "starting",
    Phase.RUNNING: "running",
    Phase.STOPPING: "stopping",
    Phase.SAVING: "saving",
    Phase.FAULT: "fault",
    Phase.DONE: "done",
}
_NEXT = {
    Phase.RESET: "space starts at once",
    Phase.READY: "space starts",
    Phase.FAULT: "space clears it and goes home, q quits",
}
_BAR = 30
_SILENT_MS, _LATE, _LITTLE_GB = 200.0, 0.2, 2.0
"""Shown in red: a device that was not heard for so long, a p99 of this share of the period, less free space."""


@dataclass(frozen=True, slots=True)
class View:
    """One moment of a session."""

    title: str
    phase: Phase
    recording: bool
    number: int
    saved: int
    target: int
    seconds: float
    """Of the episode, since somebody began to drive [s]."""
    limit_s: float
    countdown_s: float | None
    """Left to prepare the scene [s]."""
    mode: Mode | None
    driver: Driver
    alpha: float
    """Weight of the person."""
    takeovers: int
    human_s: float
    rewards: tuple[float, ...]
    rate_hz: float
    late_p50_us: float
    late_p99_us: float
    missed: int
    bus_errors: int
    device_ms: float | None
    """Age of what the teleoperation device said last [ms]; None where it has said nothing."""
    free_gb: float
    fault: str
    lines: tuple[str, ...]
    """What happened last, oldest first."""
    tally: str
    """How the episodes so far went."""


def view_of(collector: Collector, title: str, lines: Sequence[str]) -> View:
    """The session as it stands."""
    now, plan, run = collector.now, collector.plan, collector.run
    watch, tick = run.watch, run.watch.tick
    late = watch.recent_lateness()
    p50, p99 = np.percentile(late, [50, 99]) if late.size else (0.0, 0.0)
    in_reset = now.phase is Phase.RESET
    return View(
        title=title,
        phase=now.phase,
        recording=collector.keeper.recording,
        number=now.number,
        saved=now.saved,
        target=plan.target,
        seconds=collector.seconds,
        limit_s=plan.limit_s,
        countdown_s=max(0.0, plan.reset_s - (time.monotonic() - now.since_s)) if in_reset else None,
        mode=watch.mode,
        driver=Driver.NONE if tick is None else Driver(tick.driver),
        alpha=0.0 if tick is None else float(tick.alpha),
        takeovers=collector.episode.takeovers,
        human_s=collector.episode.human_s,
        rewards=tuple(collector.episode.rewards),
        rate_hz=run.robot.control.rate_hz,
        late_p50_us=float(p50),
        late_p99_us=float(p99),
        missed=watch.tally.skipped,
        bus_errors=watch.tally.bus_errors,
        device_ms=None if tick is None or not tick.teleop_ns else (tick.now_ns - tick.teleop_ns) * 1e-6,
        free_gb=shutil.disk_usage(run.out).free * 1e-9,
        fault=watch.tally.faults[-1] if watch.tally.faults and now.faulted else "",
        lines=tuple(lines),
        tally=_tally(collector),
    )


def render(view: View, width: int) -> RenderableType:
    """The screen, so many columns wide."""
    colour = _COLOURS[view.phase]
    done = Table.grid(padding=(0, 2), expand=True)
    done.add_column(no_wrap=True)
    done.add_column(ratio=1)
    done.add_column(no_wrap=True, justify="right")
    done.add_row(
        Text(f"{view.saved} of {view.target} saved", style="bold"),
        Align(ProgressBar(total=max(1, view.target), completed=view.saved, complete_style="green"), vertical="middle"),
        Text(view.tally, style="dim"),
    )
    body = Group(
        _headline(view, colour),
        Text(view.fault, style="bold red"),
        done,
        Text(),
        _who_drives(view),
        Text(),
        _health(view),
        Rule(style="dim"),
        *(Text(line, no_wrap=True, overflow="ellipsis") for line in view.lines),
        *(Text() for _ in range(max(0, 5 - len(view.lines)))),
        Rule(style="dim"),
        _help(),
    )
    return Panel(body, title=Text(view.title, style="bold"), border_style=colour, box=box.ROUNDED, width=width)


def _headline(view: View, colour: str) -> RenderableType:
    row = Table.grid(padding=(0, 2), expand=True)
    row.add_column(no_wrap=True)
    row.add_column(ratio=1, no_wrap=True)
    row.add_column(no_wrap=True, justify="right")
    sign = Text(
        f" {_SHOWN[view.phase].upper()} ", style=f"bold white on {colour}" if colour != "yellow" else "black on yellow"
    )
    if view.recording:
        sign.append(" ● REC", style="bold red on default")
    episode = Text(f"episode {view.number}", style="bold")
    if (hint := _NEXT.get(view.phase)) is not None:
        episode.append(f"   {hint}", style="not bold dim")
    row.add_row(sign, episode, _clock(view))
    return row


def _clock(view: View) -> Text:
    if view.countdown_s is not None:
        return Text(f"{view.countdown_s:.0f} s left", style="bold yellow")
    if view.phase in {Phase.RUNNING, Phase.STOPPING}:
        return Text(f"{view.seconds:.1f} / {view.limit_s:.0f} s", style="bold")
    return Text()


def _who_drives(view: View) -> RenderableType:
    """Policy on the left, person on the right, and where between them the arm is."""
    filled = round(view.alpha * _BAR)
    nobody = view.driver is Driver.NONE
    bar = Text("▕")
    bar.append("━" * (_BAR - filled), style="dim" if nobody else "bold blue")
    bar.append("━" * filled, style="dim" if nobody else "bold magenta")
    bar.append("▏")
    person = "bold magenta" if view.driver is Driver.HUMAN else "dim"
    policy = "bold blue" if view.driver is Driver.POLICY else "dim"
    line = Text("drives   ").append("policy ", style=policy).append_text(bar).append(" person", style=person)
    mode = "not heard yet" if view.mode is None else view.mode.name.lower().replace("_", " ")
    line.append(f"   α {view.alpha:.2f}   {mode}")
    facts = [f"taken over {times(view.takeovers)}, {view.human_s:.1f} s" if view.takeovers else "not taken over"]
    if view.rewards:
        facts.append(f"rewards {', '.join(f'{value:g}' for value in view.rewards[-6:])}")
    return Group(line, Text("         " + "   ".join(facts), style="dim"))


def _health(view: View) -> RenderableType:
    device = "not heard" if view.device_ms is None else f"heard {max(0.0, view.device_ms):.0f} ms ago"
    silent = view.device_ms is None or view.device_ms > _SILENT_MS
    late = f"median {view.late_p50_us:.0f}, p99 {view.late_p99_us:.0f} µs"
    facts = (
        _fact("ticks ", f"{view.rate_hz:g} Hz, {view.missed} missed", bad=False),
        _fact("lateness ", late, bad=view.late_p99_us > _LATE * 1e6 / view.rate_hz),
        _fact("bus ", f"{view.bus_errors} errors", bad=False),
        _fact("device ", device, bad=silent),
        _fact("disk ", f"{view.free_gb:.0f} GB free", bad=view.free_gb < _LITTLE_GB),
    )
    return _flowing(facts)


def _fact(name: str, value: str, *, bad: bool) -> Text:
    return Text(f"{name} ", style="dim").append(value, style="not dim bold red" if bad else "not dim")


def _help() -> RenderableType:
    items = (Text(key, style="bold").append(f" {meaning}", style="not bold dim") for key, meaning in HELP)
    return _flowing(tuple(items))


def _flowing(items: Sequence[Text]) -> RenderableType:
    """As many on a line as fit, none of them broken."""
    return Columns(items, padding=(0, 3))


def times(count: int) -> str:
    """In words where there are some."""
    return {1: "once", 2: "twice"}.get(count, f"{count} times")


def _tally(collector: Collector) -> str:
    counts: dict[str, int] = {}
    for line in collector.ledger.lines:
        counts[line.outcome] = counts.get(line.outcome, 0) + 1
    return ", ".join(f"{count} {outcome}" for outcome, count in counts.items())

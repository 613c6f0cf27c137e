"""``cadenza demo``: the whole thing on the virtual arm, from checkpoint to report."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console
from rich.table import Table

from cadenza.arguments import check_length, parse, split_robot_overrides
from cadenza.commands.run import RunResult, run_episodes
from cadenza.picture import draw_run, save
from cadenza.report import film_strip, joined_phases, joint_trace, lateness_us
from episodes.outcome import Outcome
from episodes.reader import read_episode
from export.exporter import export_checkpoint
from spec.errors import CadenzaError
from spec.files import write_atomically
from spec.robotfile import load_robot

PICTURE_CAMERA = "front"


@dataclass(frozen=True, slots=True)
class Args:
    """Export the shipped policy, run it on the virtual arm in real time, and report.

    Writes report.json, demo.png, the bundle and the episodes into --out. Exit status 1 when a bar of the demo is
    broken (the report says which), 0 otherwise.

    cadenza demo --out runs/demo

    cadenza demo --episodes 3 --seed 100 --robot.control.mode latest
    """

    out: Path = Path("runs/demo")
    """Folder of the run."""
    checkpoint: Path = Path("assets/policy/push")
    """Policy to export."""
    config: Path = Path("robots/virtual.yaml")
    """Robot file; it must have a virtual arm."""
    episodes: int = 10
    """How many, each from another start."""
    episode_seconds: float = 20.0
    """Time limit of each [s]."""
    seed: int = 0
    """Of the scenes; episode k uses seed + k."""
    json: bool = False
    """Print the report as JSON and nothing else on standard output."""


@dataclass(frozen=True, slots=True)
class Bar:
    """One thing the demo has to show."""

    name: str
    shown: str
    wanted: str
    held: bool


def main(argv: Sequence[str]) -> int:
    """Run the command."""
    rest, overrides = split_robot_overrides(argv)
    args = parse(Args, rest, "demo")
    check_length(args.episodes, args.episode_seconds)
    robot = load_robot(args.config, {"virtual.seed": str(args.seed), **overrides})
    console = Console(stderr=args.json)
    console.print(f"exporting {args.checkpoint}", highlight=False)
    bundle = export_checkpoint(args.checkpoint, args.out / "bundle", None, 1.0)
    console.print(f"running {args.episodes} episodes on {robot.name}, in real time", highlight=False)
    result = run_episodes(robot, bundle, args.out, args.episodes, args.episode_seconds, console)
    if not any(len(episode.ticks) for episode in result.recorded):
        raise CadenzaError(f"{args.out}: no episode was recorded; see {args.out / 'logs'}")
    bars = judge(result.report)
    picture = args.out / "demo.png"
    _draw(result, picture)
    report = {**result.report, "bars": {bar.name: bar.held for bar in bars}, "picture": str(picture)}
    write_atomically(args.out / "report.json", (json.dumps(report, indent=2) + "\n").encode())
    if args.json:
        print(json.dumps(report, indent=2))
    _print(bars, report, args.out, console)
    if result.interrupted:
        return 130
    return 0 if result.sound and all(bar.held for bar in bars) else 1


def judge(report: Mapping[str, Any]) -> tuple[Bar, ...]:
    """Hold the figures of a run against what the demo has to show."""
    success, missed, ticks = report["success_rate"], report["missed_share"], report["parity"]["max_ticks"]
    rate, policy = report["rate_hz"], report["policy_hz"]
    return (
        Bar("success", f"{success:.0%} of {report['episodes']} episodes", "at least 80 %", success >= 0.8),
        Bar("missed ticks", f"{report['missed_ticks']} of {report['ticks']}", "at most 0.1 %", missed <= 0.001),
        Bar("control rate", f"{rate:g} Hz", "at least 100 Hz", rate >= 100),
        Bar("policy rate", f"{policy:g} Hz", "at least 10 Hz", policy >= 10),
        Bar("export parity", f"{ticks:.2g} encoder ticks", "at most 1", ticks <= 1),
    )


def _draw(result: RunResult, path: Path) -> None:
    shown = next((e for e in result.recorded if e.outcome is Outcome.SUCCESS), result.recorded[0])
    shown = read_episode(shown.path, cameras=(PICTURE_CAMERA,))
    report = result.report
    title = (
        f"{shown.facts['robot']}: {report['success_rate']:.0%} of {report['episodes']} episodes succeeded, "
        f"{report['ticks']:,} ticks at {report['rate_hz']:g} Hz, {report['missed_ticks']} missed"
    )
    lateness = np.concatenate([lateness_us(episode) for episode in result.recorded])
    strip = film_strip(shown, PICTURE_CAMERA)
    figure = draw_run(
        title, lateness, joined_phases(result.recorded), 1e6 / report["rate_hz"], joint_trace(shown), strip
    )
    save(figure, path)


def _print(bars: Sequence[Bar], report: Mapping[str, Any], out: Path, console: Console) -> None:
    table = Table("", "shown", "wanted", "", box=None)
    for bar in bars:
        table.add_row(bar.name, bar.shown, bar.wanted, "ok" if bar.held else "[bold red]broken[/]")
    lateness, phases, inference = report["lateness_us"], report["phase_us"], report["inference_ms"]
    figures = {
        "wake-up lateness": "p50 {p50:.0f}, p99 {p99:.0f}, p99.9 {p99_9:.0f}, max {max:.0f} µs".format(**lateness),
        "tick phases, p50": ", ".join(f"{name} {value['p50']:.0f}" for name, value in phases.items()) + " µs",
        "inference": "p50 {p50:.1f}, p99 {p99:.1f} ms".format(**inference) if inference else "none",
    }
    for name, shown in figures.items():
        table.add_row(name, shown)
    console.print(table)
    if not next(bar.held for bar in bars if bar.name == "missed ticks"):
        busy = f"load average {os.getloadavg()[0]:.1f} on {os.cpu_count()} cores"
        console.print(f"ticks were missed ({busy}): close other programs, or lower the rate", highlight=False)
    console.print(f"report {out / 'report.json'}, picture {report['picture']}", highlight=False)

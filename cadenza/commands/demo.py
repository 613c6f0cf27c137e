"""``cadenza demo``: the whole thing on the virtual arm, from checkpoint to report."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console
from rich.table import Table

from cadenza.arguments import check_length, parse, split_robot_overrides
from cadenza.commands.run import RunResult, chosen_robot, run_episodes
from cadenza.intervention import Intervention, collect_one, replay_every_tick, replay_on_the_arm
from cadenza.picture import draw_run, save
from cadenza.report import film_strip, joined_phases, joint_trace, lateness_us
from cadenza.running import Wanted
from cadenza.takeover_picture import draw_takeover, takeover_trace
from controller.collection.machine import End
from episodes.outcome import Outcome, Termination
from episodes.reader import read_episode
from export.bundle import Bundle
from export.exporter import export_checkpoint
from spec.errors import CadenzaError, SpecError
from spec.files import write_atomically
from spec.robot import Robot, TeleopDevice

PICTURE_CAMERA = "front"
REPLAY_MM = 5.0
"""The tool follows the recorded motion this well when it is played again: rms over the motion [mm]."""


@dataclass(frozen=True, slots=True)
class Args:
    """Export the shipped policy, run it on the virtual arm in real time, step in once, replay it all, and report.

    At the end a scripted person takes the arm out of the policy's hands by the leader arm, moves on, and gives it
    back. Every tick of every episode is then decided once more from what is on record, and that last episode is
    played to the arm again.

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
    """Robot file; it must have a virtual arm with a leader."""
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
    robot = chosen_robot(args.config, overrides, None, None, args.seed)
    _check_leader(robot, args.config)
    console = Console(stderr=args.json)
    console.print(f"exporting {args.checkpoint}", highlight=False)
    bundle = export_checkpoint(args.checkpoint, args.out / "bundle", None, 1.0)
    console.print(f"running {args.episodes} episodes on {robot.name}, in real time", highlight=False)
    result = run_episodes(Wanted(robot, bundle, args.out, args.episode_seconds), args.episodes, console)
    if not any(len(episode.ticks) for episode in result.recorded):
        raise CadenzaError(f"{args.out}: no episode was recorded; see {args.out / 'logs'}")
    last = None if result.interrupted else _step_in(robot, bundle, args, result, console)
    bars = judge(result.report) + (() if last is None else judge_last(last))
    picture = args.out / "demo.png"
    _draw(result, None if last is None else last.intervention.path, picture)
    more = {} if last is None else last.report()
    report = {**result.report, **more, "bars": {bar.name: bar.held for bar in bars}, "picture": str(picture)}
    write_atomically(args.out / "report.json", (json.dumps(report, indent=2) + "\n").encode())
    if args.json:
        print(json.dumps(report, indent=2))
    _print(bars, report, args.out, console)
    if result.interrupted or (last is not None and last.interrupted):
        return 130
    return 0 if result.sound and all(bar.held for bar in bars) else 1


def _check_leader(robot: Robot, config: Path) -> None:
    """Raises SpecError."""
    if robot.leader is None or robot.teleop is None or robot.teleop.device is not TeleopDevice.LEADER:
        raise SpecError(f"{config}: teleop.device", None, "the demo needs a leader arm to step in by", ["leader"])


@dataclass(frozen=True, slots=True)
class LastPart:
    """The intervention, and what its replays came to; None for those that there was nothing for."""

    intervention: Intervention
    ticks: Mapping[str, Any] | None
    arm: Mapping[str, Any] | None

    @property
    def interrupted(self) -> bool:
        arm_stopped = self.arm is not None and self.arm["termination"] == Termination.OPERATOR
        return self.intervention.collected.ending is End.INTERRUPTED or arm_stopped

    def report(self) -> dict[str, Any]:
        """JSON-able."""
        return {"intervention": self.intervention.collected.report, "replay_ticks": self.ticks, "replay_arm": self.arm}


def _step_in(robot: Robot, bundle: Bundle, args: Args, result: RunResult, console: Console) -> LastPart:
    """One more episode, in which a person steps in; then everything again."""
    console.print("a scripted person steps in", highlight=False)
    if robot.virtual is not None:  # a scene that was not seen yet
        scene = robot.virtual.model_copy(update={"seed": robot.virtual.seed + args.episodes})
        robot = robot.model_copy(update={"virtual": scene})
    intervention = collect_one(robot, bundle, args.out, args.episode_seconds, console)
    if intervention.path is None or intervention.collected.ending is End.INTERRUPTED:
        return LastPart(intervention, None, None)
    console.print("deciding every tick again", highlight=False)
    files = [*(episode.path for episode in result.recorded), intervention.path]
    ticks = replay_every_tick(files)
    console.print("playing the last episode to the arm again", highlight=False)
    return LastPart(intervention, ticks, replay_on_the_arm(intervention.path, robot, args.out / "replay"))


def judge_last(last: LastPart) -> tuple[Bar, ...]:
    """Hold the last part against what it has to show."""
    bars = [Bar("intervention", last.intervention.shown, "taken, given back", last.intervention.held)]
    if last.ticks is not None:
        equal, count = last.ticks["bit_equal"], len(last.ticks["episodes"])
        shown = f"{last.ticks['bit_equal_ticks']:,}, {equal} of {count} episodes"
        bars.append(Bar("ticks replayed", shown, "all bit-equal", equal == count))
    if last.arm is not None:
        apart = (last.arm["deviation"] or {}).get("tool_mm", {}).get("measured", {}).get("rms")
        shown = "not played" if apart is None else f"tool {apart:.1f} mm off, rms"
        near = apart is not None and apart <= REPLAY_MM and last.arm["finished"]
        bars.append(Bar("arm replayed", shown, f"at most {REPLAY_MM:g} mm", near))
    return tuple(bars)


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


def _draw(result: RunResult, intervention: Path | None, path: Path) -> None:
    shown = next((e for e in result.recorded if e.outcome is Outcome.SUCCESS), result.recorded[0])
    shown = read_episode(shown.path, cameras=(PICTURE_CAMERA,))
    report = result.report
    title = (
        f"{shown.facts['robot']}: {report['success_rate']:.0%} of {report['episodes']} episodes succeeded, "
        f"{report['ticks']:,} ticks at {report['rate_hz']:g} Hz, {report['missed_ticks']} missed"
    )
    lateness = np.concatenate([lateness_us(episode) for episode in result.recorded])
    strip = film_strip(shown, PICTURE_CAMERA)
    phases, period_us = joined_phases(result.recorded), 1e6 / report["rate_hz"]
    trace = None if intervention is None else takeover_trace(read_episode(intervention, cameras=()))
    hands = None if trace is None else partial(draw_takeover, trace=trace)
    figure = draw_run(title, lateness, phases, period_us, joint_trace(shown), strip, hands)
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

"""``cadenza replay --arm``: moves an arm as it was moved in an episode, and tells how near it came."""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping
from contextlib import ExitStack
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table

from cadenza.collecting.keys import TerminalKeys
from cadenza.picture import save
from cadenza.replay_deviation import Deviation, deviation_of, figures
from cadenza.replay_motion import Recorded, at_limit, check_motion, motion_of
from cadenza.replay_pictures import draw_deviation
from cadenza.replay_playing import SCENE, Playing, Watcher
from cadenza.report import FILM_FRAMES, film
from controller.recorded import kinematics_of
from controller.session import EpisodeResult
from controller.sources import playback_source
from controller.supervisor import Supervisor
from controller.workers.playback import write_motion
from drivers.virtual import SimClient, VirtualRobot
from episodes.outcome import Termination
from episodes.reader import Episode, read_episode
from spec.calibration import load_calibration, with_takeover
from spec.errors import CadenzaError, SpecError
from spec.files import write_atomically
from spec.robot import ChunkMode, Robot

_FASTEST = 4.0
_NOTEWORTHY = 0.01
"""Share of a motion at its limits that deserves a hint."""
_START_S = 30.0
"""Longest time until the arm follows the playback [s]."""


def run(
    file: Path, robot: Robot, speed: float, teleop: bool, out: Path | None, console: Console
) -> tuple[int, dict[str, Any]]:
    """Exit status and JSON-able report.

    Args:
        file: episode.
        robot: checked robot file; a virtual arm in it is started, with the scene of the episode.
        speed: 1 is as fast as it was recorded.
        teleop: a person may take the arm over.
        out: folder of the run; a new one by default.
        console: for progress and the table.

    Raises:
        CadenzaError: the motion does not fit the arm, or something is missing; nothing has moved then.
    """
    if not 0.0 < speed <= _FASTEST:
        raise SpecError("--speed", speed, f"must be above 0 and at most {_FASTEST:g}")
    if teleop and robot.teleop is None:
        raise SpecError("--teleop", robot.name, "there is no device to take the arm over with in its robot file")
    episode = read_episode(file)
    recorded = motion_of(episode, speed)
    check_motion(episode, recorded, robot)
    load_calibration(robot.follower)
    out = out or Path("runs") / f"replay-{datetime.now(UTC):%Y%m%d-%H%M%S}"
    if out.exists() and not out.is_dir():
        raise SpecError("--out", str(out), "is a file, not a folder")
    result, done, supervisor = _play(episode, recorded, _for_playing(robot, teleop), teleop, out, console)
    report: dict[str, Any] = {
        "episode": str(file),
        "replay": None if result.path is None else str(result.path),
        "speed": speed,
        "motion_s": recorded.motion.length_s,
        "at_limit_share": at_limit(recorded, robot),
        "finished": result.termination is Termination.DONE,
        "termination": result.termination.value,
        "scene_success": done,
        "deviation": None,
        "picture": None,
        "run": supervisor.report(),
    }
    if result.path is not None:
        again = read_episode(result.path)
        deviation = deviation_of(episode, recorded, again, kinematics_of(robot))
        report["deviation"] = figures(deviation, episode.joints)
        if len(deviation.seconds):
            report["picture"] = str(out / "replay.png")
            _draw(episode, recorded, again, deviation, report, out / "replay.png")
    write_atomically(out / "report.json", (json.dumps(report, indent=2) + "\n").encode())
    _print(report, console)
    if supervisor.interrupted:
        return 130, report
    return 0 if report["finished"] else 1, report


def _for_playing(robot: Robot, teleop: bool) -> Robot:
    """Chunks of a playback agree with each other: there is nothing to average, and the newest is the right one."""
    control = robot.control.model_copy(update={"mode": ChunkMode.LATEST})
    robot = robot.model_copy(update={"control": control})
    return with_takeover(robot) if teleop else robot


def _play(
    episode: Episode, recorded: Recorded, robot: Robot, teleop: bool, out: Path, console: Console
) -> tuple[EpisodeResult, bool | None, Supervisor]:
    try:
        motion = write_motion(recorded.motion, out / "motion.npz")
    except OSError as error:
        raise CadenzaError(f"{out}: cannot write there: {error.strerror}; choose another --out") from None
    columns = (TextColumn("{task.description}"), BarColumn(), TextColumn("{task.completed:.1f} s"), TimeElapsedColumn())
    with ExitStack() as stack:
        progress = stack.enter_context(Progress(*columns, console=console, transient=True))
        task = progress.add_task("starting", total=recorded.motion.length_s)
        client: SimClient | None = None
        if robot.virtual is not None:
            virtual = stack.enter_context(VirtualRobot(robot, robot.virtual.seed))
            robot, client = virtual.robot, virtual.client
        supervisor = stack.enter_context(
            Supervisor(
                robot,
                playback_source(motion),
                out,
                lambda line: console.print(line, markup=False, highlight=False, soft_wrap=True),
                teleop=teleop,
            )
        )
        keys = stack.enter_context(TerminalKeys(sys.stdin)) if sys.stdin.isatty() else None
        if keys is not None:
            hand = ", t: take / give back" if teleop else ""
            console.print(f"space: pause and go on, q: stop{hand}", highlight=False)
        watcher = Watcher(supervisor, client, episode, keys, progress, task)
        result = Playing(supervisor, watcher, _START_S).episode(0)
        done = None if client is None or SCENE not in episode.labels else bool(client.state()["success"])
        supervisor.close()
    return result, done, supervisor


def _draw(
    episode: Episode, recorded: Recorded, again: Episode, deviation: Deviation, report: Mapping[str, Any], path: Path
) -> None:
    tool = report["deviation"]["tool_mm"]["measured"]
    apart = "" if tool["rms"] is None else f": tool {tool['rms']:.1f} mm rms, {tool['max']:.1f} mm at most"
    camera = next((name for name, frames in episode.frames.items() if frames.jpeg and again.frames.get(name)), "")
    title = f"{episode.path.name} again at speed {report['speed']:g}{apart}"
    shown = np.linspace(deviation.seconds[0], deviation.seconds[-1], FILM_FRAMES)
    strips = [
        film(episode, camera, recorded.begin_ns + shown * 1e9, shown),
        # Whoever takes the arm over goes back to where the motion was left.
        film(again, camera, np.interp(shown, np.maximum.accumulate(deviation.seconds), deviation.now_ns), shown),
    ]
    save(draw_deviation(title, episode.joints, deviation, strips), path)


def _print(report: Mapping[str, Any], console: Console) -> None:
    ended = "played to its end" if report["finished"] else f"ended by {report['termination']}"
    console.print(f"{report['episode']}: {ended}, at speed {report['speed']:g}", highlight=False, soft_wrap=True)
    if report["deviation"] is not None:
        _print_deviation(report["deviation"], console)
    if (share := report["at_limit_share"]) > _NOTEWORTHY:
        told = f"{share:.0%} of the motion accelerates as hard as the robot file allows, so that who is late stays late"
        console.print(f"{told}; a lower --speed leaves room", highlight=False)
    if report["scene_success"] is not None:
        reached = "reached" if report["scene_success"] else "did not reach"
        console.print(f"the object {reached} the goal this time", highlight=False)
    for name in ("replay", "picture"):
        if report[name] is not None:
            console.print(f"{name} {report[name]}", highlight=False, soft_wrap=True)


def _print_deviation(deviation: Mapping[str, Any], console: Console) -> None:
    table = Table("deviation", "measured rms", "max", "sent rms", "max", box=None)
    for column in table.columns[1:]:
        column.justify = "right"
    rows = {
        **{
            name.replace("_", " "): (each["measured_rad"], each["sent_rad"])
            for name, each in deviation["joints"].items()
        },
        "tool": (deviation["tool_mm"]["measured"], deviation["tool_mm"]["sent"]),
    }
    for name, sizes in rows.items():
        unit, digits = ("mm", 1) if name == "tool" else ("rad", 4)
        cells = [size[key] for size in sizes for key in ("rms", "max")]
        table.add_row(name, *("" if value is None else f"{value:.{digits}f} {unit}" for value in cells))
    console.print(table)

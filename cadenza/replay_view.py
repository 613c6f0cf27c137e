"""``cadenza replay --view``: an episode as a recording for the rerun viewer.

The episode itself, an MCAP file with its schemas inside, opens in Foxglove as it is.
"""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import rerun as rr
import rerun.blueprint as rrb
from rich.console import Console

from controller.recorded import kinematics_of, recorded_robot
from episodes.reader import Episode, read_episode
from episodes.records import Driver, Flag, Mode
from episodes.writer import MODEL_FILE
from spec.arrays import Float, Int
from spec.errors import CadenzaError, SpecError

SUFFIX = ".rrd"
TIME, TICK = "time", "tick"

# What is drawn of each joint: name, field of the tick record, colour, width.
_CURVES = (
    ("asked", "asked", 0x8A94A0FF, 2.0),
    ("limited", "limited", 0x0B6E99FF, 1.0),
    ("sent", "sent", 0x6940A5FF, 1.0),
    ("measured", "position", 0x0F7B6CFF, 1.5),
    ("policy", "policy", 0xB8860BFF, 1.0),
    ("human", "human", 0xD9730DFF, 1.0),
)
_HUES = {
    Mode.IDLE: 0x8A94A0FF,
    Mode.EASE_IN: 0x6940A5FF,
    Mode.POLICY: 0x0B6E99FF,
    Mode.HOLD: 0xB8860BFF,
    Mode.FAULT: 0xC0392BFF,
    Mode.BLEND: 0xAD1A72FF,
    Mode.HUMAN: 0xD9730DFF,
}
_TOLD = (
    Flag.TAKEN_OVER,
    Flag.RELEASED,
    Flag.TAKEOVER_REFUSED,
    Flag.STALE_TELEOP,
    Flag.FAULT_LATCHED,
    Flag.CHUNK_REFUSED,
    Flag.WORKSPACE,
    Flag.COLLISION,
    Flag.NO_CHUNK,
    Flag.STALE_JOINT,
)
"""Flags that get a line in the log when they come up."""


def run(file: Path, out: Path | None, spawn: bool, console: Console) -> tuple[int, dict[str, Any]]:
    """Exit status and JSON-able report.

    Args:
        file: episode.
        out: recording to write; beside the episode by default.
        spawn: open the viewer on it.
        console: for what there is to say.

    Raises:
        CadenzaError: an episode that cannot be read or shown, or no viewer.
    """
    out = file.with_suffix(SUFFIX) if out is None else out
    if out.suffix != SUFFIX:
        raise SpecError("--out", str(out), "is to be a rerun recording", (f"*{SUFFIX}",))
    episode = read_episode(file)
    if not len(episode.ticks):
        raise CadenzaError(f"{file}: no ticks")
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        out.open("wb").close()  # rerun would say so in a traceback, and a warning
    except OSError as error:
        raise CadenzaError(f"{out}: cannot be written: {error.strerror}") from None
    write_recording(episode, out)
    console.print(
        f"{out}: {out.stat().st_size / 1e6:.1f} MB, for the rerun viewer (--spawn opens it)",
        highlight=False,
        soft_wrap=True,
    )
    console.print(f"{file} opens in Foxglove as it is", highlight=False, soft_wrap=True)
    if spawn:
        _show(out)
    return 0, {"episode": str(file), "recording": str(out), "bytes": out.stat().st_size}


def write_recording(episode: Episode, out: Path) -> None:
    """Everything in an episode that can be looked at, with a layout for the viewer."""
    with rr.RecordingStream("cadenza", recording_id=f"{episode.path.name}-{episode.facts['started_ns']}") as stream:
        stream.save(out, default_blueprint=_layout(episode))
        start_ns = int(episode.ticks["now_ns"][0])
        _joints(stream, episode, start_ns)
        _authority(stream, episode, start_ns)
        _timing(stream, episode, start_ns)
        _cameras(stream, episode, start_ns)
        _tool(stream, episode, start_ns)
        _log(stream, episode, start_ns)
        stream.flush()


def _layout(episode: Episode) -> rrb.Blueprint:
    seen = [rrb.Spatial2DView(origin=f"camera/{name}", name=name) for name in episode.frames]
    tool = [rrb.Spatial3DView(origin="tool", name="tool")] if MODEL_FILE in episode.attachments else []
    joints = [
        # One legend for all: the panels are small.
        rrb.TimeSeriesView(
            origin=f"joints/{name}",
            name=f"{name.replace('_', ' ')} [rad]",
            plot_legend=rrb.PlotLegend(corner=rrb.Corner2D.RightTop, visible=number == 0),
        )
        for number, name in enumerate(episode.joints)
    ]
    return rrb.Blueprint(
        rrb.Horizontal(
            rrb.Vertical(*seen, *tool, rrb.TextLogView(origin="log", name="log")),
            rrb.Vertical(
                rrb.Grid(*joints, grid_columns=2),
                rrb.StateTimelineView(origin="authority", name="who drives"),
                rrb.Horizontal(
                    rrb.TimeSeriesView(origin="alpha", name="weight of the person"),
                    rrb.TimeSeriesView(origin="timing", name="timing [µs]"),
                ),
                row_shares=[5, 1.3, 1.5],
            ),
            column_shares=[1, 2],
        ),
        rrb.TimePanel(timeline=TIME, state="collapsed"),
        rrb.SelectionPanel(state="collapsed"),
        rrb.BlueprintPanel(state="collapsed"),
    )


def _joints(stream: rr.RecordingStream, episode: Episode, start_ns: int) -> None:
    ticks = episode.ticks
    for number, joint in enumerate(episode.joints):
        for name, field, colour, width in _CURVES:
            values = ticks[field][:, number]
            known = np.isfinite(values)
            if name in {"policy", "human"}:
                known &= (ticks[field] != 0.0).any(axis=1)  # nought where a program recorded that knows of neither
            path = f"joints/{joint}/{name}"
            if known.any():
                _curve(stream, path, name, colour, width, _ticking(ticks[known], start_ns), values[known])


def _authority(stream: rr.RecordingStream, episode: Episode, start_ns: int) -> None:
    ticks = episode.ticks
    modes = [mode.name for mode in Mode]
    colours = _colours(*_HUES.values())
    stream.log("authority/mode", rr.StateConfiguration(values=modes, labels=modes, colors=colours), static=True)
    drivers = [driver.name for driver in Driver]
    stream.log(
        "authority/driver",
        rr.StateConfiguration(values=drivers, labels=drivers, colors=_colours(0x8A94A0FF, 0x0B6E99FF, 0xD9730DFF)),
        static=True,
    )
    for name, kind in (("mode", Mode), ("driver", Driver)):
        changed = np.flatnonzero(np.diff(ticks[name].astype(np.int64), prepend=-1))
        states = [kind(int(value)).name for value in ticks[name][changed]]
        times = _ticking(ticks[changed], start_ns)
        stream.send_columns(f"authority/{name}", times, rr.StateChange.columns(state=states))
    _curve(stream, "alpha", "α", 0xD9730DFF, 1.5, _ticking(ticks, start_ns), ticks["alpha"])


def _timing(stream: rr.RecordingStream, episode: Episode, start_ns: int) -> None:
    ticks, times = episode.ticks, _ticking(episode.ticks, start_ns)
    spans = {
        "late": (ticks["woke_ns"] - ticks["deadline_ns"], 0xC0392BFF),
        "read": (ticks["read_ns"] - ticks["woke_ns"], 0x0B6E99FF),
        "decide": (ticks["decided_ns"] - ticks["read_ns"], 0x0F7B6CFF),
        "write": (ticks["written_ns"] - ticks["decided_ns"], 0xB8860BFF),
    }
    for name, (nanoseconds, colour) in spans.items():
        _curve(stream, f"timing/{name}", name, colour, 1.0, times, nanoseconds * 1e-3)


def _cameras(stream: rr.RecordingStream, episode: Episode, start_ns: int) -> None:
    for name, frames in episode.frames.items():
        if frames.jpeg:
            pictures = rr.EncodedImage.columns(blob=frames.jpeg, media_type=["image/jpeg"] * len(frames))
            stream.send_columns(f"camera/{name}", [_time(frames.captured_ns, start_ns)], pictures)


def _tool(stream: rr.RecordingStream, episode: Episode, start_ns: int) -> None:
    with recorded_robot(episode) as robot:
        kinematics = kinematics_of(robot)
        if kinematics is None:
            return
        poses = episode.ticks["position"]
        known = np.isfinite(poses).all(axis=1)
        places = np.array([kinematics.tool(pose) for pose in poses[known].tolist()])
    if not len(places):
        return
    stream.log("tool/path", rr.LineStrips3D([places], colors=_colours(0x8A94A0FF), radii=[0.0004]), static=True)
    points = rr.Points3D.columns(
        positions=places, colors=_colours(*[0xD9730DFF] * len(places)), radii=[0.004] * len(places)
    )
    stream.send_columns("tool/now", _ticking(episode.ticks[known], start_ns), points)


def _log(stream: rr.RecordingStream, episode: Episode, start_ns: int) -> None:
    """Events, and the ticks at which something noteworthy began, in order of time."""
    ticks = episode.ticks
    lines = [
        (event.time_ns, _level(event.kind, event.text), f"{event.source}: {event.kind}: {event.text}")
        for event in episode.events
        if event.kind != "state"  # for machines, and long
    ]
    for flag in _TOLD:
        up = (ticks["flags"] & int(flag)) != 0
        began = ticks[up & ~np.concatenate([[False], up[:-1]])]
        lines += [(int(tick["now_ns"]), "WARN", f"tick {tick['tick']}: {flag.name}") for tick in began]
    lines.sort(key=lambda line: line[0])
    if lines:
        instants, levels, texts = zip(*lines, strict=True)
        columns = rr.TextLog.columns(text=texts, level=levels)
        stream.send_columns("log", [_time(np.array(instants, dtype=np.int64), start_ns)], columns)


def _level(kind: str, text: str) -> str:
    if "FAULT" in text or kind in {"died", "recording_failed"}:
        return "ERROR"
    return "INFO"


def _curve(
    stream: rr.RecordingStream,
    path: str,
    name: str,
    colour: int,
    width: float,
    times: Sequence[rr.TimeColumn],
    values: Float,
) -> None:
    stream.log(path, rr.SeriesLines(names=[name], colors=_colours(colour), widths=[width]), static=True)
    stream.send_columns(path, times, rr.Scalars.columns(scalars=np.asarray(values, dtype=np.float64)))


def _colours(*rgba: int) -> npt.NDArray[np.uint32]:
    return np.array(rgba, dtype=np.uint32)


def _ticking(ticks: Any, start_ns: int) -> list[rr.TimeColumn]:
    return [_time(ticks["now_ns"], start_ns), rr.TimeColumn(TICK, sequence=ticks["tick"].astype(np.int64))]


def _time(instants_ns: Int, start_ns: int) -> rr.TimeColumn:
    return rr.TimeColumn(TIME, duration=(instants_ns - start_ns) * 1e-9)


def _show(recording: Path) -> None:
    try:
        subprocess.Popen([sys.executable, "-m", "rerun", str(recording)], start_new_session=True)
    except OSError as error:
        raise CadenzaError(f"cannot open the viewer on {recording}: {error.strerror}") from None

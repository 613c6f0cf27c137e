"""How near an arm came to what was recorded, when it played it again."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from cadenza.replay_motion import Recorded
from controller.kinematics import Kinematics
from controller.workers.playback import PACE, Pace
from episodes.executed import executed_targets
from episodes.reader import Episode
from episodes.records import Driver
from spec.arrays import Float


@dataclass(frozen=True, slots=True, eq=False)
class Deviation:
    """Both motions side by side, in the time of the recording. The first dimension is the tick of the replay."""

    seconds: Float
    """Time of the recording [s], shape (ticks,); stands still in a pause."""
    now_ns: Float
    """Instant of each tick [ns], shape (ticks,)."""
    logged: Float
    """Measured then [rad], shape (ticks, joints)."""
    measured: Float
    """Measured now [rad], shape (ticks, joints)."""
    logged_sent: Float
    """[rad], shape (ticks, joints)."""
    sent: Float
    """[rad], shape (ticks, joints)."""
    tool_mm: Float
    """Distance of the tool from where it was, and of where it was sent [mm], shape (ticks, 2); NaN without a model."""


def deviation_of(episode: Episode, recorded: Recorded, again: Episode, kinematics: Kinematics | None) -> Deviation:
    """Compare the ticks in which the arm followed the motion.

    Args:
        episode: what was recorded.
        recorded: the motion taken from it.
        again: the recording of its replay.
        kinematics: of the arm; None where it has no model.
    """
    seconds, following = _time_of(again, recorded.motion.length_s)
    ticks = again.ticks[following]
    at = seconds[following]
    then = (episode.ticks["now_ns"] - recorded.begin_ns) * 1e-9
    logged, logged_sent = (
        _at(at, then, values) for values in (episode.ticks["position"], executed_targets(episode.ticks))
    )
    sent = executed_targets(again.ticks)[following]
    measured = np.asarray(ticks["position"], dtype=np.float64)
    tool = np.full((len(at), 2), np.nan)
    if kinematics is not None:
        tool[:, 0] = _apart_mm(kinematics, measured, logged)
        tool[:, 1] = _apart_mm(kinematics, sent, logged_sent)
    return Deviation(at, ticks["now_ns"].astype(np.float64), logged, measured, logged_sent, sent, tool)


def figures(deviation: Deviation, joints: tuple[str, ...]) -> dict[str, Any]:
    """Root mean square and maximum, per joint [rad] and at the tool [mm]; JSON-able."""
    measured = deviation.measured - deviation.logged
    sent = deviation.sent - deviation.logged_sent
    rows = {
        name: {"measured_rad": _size(measured[:, index]), "sent_rad": _size(sent[:, index])}
        for index, name in enumerate(joints)
    }
    tool = {"measured": _size(deviation.tool_mm[:, 0]), "sent": _size(deviation.tool_mm[:, 1])}
    return {"ticks": len(deviation.seconds), "joints": rows, "tool_mm": tool}


def _size(values: Float) -> dict[str, float | None]:
    values = values[np.isfinite(values)]
    if not values.size:
        return {"rms": None, "max": None}
    return {"rms": float(np.sqrt((values**2).mean())), "max": float(np.abs(values).max())}


def _time_of(again: Episode, length_s: float) -> tuple[Float, npt.NDArray[np.bool_]]:
    """Time of the recording at each tick of its replay [s], and whether the arm followed the motion then."""
    now_ns = again.ticks["now_ns"].astype(np.int64)
    seconds = np.zeros(len(now_ns))
    following = np.zeros(len(now_ns), dtype=np.bool_)
    for event in again.events:
        if event.kind == PACE:
            pace = Pace(**json.loads(event.text))
            later = now_ns >= pace.at_ns
            seconds[later] = pace.seconds(now_ns[later])
            following[later] = pace.over_ns > 0  # a change at once is an interruption: after it the arm is led back
    # In a pause the joints catch up with their targets, which they trailed when they were recorded.
    going = np.diff(seconds, prepend=seconds[:1]) > 1e-6
    following &= going & (again.ticks["driver"] == Driver.POLICY) & (seconds <= length_s)
    return seconds, following


def _at(seconds: Float, then: Float, values: Any) -> Float:
    known = np.isfinite(values).all(axis=1)
    return np.stack([np.interp(seconds, then[known], column) for column in values[known].T], axis=1)


def _apart_mm(kinematics: Kinematics, a: Float, b: Float) -> Float:
    places = [np.array([kinematics.tool(pose) for pose in poses.tolist()]).reshape(-1, 3) for poses in (a, b)]
    return np.asarray(1e3 * np.linalg.norm(places[0] - places[1], axis=1))

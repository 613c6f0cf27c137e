"""The verdicts on a live case, by what the daemon recorded and said, and what the virtual arm knows."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from cadenza.faults.cases import Case, Trouble
from cadenza.faults.evidence import Evidence, Truth
from cadenza.faults.kinds import LIVE_KINDS, Kind, Signs
from cadenza.faults.verdicts import limits
from controller.loop import Termination as Ended
from episodes.outcome import Termination
from episodes.records import Mode
from spec.arrays import Bool, Float
from spec.robot import Robot

Line = tuple[int, str]
"""When the daemon said something [ns], and what."""
LOST_MS = 100.0
"""Most control data that a killed recorder may cost [ms]."""


@dataclass(frozen=True, slots=True, eq=False)
class LiveEvidence:
    """One live case, whole."""

    case: Case
    robot: Robot
    ticks: npt.NDArray[Any] | None
    """Of the recorded episode; None where none could be recorded."""
    ended: Termination
    """What ended it."""
    lines: tuple[Line, ...]
    """What the daemon said meanwhile."""
    time_s: Float
    """When the virtual arm was looked at [s], shape (looks,)."""
    joints: Float
    """Where they truly were [rad], shape (looks, joints)."""
    torque: Bool
    """Which were held, likewise."""
    sound: dict[Path, list[str]]
    """What is wrong with every closed episode so far."""
    missing: tuple[Path, ...]
    """Episodes that were closed and are no more, and open ones that nobody recovered."""
    lost_ms: float | None
    """From the last tick on record to when the recorder last ran [ms]; None: it was not killed."""
    again: bool
    """The policy drove again, after the operator's word where one was needed."""
    struck_ns: tuple[int, ...]
    """When each fault came [ns], CLOCK_MONOTONIC as in the ticks."""
    watched_s: tuple[float, ...]
    """For how long each was there while the supervisor was not stopped itself [s]."""
    why: str = ""
    """Why not."""


def live_limits(evidence: LiveEvidence) -> list[str]:
    """As in lock-step, by the recorded ticks."""
    ticks = evidence.ticks
    if ticks is None or len(ticks) < 4:
        return []
    nothing = np.zeros((len(ticks), len(evidence.robot.follower.names)))
    number = nothing.astype(np.int64)
    never = nothing > 0
    truth = Truth(nothing, nothing, never, number[:, 0], number, never, never)
    began_ns = int(ticks["now_ns"][0])
    return limits(
        Evidence(evidence.case, evidence.robot, ticks, truth, (), (), began_ns, Ended.STOPPED, 0.0, None, None)
    )


def live_jump(evidence: LiveEvidence) -> list[str]:
    """No joint truly moves faster than the velocity limit allows, with what servos add."""
    if len(evidence.joints) < 2:
        return []
    fastest = 1.5 * evidence.robot.limits().velocity * np.diff(evidence.time_s)[:, None] + 0.1
    step = np.abs(np.diff(evidence.joints, axis=0))
    found = np.argwhere(step > fastest)
    names = evidence.robot.follower.names
    return [f"{names[joint]}: moved {step[look, joint]:.3f} rad at once" for look, joint in found[:1]]


def live_limp(evidence: LiveEvidence) -> list[str]:
    """Every servo keeps its torque, whatever dies."""
    loose = np.argwhere(~evidence.torque)
    names = evidence.robot.follower.names
    return [f"{names[joint]}: without torque at {evidence.time_s[look]:.2f} s" for look, joint in loose[:1]]


def live_data(evidence: LiveEvidence) -> list[str]:
    """Every closed episode is there and sound, every open one recovered, and a killed recorder cost little."""
    told = (
        "stop_recorder",
        "hang_recorder",
        "shared_memory_full",
    )  # what is dropped then is counted: that is the promise
    spoilt = any(trouble.kind in told for trouble in evidence.case.troubles)
    broken = [
        f"{path.name}: {line}"
        for path, lines in evidence.sound.items()
        for line in lines
        if not (spoilt and line.startswith("dropped: "))
    ]
    broken += [f"{path.name}: lost" for path in evidence.missing]
    if evidence.lost_ms is not None and evidence.lost_ms > LOST_MS:
        broken.append(f"{evidence.lost_ms:.0f} ms of ticks lost, not {LOST_MS:.0f}")
    return broken


def live_report(evidence: LiveEvidence) -> list[str]:
    """Every fault is named after it came: by a flag on record, or in words. One that needs no name ends no episode."""
    kinds = [LIVE_KINDS[trouble.kind] for trouble in evidence.case.troubles]
    if all(kind.signs.none for kind in kinds):
        done = evidence.ended is Termination.DONE
        return [] if done else [f"was to have no effect, and the episode ended by {evidence.ended.value}"]
    return [
        f"{trouble.kind} was not named"
        for trouble, kind, struck_ns, watched_s in zip(
            evidence.case.troubles, kinds, evidence.struck_ns, evidence.watched_s, strict=True
        )
        if not (kind.signs.none or _named(evidence, trouble, kind.signs, struck_ns))
        and _could_be_known(evidence, trouble, kind, struck_ns, watched_s)
    ]


def _could_be_known(evidence: LiveEvidence, trouble: Trouble, kind: Kind, struck_ns: int, watched_s: float) -> bool:
    """Whether another fault left the time to see this one: that of the shortest there is of its kind.

    Silence is counted by the supervisor, and what it slept through itself it holds against nobody. A policy that says
    nothing is missed while it drives: the chunk that it said last is followed until its end.
    """
    if trouble.kind.startswith("hang") and trouble.kind != "hang_supervisor":
        return watched_s >= kind.lasts[0]
    ticks = evidence.ticks
    if trouble.kind == "stop_inference" and ticks is not None:
        meanwhile = (ticks["now_ns"] >= struck_ns) & (ticks["now_ns"] < struck_ns + round(trouble.for_s * 1e9))
        driven = int((meanwhile & (ticks["mode"] == int(Mode.POLICY))).sum())
        return driven * evidence.robot.control.period_ns * 1e-9 >= kind.lasts[0]
    return True


def _named(evidence: LiveEvidence, trouble: Trouble, signs: Signs, struck_ns: int) -> bool:
    said = "\n".join(text for at_ns, text in evidence.lines if at_ns >= struck_ns)
    if signs.notice and re.search(signs.notice, said):
        return True
    ticks, ends_ns = evidence.ticks, struck_ns + round(trouble.for_s * 1e9)
    if ticks is not None:
        since = ticks[ticks["now_ns"] >= struck_ns]
        if (((since["flags"] & int(signs.flags)) | (since["read_fault"] & int(signs.bus))) != 0).any():
            return True
    if ticks is not None and len(ticks) and ticks["now_ns"][-1] >= ends_ns:
        return False
    # The record does not go so far: what might have been on it is nobody's lapse where another fault ended the episode.
    others = (ns for other, ns in zip(evidence.case.troubles, evidence.struck_ns, strict=True) if other is not trouble)
    return bool(signs.flags or signs.bus) and any(0 < ns < ends_ns for ns in others)


def live_recovery(evidence: LiveEvidence) -> list[str]:
    """The policy drives again."""
    return [] if evidence.again else [f"the policy does not drive again: {evidence.why}"]


LIVE_VERDICTS: dict[str, Callable[[LiveEvidence], list[str]]] = {
    "limits": live_limits,
    "jump": live_jump,
    "limp": live_limp,
    "data": live_data,
    "report": live_report,
    "recovery": live_recovery,
}


def live_judged(evidence: LiveEvidence) -> dict[str, list[str]]:
    """What is wrong, by verdict; those that find nothing are left out."""
    found = {name: verdict(evidence) for name, verdict in LIVE_VERDICTS.items()}
    return {name: reasons for name, reasons in found.items() if reasons}

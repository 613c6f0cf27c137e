"""Whether a fault had any effect: only then must something name it."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from cadenza.faults.cases import Trouble
from cadenza.faults.evidence import Evidence
from cadenza.faults.kinds import STEP_S
from drivers.virtual.servos.servo import HardwareError
from episodes.records import Driver, Flag, Mode
from spec.arrays import Bool

_TAKEN = {"", "chunk_range", "chunk_far"}
"""Chunks that can be followed, wherever they lead; any other is refused."""
_FAR_RAD = 0.5
"""No hand moves so far from one tick to the next [rad]."""


def had_effect(evidence: Evidence, trouble: Trouble) -> bool:
    """By what the virtual arm and the script know. The loop is asked who drove, and whether noise or a second answer
    cost it a joint: most of that its parser skips. That what it did hear is true is the verdict on readings."""
    if trouble.kind in _EFFECTS:
        return _EFFECTS[trouble.kind](evidence, trouble)
    if trouble.kind.startswith("chunk"):
        return _wrong_ones_came(evidence, trouble)
    return int(evidence.during(trouble).sum()) > 2


def harmed(evidence: Evidence, trouble: Trouble) -> Bool:
    """Ticks in its time of which a packet was lost or broken that a reader could miss, shape (ticks,)."""
    more = np.diff(evidence.truth.harmed, prepend=0) > 0
    return np.asarray(more & evidence.during(trouble) & _in_ticks(evidence))


def _harmed(evidence: Evidence, trouble: Trouble) -> bool:
    return bool(harmed(evidence, trouble).any())


def _missed(evidence: Evidence, trouble: Trouble) -> bool:
    """Whether a joint was not heard, by the loop's own word."""
    return bool((~evidence.fresh & evidence.during(trouble)).any())


def _too_late(evidence: Evidence, trouble: Trouble) -> bool:
    """Whether every answer came after the tick that had asked for it."""
    late_s = float(trouble.values["ms"]) * 1e-3
    return int((evidence.during(trouble) & _in_ticks(evidence)).sum()) > 2 and late_s > evidence.tempo.period_s


def _kept_away(evidence: Evidence, trouble: Trouble) -> bool:
    return float(trouble.values["ms"]) * 1e-3 > 2 * evidence.tempo.period_s


def _alarmed(evidence: Evidence, trouble: Trouble) -> bool:
    """Whether a servo said so where somebody could hear it. One that shut down while its cable was out, or without
    power, forgets it when the power goes: nobody can know of it."""
    shown = (evidence.truth.alarms & int(_ERRORS[trouble.kind])) != 0
    if "servo" in trouble.values:
        servos = [joint.id for joint in evidence.robot.follower.joints.values()]
        shown = shown[:, [servos.index(trouble.values["servo"])]]
    return int((shown.any(axis=1) & (evidence.time_s >= trouble.at_s)).sum()) > 2


def _deserted(evidence: Evidence, trouble: Trouble) -> bool:
    """Whether the person who had the arm was silent for longer than the ladder allows."""
    person = evidence.during(trouble) & (evidence.ticks["driver"] == int(Driver.HUMAN))
    return int(person.sum()) > evidence.tempo.silent_person + 2


def _wrong_ones_came(evidence: Evidence, trouble: Trouble) -> bool:
    return any(spoilt == trouble.kind for _, spoilt in evidence.delivered)


def _in_ticks(evidence: Evidence) -> Bool:
    """Ticks whose packets are their own: none of taking hold of the servos, none of asking what alarms them."""
    others = evidence.flagged(Flag.ENGAGED | Flag.ENGAGE_FAILED) | (evidence.mode == Mode.FAULT)
    return np.asarray(~others)


def _was_overdue(evidence: Evidence, trouble: Trouble) -> bool:
    """Whether the policy was followed while its next chunk was overdue."""
    came = np.array([at for at, spoilt in evidence.delivered if spoilt in _TAKEN])
    grace_s = float(trouble.values.get("ms", 0.0)) * 1e-3
    for at in evidence.time_s[evidence.during(trouble, grace_s) & (evidence.mode == Mode.POLICY)]:
        before = came[came <= at]
        if len(before) and at - before[-1] > 2 * STEP_S + 2 * evidence.tempo.period_s:
            return True
    return False


def _pursued(evidence: Evidence, trouble: Trouble) -> bool:
    """Whether the policy drove for some ticks by a chunk whose goals are out of reach."""
    wild = [at for at, spoilt in evidence.delivered if spoilt == trouble.kind]
    drives = evidence.mode == Mode.POLICY
    time = evidence.time_s
    return any(int((drives & (time > at) & (time < at + STEP_S)).sum()) > 4 for at in wild)


def _leapt(evidence: Evidence, trouble: Trouble) -> bool:
    """Whether the person who had the arm wanted it elsewhere from one tick to the next."""
    there = evidence.during(trouble) & (evidence.mode == Mode.HUMAN)
    asked = evidence.ticks["asked"][there, : evidence.joints]
    return len(asked) > 1 and bool((np.abs(np.diff(asked, axis=0)) > _FAR_RAD).any())


_ERRORS = {
    "overload": HardwareError.OVERLOAD,
    "over_temperature": HardwareError.OVERHEATING,
    "under_voltage": HardwareError.VOLTAGE,
    "over_current": HardwareError.SHOCK,
}

_EFFECTS: dict[str, Callable[[Evidence, Trouble], bool]] = {
    **dict.fromkeys(("loss", "corruption", "burst"), _harmed),
    **dict.fromkeys(("noise", "repeat"), _missed),
    **dict.fromkeys(("late_chunk", "no_chunk"), _was_overdue),
    **dict.fromkeys(_ERRORS, _alarmed),
    **dict.fromkeys(("chunk_range", "chunk_far"), _pursued),
    "late_packets": _too_late,
    "stall": _kept_away,
    "lost_device": _deserted,
    "device_garbage": _leapt,
    "odd_orders": lambda _, __: True,
    "nonfinite_beside": lambda _, __: False,
}

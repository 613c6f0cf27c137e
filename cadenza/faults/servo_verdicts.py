"""The verdicts that ask the servos of the virtual arm: their goals, their torque, and where the joints truly are."""

from __future__ import annotations

import math

import numpy as np

from cadenza.faults.afflicted import swapped_in_s
from cadenza.faults.evidence import MOVING, Evidence
from episodes.records import Flag, Mode, Order
from spec.arrays import Bool, Float, Int

TICK_RAD = 2.0 * math.pi / 4096
"""What an encoder tells apart [rad]."""
AT_HAND_RAD = 0.06
"""A goal this near to where the joint truly is moves nothing that could be called a jump: 3.4 degrees [rad]."""
SELF_SHUT = {"overload", "over_temperature", "over_current", "under_voltage"}
"""After these a servo may have switched itself off."""
POWERLESS = {"unplug_power", "swapped"}


def jump(evidence: Evidence) -> list[str]:
    """No servo is made to pursue a goal far from its last one and from where the joint truly is.

    A joint's goal may move as far as the joint was to move since its goal last did, and in no period further than its
    speed allows. So on a line that loses every other goal that is two periods, and at a stand it is nothing. A servo
    whose watchdog fires makes a goal of where it is, and sags from there.
    """
    truth, most = evidence.truth, evidence.robot.limits().velocity * evidence.tempo.period_s
    periods = np.minimum(np.diff(evidence.ticks["tick"].astype(np.int64)), 2)[:, None]
    meant = np.nan_to_num(np.abs(np.diff(evidence.commanded, axis=0)), nan=0.0)
    way = np.cumsum(np.minimum(meant, most * periods), axis=0)
    step = np.abs(np.diff(truth.goals, axis=0))
    done = np.maximum.accumulate(np.where(step > 0.0, way, 0.0), axis=0)
    ordinary = way - np.vstack([np.zeros_like(done[:1]), done[:-1]]) + 2 * TICK_RAD
    away = np.abs(truth.goals - truth.joints)[1:]
    away = np.where(truth.tripped[1:], _off_the_way(evidence), away)
    leaps = truth.torque[1:] & (step > ordinary) & (away > AT_HAND_RAD)
    woken = truth.torque[1:] & ~truth.torque[:-1] & (away > AT_HAND_RAD)
    broken = []
    for name, found, size in (("a goal leapt by", leaps, step), ("torque came on with the goal away by", woken, away)):
        for tick, joint in np.argwhere(found)[:1]:
            at = evidence.time_s[tick + 1]
            broken.append(f"{evidence.robot.follower.names[joint]}: {name} {size[tick, joint]:.3f} rad at {at:.2f} s")
    return broken


def _off_the_way(evidence: Evidence) -> Float:
    """How far off every goal is from between where the joint was, where it was going, and where it is [rad], shape
    (ticks - 1, joints)."""
    joints, goals = evidence.truth.joints, evidence.truth.goals
    way = np.stack([joints[:-1], goals[:-1], joints[1:]])
    return np.asarray(np.maximum(0.0, np.maximum(way.min(axis=0) - goals[1:], goals[1:] - way.max(axis=0))))


def limp(evidence: Evidence) -> list[str]:
    """From the first hold to the end every servo keeps its torque, except one that truly shut itself down or lost
    power, and that one until it holds again. One that shut itself down comes back at the operator's word alone."""
    truth, names = evidence.truth, evidence.robot.follower.names
    held = np.flatnonzero(truth.torque.all(axis=1))
    if not len(held):
        return ["the arm was never held"]
    loose = ~truth.torque & ~_excused(evidence)
    loose[: held[0]] = False
    broken = [
        f"{name}: without torque at {evidence.time_s[ticks[0]]:.2f} s"
        for name, ticks in zip(names, map(np.flatnonzero, loose.T), strict=True)
        if len(ticks)
    ]
    if evidence.rested and not all(evidence.rested):
        broken += [f"{n}: without torque after the end" for n, on in zip(names, evidence.rested, strict=True) if not on]
    return broken + _unbidden(evidence)


def _excused(evidence: Evidence) -> Bool:
    """Servos that cannot be expected to hold, shape (ticks, joints)."""
    truth, time, period_s = evidence.truth, evidence.time_s, evidence.tempo.period_s
    blamed = np.zeros_like(truth.torque)
    for trouble in evidence.case.troubles:
        if trouble.kind in SELF_SHUT:
            blamed[int(np.searchsorted(time, trouble.at_s - period_s)) :, evidence.joints_of(trouble)] = True
    excused = (truth.shut & blamed) | _powerless(evidence)[:, None]
    for tick in range(1, len(excused)):
        excused[tick] |= excused[tick - 1] & ~truth.torque[tick]
    again = np.flatnonzero(np.isin(evidence.mode, MOVING) & (time > evidence.calm_s))
    if len(again):
        excused[again[0] :] = False
    return excused


def _powerless(evidence: Evidence) -> Bool:
    """Ticks in which the servos had no power, or came to it just before, shape (ticks,)."""
    time, without = evidence.time_s, np.zeros(len(evidence.ticks), dtype=np.bool_)
    spans = [(at_s, at_s) for at_s in evidence.switched_s]
    for trouble in evidence.case.troubles:
        if trouble.kind in POWERLESS:
            back_s = swapped_in_s(trouble) if trouble.kind == "swapped" else trouble.ends_s
            spans.append((trouble.at_s, back_s))
    for off_s, on_s in spans:
        since, until = np.searchsorted(time, (off_s - evidence.tempo.period_s, on_s))
        without[since : until + 1] = True
    return without


def _unbidden(evidence: Evidence) -> list[str]:
    """Servos that had shut themselves down and were restarted without the operator's word.

    The word is CLEAR_FAULT where a fault is latched, and it holds for one attempt to engage the servos; repeated in the
    tick in which that has succeeded, it is for nothing. One that loses its power forgets why it lies there, and so may
    everybody.
    """
    ticks, truth = evidence.ticks, evidence.truth
    tried = evidence.flagged(Flag.ENGAGED | Flag.ENGAGE_FAILED)
    latched = np.concatenate([[False], evidence.mode[:-1] == Mode.FAULT])
    ordered = evidence.flagged(Flag.ORDERED) & (ticks["order"] == int(Order.CLEAR_FAULT))
    said = ordered & latched & ~evidence.flagged(Flag.ENGAGED)
    powerless, names = _powerless(evidence), evidence.robot.follower.names
    broken, word, lies = [], False, np.zeros(evidence.joints, dtype=np.bool_)
    for tick, at in enumerate(evidence.time_s):
        back = lies & (truth.torque[tick] | ~truth.shut[tick])
        if back.any() and not word and not powerless[tick]:
            which = ", ".join(names[joint] for joint in np.flatnonzero(back))
            broken.append(f"{which}: shut down and restarted without the operator's word at {at:.2f} s")
        lies = truth.shut[tick] & ~truth.torque[tick]
        word = bool((word and not tried[tick]) or said[tick])
    return broken[:1]


REPEAT_S = 0.008
"""So much later an answer may come a second time [s]; see drivers/virtual/servos/faults.py."""


def reading(evidence: Evidence) -> list[str]:
    """What a joint was read to be at is where it truly was: somewhere on its way from when the answer may have been
    given to the end of the tick.

    It is looked at once a tick. So one encoder tick is allowed: half of it is lost in rounding, and the other half is
    there for a joint that turns back between two looks (25 rad/s² for half a period of 5 ms each way: 0.3 mrad).

    Left out are a servo that another was put in place of, and readings that the case makes no number of.
    """
    truth, count = evidence.truth.joints, evidence.joints
    read, heard = evidence.ticks["position"][:, :count], evidence.ticks["fresh"][:, :count] != 0
    low, high = truth.copy(), truth.copy()
    ages = _ages(evidence)
    for age in range(1, int(ages.max(initial=0)) + 1):
        old = np.flatnonzero(ages >= age)
        before = truth[np.maximum(old - age, 0)]
        low[old], high[old] = np.minimum(low[old], before), np.maximum(high[old], before)
    beyond = np.maximum(low - read, read - high)
    found = heard & ~(beyond <= TICK_RAD) & ~_spoilt(evidence)
    return [
        f"{evidence.robot.follower.names[joint]}: read {beyond[tick, joint]:.4f} rad beside where it was "
        f"at {evidence.time_s[tick]:.2f} s"
        for tick, joint in np.argwhere(found)[:1]
    ]


def _ages(evidence: Evidence) -> Int:
    """How many ticks before one its answers may have been given, shape (ticks,): one, as the arm is looked at after
    the write, and more where answers come late or twice."""
    extra_s = np.zeros(len(evidence.ticks))
    for trouble in evidence.case.troubles:
        later_s = REPEAT_S if trouble.kind == "repeat" else 0.0
        if trouble.kind == "late_packets":
            later_s = (float(trouble.values["ms"]) + float(trouble.values["jitter_ms"])) * 1e-3
        extra_s += later_s * evidence.during(trouble, later_s)
    return np.asarray(1 + np.ceil(extra_s / evidence.tempo.period_s), dtype=np.int64)


def _spoilt(evidence: Evidence) -> Bool:
    """Readings that the case falsifies, shape (ticks, joints)."""
    ticks = evidence.ticks
    spoilt = np.zeros((len(ticks), evidence.joints), dtype=np.bool_)
    read_s = evidence.time_s + (ticks["read_ns"].astype(np.int64) - ticks["now_ns"].astype(np.int64)) * 1e-9
    for trouble in evidence.case.troubles:
        if trouble.kind == "nonfinite_reading":
            spoilt[(read_s >= trouble.at_s) & (read_s < trouble.ends_s), int(trouble.values["joint"])] = True
        elif trouble.kind == "swapped":
            spoilt[int(np.searchsorted(evidence.time_s, trouble.at_s)) :, evidence.joints_of(trouble)] = True
    return spoilt

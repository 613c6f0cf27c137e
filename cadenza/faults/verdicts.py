"""The verdicts on one case: each a small function of the evidence that says what is wrong, in words."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import NamedTuple

import numpy as np

from cadenza.faults.cases import Trouble
from cadenza.faults.effects import had_effect, harmed
from cadenza.faults.evidence import MOVING, Evidence
from cadenza.faults.kinds import KINDS
from cadenza.faults.servo_verdicts import SELF_SHUT, TICK_RAD, jump, limp, reading
from controller.kinematics import Kinematics
from controller.loop import Termination
from controller.surroundings import DETOUR
from episodes.records import Flag, Mode, Order
from spec.arrays import Bool, Float

BULGE_M = 2e-3
"""So far out of the box the tool may come between the places where the envelope looks (controller.surroundings) [m]."""
RECOVERY_TICKS = 800
"""From the operator's word until the policy drives: servos restarted and checked, and the way to the start pose at a
quarter of the speed."""
GRACE_S = 0.6
"""So long after its end a fault may still be named on record: a latch, and the exchange under way [s]."""
WORDS_S = 3.0
"""Likewise in words: recovering asks every servo, some of them in vain [s]."""


class Latency(NamedTuple):
    """From a fault to an arm that stands."""

    kind: str
    ticks: int
    bound: int


def limits(evidence: Evidence) -> list[str]:
    """Position, velocity, acceleration and jerk of the command, and the tool in its box; what is sent is the command.

    A command that never left is no motion: the next one goes on from the one before it. After an outage the servos are
    engaged anew, and a new motion begins where the arm was measured to be.
    """
    bounds, period = evidence.robot.limits(), evidence.tempo.period_s
    broken: list[str] = []
    given = _given(evidence)
    steps = (
        ("velocity", 1, bounds.velocity * period * 1.001),
        ("acceleration", 2, bounds.acceleration * period**2 * 1.001),
        ("jerk", 3, bounds.jerk * period**3 * 1.01),
    )
    for motion in _motions(evidence, given):
        if (motion < np.minimum(bounds.lower, motion[0]) - 1e-9).any():
            broken.append("commanded below the position limits")
        if (motion > np.maximum(bounds.upper, motion[0]) + 1e-9).any():
            broken.append("commanded above the position limits")
        for name, order, most in steps:
            if len(motion) > order and (excess := np.abs(np.diff(motion, order, axis=0)) / most).max() > 1.0:
                broken.append(f"commanded {excess.max():.2f} times the {name} limit")
        broken += _out_of_box(evidence, motion)
    sent = evidence.ticks["sent"][:, : evidence.joints]
    wrote = given & np.isfinite(sent).all(axis=1)
    apart = np.abs(sent - evidence.commanded)[wrote]
    if len(apart) and apart.max() > TICK_RAD:
        broken.append(f"sent {apart.max():.4f} rad beside the command")
    return broken


def _given(evidence: Evidence) -> Bool:
    """Ticks whose command the servos were given. One that ends does not wait for the bus."""
    ticks = evidence.ticks
    stopped = evidence.flagged(Flag.ORDERED) & (ticks["order"] == int(Order.STOP))
    ending = np.maximum.accumulate(stopped) if len(stopped) else stopped
    failed = evidence.flagged(Flag.WRITE_FAILED) & ~ending
    return np.asarray(np.isfinite(evidence.commanded).all(axis=1) & ~failed)


def _motions(evidence: Evidence, given: Bool) -> list[Float]:
    heard = ~evidence.flagged(Flag.STALE_JOINT)[given]
    begins = []
    for engaged in np.flatnonzero(evidence.flagged(Flag.ENGAGED)[given]):
        readable = np.flatnonzero(heard[engaged:])
        begins.append(int(engaged + readable[0]) if len(readable) else int(given.sum()))
    motions = np.split(evidence.commanded[given], sorted({begin for begin in begins if begin}))
    return [motion for motion in motions if len(motion)]


def _out_of_box(evidence: Evidence, motion: Float) -> list[str]:
    robot = evidence.robot
    if robot.workspace is None or robot.model is None:
        return []
    kinematics, box = Kinematics(robot.model, robot.follower.names), robot.workspace.bounds()
    tool = np.array([kinematics.tool(pose) for pose in motion.tolist()])
    beyond = np.maximum(box[:, 0] - tool, tool - box[:, 1]).max(axis=1)
    allowed = np.full(len(motion), BULGE_M)
    if beyond[0] > 0.0:  # one that begins outside only comes back in, and may need a detour for it
        allowed[: int((beyond <= 0.0).argmax()) or None] += float(beyond[0]) + DETOUR
    return [f"tool {1e3 * beyond.max():.1f} mm out of the box"] if (beyond > allowed).any() else []


def data(evidence: Evidence) -> list[str]:
    """Every tick has its record, every period that was skipped is counted, and the loop never broke off."""
    ticks = evidence.ticks
    broken = [] if evidence.ended is not Termination.ERROR else ["the loop ended on an exception"]
    gaps = np.diff(ticks["tick"].astype(np.int64)) - 1 - ticks["skipped"][1:]
    if gaps.any():
        broken.append(f"{np.count_nonzero(gaps)} gaps in the record that nobody counted")
    return broken


def report(evidence: Evidence) -> list[str]:
    """Every fault that had an effect is named in its time: by a flag, by a fault of the bus, or in words. One that is
    to have none needs no word of the operator."""
    if evidence.word_s is not None and all(KINDS[trouble.kind].signs.none for trouble in evidence.case.troubles):
        return ["was to have no effect, and the arm did not go on by itself"]
    return [
        f"{trouble.kind} at {trouble.at_s:.2f} s was not named"
        for trouble in evidence.case.troubles
        if had_effect(evidence, trouble) and not _named(evidence, trouble)
    ]


def _named(evidence: Evidence, trouble: Trouble) -> bool:
    signs = KINDS[trouble.kind].signs
    grace_s = GRACE_S + float(trouble.values.get("ms", 0.0)) * 1e-3
    if trouble.kind in SELF_SHUT:  # latched in the servo until it is restarted
        grace_s = evidence.calm_s - trouble.ends_s + GRACE_S
    grace_s += _kept_from_running_s(evidence, trouble, grace_s)
    bus = (evidence.ticks["read_fault"] | evidence.ticks["write_fault"]) & int(signs.bus)
    named = evidence.flagged(signs.flags) | (bus != 0)
    if trouble.kind in EACH:
        late = _late_ticks(evidence, trouble)
        return all(named[max(0, k - 1) : k + 2 + late].any() for k in np.flatnonzero(harmed(evidence, trouble)))
    if signs.joints:
        named &= (evidence.ticks["fresh"][:, evidence.joints_of(trouble)] == 0).all(axis=1)
    if bool((evidence.during(trouble, grace_s) & named).any()):
        return True
    return bool(signs.notice) and evidence.said(trouble, signs.notice, grace_s + WORDS_S)


EACH = {"loss", "corruption", "burst"}
"""Of these every tick whose packets were harmed must say so, or the one beside it: where a tick gave up, what was still
on its way is harmed in the next."""


def _kept_from_running_s(evidence: Evidence, trouble: Trouble, grace_s: float) -> float:
    """For how long after a fault's end a stall keeps the loop from saying anything about it [s]."""
    until_s = trouble.ends_s + grace_s
    stalls = (other for other in evidence.case.troubles if other is not trouble and other.kind == "stall")
    ends = [stall.at_s + float(stall.values["ms"]) * 1e-3 for stall in stalls if stall.at_s < until_s]
    return max(0.0, max(ends, default=0.0) - trouble.ends_s)


def _late_ticks(evidence: Evidence, trouble: Trouble) -> int:
    """Answers that come ticks late are taken for those of the tick in which they come: only so much later is one that
    was lost missed."""
    late_ms = [
        float(other.values["ms"]) + float(other.values["jitter_ms"])
        for other in evidence.case.troubles
        if other.kind == "late_packets" and other.at_s < trouble.ends_s and trouble.at_s < other.ends_s
    ]
    return math.ceil(sum(late_ms) * 1e-3 / evidence.tempo.period_s)


def recovery(evidence: Evidence) -> list[str]:
    """Once all is well, and the operator has said so where something was latched, the policy drives again in time."""
    since = evidence.calm_s if evidence.word_s is None else evidence.word_s
    if evidence.again_s is None:
        last = Mode(int(evidence.mode[-1])).name if len(evidence.ticks) else "nothing"
        words = evidence.notices[-1][1] if evidence.notices else "nothing said"
        return [f"the policy does not drive again ({last}; {words})"]
    took = round((evidence.again_s - since) / evidence.tempo.period_s)
    return [f"the policy drove again after {took} ticks, not {RECOVERY_TICKS}"] if took > RECOVERY_TICKS else []


def hold(evidence: Evidence) -> list[str]:
    """A fault that must stop the arm has it standing within its bound."""
    return [
        f"{one.kind}: stood after {one.ticks} ticks, not {one.bound}"
        for one in latencies(evidence)
        if one.ticks > one.bound
    ]


def latencies(evidence: Evidence) -> list[Latency]:
    """How long it took from each fault to an arm that stands, where it was that fault alone which stopped it."""
    found = []
    for trouble in evidence.case.troubles:
        stands = KINDS[trouble.kind].stands
        bound = None if stands is None else stands(evidence.tempo)
        if bound is None or not _alone(evidence, trouble, bound):
            continue
        after = np.flatnonzero(evidence.time_s >= trouble.at_s)
        if not len(after) or after[0] == 0 or not _at_stake(evidence, trouble, int(after[0])):
            continue
        onset = int(after[0])
        begun = int(evidence.ticks["tick"][onset])
        stood = np.flatnonzero(evidence.standing[onset:])
        lasts = trouble.for_s / evidence.tempo.period_s >= bound or trouble.kind in SELF_SHUT
        ticks = int(evidence.ticks["tick"][onset + stood[0]]) - begun if len(stood) else len(evidence.ticks)
        changed = _changed_hands(evidence, onset, ticks)
        if not changed and (lasts or ticks <= trouble.for_s / evidence.tempo.period_s):
            found.append(Latency(trouble.kind, ticks, bound))
    return found


def _alone(evidence: Evidence, trouble: Trouble, bound: int) -> bool:
    """Whether nothing else goes wrong, and nobody orders anything, from a little before until it must stand."""
    begins, ends = trouble.at_s - 1.0, trouble.at_s + bound * evidence.tempo.period_s
    return all(
        other is trouble or other.at_s > ends or max(other.ends_s, _lingers(other)) < begins
        for other in evidence.case.troubles
    )


def _lingers(trouble: Trouble) -> float:
    return math.inf if trouble.kind in SELF_SHUT else trouble.ends_s + float(trouble.values.get("ms", 0.0)) * 1e-3


def _at_stake(evidence: Evidence, trouble: Trouble, onset: int) -> bool:
    """Whether what drives the arm then needs what is broken."""
    mode = Mode(int(evidence.mode[onset - 1]))
    if "chunk" in trouble.kind:
        return mode is Mode.POLICY
    if KINDS[trouble.kind].person:
        return mode is Mode.HUMAN
    return mode in MOVING


def _changed_hands(evidence: Evidence, onset: int, ticks: int) -> bool:
    modes = set(evidence.mode[onset - 1 : onset + ticks + 1].tolist()) - {Mode.HOLD, Mode.FAULT}
    return len(modes) > 1


VERDICTS: dict[str, Callable[[Evidence], list[str]]] = {
    "limits": limits,
    "jump": jump,
    "limp": limp,
    "reading": reading,
    "data": data,
    "report": report,
    "recovery": recovery,
    "hold": hold,
}


def judged(evidence: Evidence) -> dict[str, list[str]]:
    """What is wrong, by verdict; those that find nothing are left out."""
    found = {name: verdict(evidence) for name, verdict in VERDICTS.items()}
    return {name: reasons for name, reasons in found.items() if reasons}

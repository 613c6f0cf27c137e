"""How an episode went, why it ended, and what both mean to a learner: three different questions."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum


class Outcome(StrEnum):
    """Verdict on the task."""

    SUCCESS = "success"
    FAIL = "fail"
    ABORTED = "aborted"
    """Broken off; says nothing about the policy."""
    UNLABELLED = "unlabelled"


class Termination(StrEnum):
    """What ended the recording."""

    DONE = "done"
    """The task was judged finished."""
    TIME_LIMIT = "time_limit"
    FAULT = "fault"
    """The arm latched a fault."""
    OPERATOR = "operator"
    """Stopped by a person."""
    ERROR = "error"
    """The recording program failed."""
    CONTROL_DIED = "control_died"
    RECORDER_DIED = "recorder_died"
    DISK_FULL = "disk_full"
    RECOVERED = "recovered"
    """The writer was killed; what was on disk was saved afterwards."""
    ROTATED = "rotated"
    """The recording goes on in the next file."""
    SAVED = "saved"
    """Cut out of a running session: the last seconds before somebody asked for them."""


SUCCESS_REWARD, FAIL_REWARD = 1.0, 0.0


@dataclass(frozen=True, slots=True)
class Ending:
    """What the last step of an episode is to a learner.

    Both False: the log just stops there (broken off, a fault, not judged yet, goes on in the next file). The task did
    not end and no clock ran out, so the last step has no successor and is left out of learning.
    """

    reward: float | None
    """Given at the last step, beside the rewards given at instants of their own; None where nobody judged."""
    terminated: bool
    """The task is over: done or spoilt. No value lies beyond the last step."""
    truncated: bool
    """Only the time is over: the value of the last state stands for what would have come."""


def ending(outcome: Outcome, termination: Termination | None, reward: float | None = None) -> Ending:
    """The rule. Success ends the task, and so does failure, unless it only means that time ran out.

    Args:
        outcome: verdict on the task.
        termination: what ended the recording; None where that is not known.
        reward: what was given by hand; None takes 1 for success and 0 for failure.
    """
    out_of_time = termination is Termination.TIME_LIMIT
    if reward is None:
        reward = {Outcome.SUCCESS: SUCCESS_REWARD, Outcome.FAIL: FAIL_REWARD}.get(outcome)
    match outcome:
        case Outcome.SUCCESS:
            return Ending(reward, terminated=True, truncated=False)
        case Outcome.FAIL:
            return Ending(reward, terminated=not out_of_time, truncated=out_of_time)
        case Outcome.UNLABELLED:
            return Ending(reward, terminated=False, truncated=out_of_time)
        case Outcome.ABORTED:
            return Ending(reward, terminated=False, truncated=False)


def ending_facts(ended: Ending) -> dict[str, str]:
    """As it stands in the log, beside outcome and termination."""
    reward = {} if ended.reward is None else {"reward": repr(ended.reward)}
    return {**reward, "terminated": str(ended.terminated).lower(), "truncated": str(ended.truncated).lower()}


def reward_of(result: Mapping[str, str]) -> float | None:
    """The reward that was given by hand or by rule, out of a log; None where there is none that is a number."""
    try:
        value = float(result["reward"])
    except (KeyError, ValueError):
        return None
    return value if math.isfinite(value) else None

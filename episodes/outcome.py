"""How an episode went, and why it ended: two different questions."""

from __future__ import annotations

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

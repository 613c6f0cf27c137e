"""What the arm was really told to do, and what a policy had asked for: derived from the ticks."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from episodes.records import Driver, Flag
from spec.arrays import Float


def executed_targets(ticks: npt.NDArray[Any]) -> Float:
    """Joint targets in force after each tick [rad], shape (ticks, joints).

    A servo goes on with the goal it has: where nothing was sent, or the command never left, the one before stands.
    NaN until the first.

    Args:
        ticks: of an episode, in order.
    """
    sent = np.asarray(ticks["sent"], dtype=np.float64)
    left = np.isfinite(sent).all(axis=1) & (ticks["flags"] & int(Flag.WRITE_FAILED) == 0)
    newest = np.maximum.accumulate(np.where(left, np.arange(len(sent)), -1))
    return np.where((newest >= 0)[:, None], sent[np.maximum(newest, 0)], np.nan)


def asked_targets(ticks: npt.NDArray[Any]) -> Float:
    """As :func:`executed_targets`, but where the policy drove what its chunks came to, before the envelope [rad]."""
    policy = np.asarray(ticks["policy"], dtype=np.float64)
    drove = (ticks["driver"] == Driver.POLICY) & np.isfinite(policy).all(axis=1)
    return np.where(drove[:, None], policy, executed_targets(ticks))

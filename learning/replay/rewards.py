"""Rewards that follow from what happened, whatever the task: who has to be relieved of the arm has failed."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from learning.replay.rows import Rows
from spec.arrays import Bool


def taken_over(rows: Rows) -> Bool:
    """The policy's rows after which a person took the arm, shape (rows,)."""
    found = np.zeros(len(rows), dtype=np.bool_)
    found[:-1] = rows.acted[:-1] & ~rows.expert[:-1] & rows.acted[1:] & rows.expert[1:]
    found[:-1] &= np.diff(rows.segment) == 0
    return found


def taking_over_costs(rows: Rows, cost: float) -> Rows:
    """The same rows, the policy's last one before each takeover worse by ``cost``, and the end of its attempt.

    Without, a policy that always fails looks as good as the person who always saves it: the success that the person
    brings about would count for it (compare Luo et al. 2023, RLIF). The person's own rows keep what they earned.
    """
    failed = taken_over(rows)
    return replace(
        rows,
        reward=np.where(failed, rows.reward - cost, rows.reward).astype(rows.reward.dtype),
        terminated=rows.terminated | failed,
        breaks=rows.breaks | failed,
    )

"""The rows of an episode as the classifier of success sees them."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from learning.replay.rows import Rows
from learning.reward.classifier import SuccessClassifier
from spec.arrays import Bool, Float, Int


def rewarded(rows: Rows, classifier: SuccessClassifier) -> Rows:
    """The rows with the classifier's reward in place of any other.

    The first so many sights in a row above the threshold (``in_a_row``) are taken for success: the action before the
    last of them gets reward 1 and ended the task, and what came later is cut off. Where there are none no reward is
    given; a success that somebody wrote down is then none, the time merely ran out. A failure that ended the task
    stays one.

    Raises:
        MisfitError: the rows lack a camera, or its pictures are too small.
    """
    reward = np.zeros(len(rows), dtype=np.float32)
    terminated = rows.terminated & (rows.reward <= 0.0)
    at = _success(rows, classifier.scores(rows.images), classifier.config.threshold, classifier.config.in_a_row)
    if at is None:
        return replace(rows, reward=reward, terminated=terminated)
    reward[at - 1], terminated[at - 1] = 1.0, True
    kept = slice(0, at + 1)
    acted, breaks, expert = (part[kept].copy() for part in (rows.acted, rows.breaks, rows.expert))
    action = rows.action[kept].copy()
    acted[at], breaks[at], expert[at], action[at], terminated[at] = False, True, False, 0.0, False
    return replace(
        rows,
        observed_ns=rows.observed_ns[kept],
        segment=rows.segment[kept],
        state=rows.state[kept],
        images={name: pictures[kept] for name, pictures in rows.images.items()},
        acted=acted,
        action=action,
        expert=expert,
        plan=None if rows.plan is None else rows.plan[kept],
        reward=reward[kept],
        terminated=terminated[kept],
        breaks=breaks,
    )


def _success(rows: Rows, scores: Float, threshold: float, in_a_row: int) -> int | None:
    """Row at which success is certain; an action must lead to it, for the reward to go to."""
    counts = runs_above(scores, threshold, rows.segment)
    certain = (counts >= in_a_row) & np.concatenate(([False], rows.acted[:-1]))
    return int(np.argmax(certain)) if certain.any() else None


def runs_above(scores: Float, threshold: float, segment: Int) -> Int:
    """How many sights in a row, up to each and within its segment, score above the threshold; shape (sights,)."""
    above: Bool = scores > threshold
    index = np.arange(len(scores))
    fresh = np.concatenate(([True], np.diff(segment) != 0))[: len(scores)]
    # A run begins anew after a sight that is not above, and with each segment.
    begins = np.where(~above, index + 1, np.where(fresh, index, 0))
    return np.where(above, index + 1 - np.maximum.accumulate(begins), 0).astype(np.int64)

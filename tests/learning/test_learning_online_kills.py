"""A learner that is killed ends with the same bits as one that is not."""

from __future__ import annotations

from benchmarks.learner_kills import crash


def test_kills_cost_nothing_but_time() -> None:
    """Before stores could be rolled back, rows taken in after the last state were there twice after a kill."""
    outcome = crash(kills=3)
    assert outcome.inside + outcome.anywhen == 3
    assert outcome.saving == 1
    assert outcome.wrong == ()

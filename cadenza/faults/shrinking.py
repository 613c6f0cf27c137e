"""Makes a case that broke a verdict as small as it can be while it still breaks it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace

from cadenza.faults.cases import Case

MOST_TRIES = 40
_SHORTEST_S = 0.02


def shrunk(case: Case, breaks: Callable[[Case], bool], most: int = MOST_TRIES) -> Case:
    """The smallest case found: fewer faults, nobody at the leader arm, shorter faults, round numbers.

    Args:
        breaks: whether a case still breaks what ``case`` did. Asked at most ``most`` times.
    """
    tries = 0
    smaller = True
    while smaller:
        smaller = False
        for candidate in _smaller(case):
            if tries == most:
                return case
            tries += 1
            if breaks(candidate):
                case, smaller = candidate, True
                break
    return case


def _smaller(case: Case) -> Iterator[Case]:
    """One step simpler each; the largest steps first."""
    if len(case.troubles) > 1:
        yield from map(case.without, range(len(case.troubles)))
    if case.person is not None:
        yield replace(case, person=None)
    for index, trouble in enumerate(case.troubles):
        if trouble.for_s > 2 * _SHORTEST_S:
            yield case.having(index, replace(trouble, for_s=round(0.5 * trouble.for_s, 3)))
        if round(trouble.at_s, 1) != trouble.at_s:
            yield case.having(index, replace(trouble, at_s=round(trouble.at_s, 1)))

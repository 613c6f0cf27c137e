"""One episode as rows for the learner: what was seen at each policy step, and what was then done."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from spec.arrays import Bool, Bytes, Float32, Int
from spec.errors import CadenzaError


@dataclass(frozen=True, slots=True, eq=False)
class Rows:
    """The policy steps of one episode, in order; arrays have shape (rows, ...).

    A row is a sight, and, where ``acted``, the action executed after it, which was due at the end of the step. What was
    seen after an acted row is the next row. The last sight of a run has no action: it is there to bootstrap from.
    """

    observed_ns: Int
    """CLOCK_MONOTONIC [ns], strictly rising."""
    segment: Int
    """Histories stay within a segment; never falls. See :mod:`episodes.windows`."""
    state: Float32
    """As the policy sees it, shape (rows, S)."""
    images: dict[str, Bytes]
    """By camera, uint8 RGB at the policy's size, shape (rows, height, width, 3)."""
    acted: Bool
    """An action was executed after this sight, and the next row is what was seen then."""
    action: Float32
    """In units of the action space, shape (rows, A); zero where not ``acted``. Of an example what was executed, of
    the policy what it asked for: see :mod:`learning.replay.cut`."""
    expert: Bool
    """The action is an example to clone: a demonstration, or a person who stepped in."""
    plan: Float32 | None
    """What the expert planned at this row, in units of the action space, shape (rows, C, A); NaN where unknown. It goes
    before the executed actions as the example to clone. None: no plans were written down."""
    reward: Float32
    """Given after the sight, up to the next."""
    terminated: Bool
    """The task was over after this row's action: nothing is worth anything from then on. Time that merely ran out, or a
    record that breaks off, is not."""
    breaks: Bool
    """No window goes on from this row to the next: the run, the episode, or the chunk that was being executed ends here
    (a person took the arm, or gave it back)."""

    def __len__(self) -> int:
        return len(self.observed_ns)

    def __post_init__(self) -> None:
        """Raises CadenzaError where the rows contradict themselves; a store takes only sound ones."""
        if len(self) and (self.acted[-1] or not self.breaks[-1]):
            raise CadenzaError("rows: the last row of an episode must be a sight without an action")
        if not np.all(np.diff(self.observed_ns) > 0):
            raise CadenzaError("rows: times do not rise")
        if bool((self.terminated & ~self.acted).any()) or bool((~self.acted & ~self.breaks).any()):
            raise CadenzaError("rows: a row without an action can neither end the task nor go on")
        for name in ("state", "action", "reward"):
            if not np.isfinite(getattr(self, name)).all():
                raise CadenzaError(f"rows: {name} holds numbers that are not finite")

"""One episode on the lock-step arm: the policy drives, a person may step in, and what happened becomes rows."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from cadenza.finetuning.arm import LockstepArm
from cadenza.finetuning.person import Person
from learning.replay.rewards import taking_over_costs
from learning.replay.rows import Rows
from spec.action import ActionSpace, decode, encode
from spec.arrays import Bool, Float, Float32

Pilot = Callable[[Float32, Bool], Float]
"""States of a history, shape (H, S), oldest first, and which are real, shape (H,) → a chunk in units of the action
space, shape (C, A)."""


@dataclass(frozen=True, slots=True)
class Terms:
    """How an episode goes."""

    space: ActionSpace
    history: int
    """Frames H that the policy sees."""
    executed: int
    """Steps h of a chunk that are executed before the next is asked for."""
    limit: int
    """Steps within which the policy must have done it."""
    helped: int
    """Steps after which the episode ends though a person helps."""
    progress: float = 0.5
    """Reward for each second that the rest of the task has become shorter: see :meth:`LockstepArm.remaining_s`."""
    gamma: float = 0.99
    """Discount of that reward as a potential (Ng, Harada and Russell 1999), so that it does not pay to be early."""
    cut: float = 0.02
    """What a step costs in which the safety envelope changed a target."""
    blame: float = 1.0
    """What a person's stepping in costs: see :mod:`learning.replay.rewards`."""


@dataclass(frozen=True, slots=True, eq=False)
class Episode:
    """What came of it."""

    rows: Rows
    success: bool
    """Done within the time limit by the policy alone."""
    done: bool
    steps: int
    """Robot steps, a person's included."""
    human: int
    """Of those, the person's."""
    interventions: int
    limited: int
    """Steps in which the safety envelope changed a target."""


def run_episode(
    arm: LockstepArm, pilot: Pilot | None, person: Person | None, terms: Terms, seed: int, rng: np.random.Generator
) -> Episode:
    """Drive one episode.

    Args:
        pilot: the policy; None: the person demonstrates from beginning to end.
        person: None: nobody steps in, and the episode is over when the time is up.
        seed: of the scene.
        rng: of the person's.
    """
    arm.reset(seed)
    record = _Record(arm, terms.space)
    if person is not None:
        person.begin(rng)
    left = 0  # steps of the chunk still to go
    asked = np.zeros((terms.executed, len(arm.commanded)))  # joint targets
    for step in range(terms.limit if person is None else terms.helped):
        record.see()
        driven = person is not None and (person.watch(late=step >= terms.limit) or pilot is None)
        if driven:
            assert person is not None  # noqa: S101
            person.drive()
            left = 0
        elif pilot is not None and left == 0:
            asked = _targets(arm, pilot(*record.history(terms.history)), terms.space)
            arm.offer(np.clip(asked, arm.lower, arm.upper))
            left = terms.executed
        record.act(None if driven else asked[terms.executed - left])
        left = max(0, left - 1)
        if arm.success:
            break
    return record.closed(arm.success, terms)


def _targets(arm: LockstepArm, actions: Float, space: ActionSpace) -> Float:
    reference = np.zeros(actions.shape[1]) if space is ActionSpace.JOINT_POSITION else arm.commanded
    return decode(space, np.asarray(actions, dtype=np.float64), reference)


class _Record:
    """Rows in the making."""

    def __init__(self, arm: LockstepArm, space: ActionSpace) -> None:
        self._arm, self._space = arm, space
        self._observed: list[int] = []
        self._states: list[Float32] = []
        self._actions: list[Float] = []
        self._human: list[bool] = []
        self._remaining: list[float] = []
        self._cut: list[int] = []

    def see(self) -> None:
        self._observed.append(self._arm.now_ns)
        self._states.append(self._arm.sight())
        self._remaining.append(self._arm.remaining_s())

    def act(self, asked: Float | None) -> None:
        """Live the step. As in :mod:`learning.replay.cut`, a person's action is what was executed, and the policy's the
        joint target it asked for [rad], shape (joints,)."""
        before, cut = self._arm.commanded, self._arm.limited
        self._arm.step()
        target = self._arm.commanded if asked is None else asked
        self._actions.append(encode(self._space, target[None], before)[0])
        self._human.append(asked is None)
        self._cut.append(self._arm.limited - cut)

    def history(self, length: int) -> tuple[Float32, Bool]:
        """The newest frames, oldest first, and which are real."""
        seen = self._states[-length:]
        missing = length - len(seen)
        frames = np.stack([np.zeros_like(seen[0])] * missing + seen)
        return frames, np.arange(length) >= missing

    def closed(self, done: bool, terms: Terms) -> Episode:
        self.see()
        count = len(self._actions)
        human = np.array([*self._human, False])
        acted = np.arange(count + 1) < count
        breaks = ~acted
        breaks[: count - 1] |= human[: count - 1] != human[1:count]
        breaks[count - 1] = breaks[count - 1] or done
        action = np.stack([*self._actions, np.zeros_like(self._actions[0])]).astype(np.float32)
        last = np.arange(count + 1) == count - 1
        reward = np.where(last & done, 1.0, 0.0)
        remaining = np.array(self._remaining)
        if done:
            remaining[-1] = 0.0
        reward[:count] -= terms.progress * (terms.gamma * remaining[1:] - remaining[:-1]) + terms.cut * np.array(
            self._cut
        )
        rows = Rows(
            observed_ns=np.array(self._observed, dtype=np.int64),
            segment=np.zeros(count + 1, dtype=np.int64),
            state=np.stack(self._states),
            images={},
            acted=acted,
            action=action,
            expert=human,
            plan=None,
            reward=reward.astype(np.float32),
            terminated=last & done,
            breaks=breaks,
        )
        rows = taking_over_costs(rows, terms.blame)
        began = np.flatnonzero(np.diff(human[:count].astype(np.int8), prepend=0) == 1)
        alone = done and not human.any() and count <= terms.limit
        return Episode(rows, alone, done, count, int(human.sum()), len(began), self._arm.limited)

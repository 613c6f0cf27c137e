"""A policy in the shadow of the one that drives: asked about the same looks, its chunks compared, none of them used."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from controller.workers.look import Look
from controller.workers.mind import Mind
from controller.workers.policy import Policy
from spec.arrays import Float
from spec.errors import MisfitError
from spec.manifest import Manifest
from spec.robot import Swap

SLOWEST = 0.5
"""Share of a policy step that a candidate may think for. It thinks after what drives, in the same thread: what takes
longer would make the next chunk of what drives late."""
_LATE = 3
"""Slow looks in a row are no accident; chunks reach further than that, so the arm does not notice."""


@dataclass(frozen=True, slots=True)
class Distance:
    """How far two policies were apart about the same looks, action by action where both are due."""

    chunks: int
    rms: tuple[float, ...]
    """Of each joint's target over all actions of all chunks [rad]."""
    largest: tuple[float, ...]
    """Of each joint's target at any action [rad]."""

    def told(self, names: Sequence[str]) -> str:
        """The worst of it, in words."""
        if not self.chunks:
            return "no chunks compared"
        rms, largest = max(self.rms), max(self.largest)
        return (
            f"{self.chunks} chunks apart by {rms:.3f} rad RMS ({names[self.rms.index(rms)]}), "
            f"{largest:.3f} rad at most ({names[self.largest.index(largest)]})"
        )

    def document(self) -> dict[str, Any]:
        """JSON-able."""
        return {"chunks": self.chunks, "rms_rad": list(self.rms), "max_rad": list(self.largest)}


class Trial:
    """Compares one candidate.

    Args:
        policy: of the candidate, warmed up.
        bounds: how far it may be apart, and over how many chunks.
        names: of the joints.
        ranges: of the joints [rad], shape (joints,).
        clock: seconds of any beginning.
    """

    def __init__(
        self,
        policy: Policy,
        bounds: Swap,
        names: Sequence[str],
        ranges: Float,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.policy = policy
        self.mind = Mind(policy)
        self.chunks = 0
        self.refusal = self._too_slow(policy.think_s)
        """Why it must not drive."""
        self._clock = clock
        self._late = 0
        self._names, self._bounds = tuple(names), bounds
        self._most = np.minimum(bounds.max_rad, bounds.max_share * ranges)
        self._squares = np.zeros(len(names))
        self._actions = 0
        self._largest = np.zeros(len(names))
        observation = policy.manifest.observation
        self._reach_ns = round(observation.history * observation.step_s * 1e9)
        self._since_ns: int | None = None
        self._seen_ns = 0

    def begin_history(self) -> None:
        """What it has seen so far is of another time; what was compared counts."""
        self.mind, self._since_ns = Mind(self.policy), None

    def see(self, look: Look, driving: Float, *, same_past: bool = False) -> None:
        """One policy step. Nothing is compared before both have seen the same past, so that histories do not count.

        Args:
            driving: finite targets the other policy made of the same look [rad], shape (chunk, joints).
            same_past: they have, although this one has not seen all that its history could hold.
        """
        if self.refusal is not None:
            return
        self._since_ns = look.observed_ns if self._since_ns is None else self._since_ns
        self._seen_ns = look.observed_ns
        begun_s = self._clock()
        try:
            mine = self.mind.think(look)
        except Exception as error:  # noqa: BLE001 (whatever a foreign graph brings about, the policy that drives goes on)
            self.refusal = f"does not run: {type(error).__name__}: {' '.join(str(error).split())[:200]}"
            return
        slow = self._too_slow(self._clock() - begun_s)
        self._late = 0 if slow is None else self._late + 1
        if self._late >= _LATE:
            self.refusal = slow
            return
        if not np.isfinite(mine).all():
            self.refusal = f"says NaN, after {self.chunks} chunks"
            return
        if not (same_past or self.has_seen_all):
            return
        both = min(len(mine), len(driving))
        apart = np.abs(mine[:both] - driving[:both])
        self.chunks += 1
        self._actions += both
        self._squares += np.sum(apart * apart, axis=0)
        self._largest = np.maximum(self._largest, apart.max(axis=0))
        self.refusal = self._too_far()

    @property
    def passed(self) -> bool:
        """Whether it may drive."""
        return self.refusal is None and self.chunks >= self._bounds.chunks

    @property
    def has_seen_all(self) -> bool:
        """Whether its history is what it would be had it driven all along."""
        return self._since_ns is not None and self._seen_ns - self._since_ns >= self._reach_ns

    @property
    def distance(self) -> Distance:
        rms = np.sqrt(self._squares / max(1, self._actions))
        return Distance(self.chunks, tuple(rms.tolist()), tuple(self._largest.tolist()))

    def _too_slow(self, think_s: float) -> str | None:
        step_s = self.policy.manifest.action.step_s
        if think_s <= SLOWEST * step_s:
            return None
        return (
            f"thinks for {think_s * 1e3:.0f} ms, at most {SLOWEST * step_s * 1e3:.0f} ms "
            f"({SLOWEST:g} of a policy step): what drives would lose chunks"
        )

    def _too_far(self) -> str | None:
        """A single action beyond its bound is enough; the RMS is judged over all chunks."""
        beyond = np.flatnonzero(self._largest > self._most)
        if beyond.size:
            joint = int(beyond[np.argmax(self._largest[beyond] / self._most[beyond])])
            return (
                f"{self._names[joint]}: {self._largest[joint]:.2f} rad from what drives, "
                f"at most {self._most[joint]:.2f} rad (control.swap)"
            )
        rms = self.distance.rms
        if self.chunks >= self._bounds.chunks and max(rms) > self._bounds.rms_rad:
            name = self._names[rms.index(max(rms))]
            return (
                f"{name}: {max(rms):.2f} rad RMS from what drives over {self.chunks} chunks, "
                f"at most {self._bounds.rms_rad:.2f} rad (control.swap)"
            )
        return None


def check_successor(manifest: Manifest, driving: Manifest) -> None:
    """Refuse what cannot take over from another policy while the arm moves. Histories and chunks may differ in length.

    Raises:
        MisfitError: says what differs.
    """
    mine, theirs = manifest, driving
    for what, new, old in (
        ("action space", mine.action.space.value, theirs.action.space.value),
        ("action.step_s", mine.action.step_s, theirs.action.step_s),
        ("observation.step_s", mine.observation.step_s, theirs.observation.step_s),
        ("cameras", list(mine.observation.cameras), list(theirs.observation.cameras)),
    ):
        if new != old:
            raise MisfitError(f"bundle {mine.name}: {what} is {new}, that of the policy that drives {old}")

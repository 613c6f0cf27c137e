"""Changing the policy that drives: load beside it, try in its shadow, then let it drive from the next chunk on.

At most one candidate is in hand; another one takes its place. The policy that drove before stays in memory.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from controller.workers.inference import Inference
from controller.workers.loading import Load, Loading, loaded
from controller.workers.look import Refusal
from controller.workers.mind import Mind
from controller.workers.policy import Policy
from controller.workers.trial import Distance, Trial
from spec.errors import CadenzaError
from spec.manifest import Manifest
from spec.robot import Robot

NOTHING_COMPARED = Distance(0, (), ())


@dataclass(frozen=True, slots=True)
class Wanted:
    """A bundle that is to drive."""

    request: int
    """Whose answers carry this number."""
    folder: Path
    weights: int
    """Its version."""
    sha256: str | None = None
    """Of its manifest file."""
    back: bool = False
    """It has driven before, so it need not prove itself."""


@dataclass(frozen=True, slots=True)
class News:
    """What became of a wish, so far. Kind: ``swap_trial`` (loaded, is being tried), ``swap``, ``rollback`` or
    ``swap_refused``."""

    kind: str
    request: int
    text: str
    distance: Distance = NOTHING_COMPARED

    def document(self) -> dict[str, Any]:
        """JSON-able."""
        return {"request": self.request, "text": self.text, "distance": self.distance.document()}


class Exchange:
    """What may come to drive, beside what does.

    Args:
        robot: for bounds and joints.
        inference: whose policy is changed.
        calibration: hash of the follower's; None: not compared.
        start: runs a load.
    """

    def __init__(
        self,
        robot: Robot,
        inference: Inference,
        calibration: str | None,
        start: Callable[[Load], Loading] = Loading,
    ) -> None:
        self._robot, self._inference, self._calibration, self._start = robot, inference, calibration, start
        limits = robot.limits()
        self._ranges = limits.upper - limits.lower
        self._wanted: Wanted | None = None
        self._loading: Loading | None = None
        self._trial: Trial | None = None
        self._aside: Mind | None = None
        self._previous: Policy | None = None
        self._news: list[News] = []

    @property
    def busy(self) -> bool:
        """Whether a candidate is in hand."""
        return self._wanted is not None

    def news(self) -> list[News]:
        """What has come about since the last call."""
        news, self._news = self._news, []
        return news

    def want(self, wanted: Wanted) -> None:
        """Have another bundle drive as soon as it may. Returns at once."""
        if self._wanted is not None:
            self._refuse("another one came in its place")
        previous = self._previous
        if wanted.back and previous is not None and previous.manifest.weights == wanted.weights:
            self._adopt(self._inference.recalled(previous), wanted, NOTHING_COMPARED)
            return
        self._wanted, self._trial, self._aside = wanted, None, None
        manifest = self._inference.manifest
        self._loading = self._start(
            partial(loaded, self._robot, self._calibration, manifest, wanted.folder, wanted.sha256)
        )

    def forget(self, request: int) -> None:
        """It is not wanted any more; does nothing where it has been settled."""
        if self._wanted is not None and self._wanted.request == request:
            self._refuse("not wanted any more")

    def turn(self) -> None:
        """Take over what was loaded. Costs nothing while there is nothing."""
        loading, wanted = self._loading, self._wanted
        if loading is None or wanted is None or not loading.done:
            return
        self._loading = None
        try:
            policy = loading.result()
        except CadenzaError as error:
            self._refuse(str(error))
            return
        if (why := self._same_number(policy.manifest)) is not None:
            self._refuse(why)
            return
        if wanted.back:
            self._adopt(self._inference.recalled(policy), wanted, NOTHING_COMPARED)
            return
        self._trial = Trial(policy, self._robot.control.swap, self._robot.follower.names, self._ranges)
        if self._trial.refusal is not None:
            self._refuse(self._trial.refusal)
            return
        self._news.append(News("swap_trial", wanted.request, f"weights {policy.manifest.weights}: in shadow"))

    def paused(self, paused: bool) -> None:
        """Nobody follows the chunks from now on, or somebody does."""
        self._aside = Mind(self._inference.mind.policy) if paused else None
        if self._trial is not None:
            self._trial.begin_history()

    def stepped(self) -> None:
        """The policy that drives has made a chunk: what would the other have said?"""
        if self._trial is None:
            return
        meant = self._inference.meant()
        if meant is not None and np.isfinite(meant[1]).all():
            self._trial.see(*meant)
            if self._trial.refusal is not None or self._trial.has_seen_all:
                self._judge(self._trial.mind)

    def step_aside(self, now_ns: int) -> None:
        """A policy step while nobody follows: both are asked, with histories of their own that leave no trace."""
        trial, driving = self._trial, self._inference.mind.policy
        if trial is None:
            return
        if self._aside is None or self._aside.policy is not driving:
            self._aside = Mind(driving)
        look = self._inference.eyes.look(now_ns)
        if isinstance(look, Refusal):
            return
        targets = self._aside.think(look)
        if np.isfinite(targets).all():
            trial.see(look, targets, same_past=True)
            self._judge(Mind(trial.policy))

    def _judge(self, mind: Mind) -> None:
        trial, wanted = self._trial, self._wanted
        if trial is None or wanted is None:
            return
        if trial.refusal is not None:
            self._refuse(trial.refusal)
        elif trial.passed:
            self._adopt(mind, wanted, trial.distance)

    def _adopt(self, mind: Mind, wanted: Wanted, distance: Distance) -> None:
        before, after = self._inference.mind.policy, mind.policy
        self._inference.change_to(mind)
        self._previous = before
        kind = "rollback" if wanted.back else "swap"
        text = f"weights {before.manifest.weights} -> {after.manifest.weights}"
        if distance.chunks:
            text += f": {distance.told(self._robot.follower.names)}"
        self._news.append(News(kind, wanted.request, text, distance))
        self._forget()

    def _refuse(self, why: str) -> None:
        wanted, trial = self._wanted, self._trial
        assert wanted is not None  # noqa: S101 (there is something to refuse)
        distance = NOTHING_COMPARED if trial is None else trial.distance
        text = f"weights {wanted.weights}: {why}; weights {self._inference.manifest.weights} go on"
        self._news.append(News("swap_refused", wanted.request, text, distance))
        self._forget()

    def _forget(self) -> None:
        self._wanted = self._loading = self._trial = self._aside = None

    def _same_number(self, manifest: Manifest) -> str | None:
        """Ticks are told apart by the number alone."""
        driving = self._inference.manifest
        if manifest.weights != driving.weights:
            return None
        return "drives already" if manifest.files == driving.files else "other content under the number that drives"

"""A policy with a history of its own: asked about a look, it says a chunk."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np

from controller.workers.history import History, Seen
from controller.workers.look import Look
from controller.workers.policy import Policy
from spec.action import decode
from spec.arrays import Float, Float32
from spec.observation import policy_image, policy_state


class Mind:
    """Several may look at the same arm: the one that drives, and one that is tried beside it.

    Args:
        policy: warmed up.
    """

    def __init__(self, policy: Policy) -> None:
        self.policy = policy
        observation = policy.manifest.observation
        self._history = History(observation.history, round(observation.step_s * 1e9), policy.manifest.feature_dim)

    def think(self, look: Look, noise: Float32 | None = None) -> Float:
        """Absolute joint targets [rad], shape (chunk, joints). One that is not finite leaves no trace in the history,
        so that a log of the chunks tells what was seen. With ``noise``, shape (chunk, joints), it explores."""
        action = self.policy.manifest.action
        feature = self._feature(look)
        if not np.isfinite(feature).all():
            return np.full((action.chunk, len(look.position)), np.nan)
        self._history.add(Seen(look.observed_ns, look.segment, feature))
        targets = self.say(look, noise)
        if not np.isfinite(targets).all():
            self._history.forget_newest()
        return targets

    def say(self, look: Look, noise: Float32 | None = None) -> Float:
        """As :meth:`think` about a look that is the newest in the history already; changes nothing."""
        actions = self.policy.decode(*self._history.window(), noise)
        return decode(self.policy.manifest.action.space, actions, look.reference)

    def remember(self, looks: Iterable[Look]) -> None:
        """Fill the history with what was seen while another mind drove, oldest first."""
        for look in looks:
            feature = self._feature(look)
            if np.isfinite(feature).all():
                self._history.add(Seen(look.observed_ns, look.segment, feature))

    def _feature(self, look: Look) -> Float32:
        observation = self.policy.manifest.observation
        images = {name: policy_image(look.image(name), wanted) for name, wanted in observation.cameras.items()}
        return self.policy.encode(policy_state(look.position, look.velocity, observation.state), images)

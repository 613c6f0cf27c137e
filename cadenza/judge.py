"""The virtual arm as judge of its own task: it sets the scene and knows where the object is."""

from __future__ import annotations

import time
from collections.abc import Mapping

from drivers.virtual import SimClient

_PAUSE_S = 0.1
"""The process that answers is the one that plays the servos; it has better things to do."""


class VirtualJudge:
    """Sets scene ``seed + k`` for episode k. Implements :class:`controller.session.Judge`."""

    def __init__(self, client: SimClient, seed: int) -> None:
        self._client, self._seed = client, seed
        self._asked_s = 0.0

    def prepare(self, episode: int) -> Mapping[str, str]:
        """A new random scene; the arm stays where it is."""
        seed = self._seed + episode
        self._client.reset(seed)
        return {"episode": str(episode), "scene_seed": str(seed)}

    def success(self) -> bool | None:
        """Whether the object has reached the goal. Asked of the virtual arm ten times a second at most."""
        now = time.monotonic()
        if now - self._asked_s < _PAUSE_S:
            return False
        self._asked_s = now
        return bool(self._client.state()["success"])

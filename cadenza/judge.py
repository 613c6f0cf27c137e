"""The virtual arm as judge of its own task: it sets the scene and knows where the object is."""

from __future__ import annotations

from collections.abc import Mapping

from drivers.virtual import SimClient


class VirtualJudge:
    """Sets scene ``seed + k`` for episode k. Implements :class:`controller.session.Judge`."""

    def __init__(self, client: SimClient, seed: int) -> None:
        self._client, self._seed = client, seed

    def prepare(self, episode: int) -> Mapping[str, str]:
        """A new random scene; the arm stays where it is."""
        seed = self._seed + episode
        self._client.reset(seed)
        return {"episode": str(episode), "scene_seed": str(seed)}

    def success(self) -> bool | None:
        """Whether the object has reached the goal."""
        return bool(self._client.state()["success"])

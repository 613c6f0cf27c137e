"""Every parser that is tried, by name."""

from __future__ import annotations

import importlib
from collections.abc import Callable
from contextlib import AbstractContextManager

from cadenza.fuzzing.target import Layer, Target


def _later(module: str, name: str) -> Callable[[], AbstractContextManager[list[Layer]]]:
    """Imported when it is opened: the link needs what only a learner has installed."""

    def opened() -> AbstractContextManager[list[Layer]]:
        found: AbstractContextManager[list[Layer]] = getattr(
            importlib.import_module(f"cadenza.fuzzing.parsers.{module}"), name
        )()
        return found

    return opened


TARGETS = {
    target.name: target
    for target in (
        Target("packets", "servo bus, both ends", _later("packets", "packets")),
        Target("robot", "robot file and overrides", _later("files", "robot_file")),
        Target("calibration", "calibration file", _later("files", "calibration_file")),
        Target("bundle", "bundle manifest and shelf", _later("files", "bundle_folder")),
        Target("episode", "MCAP reader, check and recovery", _later("episodes", "episode_file")),
        Target("server", "learner's side of the link", _later("link", "http_server")),
        Target("client", "robot's side of the link", _later("link", "http_client")),
        Target("desk", "socket of a run", _later("desk", "desk")),
    )
}

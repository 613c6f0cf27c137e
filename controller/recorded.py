"""The robot of an episode, as it was: its robot file and the model of its arm travel inside the recording."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from controller.kinematics import Kinematics
from episodes.reader import Episode
from episodes.writer import MODEL_FILE
from spec.robot import Robot


@contextmanager
def recorded_robot(episode: Episode) -> Iterator[Robot]:
    """The robot file an episode was recorded with, its ``model`` being the attached one, for as long as the context
    lasts; None where there is none attached.

    Raises:
        CadenzaError: no robot file in it, or one this program does not understand.
    """
    robot = episode.robot()
    content = episode.attachments.get(MODEL_FILE)
    if content is None:
        # model_copy does not check again that a workspace box has its model: whoever needs the box finds out.
        yield robot.model_copy(update={"model": None})
        return
    with tempfile.TemporaryDirectory(prefix="cadenza-") as folder:
        path = Path(folder) / MODEL_FILE
        path.write_bytes(content)
        yield robot.model_copy(update={"model": path})


def kinematics_of(robot: Robot) -> Kinematics | None:
    """Where its tool is; None for a robot without a model.

    Raises:
        SpecError, MisfitError: the model cannot be used.
    """
    return None if robot.model is None else Kinematics(robot.model, robot.follower.names)

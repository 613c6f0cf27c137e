"""What the robot file permits the arm: whether it could be moved at all."""

from __future__ import annotations

from cadenza.doctor.finding import Finding, failure, well
from controller.decide import Decide
from spec.errors import CadenzaError, SpecError
from spec.robot import Robot


def check_start_pose(robot: Robot) -> Finding:
    """Inside the workspace box, and nothing too near to anything else."""
    try:
        decide = Decide.of(robot)
    except CadenzaError as error:
        return failure("model", "cannot be used", str(error), "mend it in ROBOT_FILE")
    try:
        decide.check_home()
    except SpecError as error:
        return failure("start pose", "not permitted", str(error), "mend it in ROBOT_FILE")
    return well("start pose", "inside all limits")

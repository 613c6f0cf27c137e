"""What the robot file permits the arm: whether it could be moved at all."""

from __future__ import annotations

from cadenza.doctor.finding import Finding, failure, well
from controller.decide import Decide
from spec.errors import CadenzaError
from spec.robot import Robot


def check_start_pose(robot: Robot) -> Finding:
    """Inside the workspace box, and nothing too near to anything else."""
    try:
        Decide.of(robot).check_home()
    except CadenzaError as error:
        return failure("start pose", "not permitted", str(error), "mend it in ROBOT_FILE")
    return well("start pose", "inside the envelope")

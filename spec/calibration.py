"""Calibration of one arm: where each encoder stands when its joint is at zero, measured once and kept by serial.

    angle = ±(ticks − zero_ticks) · 2π / resolution        (minus where the joint is inverted)

The sign comes from the robot file, the resolution from the servo's control table.
"""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

from pydantic import Field

from spec.errors import MisfitError, SpecError
from spec.files import content_of, write_atomically
from spec.robot import Arm, Robot, Section, Takeover, TeleopDevice
from spec.robotfile import validated

_MAX_BYTES = 1 << 20


class JointCalibration(Section):
    """One joint, in encoder ticks of the servo it was measured on."""

    id: int = Field(ge=0, le=252)
    model: str
    inverted: bool
    zero_ticks: int
    """Encoder position at joint angle zero."""
    range_ticks: tuple[int, int]
    """Lowest and highest position reached in the sweep."""


class Calibration(Section):
    """A calibration file."""

    version: int = Field(default=1, ge=1, le=1)
    serial: str
    joints: dict[str, JointCalibration]
    takeover: Takeover | None = None
    """Of a leader arm: how to tell that it is being pulled at."""

    def digest(self) -> str:
        """sha256 of the content; bundles and episodes name their calibration by it."""
        return hashlib.sha256(
            json.dumps(self.model_dump(mode="json", exclude_none=True), sort_keys=True).encode()
        ).hexdigest()


def save_calibration(calibration: Calibration, path: Path) -> None:
    """Write atomically, with the digest inside so that a hand-edited file is noticed."""
    document = {**calibration.model_dump(mode="json", exclude_none=True), "sha256": calibration.digest()}
    write_atomically(path, (json.dumps(document, indent=2) + "\n").encode())


def load_calibration(arm: Arm) -> Calibration:
    """Read the calibration a robot file names for ``arm`` and check that it belongs to it.

    Raises:
        SpecError: missing, unreadable or altered file.
        MisfitError: made for another arm, servo or direction.
    """
    path = arm.calibration
    try:
        document = json.loads(content_of(path, _MAX_BYTES))
    except FileNotFoundError:
        raise SpecError(
            str(path), arm.serial, "no calibration of this arm; make one: cadenza calibrate joints"
        ) from None
    except (OSError, ValueError, RecursionError) as error:
        raise SpecError(str(path), str(error), "cannot read the calibration") from None
    digest = document.pop("sha256", None) if isinstance(document, dict) else None
    calibration = validated(Calibration, document, str(path))
    if digest != calibration.digest():
        raise SpecError(f"{path}: sha256", digest, "does not match the content; calibrate again")
    _check_fit(calibration, arm, path)
    return calibration


def with_takeover(robot: Robot) -> Robot:
    """``robot`` knowing when its leader arm is being pulled at: by its own thresholds, else the leader's calibration.

    Where neither has any, ``teleop.force`` comes back off: without thresholds no pull can be told from a mirroring
    error.

    Raises:
        SpecError, MisfitError: the leader's calibration is missing, altered, or not this leader's.
    """
    teleop = robot.teleop
    if teleop is None or robot.leader is None or teleop.device is not TeleopDevice.LEADER or not teleop.force:
        return robot
    takeover = teleop.takeover or load_calibration(robot.leader).takeover
    if takeover is None:
        return robot.model_copy(update={"teleop": teleop.model_copy(update={"force": False})})
    for field in ("position", "current"):
        if set(getattr(takeover, field)) != set(robot.leader.names):
            raise MisfitError(
                f"takeover.{field}: joints {list(getattr(takeover, field))}, the leader has "
                f"{list(robot.leader.names)}; measure again: cadenza calibrate takeover"
            )
    return robot.model_copy(update={"teleop": teleop.model_copy(update={"takeover": takeover})})


def _check_fit(calibration: Calibration, arm: Arm, path: Path) -> None:
    if calibration.serial != arm.serial:
        raise MisfitError(f"{path}: made for arm {calibration.serial!r}, robot file says {arm.serial!r}")
    if tuple(calibration.joints) != arm.names:
        raise MisfitError(f"{path}: joints {list(calibration.joints)}, robot file says {list(arm.names)}")
    for name, joint in arm.joints.items():
        measured = calibration.joints[name]
        for field in ("id", "model", "inverted"):
            if getattr(measured, field) != getattr(joint, field):
                raise MisfitError(
                    f"{path}: {name}.{field}: calibrated with {getattr(measured, field)!r}, "
                    f"robot file says {getattr(joint, field)!r}; calibrate again"
                )

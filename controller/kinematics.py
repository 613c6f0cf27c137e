"""Where the tool is for a given pose, from the arm's own MJCF: for the workspace box."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import mujoco
import numpy as np

from spec.errors import MisfitError, SpecError

TOOL_SITE = "tool"

_SLIDE = int(mujoco.mjtJoint.mjJNT_SLIDE)
_ONE_DEGREE = {int(mujoco.mjtJoint.mjJNT_HINGE), _SLIDE}


class Kinematics:
    """Forward kinematics of one arm. Holds scratch memory, no state: the same pose gives the same place.

    Args:
        model: MJCF file with a joint of every name in ``joints`` and a site named ``tool``.
        joints: names in command order.

    Raises:
        SpecError: MuJoCo cannot read the file.
        MisfitError: a joint or the site is missing, or a joint is no hinge or slide.
    """

    __slots__ = ("_address", "_data", "_model", "_place", "_pose", "levers")

    def __init__(self, model: Path, joints: Sequence[str]) -> None:
        try:
            self._model = mujoco.MjModel.from_xml_path(str(model))
        except ValueError as error:
            raise SpecError(str(model), " ".join(str(error).split())[:200], "MuJoCo cannot read the model") from None
        self._data = mujoco.MjData(self._model)
        address, numbers = [], []
        for name in joints:
            number = mujoco.mj_name2id(self._model, mujoco.mjtObj.mjOBJ_JOINT, name)
            if number < 0:
                raise MisfitError(f"{model}: has no joint {name!r}, which the robot file names")
            if int(self._model.jnt_type[number]) not in _ONE_DEGREE:
                raise MisfitError(f"{model}: joint {name!r} has more than one degree of freedom")
            address.append(int(self._model.jnt_qposadr[number]))
            numbers.append(number)
        self._address = np.array(address)
        site = mujoco.mj_name2id(self._model, mujoco.mjtObj.mjOBJ_SITE, TOOL_SITE)
        if site < 0:
            raise MisfitError(f"{model}: has no site {TOOL_SITE!r}; the workspace box needs it at the tool's tip")
        self._place, self._pose = self._data.site_xpos[site], self._data.qpos
        self.levers = tuple([self._lever(number, site) for number in numbers])
        """Per joint: the tool never moves faster than this times the joint's speed [m] (1 where the joint slides)."""

    def tool(self, pose: Sequence[float]) -> tuple[float, float, float]:
        """Position of the tool [m] in the model's world frame, for joint positions ``pose`` [rad], shape (joints,)."""
        self._pose[self._address] = pose
        mujoco.mj_kinematics(self._model, self._data)
        x, y, z = self._place.tolist()
        return x, y, z

    def _lever(self, joint: int, site: int) -> float:
        """Upper bound of the distance from a joint's axis to the tool: the lengths of all links between, added up."""
        model = self._model
        home = int(model.jnt_bodyid[joint])
        body = int(model.site_bodyid[site])
        length = float(np.linalg.norm(model.site_pos[site]) + np.linalg.norm(model.jnt_pos[joint]))
        while body not in {home, 0}:
            length += float(np.linalg.norm(model.body_pos[body]))
            length += sum(
                float(np.abs(model.jnt_range[other]).max())
                for other in range(model.njnt)
                if model.jnt_bodyid[other] == body and model.jnt_type[other] == _SLIDE
            )
            body = int(model.body_parentid[body])
        if body != home:
            return 0.0  # the tool does not hang on this joint
        return 1.0 if model.jnt_type[joint] == _SLIDE else length

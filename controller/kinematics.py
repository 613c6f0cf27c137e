"""Where the tool and the links are for a given pose, from the arm's own MJCF."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import mujoco
import numpy as np

from spec.arrays import Float, Int
from spec.errors import MisfitError, SpecError

TOOL_SITE = "tool"
TABLE = "table under the arm"
"""The plane that stands for the table."""
COLLIDES = 3
"""Group of the geoms that collide, as in the models of MuJoCo Menagerie."""

_SLIDE = int(mujoco.mjtJoint.mjJNT_SLIDE)
_ONE_DEGREE = {int(mujoco.mjtJoint.mjJNT_HINGE), _SLIDE}


class Kinematics:
    """Forward kinematics of one arm. Holds scratch memory, no state: the same pose gives the same place.

    Args:
        model: MJCF file with a joint of every name in ``joints`` and a site named ``tool``.
        joints: names in command order.
        table: add the plane z = 0 to the model's collision geoms, under the name :data:`TABLE`.

    Raises:
        SpecError: MuJoCo cannot read the file.
        MisfitError: a joint or the site is missing, or a joint is no hinge or slide.
    """

    __slots__ = ("_address", "_place", "_pose", "data", "file", "levers", "model", "numbers")

    def __init__(self, model: Path, joints: Sequence[str], *, table: bool = False) -> None:
        self.file = model
        self.model: Any = _compiled(model, table)
        """MjModel"""
        self.data: Any = mujoco.MjData(self.model)
        """Scratch memory: what holds for the pose asked about last."""
        address, numbers = [], []
        for name in joints:
            number = mujoco.mj_name2id(self.model, mujoco.mjtObj.mjOBJ_JOINT, name)
            if number < 0:
                raise MisfitError(f"{model}: has no joint {name!r}, which the robot file names")
            if int(self.model.jnt_type[number]) not in _ONE_DEGREE:
                raise MisfitError(f"{model}: joint {name!r} has more than one degree of freedom")
            address.append(int(self.model.jnt_qposadr[number]))
            numbers.append(number)
        self._address = np.array(address)
        self.numbers: Int = np.array(numbers)
        """Of the joints in the model."""
        site = mujoco.mj_name2id(self.model, mujoco.mjtObj.mjOBJ_SITE, TOOL_SITE)
        if site < 0:
            raise MisfitError(f"{model}: has no site {TOOL_SITE!r}; the workspace box needs it at the tool's tip")
        self._place, self._pose = self.data.site_xpos[site], self.data.qpos
        self.levers = tuple([self._lever(number, site) for number in numbers])
        """Per joint: the tool never moves faster than this times the joint's speed [m] (1 where the joint slides)."""

    def put(self, pose: Sequence[float] | Float) -> None:
        """Have everything in :attr:`data` stand as it does at ``pose`` [rad], shape (joints,)."""
        self._pose[self._address] = pose
        mujoco.mj_kinematics(self.model, self.data)

    def tool(self, pose: Sequence[float]) -> tuple[float, float, float]:
        """Position of the tool [m] in the model's world frame, for joint positions ``pose`` [rad], shape (joints,)."""
        self.put(pose)
        x, y, z = self._place.tolist()
        return x, y, z

    def _lever(self, joint: int, site: int) -> float:
        """Upper bound of the distance from a joint's axis to the tool: the lengths of all links between, added up."""
        model = self.model
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


def _compiled(model: Path, table: bool) -> Any:
    # Else a file that is none leaves MUJOCO_LOG.TXT in the folder one is in; what counts is raised besides.
    mujoco.set_mju_user_warning(lambda _: None)
    try:
        drawing = mujoco.MjSpec.from_file(str(model))
        if table:
            drawing.worldbody.add_geom(
                name=TABLE, type=mujoco.mjtGeom.mjGEOM_PLANE, size=[1.0, 1.0, 0.1], group=COLLIDES
            )
        return drawing.compile()
    except ValueError as error:
        raise SpecError(str(model), " ".join(str(error).split())[:200], "MuJoCo cannot read the model") from None

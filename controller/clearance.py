"""How far the links of an arm are from each other and from the table, by its own MJCF.

The geoms of group 3 count: those of two bodies of which neither is the other's parent, and whose distance some joint
can change. What must touch, or is kept apart by the joint limits, is left out as MuJoCo has it:
``<contact><exclude body1="..." body2="..."/></contact>``. What else stands in the cell and never moves may be drawn
into the model's worldbody.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable

import mujoco
import numpy as np

from controller.kinematics import COLLIDES, Kinematics
from spec.arrays import Float, frozen
from spec.errors import MisfitError

FURTHEST = 1.0
"""Distances beyond it are not told apart [m]."""

_SLIDE = int(mujoco.mjtJoint.mjJNT_SLIDE)
_PLANE, _FIELD = int(mujoco.mjtGeom.mjGEOM_PLANE), int(mujoco.mjtGeom.mjGEOM_HFIELD)


class Clearance:
    """Distances between what may collide. Holds no state: they are those of the pose the kinematics was put to last.

    Args:
        kinematics: of the arm, with or without the table.

    Raises:
        MisfitError: nothing in the model can collide.
    """

    __slots__ = ("_kinematics", "levers", "pairs")

    def __init__(self, kinematics: Kinematics) -> None:
        self._kinematics = kinematics
        tree, excluded = _Tree(kinematics), _excluded(kinematics)
        found: list[tuple[int, int]] = []
        levers: list[list[float]] = []
        geoms = np.flatnonzero(kinematics.model.geom_group == COLLIDES).tolist()
        for index, first in enumerate(geoms):
            for second in geoms[index + 1 :]:
                bodies = tree.bodies(first, second)
                if bodies in excluded or tree.adjacent(*bodies):
                    continue
                each = [tree.lever(joint, first, second) for joint in kinematics.numbers.tolist()]
                if any(each):
                    found.append((first, second))
                    levers.append(each)
        if not found:
            raise MisfitError(
                f"{kinematics.file}: nothing in it can collide; the collision check takes the geoms of group {COLLIDES}"
            )
        self.pairs = tuple(found)
        """Numbers of the two geoms."""
        self.levers: Float = frozen(levers)
        """The distance of a pair never changes faster than by these times the joints' speeds [m], (pairs, joints)."""

    def distances(self, which: Iterable[int]) -> list[float]:
        """Of these pairs [m]; negative where they overlap."""
        model, data, pairs = self._kinematics.model, self._kinematics.data, self.pairs
        return [mujoco.mj_geomDistance(model, data, *pairs[index], FURTHEST, None) for index in which]

    def names(self, index: int) -> tuple[str, str]:
        """Of the two geoms of a pair, or of their bodies."""
        first, second = (self._named(geom) for geom in self.pairs[index])
        return first, second

    def _named(self, geom: int) -> str:
        model = self._kinematics.model
        return str(model.geom(geom).name or model.body(int(model.geom_bodyid[geom])).name)


def _excluded(kinematics: Kinematics) -> set[tuple[int, int]]:
    """MuJoCo keeps the two bodies of an exclusion in one number: (first << 16) + second, the lower one first."""
    signatures = kinematics.model.exclude_signature.tolist()
    return {(min(s >> 16, s & 0xFFFF), max(s >> 16, s & 0xFFFF)) for s in signatures}


class _Tree:
    """The bodies of a model, and what turns about what."""

    def __init__(self, kinematics: Kinematics) -> None:
        self._model = kinematics.model
        kinematics.put(np.zeros(len(kinematics.numbers)))
        data = kinematics.data
        self._axes = data.xaxis.copy()
        self._normals = data.geom_xmat.reshape(-1, 3, 3)[:, :, 2].copy()

    def bodies(self, first: int, second: int) -> tuple[int, int]:
        """Of two geoms, the lower number first."""
        a, b = int(self._model.geom_bodyid[first]), int(self._model.geom_bodyid[second])
        return min(a, b), max(a, b)

    def adjacent(self, a: int, b: int) -> bool:
        """Whether they are one body, or one hangs on the other. The world's own geoms are nobody's parent."""
        return a == b or (a != 0 and int(self._model.body_parentid[b]) == a)

    def lever(self, joint: int, first: int, second: int) -> float:
        """Upper bound of what a radian of a joint changes the distance of two geoms by [m] (1 where it slides).

        The joint turns one of them about its axis, the other one stands; seen from the moved one it is the other way
        round. So the nearer of the two to the axis says how much.
        """
        model = self._model
        home, (a, b) = int(model.jnt_bodyid[joint]), (int(model.geom_bodyid[geom]) for geom in (first, second))
        if (home in self._chain(a)) == (home in self._chain(b)):
            return 0.0
        if model.jnt_type[joint] == _SLIDE:
            return 1.0
        if any(self._along(joint, geom) for geom in (first, second)):
            return 0.0
        return min(self._reach(joint, first), self._reach(joint, second))

    def _chain(self, body: int) -> list[int]:
        """The body and all it hangs on, without the world."""
        chain = []
        while body:
            chain.append(body)
            body = int(self._model.body_parentid[body])
        return chain

    def _along(self, joint: int, geom: int) -> bool:
        """Whether the joint turns about the normal of a fixed plane: nothing comes nearer to the plane by it."""
        model = self._model
        if model.geom_type[geom] != _PLANE or model.geom_bodyid[geom] != 0:
            return False
        above = self._chain(int(model.body_parentid[int(model.jnt_bodyid[joint])]))
        fixed = not any(model.body_jntnum[body] for body in above) and model.body_jntnum[model.jnt_bodyid[joint]] == 1
        return bool(fixed and np.linalg.norm(np.cross(self._axes[joint], self._normals[geom])) < 1e-9)

    def _reach(self, joint: int, geom: int) -> float:
        """Upper bound of the distance from a joint's axis to any point of a geom: all lengths on the way, added up."""
        model = self._model
        if int(model.geom_type[geom]) in {_PLANE, _FIELD}:
            return float("inf")
        here, there = self._chain(int(model.jnt_bodyid[joint])), self._chain(int(model.geom_bodyid[geom]))
        between = set(here) ^ set(there)
        ends = np.linalg.norm(model.jnt_pos[joint]) + np.linalg.norm(model.geom_pos[geom]) + model.geom_rbound[geom]
        return float(ends + np.linalg.norm(model.body_pos[sorted(between)], axis=1).sum()) + self._given(between)

    def _given(self, bodies: Collection[int]) -> float:
        """How much longer the joints of these bodies can make the way, by sliding or turning off their origin [m]."""
        model = self._model
        joints = [joint for joint in range(model.njnt) if int(model.jnt_bodyid[joint]) in bodies]
        return sum(
            float(
                np.abs(model.jnt_range[j]).max()
                if model.jnt_type[j] == _SLIDE
                else 2 * np.linalg.norm(model.jnt_pos[j])
            )
            for j in joints
        )

"""What is in the arm's way: the walls of the workspace box, and the pairs of what may collide; and the room to each."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from controller.clearance import Clearance
from controller.kinematics import Kinematics
from controller.planning import ROUNDING
from spec.arrays import Float

BULGE = 1.5e-3
"""Distances are kept larger by this than they must be, for the way between two looks [m]. The worst in 60,000 ticks of
random motion of the Koch, limits as in robots/koch.yaml, was 0.8e-3."""

DETOUR = 5e-3
"""On its gentle way to the start pose an arm that was put too near to something may come this much nearer still [m]:
folded up without torque it is too near in a dozen places at once, and no way out leads away from each of them in every
tick. Servos and links give by as much."""

_OPEN = 1e3
"""Room to the walls of a box that is not there [m]."""


class Surroundings:
    """The room there is around one arm. Number 0 are the walls of the box, the others the pairs. Holds no state.

    Args:
        joints: how many.
        kinematics, workspace: the tool's place, and the box [m], shape (3, 2), it must stay in; None: no box.
        clearance, margin: what may collide, and how far apart it stays [m]; None: anything may.
    """

    __slots__ = ("_box", "_clearance", "_kinematics", "_margin", "everything", "levers")

    def __init__(
        self,
        joints: int,
        kinematics: Kinematics | None,
        workspace: Float | None,
        clearance: Clearance | None,
        margin: float,
    ) -> None:
        self._kinematics, self._clearance, self._margin = kinematics, clearance, margin + BULGE
        self._box: list[list[float]] | None = None if workspace is None or kinematics is None else workspace.tolist()
        of_tool = np.zeros((1, joints)) if self._box is None or kinematics is None else [kinematics.levers]
        of_pairs = np.zeros((0, joints)) if clearance is None else clearance.levers
        self.levers: Float = np.concatenate([of_tool, of_pairs])
        """No room changes faster than by these times the joints' speeds [m], shape (1 + pairs, joints)."""
        self.everything = range(len(self.levers))
        """The numbers of all."""

    def room(self, pose: Sequence[float], which: Sequence[int]) -> Float:
        """What room there is in a pose [rad] to each of these [m]; negative where one is further in."""
        if self._kinematics is None or not which:
            return np.full(len(which), _OPEN)
        x, y, z = self._kinematics.tool(pose)
        room = []
        if which[0] == 0:
            room, which = [_OPEN], which[1:]
            if self._box is not None:
                (x0, x1), (y0, y1), (z0, z1) = self._box
                room = [min(x - x0, x1 - x, y - y0, y1 - y, z - z0, z1 - z)]
        if self._clearance is not None:
            room += [distance - self._margin for distance in self._clearance.distances([n - 1 for n in which])]
        return np.array(room)

    def name(self, which: int) -> str:
        """Of the box, or of what keeps a pair apart, for people."""
        if which == 0 or self._clearance is None:
            return "the workspace box"
        first, second = self._clearance.names(which - 1)
        return f"the collision check: {first} and {second}"

    def use(self, room: Float) -> tuple[float, ...]:
        """What share of the room there is each joint could use up by a radian [1/rad]; () where there is none."""
        if room.min() <= 0.0:
            return ()
        return tuple((self.levers / room[:, None]).max(axis=0).tolist())


def lacking(room: Float) -> tuple[float, ...]:
    """How much room is missing to each; () where none is."""
    return () if room.min() >= 0.0 else tuple(np.maximum(0.0, -room).tolist())


def further_in(short: tuple[float, ...], before: tuple[float, ...], detour: float) -> list[int]:
    """Where more is missing than before; where some was missing already, by more than the detour [m]."""
    least = before or (0.0,) * len(short)
    return [n for n, more in enumerate(short) if more > least[n] + (detour if least[n] > 0.0 else 0.0) + ROUNDING]

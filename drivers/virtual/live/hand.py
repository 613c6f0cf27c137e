"""A person's hand on the leader arm: it pulls with limited force towards where it wants the joints, or simply pushes.

The hand is one more actuator on each joint, next to the servo's (``hand_*`` in assets/koch/leader.xml), so MuJoCo
integrates its damping implicitly and servo and hand wrestle as they would.
"""

from __future__ import annotations

import math
from collections.abc import Mapping

import mujoco
import numpy as np

from spec.arrays import Bool, Float
from spec.errors import SpecError

FORCE = 0.4
"""The hand pulls no harder at any joint [N·m]: two or three newtons of two fingers, 15 cm from the axis. That is twice
what a leader's servo can hold against (XL330-M077, 0.215 N·m at stall), and too little to break a printed arm."""
STIFFNESS, DAMPING = 2.0, 0.2
"""A relaxed arm [N·m/rad], [N·m·s/rad]: about 100 N/m at the hand (measured on people: 100 to 500 N/m, Mussa-Ivaldi,
Hogan and Bizzi 1985), 15 cm from the axis; damped so that a leader stretched out (0.01 kg·m²) does not swing in it."""


class Hand:
    """Holds some or all joints, pushes at some, or is not there. Arrays have shape (joints,)."""

    def __init__(self, model: mujoco.MjModel, data: mujoco.MjData, joints: tuple[str, ...]) -> None:
        self._model, self._data = model, data
        self.joints = joints
        self._actuator = np.array([model.actuator(f"hand_{name}").id for name in joints])
        model.actuator_biastype[self._actuator] = mujoco.mjtBias.mjBIAS_AFFINE
        model.actuator_forcelimited[self._actuator] = 1
        model.actuator_forcerange[self._actuator] = (-FORCE, FORCE)
        self._goal = np.zeros(len(joints))
        self._way = np.zeros((6, len(joints)))
        """Polynomial in time since the way began, constant first; it ends at the goal."""
        self._elapsed_s = self._seconds = 0.0
        self._holding = self._pushing = False
        self.let_go()

    @property
    def there(self) -> bool:
        """A person is at the arm."""
        return self._holding or self._pushing

    def reach(self, joints: Mapping[str, float], seconds: float, position: Float, velocity: Float) -> None:
        """Take the whole arm, or move on with it: to these joint angles [rad], the others staying where they are held.

        The way is the one of least jerk from how the hand moves now; a hand that takes a moving arm moves along first.

        Args:
            joints: joint → angle [rad].
            seconds: how long the way takes.
            position: of the arm [rad].
            velocity: of the arm [rad/s].

        Raises:
            SpecError: unknown joint, or no such angle or time.
        """
        _check_seconds("hand.seconds", seconds)
        goal = (self._goal if self._holding else position).copy()
        for name, angle in joints.items():
            if not math.isfinite(angle):
                raise SpecError(f"hand.{name}", angle, "not an angle")
            goal[self._index(name)] = angle
        now = self._along() if self._holding else (position, velocity, np.zeros(len(position)))
        self.let_go()
        self._way, self._goal = _least_jerk(*now, goal, seconds), goal
        self._elapsed_s, self._seconds, self._holding = 0.0, seconds, True
        self._grip(np.ones(len(goal), dtype=np.bool_))
        self.move(0.0)

    def push(self, joints: Mapping[str, float], seconds: float) -> None:
        """Push at these joints [N·m] for so long, then be gone.

        Raises:
            SpecError: unknown joint, or more force than the hand has.
        """
        _check_seconds("push.seconds", seconds)
        torque = np.zeros(len(self.joints))
        for name, value in joints.items():
            if not abs(value) <= FORCE:
                raise SpecError(f"push.{name}", value, f"a hand pushes with at most {FORCE} N·m")
            torque[self._index(name)] = value
        self.let_go()
        self._elapsed_s, self._seconds, self._pushing = 0.0, seconds, True
        self._model.actuator_gainprm[self._actuator, 0] = 1.0
        self._data.ctrl[self._actuator] = torque

    def stand(self, goal: Float, held: Bool) -> None:
        """No person, but a stand that keeps the joints ``held`` at ``goal`` [rad]: it pulls the same way."""
        self.let_go()
        self._grip(held)
        self._data.ctrl[self._actuator] = goal

    def let_go(self) -> None:
        """Nothing is at the arm."""
        self._holding = self._pushing = False
        self._grip(np.zeros(len(self.joints), dtype=np.bool_))
        self._data.ctrl[self._actuator] = 0.0

    def move(self, dt: float) -> None:
        """Go on by ``dt`` [s]."""
        self._elapsed_s += dt
        if self._pushing and self._elapsed_s >= self._seconds:
            self.let_go()
        if self._holding:
            position, velocity, _ = self._along()
            self._data.ctrl[self._actuator] = position + velocity * (DAMPING / STIFFNESS)

    def force(self) -> dict[str, float]:
        """What the hand pulls with [N·m]."""
        return dict(zip(self.joints, self._data.actuator_force[self._actuator].tolist(), strict=True))

    def _along(self) -> tuple[Float, Float, Float]:
        """Where the hand wants the joints now [rad], how fast, and how that changes."""
        t = self._elapsed_s
        if t >= self._seconds:
            return self._goal, np.zeros(len(self._goal)), np.zeros(len(self._goal))
        powers = np.array([1.0, t, t**2, t**3, t**4, t**5])
        rates = np.array([0.0, 1.0, 2 * t, 3 * t**2, 4 * t**3, 5 * t**4])
        bends = np.array([0.0, 0.0, 2.0, 6 * t, 12 * t**2, 20 * t**3])
        return powers @ self._way, rates @ self._way, bends @ self._way

    def _grip(self, held: Bool) -> None:
        """A spring with a damper on the joints ``held``, nothing on the others."""
        self._model.actuator_gainprm[self._actuator, 0] = STIFFNESS * held
        self._model.actuator_biasprm[self._actuator, 1] = -STIFFNESS * held
        self._model.actuator_biasprm[self._actuator, 2] = -DAMPING * held

    def _index(self, name: str) -> int:
        if name not in self.joints:
            raise SpecError("hand", name, "no such joint", self.joints)
        return self.joints.index(name)


def _least_jerk(position: Float, velocity: Float, acceleration: Float, goal: Float, seconds: float) -> Float:
    """Coefficients, shape (6, joints), of the way from this motion to rest at ``goal`` (Flash and Hogan 1985)."""
    v, a = velocity * seconds, acceleration * seconds**2
    d = goal - position
    scaled = (position, v, a / 2, 10 * d - 6 * v - 1.5 * a, -15 * d + 8 * v + 1.5 * a, 6 * d - 3 * v - 0.5 * a)
    return np.array([row / seconds**k for k, row in enumerate(scaled)])


def _check_seconds(field: str, seconds: float) -> None:
    if not 0.01 <= seconds <= 60.0:
        raise SpecError(field, seconds, "expected 0.01 to 60 s")

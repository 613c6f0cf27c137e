"""A leader arm's servos as something that can be held, carried and let go.

Their own integral gain is switched off: told to give way, a servo must not insist on its place. Instead they are told
ahead what the arm's weight and motion take; what the model of it lacks is learnt while the arm mirrors.
"""

from __future__ import annotations

import time

import numpy as np

from drivers.arm import Reading
from drivers.dynamixel.arm import DynamixelArm
from drivers.dynamixel.safety import hardware_errors
from drivers.dynamixel.tables import model
from drivers.teleop.dynamics import Dynamics, stiffness
from spec.arrays import Float
from spec.calibration import Calibration
from spec.errors import DeviceError
from spec.robot import Robot

CARRIED = 0.9
"""Share of its weight a light arm carries. With all of it, a model error would lift the arm."""
DAMPING = 5000
"""Position D Gain(80) while the arm is held. With the factory's 0 the stretched arm swings on its servos at 8 rad/s,
damped by their back-EMF alone; with this by about half of what is critical."""
LEARNING_S, LEARNING_ALL_S = 3.0, 0.5
"""Time in which an error that stays is taken for weight the model does not know; where there is no model at all."""
MOST_LEARNT_RAD = 0.4
"""The most of that: against a person who holds on, the arm presses no harder than this times its stiffness."""
MOST_AHEAD_RAD = 0.4
"""A soft servo at the end of its joint's travel must be told to be so far beyond it to hold the arm's weight there."""
_SOFTEST = 0.05
"""Less stiff than this, a servo holds nothing and its goal is left alone [N·m/rad]."""
_AT_ONCE_NS = 20_000_000
_TAKEN_UP_S = 0.004
"""A servo looks at a new goal within so long."""


class Grip:
    """The servos of the leader in ``robot``.

    Args:
        rate_hz: how often they are read and told.
        calibration: None reads the file the robot file names.
    """

    def __init__(self, robot: Robot, rate_hz: float, calibration: Calibration | None) -> None:
        assert robot.leader is not None  # noqa: S101  the leader arm has looked
        self.spec = robot.leader
        self.arm = DynamixelArm(
            robot.leader,
            rate_hz=rate_hz,
            rate_field="teleop.rate_hz",
            calibration=calibration,
            may_relax=True,
            margin=MOST_AHEAD_RAD,
        )
        self._dynamics = None if robot.model is None else Dynamics(robot.model, robot.leader.names)
        self._tables = [model(joint.model) for joint in robot.leader.joints.values()]
        self._ids = [joint.id for joint in robot.leader.joints.values()]
        self._stiffness = np.ones(len(self._ids))
        self._profile: dict[int, int] = {}
        self._insisting = True
        """Their integral gain is still the factory's."""
        self._learnt = np.zeros(len(self._ids))

    def open(self) -> None:
        """Connect and check; nothing moves."""
        self.arm.open()
        self._know()

    def close(self) -> None:
        self.arm.close()

    # -- outside the ordinary cycle: acknowledged writes, some milliseconds

    def hold(self) -> Float:
        """Torque on where the arm stands, and its weight taken up at once; returns where [rad], shape (joints,).

        Raises:
            DeviceError: a joint stands outside its limits, or a servo refuses.
        """
        bus, profile = self.arm.bus, self._tables[0]["profile_velocity"]
        if self._insisting:
            bus.write_all(self._tables[0]["position_i_gain"], dict.fromkeys(self._ids, 0))
            self._insisting = False
        self.damp(0)  # damping would knock at a goal that jumps
        # Their motion profile would let the servos take up the weight over a tenth of a second, and the arm drop.
        bus.write_all(profile, dict.fromkeys(self._ids, 0))
        self.arm.hold()
        position = np.array(list(self.arm.where().values()))
        self.arm.write(position + self._ahead(position), time.monotonic_ns() + _AT_ONCE_NS)
        time.sleep(_TAKEN_UP_S)
        bus.write_all(profile, self._profile)
        self.damp(DAMPING)
        return position

    def damp(self, gain: int) -> None:
        """Set Position D Gain(80): damping that a mirror needs and a hand does not want. Raises DeviceError."""
        self.arm.bus.write_all(self._tables[0]["position_d_gain"], dict.fromkeys(self._ids, gain))

    def let_go(self) -> None:
        """Torque off. Raises DeviceError."""
        self.arm.relax()

    def answers(self) -> bool:
        """Whether every servo can be heard."""
        if not self.arm.port.is_open:
            return False
        try:
            self.arm.where()
        except DeviceError:
            return False
        return True

    def errors(self) -> str:
        """Which servos have shut down and why; empty where none has. Raises DeviceError."""
        status = self._tables[0]["hardware_error_status"]
        found = self.arm.bus.read_all(self._ids, status.address, status.size)
        causes = ((name, hardware_errors(status.decode(found[j.id]))) for name, j in self.spec.joints.items())
        return "; ".join(f"joint {name}: {', '.join(cause)}" for name, cause in causes if cause)

    def reconnect(self) -> None:
        """Find the arm again, restart servos that shut down for overload, and check everything as at the start.

        Raises:
            DeviceError: not there, not yet, or with a hardware error that wants a person.
        """
        self.arm.port.close()
        self.arm.port.open()
        for name, joint in self.spec.joints.items():
            # A short look at each: an arm without power must not cost seconds.
            if self.arm.bus.ping(joint.id, attempts=2) is None:
                raise DeviceError(f"{self.spec.port}: joint {name} (id {joint.id}): does not answer")
        for name, joint in self.spec.joints.items():
            status = self.arm.bus.read(joint.id, self._tables[0]["hardware_error_status"])
            if hardware_errors(status) == ("overload",):
                self.arm.reboot(name)
        self.arm.reconnect()
        self._know()

    def _know(self) -> None:
        """What was programmed into the servos and counts here."""
        bus, profile = self.arm.bus, self._tables[0]["profile_velocity"]
        gains = [bus.read(servo, t["position_p_gain"]) for servo, t in zip(self._ids, self._tables, strict=True)]
        found = [stiffness(table, gain) for table, gain in zip(self._tables, gains, strict=True)]
        self._stiffness = np.maximum(found, _SOFTEST)
        self._profile = {servo: bus.read(servo, profile) for servo in self._ids}
        self._insisting = True

    # -- in the cycle: arrays have shape (joints,)

    def read(self, deadline_ns: int) -> Reading:
        return self.arm.read(deadline_ns)

    def move(self, position: Float, velocity: Float, acceleration: Float, deadline_ns: int) -> bool:
        """Tell the servos to be at ``position`` [rad], in this motion [rad/s], [rad/s²]; whether that was sent."""
        return not self.arm.write(position + self._ahead(position, velocity, acceleration), deadline_ns).fault

    def carry(self, position: Float, deadline_ns: int) -> None:
        """Carry the arm where it stands, and yield to whoever moves it."""
        self.arm.write(position + CARRIED * self._ahead(position), deadline_ns)

    def learn(self, error: Float, seconds: float) -> None:
        """Take in how far the servos stayed off their goal [rad] for ``seconds``."""
        if np.isfinite(error).all():
            learnt = self._learnt + error * (seconds / (LEARNING_ALL_S if self._dynamics is None else LEARNING_S))
            self._learnt = np.clip(learnt, -MOST_LEARNT_RAD, MOST_LEARNT_RAD)

    def _ahead(self, position: Float, velocity: Float | float = 0.0, acceleration: Float | float = 0.0) -> Float:
        """How far ahead of where it is to be each servo must be told to be, to give what the motion takes [rad]."""
        if self._dynamics is None:
            return self._learnt
        torque = self._dynamics.torque(position, velocity, acceleration)
        return np.asarray(torque / self._stiffness + self._learnt)

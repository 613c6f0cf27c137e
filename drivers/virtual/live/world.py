"""The robot as one thing that moves: physics of follower, table and leader, with all servos on their buses."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

import mujoco
import numpy as np

from drivers.dynamixel.tables import model as servo_model
from drivers.virtual.drives import Drives
from drivers.virtual.live.hand import Hand
from drivers.virtual.motors import motor
from drivers.virtual.scene import follower_model, leader_model, physics_step
from drivers.virtual.servos.bus import Bus
from drivers.virtual.servos.faults import Faults
from drivers.virtual.servos.servo import Servo
from drivers.virtual.servos.shaft import MOUNTING, Shaft
from drivers.virtual.task import PushTask
from spec.arrays import Bool, Float
from spec.errors import SpecError
from spec.robot import Arm, Robot

ArmName = Literal["follower", "leader"]
_SETTLE_S = 1.5
_STILL = 1e-3


class VirtualArm:
    """Physics and servos of one arm."""

    def __init__(self, name: ArmName, arm: Arm, model: mujoco.MjModel, faults: Faults, *, wire_time: bool) -> None:
        """
        Raises:
            SpecError: a servo model or baud rate the virtual arm does not know.
        """
        self.name, self.arm, self.model = name, arm, model
        self.data = mujoco.MjData(model)
        motors = [motor(joint.model) for joint in arm.joints.values()]
        self.drives = Drives(model, self.data, arm.names, motors)
        self.rest()
        self.bus = Bus(self._servos(), wire_time=wire_time, faults=faults)
        self._carried = False

    def _servos(self) -> list[Servo]:
        servos = []
        for index, (name, joint) in enumerate(self.arm.joints.items()):
            zero, reverse = MOUNTING[self.name][name]
            table = servo_model(joint.model)
            if self.arm.baud not in table.baud:
                raise SpecError(f"{self.name}.baud", self.arm.baud, f"{joint.model} has no such rate", table.baud)
            shaft = Shaft(self.drives, index, zero, -1 if reverse else 1)
            servos.append(Servo(table, joint.id, self.arm.baud, shaft, self.drives.motors[index]))
        return servos

    def rest(self) -> None:
        """Where the arm comes to lie from its start pose when nothing holds it."""
        self.drives.teleport(self.arm.each("home"))
        mujoco.mj_forward(self.model, self.data)
        for _ in range(round(_SETTLE_S / self.model.opt.timestep)):
            self.drives.step(self.model.opt.timestep)
            mujoco.mj_step(self.model, self.data)
        self.drives.teleport(self.drives.position())
        self.data.time = 0.0

    def place(self, joints: Float) -> None:
        """Somebody puts the joints whose servos are off there [rad], and carries them until all servos hold again."""
        self.drives.place(joints)
        self._carried = True

    def step(self) -> None:
        """One physics step."""
        if self._carried:
            self.drives.carry()  # of a joint that holds, nothing
            self._carried = not self.drives.torque.all()
        self.drives.step(self.model.opt.timestep)
        mujoco.mj_step(self.model, self.data)

    def joints(self) -> dict[str, float]:
        """True joint angles [rad]."""
        return dict(zip(self.drives.joints, self.drives.state().position, strict=True))


class Leader(VirtualArm):
    """The leader arm, which a person may take: while nobody does and torque is off, it stays in its stand."""

    def __init__(self, arm: Arm, model: mujoco.MjModel, faults: Faults, *, wire_time: bool) -> None:
        super().__init__("leader", arm, model, faults, wire_time=wire_time)
        self._hand = Hand(model, self.data, arm.names)
        self._stood: Bool | None = None
        """Joints that the stand holds; None while somebody is at the arm."""

    def rest(self) -> None:
        """The leader starts at its home pose, in its stand."""
        self.drives.teleport(self.arm.each("home"))
        mujoco.mj_forward(self.model, self.data)

    def hand(self, joints: Mapping[str, float] | None, seconds: float) -> None:
        """See SimClient.hand."""
        if joints is None:
            self._hand.let_go()
        else:
            self._hand.reach(joints, seconds, self.drives.position(), self.drives.velocity())
        self._stood = None

    def push(self, joints: Mapping[str, float], seconds: float) -> None:
        """See SimClient.push."""
        self._hand.push(joints, seconds)
        self._stood = None

    def force(self) -> dict[str, float]:
        """What the hand pulls with at each joint [N·m]."""
        return self._hand.force()

    def step(self) -> None:
        """One physics step with the hand's or the stand's pull."""
        loose = ~self.drives.torque
        if self._hand.there:
            self._hand.move(self.model.opt.timestep)
        elif self._stood is None or bool((loose != self._stood).any()):
            self._hand.stand(self.drives.position().copy(), loose)  # it stays where it was left
            self._stood = loose
        elif bool(loose.all()) and float(np.abs(self.drives.velocity()).max()) < _STILL:
            return  # in its stand with nobody at either end: nothing moves, so nothing need be computed
        self.drives.carry()
        super().step()


class World:
    """Follower at its table, and the leader where the robot file has one."""

    def __init__(self, robot: Robot, seed: int) -> None:
        """Raises SpecError or MisfitError for a robot the virtual arm cannot be."""
        wire_time = robot.virtual.wire_time if robot.virtual else True
        self.robot = robot
        self.dt = physics_step(robot)
        model = follower_model(robot)
        self.follower = VirtualArm("follower", robot.follower, model, Faults(seed), wire_time=wire_time)
        self.leader = (
            Leader(robot.leader, leader_model(robot), Faults(seed + 1), wire_time=wire_time) if robot.leader else None
        )
        self.task = PushTask(model, self.follower.data)
        self.reset(seed)

    @property
    def arms(self) -> dict[ArmName, VirtualArm]:
        return {"follower": self.follower, **({"leader": self.leader} if self.leader else {})}

    def reset(self, seed: int) -> None:
        """Put the cube somewhere else, chosen by ``seed`` as in lock-step; the arm stays where it is."""
        self.task.reset(np.random.Generator(np.random.PCG64(seed)))

    def step(self) -> None:
        """Advance everything by ``dt``."""
        for arm in self.arms.values():
            arm.step()
        self.task.advance(self.dt)

    def state(self) -> dict[str, Any]:
        """What a judge may know: task, cube, true joint angles [rad], torque, the hand's force."""
        pose = self.task.cube()
        return {
            "time_s": float(self.follower.data.time),
            "success": self.task.success(),
            "distance": self.task.distance(),
            "cube": {"x": pose.x, "y": pose.y, "z": pose.z, "yaw": pose.yaw},
            "joints": {name: arm.joints() for name, arm in self.arms.items()},
            "torque": {name: arm.drives.torque.tolist() for name, arm in self.arms.items()},
            "hand": {} if self.leader is None else self.leader.force(),
        }

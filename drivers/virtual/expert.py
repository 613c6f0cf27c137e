"""Scripted expert of the push task: it knows where the cube is, and plans joint targets on the arm's MJCF.

It keeps no state between calls: what it does follows from the arm's last two commands, the arm's measured pose and the
cube's pose alone. So a policy that sees those can imitate it, and it recovers from any disturbance on its own.

Joints start, turn and stop gradually, so that a chunk of its actions is within the robot's limits also when it comes
late.
"""

from __future__ import annotations

import mujoco
import numpy as np

from spec.arrays import Float
from spec.errors import MisfitError, SpecError
from spec.robot import Robot

_TRANSIT_SPEED = 0.16
"""Tool speed away from the cube [m/s]."""
_PUSH_SPEED = 0.07
_SAFE_HEIGHT = 0.075
"""Tool height at which it passes over the cube (4 cm) [m]."""
_PUSH_HEIGHT = 0.016
_STAND_OFF = 0.052
"""Tool behind the cube's centre before the push: half the cube's diagonal, half the jaws, and room to descend [m]."""
_CONTACT = 0.030
"""Tool behind the cube's centre while pushing: half the cube and half the jaws' thickness [m]."""
_GRIPPER = -0.38
"""Jaws this far open [rad]: two tips about 3 cm apart keep the cube's face square."""
_TIP_OFFSET = 0.0075
"""The open finger moves the middle of both tips this far to its side of the tool site [m]."""
_LEASH = 0.04
"""The command never runs further ahead of the measured tool than this [m]."""
_AIM_BEYOND = 0.015
_DELIVERED = 0.012
"""The push ends this far before the goal's centre [m]; the cube still slides a little."""
_COAST = 0.006
"""The push slows down as if it ended this far before the goal's centre: the arm does not stop within a step [m]."""
_REST = np.array([0.13, 0.0])
"""Where the tool goes when all is done [m]."""
_GAIN = 0.6
"""Part of an error taken out in one step: the servos answer about one step late."""
_BRAKING = 0.3
"""The tool slows down towards where it goes at this much [m/s²]."""
_CRUISE = 0.7
"""Share of a joint's velocity limit that is asked for."""
_EASE = 0.18
"""Share of a joint's acceleration limit that the speed may change by from step to step. The curve the controller lays
through the actions bends up to four times as much, and a change to the next chunk comes on top."""
_ONSET, _GROWTH = 0.15, 3.0
"""Of that, the share at a standstill, and how much more per share of the cruise speed. A chunk comes late and begins at
the speed of its second action: the first ones must be small for the arm not to be asked to jump."""
_ITERATIONS = 3
_TURN_WEIGHT = 0.03
"""One radian of misorientation counts like this many metres."""
_DAMPING = 1e-6 * np.eye(6)


class PushExpert:
    """Plans pushes.

    Args:
        robot: its ``model`` is the follower's MJCF.
        goal: where the cube's centre shall go [m], shape (2,).
        step_s: time between targets [s].

    Raises:
        MisfitError: the robot has no model, or one without its joints and tool.
        SpecError: MuJoCo cannot read it.
    """

    def __init__(self, robot: Robot, goal: Float, step_s: float) -> None:
        self._model = _model(robot)
        self._data = mujoco.MjData(self._model)
        self._site = self._model.site("tool").id
        names = robot.follower.names
        self._qpos = np.array([self._model.joint(name).qposadr[0] for name in names])
        self._dofs = np.array([self._model.joint(name).dofadr[0] for name in names])
        self._gripper = names.index("gripper")
        limits = robot.limits()
        self._lower, self._upper = limits.lower, limits.upper
        self._stride, self._change = _CRUISE * limits.velocity * step_s, _EASE * limits.acceleration * step_s**2
        self._goal, self._step_s = np.array(goal, dtype=np.float64), step_s

    def plan(self, commanded: Float, measured: Float, cube: Float, steps: int, before: Float | None = None) -> Float:
        """Joint targets for the coming steps.

        Args:
            commanded: joint target in force [rad], shape (joints,).
            measured: joint angles [rad], shape (joints,).
            cube: centre of the cube [m], shape (2,) or more.
            steps: how many.
            before: joint target that was in force one step ago [rad], shape (joints,); None for an arm at rest.

        Returns:
            Joint targets [rad], shape (steps, joints); row k is reached at the end of step k.
        """
        joints = commanded.copy()
        stride = np.zeros(len(commanded)) if before is None else commanded - before
        tool = self._middle(measured)
        # Servos without integral gain sag, and lag behind a moving target: the command leads the tool by this much.
        lead = _clipped(self._middle(commanded) - tool, _LEASH)
        where = np.array(cube[:2], dtype=np.float64)
        targets = np.empty((steps, len(commanded)))
        for step in range(steps):
            move, heading = self._next(tool, where)
            stride = self._eased(stride, self.solve(tool + move + lead, heading, joints) - joints)
            joints = np.clip(joints + stride, self._lower, self._upper)
            tool = self._middle(joints) - lead
            where = _pushed(where, tool, heading)
            targets[step] = joints
        return targets

    def _eased(self, stride: Float, wanted: Float) -> Float:
        """Change of the joints within the coming step: as ``wanted`` as speed and acceleration allow after the last."""
        within = wanted / max(1.0, float(np.max(np.abs(wanted) / self._stride)))
        speed = float(np.max(np.abs(stride) / self._stride))
        change = min(1.0, _ONSET + _GROWTH * speed) * self._change
        turn = within - stride
        return np.asarray(stride + turn / max(1.0, float(np.max(np.abs(turn) / change))))

    def delivered(self, cube: Float) -> bool:
        """True where the cube needs no further push."""
        return float((self._goal - cube[:2]) @ self._heading(cube[:2])) <= _DELIVERED

    def _heading(self, cube: Float) -> Float:
        """Which way to push, unit vector, shape (2,): to a point beyond the goal, so that it is steady to the end."""
        beyond = max(self._goal[0] + _AIM_BEYOND - cube[0], 0.02)
        heading = np.array([beyond, self._goal[1] - cube[1]])
        return heading / float(np.linalg.norm(heading))

    def solve(self, tool: Float, heading: Float, start: Float) -> Float:
        """Inverse kinematics: joints that bring the middle of the tips to ``tool`` with the jaws square to ``heading``.

        Damped least squares on the tool site's position and, weakly, its orientation: pointing down, leaning outward
        as it must to reach far.
        """
        joints = start.copy()
        joints[self._gripper] = np.clip(_GRIPPER, joints[self._gripper] - 0.25, joints[self._gripper] + 0.25)
        frame = _frame(tool, heading)
        site = tool - _TIP_OFFSET * frame[:, 1]
        linear, angular = np.zeros((3, self._model.nv)), np.zeros((3, self._model.nv))
        for _ in range(_ITERATIONS):
            self._forward(joints)
            twist = frame @ self._data.site_xmat[self._site].reshape(3, 3).T
            turn = 0.5 * np.array([twist[2, 1] - twist[1, 2], twist[0, 2] - twist[2, 0], twist[1, 0] - twist[0, 1]])
            error = np.concatenate([site - self._data.site_xpos[self._site], _TURN_WEIGHT * turn])
            mujoco.mj_jacSite(self._model, self._data, linear, angular, self._site)
            jacobian = np.concatenate([linear, _TURN_WEIGHT * angular])[:, self._dofs]
            jacobian[:, self._gripper] = 0.0
            change = jacobian.T @ np.linalg.solve(jacobian @ jacobian.T + _DAMPING, error)
            joints = np.clip(joints + np.clip(change, -0.3, 0.3), self._lower, self._upper)
        return joints

    def _next(self, tool: Float, cube: Float) -> tuple[Float, Float]:
        """How far the tool moves within one step, shape (3,), and which way the push goes, shape (2,)."""
        heading = self._heading(cube)
        if self.delivered(cube):
            # Let go: up where it stands, then back out of sight of the goal.
            wanted = np.append(_REST if tool[2] > 0.8 * _SAFE_HEIGHT else tool[:2], _SAFE_HEIGHT)
            return self._transit(wanted - tool), heading
        remaining = float((self._goal - cube) @ heading)
        left = np.array([-heading[1], heading[0]])
        relative = tool[:2] - cube
        along, across = float(relative @ heading), float(relative @ left)
        if tool[2] < _PUSH_HEIGHT + 0.02 and along < -_CONTACT + 0.012 and abs(across) < 0.012:
            # Behind the cube and in line with the goal: push, steering the sideways error out on the way.
            reach = max(0.0, remaining - _COAST) + max(0.0, -along - _CONTACT)
            forward = min(_PUSH_SPEED * self._step_s, _GAIN * reach) * heading
            side = _GAIN * np.clip(-across, -0.01, 0.01) * left
            return np.append(forward + side, _GAIN * np.clip(_PUSH_HEIGHT - tool[2], -0.01, 0.01)), heading
        stand = cube - _STAND_OFF * heading
        off = float(np.linalg.norm(tool[:2] - stand))
        # High while far from the spot behind the cube, sinking onto it as it is reached.
        height = _PUSH_HEIGHT + (_SAFE_HEIGHT - _PUSH_HEIGHT) * float(np.clip((off - 0.008) / 0.03, 0.0, 1.0))
        wanted = np.append(stand, height)
        if tool[2] < height - 0.02 and off > 0.02:
            wanted[:2] = tool[:2]  # straight up first: sideways it would take the cube along
        return self._transit(wanted - tool), heading

    def _transit(self, way: Float) -> Float:
        """How much of ``way`` to go within one step, such that the steps after it can slow down evenly."""
        brake = _BRAKING * self._step_s**2
        # First of the strides m, m - brake, m - 2 brake, ... that add up to the way.
        stopping = (2 * brake * float(np.linalg.norm(way)) + brake**2 / 4) ** 0.5 - brake / 2
        return _clipped(_GAIN * way, min(_TRANSIT_SPEED * self._step_s, stopping))

    def _middle(self, joints: Float) -> Float:
        """Middle of both tips [m]."""
        self._forward(joints)
        lateral = self._data.site_xmat[self._site].reshape(3, 3)[:, 1]
        return np.asarray(self._data.site_xpos[self._site] + _TIP_OFFSET * lateral)

    def _forward(self, joints: Float) -> None:
        self._data.qpos[self._qpos] = joints
        mujoco.mj_kinematics(self._model, self._data)
        mujoco.mj_comPos(self._model, self._data)


def _model(robot: Robot) -> mujoco.MjModel:
    if robot.model is None:
        raise MisfitError(f"robot {robot.name}: the expert needs model: the arm's MJCF")
    try:
        model = mujoco.MjModel.from_xml_path(str(robot.model))
    except ValueError as error:
        raise SpecError(str(robot.model), " ".join(str(error).split())[:200], "MuJoCo cannot read the model") from None
    for kind, names in ((mujoco.mjtObj.mjOBJ_JOINT, robot.follower.names), (mujoco.mjtObj.mjOBJ_SITE, ("tool",))):
        missing = [name for name in names if mujoco.mj_name2id(model, kind, name) < 0]
        if missing:
            raise MisfitError(f"{robot.model}: the expert needs {', '.join(missing)} in it")
    return model


def _frame(tool: Float, heading: Float) -> Float:
    """Orientation of the tool: x where it points, y from jaw to finger; columns, shape (3, 3)."""
    radius = float(np.linalg.norm(tool[:2]))
    lean = float(np.clip((radius - 0.10) / 0.12, 0.0, 1.0)) * 0.75
    outward = np.append(tool[:2] / max(radius, 1e-6), 0.0)
    points = np.sin(lean) * outward + np.array([0.0, 0.0, -np.cos(lean)])
    lateral = np.array([-heading[1], heading[0], 0.0])
    lateral -= points * float(points @ lateral)
    lateral /= np.linalg.norm(lateral)
    third = np.array(
        [  # points × lateral; np.cross costs more than the rest of this function
            points[1] * lateral[2] - points[2] * lateral[1],
            points[2] * lateral[0] - points[0] * lateral[2],
            points[0] * lateral[1] - points[1] * lateral[0],
        ]
    )
    return np.stack([points, lateral, third], axis=1)


def _pushed(cube: Float, tool: Float, heading: Float) -> Float:
    """Where the cube is once the tool has moved: ahead of it, if it was in the way."""
    relative = cube - tool[:2]
    along, across = float(relative @ heading), float(relative @ np.array([-heading[1], heading[0]]))
    if tool[2] < 0.04 and 0.0 < along < _CONTACT and abs(across) < 0.02:
        return np.asarray(cube + (_CONTACT - along) * heading)
    return cube


def _clipped(vector: Float, length: float) -> Float:
    size = float(np.linalg.norm(vector))
    return vector if size <= length else vector * (length / size)

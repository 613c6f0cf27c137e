"""The whole virtual robot in this process on a clock that moves only by being waited for.

Physics, servos, buses and faults are those of the live virtual arm, and every byte of the protocol is spoken; only the
pseudo-terminal, the cameras and real time are left out. So the real driver and the real control loop run on it, faster
than real time, and the same seed and the same calls give the same bytes. Computing takes no time here: a tick costs
what the wire costs.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from drivers.dynamixel.line import Line, PortGoneError
from drivers.virtual.live.world import ArmName, VirtualArm, World
from drivers.virtual.mischief import Mischief
from drivers.virtual.servos.bus import Outbox
from spec.errors import DeviceError
from spec.robot import Robot

_START_NS = 1_000_000_000
"""Not zero: code under test may take a zero for "never"."""
_SUPERVISE_NS = 10_000_000
"""Servos look at their watchdogs this often, as in the live virtual arm."""


class LockstepRobot:
    """One virtual robot in simulated time."""

    def __init__(self, robot: Robot, seed: int = 0, *, leader: bool = False) -> None:
        """
        Args:
            robot: robot file.
            seed: of the cube's place and of faults.
            leader: have the leader arm too; it takes as long to compute as the follower.

        Raises:
            SpecError, MisfitError: the virtual arm cannot be this robot.
        """
        self.robot = robot if leader else robot.model_copy(update={"leader": None})
        self.world = World(self.robot, seed)
        self.clock = LockstepClock(self.world)
        self.mischief = Mischief(self.world, robot.cameras)
        self._lines = {name: LockstepLine(arm, self.clock) for name, arm in self.world.arms.items()}

    def line(self, arm: ArmName = "follower") -> LockstepLine:
        """The bus of one arm, for DynamixelArm."""
        return self._lines[arm]

    def inject(self, faults: Mapping[str, Any]) -> None:
        """Make things go wrong until :meth:`clear`; see drivers/virtual/mischief.py. Raises SpecError."""
        self.mischief.inject(faults, self.clock.now_ns())
        self._plug()

    def clear(self) -> None:
        """Everything well again; a servo that shut down stays so until it is rebooted."""
        self.mischief.clear(self.clock.now_ns())
        self._plug()

    def statistics(self) -> dict[str, dict[str, int]]:
        """Packets seen and harmed on each bus since the start."""
        return self.mischief.statistics()

    def state(self) -> dict[str, Any]:
        """What a judge may know; as SimClient.state."""
        return self.world.state()

    def _plug(self) -> None:
        for name, line in self._lines.items():
            line.plug(name not in self.mischief.unplugged)


class LockstepClock:
    """Simulated time, a controller.clock.Clock: sleeping on it steps the physics."""

    def __init__(self, world: World) -> None:
        self._world = world
        self._step_ns = round(world.dt * 1e9)
        self._now_ns = self._next_step_ns = self._next_look_ns = _START_NS

    def now_ns(self) -> int:
        return self._now_ns

    def sleep_until_ns(self, deadline_ns: int) -> None:
        """Steps at their own instants, each under the goals of its time; servos look at themselves in between."""
        while (due := min(self._next_step_ns, self._next_look_ns)) <= deadline_ns:
            if due == self._next_step_ns:
                self._world.step()
                self._next_step_ns += self._step_ns
            if due == self._next_look_ns:
                for arm in self._world.arms.values():
                    arm.bus.supervise(due)
                self._next_look_ns += _SUPERVISE_NS
        self._now_ns = max(self._now_ns, deadline_ns)


class LockstepLine(Line):
    """The bus of one virtual arm, without a port in between."""

    def __init__(self, arm: VirtualArm, clock: LockstepClock) -> None:
        super().__init__(arm.name, arm.arm.baud)
        self._arm, self._clock = arm, clock
        self._outbox, self._arrived = Outbox(), bytearray()
        self._plugged, self._open, self._gone = True, False, False

    def plug(self, plugged: bool) -> None:
        """The adapter is there or not; one that went has to be opened again, as a real one has."""
        self._plugged = plugged
        self._gone |= not plugged

    @property
    def is_open(self) -> bool:
        return self._open

    def open(self) -> None:
        if not self._plugged:
            raise DeviceError(f"{self.device}: no such port; is the arm plugged in?")
        self._open, self._gone = True, False
        self._forget()

    def close(self) -> None:
        self._open = False

    def set_baud(self, baud: int) -> None:
        self.baud = baud

    def send(self, data: bytes) -> bool:
        self._check()
        self._outbox.put(self._arm.bus.receive(data, self.baud, self.now_ns()))
        return True

    def receive(self, deadline_ns: int, size: int = 4096) -> bytes:
        self._check()
        self._gather()
        if not self._arrived:
            due = self._outbox.due_ns()
            self._clock.sleep_until_ns(deadline_ns if due is None else min(due, deadline_ns))
            self._gather()
        data = bytes(self._arrived[:size])
        del self._arrived[:size]
        return data

    def flush_input(self) -> None:
        self._check()
        self._gather()
        self._arrived.clear()

    def now_ns(self) -> int:
        return self._clock.now_ns()

    def sleep_s(self, seconds: float) -> None:
        self._clock.sleep_until_ns(self.now_ns() + round(seconds * 1e9))

    def getBytesAvailable(self) -> int:  # noqa: N802  the SDK's name
        self._gather()
        return len(self._arrived)

    def _gather(self) -> None:
        self._arrived += self._outbox.take(self.now_ns())

    def _forget(self) -> None:
        self._outbox.clear()
        self._arrived.clear()

    def _check(self) -> None:
        if not self._open or self._gone:
            raise PortGoneError(f"{self.device}: the port is gone; check the cable and reconnect")

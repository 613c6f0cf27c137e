"""What can be made to go wrong with a virtual robot, live or in lock-step. This is the one list of it:

=====================  =================================================================================================
``arm``                which bus the others mean: ``follower`` (default) or ``leader``
``loss``, ``corrupt``  probability for each packet, both ways, to vanish or to lose a bit
``repeat``             probability of an answer to come once more, up to 8 ms later
``noise``              probability of stray bytes in front of an answer
``delay_ms``           how late answers are [ms]; ``jitter_ms`` is added at random
``silent_ids``         servos that neither hear nor speak [ids]
``unplug``             the USB adapter is gone (true) or back (false); the servos keep their power
``power``              the servos have no power (false) or have it again (true): limp, RAM forgotten
``supply``             supply voltage as a share of the usual one; below 0.5 every servo says so, and some let go
``temperature``        [id, °C] around a servo's motor
``overload``           id of a servo that shuts down; ``overcurrent`` likewise (it calls that electrical shock)
``hardware_error``     [id, bits of Hardware Error Status(70)]
``swap``               [id, model name]: a servo of another model answers to this id
``renumber``           [id, new id]: a servo answers to another id
``freeze_camera``      name or names of cameras that show the same picture for ever
``drop_camera``        name or names of cameras that are gone
=====================  =================================================================================================
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from typing import Any

from drivers.dynamixel.tables import model as servo_model
from drivers.virtual.live.world import ArmName, VirtualArm, World
from drivers.virtual.servos.coupling import ROOM
from drivers.virtual.servos.servo import HardwareError, Servo
from spec.errors import SpecError

_BUS = frozenset({"loss", "corrupt", "repeat", "noise", "delay_ms", "jitter_ms", "silent_ids"})


class Mischief:
    """Does it, and undoes it."""

    def __init__(self, world: World, cameras: Collection[str]) -> None:
        """``cameras``: names of those that can be frozen or dropped."""
        self._world, self._cameras = world, tuple(cameras)
        self.unplugged: set[ArmName] = set()
        self.frozen: frozenset[str] = frozenset()
        self.dropped: frozenset[str] = frozenset()
        self._undo: list[Callable[[], None]] = []

    def inject(self, faults: Mapping[str, Any], now_ns: int) -> None:
        """Make things go wrong until :meth:`clear`.

        Raises:
            SpecError: no such fault, arm, servo or camera, or a value out of range.
        """
        known = {"arm", *_BUS, *_ACTS, "freeze_camera", "drop_camera"}
        if unknown := faults.keys() - known:
            raise SpecError("fault", min(unknown), "no such fault", sorted(known))
        arm = self._arm(str(faults.get("arm", "follower")))
        arm.bus.faults.inject(faults)
        if "freeze_camera" in faults:
            self.frozen = self._named(faults["freeze_camera"])
        if "drop_camera" in faults:
            self.dropped = self._named(faults["drop_camera"])
        for name in faults:
            if name in _ACTS:
                _ACTS[name](self, arm, faults[name], now_ns)

    def clear(self, now_ns: int) -> None:
        """Everything well again; a servo that shut down stays so until it is rebooted."""
        self.unplugged.clear()
        self.frozen = self.dropped = frozenset()
        while self._undo:
            self._undo.pop()()
        for arm in self._world.arms.values():
            arm.bus.faults.clear()
            for servo in arm.bus.servos:
                servo.set_room(ROOM)
                servo.set_supply(1.0)
                servo.power(True, now_ns)

    def statistics(self) -> dict[str, dict[str, int]]:
        """Packets seen and harmed on each bus since the start."""
        return {name: dict(arm.bus.faults.counts) for name, arm in self._world.arms.items()}

    def _arm(self, name: str) -> VirtualArm:
        for arm in self._world.arms.values():
            if arm.name == name:
                return arm
        raise SpecError("fault arm", name, "no such arm", self._world.arms)

    def _named(self, names: str | list[str] | None) -> frozenset[str]:
        wanted = frozenset([names] if isinstance(names, str) else names or [])
        return wanted & frozenset(self._cameras)

    # What is done to an arm or one of its servos

    def _plug(self, arm: VirtualArm, gone: bool, _now_ns: int) -> None:
        (self.unplugged.add if gone else self.unplugged.discard)(arm.name)

    def _power(self, arm: VirtualArm, on: bool, now_ns: int) -> None:
        for servo in arm.bus.servos:
            servo.power(on, now_ns)

    def _supply(self, arm: VirtualArm, share: float, _now_ns: int) -> None:
        if not 0.0 < share <= 2.0:
            raise SpecError("fault supply", share, "must be a share of the usual voltage, up to 2")
        for servo in arm.bus.servos:
            servo.set_supply(share)

    def _heat(self, arm: VirtualArm, what: tuple[int, float], _now_ns: int) -> None:
        _servo(arm, what[0]).set_room(float(what[1]))

    def _fail(self, arm: VirtualArm, what: tuple[int, int], _now_ns: int) -> None:
        _servo(arm, what[0]).fail(HardwareError(what[1]))

    def _overload(self, arm: VirtualArm, servo: int, _now_ns: int) -> None:
        _servo(arm, servo).fail(HardwareError.OVERLOAD)

    def _overcurrent(self, arm: VirtualArm, servo: int, _now_ns: int) -> None:
        _servo(arm, servo).fail(HardwareError.SHOCK)

    def _swap(self, arm: VirtualArm, what: tuple[int, str], _now_ns: int) -> None:
        self._rewrite(_servo(arm, what[0]), "model_number", servo_model(what[1]).number)

    def _renumber(self, arm: VirtualArm, what: tuple[int, int], _now_ns: int) -> None:
        self._rewrite(_servo(arm, what[0]), "id", what[1])

    def _rewrite(self, servo: Servo, register: str, value: int) -> None:
        before = servo.memory[register]
        self._undo.append(lambda: servo.memory.__setitem__(register, before))
        servo.memory[register] = value


_ACTS: Mapping[str, Callable[[Mischief, VirtualArm, Any, int], None]] = {
    "unplug": Mischief._plug,
    "power": Mischief._power,
    "supply": Mischief._supply,
    "temperature": Mischief._heat,
    "hardware_error": Mischief._fail,
    "overload": Mischief._overload,
    "overcurrent": Mischief._overcurrent,
    "swap": Mischief._swap,
    "renumber": Mischief._renumber,
}


def _servo(arm: VirtualArm, servo_id: int) -> Servo:
    for servo in arm.bus.servos:
        if servo.id == servo_id:
            return servo
    raise SpecError("fault servo", servo_id, "no such id on this bus", [servo.id for servo in arm.bus.servos])

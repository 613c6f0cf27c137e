"""One lock-step case from beginning to end: the real loop, decision, driver and protocol on the virtual clock."""

from __future__ import annotations

import ctypes
import logging

import numpy as np

from cadenza.faults.afflicted import AfflictedArm, AfflictedClock
from cadenza.faults.cases import Case
from cadenza.faults.evidence import Evidence, Truth
from cadenza.faults.script import Script
from controller.decide import Decide
from controller.envelope import Envelope
from controller.loop import ControlLoop
from controller.surroundings import BULGE
from drivers.dynamixel.arm import DynamixelArm
from drivers.virtual.lockstep import LockstepRobot
from episodes.layout import records_of
from episodes.records import TickRecord
from spec.arrays import Bool, Float, Int
from spec.robot import Robot

MOST_S = 40.0
"""No case lasts longer; the operator gives up long before [s]."""
_WITHIN_M = 0.02
"""Links of the virtual arm fall through each other without power. Where they have come to lie so deep in one another
[m], no way leads out, and the arm would say NOT_HOME: "move it by hand to where the way is free". No real arm lies
like that, so this is done at once; from everything less deep it has to come home by itself."""
_RESTED_S = 0.5
"""Time after the end until it is looked whether the servos still hold [s]; their watchdogs must not fire either."""


def play(case: Case, robot: Robot) -> Evidence:
    """Play a lock-step case.

    Args:
        robot: robot file of the virtual arm, its paths resolved.
    """
    lock = LockstepRobot(robot, case.seed)
    follower = lock.robot.follower
    servos = [joint.id for joint in follower.joints.values()]
    arm = DynamixelArm(follower, rate_hz=robot.control.rate_hz, line=lock.line("follower"))
    arm.open()
    clock = AfflictedClock(lock, case, servos)
    began_ns = clock.now_ns()
    witness = _Witness(lock)
    notices: list[tuple[float, str]] = []
    script = Script(case, robot, clock, lambda: loop.state, _Hand(lock, robot))

    def tell(line: str) -> None:
        notices.append((script.now_s, line))
        script.told(line)

    def publish(record: TickRecord) -> None:
        witness.see(record)
        script.heard(record)

    loop = ControlLoop(
        AfflictedArm(arm, clock, case),
        Decide.of(robot),
        clock,
        robot.control.rate_hz,
        script,
        publish,
        tell,
    )
    quiet = logging.getLogger("controller")
    level, quiet.level = quiet.level, logging.CRITICAL  # what the loop logs is in the notices
    try:
        ended = loop.run(round(MOST_S * robot.control.rate_hz))
    finally:
        quiet.level = level
    lock.clock.sleep_until_ns(lock.clock.now_ns() + round(_RESTED_S * 1e9))
    return Evidence(
        case,
        robot,
        witness.ticks(),
        witness.truth(),
        tuple(notices),
        tuple(script.delivered),
        began_ns,
        ended,
        script.calm_s,
        script.word_s,
        script.again_s,
        tuple(lock.world.follower.drives.torque.tolist()),
        tuple(script.switched_s),
    )


class _Hand:
    """The operator's, a :class:`cadenza.faults.script.Hand`: lifts what no servo holds up from where it hangs, to where
    it is well away from everything."""

    def __init__(self, lock: LockstepRobot, robot: Robot) -> None:
        self._lock, self._arm, self._home, self._envelope = (
            lock,
            lock.world.follower,
            robot.limits().home,
            Envelope.of(robot),
        )
        self._within = _WITHIN_M + BULGE + (0.0 if robot.collision is None else robot.collision.margin)

    def lift(self, asked: bool) -> None:
        """Where the loop has asked for it, or the arm lies where no real one could."""
        lacking = self._envelope.standing(tuple(self._arm.drives.position().tolist())).short
        if asked or max(lacking[1:], default=0.0) > self._within:  # the first is the box
            self._arm.place(self._home)

    def switch(self) -> None:
        """The servos' power off and on, with the arm supported where it is."""
        for on in (False, True):
            self._lock.inject({"power": on})
        self._arm.place(self._arm.drives.position().copy())


class _Witness:
    """Sees each tick as it is recorded, and what is true at that moment."""

    def __init__(self, lock: LockstepRobot) -> None:
        self._lock, self._drives = lock, lock.world.follower.drives
        self._records: list[bytes] = []
        self._joints: list[Float] = []
        self._goals: list[Float] = []
        self._torque: list[Bool] = []
        self._harmed: list[int] = []
        self._alarms: list[Int] = []
        self._shut: list[Bool] = []
        self._tripped: list[Bool] = []

    def see(self, record: TickRecord) -> None:
        self._records.append(ctypes.string_at(ctypes.addressof(record), ctypes.sizeof(record)))
        self._joints.append(self._drives.position().copy())
        self._goals.append(self._drives.goal.copy())
        self._torque.append(self._drives.torque)
        counts = self._lock.world.follower.bus.faults.counts
        harmed = sum(counts[f"{way}_{how}"] for way in ("requests", "answers") for how in ("lost", "corrupted"))
        unanswered = sum(counts[f"requests_{how}.SYNC_WRITE"] for how in ("lost", "corrupted"))
        self._harmed.append(harmed - unanswered)
        self._alarms.append(self._shown())
        memories = [servo.memory for servo in self._lock.world.follower.bus.servos]
        self._shut.append(np.array([(m["hardware_error_status"] & m["shutdown"]) != 0 for m in memories]))
        self._tripped.append(np.array([m["bus_watchdog"] == -1 for m in memories]))

    def _shown(self) -> Int:
        """What servos that can be heard say is wrong with them."""
        bus, now_ns = self._lock.world.follower.bus, self._lock.clock.now_ns()
        plugged = "follower" not in self._lock.mischief.unplugged
        heard = [plugged and servo.awake(now_ns) and servo.id not in bus.faults.silent for servo in bus.servos]
        errors = [servo.memory["hardware_error_status"] for servo in bus.servos]
        return np.array(errors) * heard

    def ticks(self) -> np.ndarray:
        return records_of(b"".join(self._records))

    def truth(self) -> Truth:
        seen = (self._joints, self._goals, self._torque, self._harmed, self._alarms, self._shut, self._tripped)
        return Truth(*(np.array(one) for one in seen))

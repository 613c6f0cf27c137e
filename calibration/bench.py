"""An arm on the bench: its encoders and motors by name, before anybody knows where zero is."""

from __future__ import annotations

import time
from collections.abc import Mapping
from types import TracebackType
from typing import Self

import numpy as np

from drivers.dynamixel.bus import Bus
from drivers.dynamixel.identify import identify
from drivers.dynamixel.port import Port
from drivers.dynamixel.safety import EXTENDED_POSITION_MODE, Programming, program
from drivers.dynamixel.tables import Model, Register, model
from spec.arrays import Int
from spec.robot import Arm

FULL_PWM = 885
"""PWM Limit(36) that limits nothing, every X-series model."""


class Bench:
    """Raw access to the joints of one arm; arrays are in joint order.

    The servos are set up to be measured: the bare encoder, counting on through whole turns, and no profile in between.

    Args:
        arm: its section of the robot file.
        relax: take torque off, so that a person can move the arm. Else what holds goes on holding, but for the moment
            each servo's EEPROM needs.
        force: share of the motors' full PWM that may be used.
    """

    def __init__(self, arm: Arm, *, relax: bool, force: float = 1.0) -> None:
        self.arm = arm
        self._relax = relax
        self._setting = Programming(
            eeprom={
                "drive_mode": 0,
                "homing_offset": 0,
                "operating_mode": EXTENDED_POSITION_MODE,
                "pwm_limit": round(force * FULL_PWM),
            },
            ram={"status_return_level": 2, "profile_acceleration": 0, "profile_velocity": 0},
        )
        self.models: tuple[Model, ...] = tuple(model(joint.model) for joint in arm.joints.values())
        self._ids = [joint.id for joint in arm.joints.values()]
        names = {joint.id: f"joint {name} (id {joint.id})" for name, joint in arm.joints.items()}
        self._port = Port(arm.port, arm.baud)
        self.bus = Bus(self._port, names)

    def __enter__(self) -> Self:
        """Raises DeviceError or MisfitError as opening an arm does."""
        self._port.open()
        try:
            identify(self.bus, self.arm, self.models)
            if self._relax:
                self.write("torque_enable", dict.fromkeys(self.arm.names, 0))
            self.write("bus_watchdog", dict.fromkeys(self.arm.names, 0))
            for servo, table in zip(self._ids, self.models, strict=True):
                program(self.bus, servo, table, self._setting, may_relax=True)
        except BaseException:
            self._port.close()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._port.close()

    def ticks(self) -> Int:
        """Present encoder positions, shape (joints,)."""
        return self.read("present_position")

    def read(self, register: str) -> Int:
        """One register of every joint, shape (joints,)."""
        r = self._register(register)
        data = self.bus.read_all(self._ids, r.address, r.size)
        return np.array([r.decode(data[servo]) for servo in self._ids], dtype=np.int64)

    def write(self, register: str, values: Mapping[str, int]) -> None:
        """Write one register of some joints, by name, and have it read back."""
        ids = {name: joint.id for name, joint in self.arm.joints.items()}
        self.bus.write_all(self._register(register), {ids[name]: value for name, value in values.items()})

    def _register(self, name: str) -> Register:
        return self.models[0][name]  # the X series shares the addresses of everything used here


def settled(bench: Bench, *, seconds: float = 0.3) -> Int:
    """Median of the encoder positions over a moment, shape (joints,): one jittering tick does not count."""
    samples = []
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        samples.append(bench.ticks())
        time.sleep(0.02)
    median: Int = np.rint(np.median(samples, axis=0)).astype(np.int64)
    return median

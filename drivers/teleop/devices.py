"""The teleoperation device of a robot file, with every pedal and button box that belongs to it."""

from __future__ import annotations

import time
from types import TracebackType
from typing import Self

from drivers.teleop.contract import Follow, Teleop
from drivers.teleop.jog import GAMEPAD, KEYBOARD, Jog
from drivers.teleop.leader import LeaderArm
from drivers.teleop.presses import Panel
from spec.errors import SpecError
from spec.robot import Robot, TeleopDevice
from spec.teleop import TeleopSample


def teleop_device(robot: Robot) -> Teleop:
    """The device the robot file names; not yet opened.

    Raises:
        SpecError: the robot file has no ``teleop``, or one that cannot be.
    """
    settings = robot.teleop
    if settings is None:
        raise SpecError("teleop", None, "the robot file has no teleoperation device; add the section teleop")
    device: LeaderArm | Jog
    match settings.device:
        case TeleopDevice.LEADER:
            device = LeaderArm(robot)
        case TeleopDevice.GAMEPAD:
            device = Jog(robot, GAMEPAD)
        case TeleopDevice.KEYBOARD:
            device = Jog(robot, KEYBOARD)
    own = device.panel.device.path if isinstance(device, Jog) else None
    panels = [Panel(path, meaning) for path, meaning in settings.buttons.items() if path != own]
    return WithPanels(device, panels) if panels else device


class WithPanels:
    """A device with pedals and button boxes beside it. What is pressed there counts as pressed on the device.

    A pedal that is gone does not silence the device; :attr:`trouble` says so.
    """

    def __init__(self, device: Teleop, panels: list[Panel]) -> None:
        self._device, self._panels = device, panels

    @property
    def joints(self) -> tuple[str, ...]:
        return self._device.joints

    @property
    def trouble(self) -> str:
        return self._device.trouble or next(filter(None, (panel.trouble for panel in self._panels)), "")

    def open(self) -> None:
        try:
            for panel in self._panels:
                panel.open()
            self._device.open()
        except BaseException:
            self._close_panels()
            raise

    def exchange(self, follow: Follow | None, deadline_ns: int) -> TeleopSample:
        sample = self._device.exchange(follow, deadline_ns)
        buttons, now = sample.buttons, time.monotonic_ns()
        for panel in self._panels:
            panel.read(now)
            buttons |= int(panel.presses.buttons(now))
        return sample._replace(buttons=buttons)

    def pressed(self) -> tuple[str, ...]:
        return self._device.pressed() + tuple(key for panel in self._panels for key in panel.presses.pressed())

    def close(self) -> None:
        self._close_panels()
        self._device.close()

    def _close_panels(self) -> None:
        for panel in self._panels:
            panel.close()

    def __enter__(self) -> Self:
        self.open()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

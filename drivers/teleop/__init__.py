"""What a person moves the arm with."""

from drivers.teleop.contract import Follow, Teleop
from drivers.teleop.devices import teleop_device
from drivers.teleop.leader import LeaderArm

__all__ = ["Follow", "LeaderArm", "Teleop", "teleop_device"]

"""The virtual Koch v1.1: physics, servos on a pseudo-terminal, cameras; live (VirtualRobot) and in lock-step (env)."""

from drivers.virtual.client import SimClient
from drivers.virtual.process import VirtualRobot

__all__ = ["SimClient", "VirtualRobot"]

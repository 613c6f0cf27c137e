"""Dynamixel servos over Protocol 2.0."""

from drivers.dynamixel.arm import DynamixelArm

__all__ = ["DynamixelArm"]

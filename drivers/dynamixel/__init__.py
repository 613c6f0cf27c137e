"""Dynamixel servos over Protocol 2.0."""

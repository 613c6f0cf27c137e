"""Crash-safe logs of what the robot saw and did."""

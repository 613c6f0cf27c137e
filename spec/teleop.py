"""One sample of the device by which a person moves the arm, as the tick sees it."""

from __future__ import annotations

from enum import IntFlag
from typing import NamedTuple


class Button(IntFlag):
    """What is pressed on a teleoperation device, as levels; the control loop looks for the moment they go down."""

    NONE = 0
    TAKE = 1
    RELEASE = 2
    TOGGLE = 4
    """Take if the policy has the arm, else give back."""
    DEAD_MAN = 8
    """With ``teleop.dead_man``, nothing drives the arm unless this is held."""


class TeleopSample(NamedTuple):
    """What a person wants, at one instant. Tuples have length joints, in the follower's order."""

    sequence: int
    """Counts samples of one run."""
    read_ns: int
    """Instant at which every joint of the device was last heard, CLOCK_MONOTONIC [ns]. It stands still when the
    device falls silent."""
    position: tuple[float, ...]
    """Joint angles asked for [rad]."""
    velocity: tuple[float, ...]
    """[rad/s]"""
    effort: tuple[float, ...]
    """Current of a leader arm's servos [A]; zeros where the device has none."""
    goal: tuple[float, ...]
    """What a leader arm was told to mirror when it was read [rad]; NaN while it gives way, and where there is none."""
    buttons: int = 0
    """Bits of :class:`Button`, as levels; a press or gesture is shown for 100 ms at least."""

"""A gentle motion about the start pose, for an arm that has no policy to follow."""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np

from controller.workers.playback import SLOW, Motion
from spec.robot import Limits

AMPLITUDE_RAD = 0.1
"""At most [rad]."""
_HZ, _STEP_S = 0.2, 0.02
_ROOM = 0.5
"""Share of the way to the nearest end of a joint's range that may be used."""


class Sway(NamedTuple):
    """A motion, and how far it goes."""

    motion: Motion
    widest_rad: float


def sway(limits: Limits, seconds: float) -> Sway:
    """Every joint to and fro about its start pose, slowly; it begins and ends there."""
    pulse = 2.0 * math.pi * _HZ
    room = _ROOM * np.minimum(limits.home - limits.lower, limits.upper - limits.home)
    slow = np.minimum(SLOW * limits.velocity / pulse, SLOW * limits.acceleration / pulse**2)
    amplitude = np.minimum(np.minimum(room, slow), AMPLITUDE_RAD)
    time = np.arange(0.0, math.ceil(seconds * _HZ) / _HZ, _STEP_S)
    position = limits.home + np.sin(pulse * time)[:, None] * amplitude
    return Sway(Motion(time, position, 1.0), float(amplitude.max()))

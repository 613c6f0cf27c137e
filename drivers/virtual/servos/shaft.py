"""How a servo is built into the arm: its output shaft as encoder pulses and the joint it turns as radians."""

from __future__ import annotations

from dataclasses import dataclass

from drivers.virtual.drives import PULSES, Drives

# Encoder position at joint angle zero, and whether growing pulses mean a falling angle. Nobody mounts a horn exactly
# at 2048, so neither are these; every joint's travel stays inside one turn (0 to 4095).
_FOLLOWER = {
    "shoulder_pan": (2143, False),
    "shoulder_lift": (1731, True),
    "elbow_flex": (2287, False),
    "wrist_flex": (2190, True),
    "wrist_roll": (2071, False),
    "gripper": (1490, True),
}
_LEADER = {
    "shoulder_pan": (1960, True),
    "shoulder_lift": (2515, False),
    "elbow_flex": (1911, True),
    "wrist_flex": (2208, False),
    "wrist_roll": (2036, False),
    "gripper": (2711, False),
}
MOUNTING = {"follower": _FOLLOWER, "leader": _LEADER}


@dataclass(frozen=True, slots=True)
class Shaft:
    """One servo's end of a joint. Pulses are the encoder's own, before Homing Offset and reverse mode."""

    drives: Drives
    joint: int
    """Index in ``drives``."""
    zero: int
    """Encoder pulses at joint angle zero."""
    sign: int
    """1, or -1 where the servo is mounted the other way round."""

    def pulses(self, angle: float) -> float:
        """Joint angle [rad] → encoder pulses."""
        return self.zero + self.sign * angle * PULSES

    def angle(self, pulses: float) -> float:
        """Encoder pulses → joint angle [rad]."""
        return self.sign * (pulses - self.zero) / PULSES

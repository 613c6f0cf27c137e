"""Action spaces: how a policy's numbers become absolute joint targets, and back.

``encode`` is the exact inverse of ``decode``: the learner turns what was really executed back into actions with it.
"""

from __future__ import annotations

from enum import StrEnum

import numpy as np

from spec.arrays import Float


class ActionSpace(StrEnum):
    """What one action means. Each action is due one policy step after the one before it."""

    JOINT_POSITION = "joint_position"
    """Absolute joint target [rad]."""
    JOINT_DELTA = "joint_delta"
    """Change of the joint target since the previous action [rad]; the first is relative to the reference."""


def decode(space: ActionSpace, actions: Float, reference: Float) -> Float:
    """Actions → absolute joint targets.

    Args:
        actions: shape (chunk, joints), in the units of ``space``.
        reference: joint target commanded at the instant of observation [rad], shape (joints,).

    Returns:
        Absolute joint targets [rad], shape (chunk, joints).
    """
    match space:
        case ActionSpace.JOINT_POSITION:
            return np.array(actions, dtype=np.float64)
        case ActionSpace.JOINT_DELTA:
            return np.asarray(reference + np.cumsum(actions, axis=0))


def encode(space: ActionSpace, targets: Float, reference: Float) -> Float:
    """Absolute joint targets → actions; the inverse of :func:`decode`, shapes and units alike."""
    match space:
        case ActionSpace.JOINT_POSITION:
            return np.array(targets, dtype=np.float64)
        case ActionSpace.JOINT_DELTA:
            return np.diff(targets, axis=0, prepend=reference[None, :])

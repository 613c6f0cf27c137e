"""How small a pull the thresholds notice: pushing at a mirroring leader with known force, which the virtual arm can."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from calibration.quiet import Mirroring, Recording
from spec.robot import Takeover

Push = Callable[[str, float, float], None]
"""Push at a joint with so much torque [N·m] for so long [s]."""

_PUSH_S, _PAUSE_S = 0.4, 0.6
_FIRST, _HARDER = 0.02, 1.25
"""Pushes get harder by this factor, from a share of the most: after a hard one the arm needs a while to forget."""


def pulled(recording: Recording, takeover: Takeover) -> bool:
    """Whether any sample crosses a threshold, as the controller sees it."""
    position = np.abs(recording.goal - recording.position - takeover.lag_s * recording.velocity)
    far = np.array([takeover.position[name] for name in recording.joints])
    strong = np.array([takeover.current[name] for name in recording.joints])
    return bool(((position > far) | (np.abs(recording.current) > strong)).any())


def smallest_push(mirroring: Mirroring, joint: str, takeover: Takeover, most: float, push: Push) -> float | None:
    """The smallest push at ``joint`` that counts as a pull [N·m], to a quarter of itself; None: not even ``most`` does.

    The leader mirrors an arm that stands still meanwhile.
    """
    force = _FIRST * most
    while force < most:
        if _noticed(mirroring, joint, force, takeover, push):
            return force
        force *= _HARDER
    return most if _noticed(mirroring, joint, most, takeover, push) else None


def _noticed(mirroring: Mirroring, joint: str, force: float, takeover: Takeover, push: Push) -> bool:
    first = mirroring.samples
    push(joint, force, _PUSH_S)
    mirroring.wait(_PUSH_S)
    seen = pulled(mirroring.recording(first), takeover)
    mirroring.wait(_PAUSE_S)
    return seen

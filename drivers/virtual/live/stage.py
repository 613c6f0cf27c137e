"""What the physics process shows the camera process: the scene's pose, in shared memory."""

from __future__ import annotations

import mmap
import os
import struct
from typing import NamedTuple

import numpy as np

from spec.arrays import Float

_HEAD = struct.Struct("=QdQQ")
"""Version (odd while being written), simulated time [s], bit per frozen camera, bit per dropped camera."""
_READS = 1000


class Pose(NamedTuple):
    """One consistent picture of the scene."""

    time_s: float
    frozen: int
    dropped: int
    qpos: Float


class Stage:
    """One writer, any number of readers, no lock: a reader that caught a write in progress looks again."""

    def __init__(self, descriptor: int, size: int) -> None:
        """``descriptor``: from :func:`create`; ``size``: length of qpos."""
        self.descriptor = descriptor
        self._memory = mmap.mmap(descriptor, _HEAD.size + 8 * size)
        self._qpos = np.frombuffer(self._memory, dtype=np.float64, offset=_HEAD.size)
        self._version = 0

    @classmethod
    def create(cls, size: int) -> Stage:
        """Anonymous shared memory; hand ``descriptor`` to the reader's process."""
        descriptor = os.memfd_create("cadenza-stage", 0)
        os.ftruncate(descriptor, _HEAD.size + 8 * size)
        return cls(descriptor, size)

    def show(self, time_s: float, frozen: int, dropped: int, qpos: Float) -> None:
        """Publish a pose."""
        self._version += 1
        _HEAD.pack_into(self._memory, 0, self._version, time_s, frozen, dropped)
        self._qpos[:] = qpos
        self._version += 1
        _HEAD.pack_into(self._memory, 0, self._version, time_s, frozen, dropped)

    def look(self) -> Pose:
        """The newest pose."""
        for _ in range(_READS):
            before, time_s, frozen, dropped = _HEAD.unpack_from(self._memory, 0)
            qpos = self._qpos.copy()
            if before % 2 == 0 and before == _HEAD.unpack_from(self._memory, 0)[0]:
                break
        return Pose(time_s, frozen, dropped, qpos)

"""Array types used throughout. Shapes stand in the docstrings: ``[rad], shape (joints,)``."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

Float = npt.NDArray[np.float64]
Float32 = npt.NDArray[np.float32]
Int = npt.NDArray[np.int64]
Bool = npt.NDArray[np.bool_]
Bytes = npt.NDArray[np.uint8]


def frozen(values: npt.ArrayLike) -> Float:
    """A read-only float64 copy of ``values``: shared between processes of thought, changed by none."""
    array = np.array(values, dtype=np.float64)
    array.setflags(write=False)
    return array

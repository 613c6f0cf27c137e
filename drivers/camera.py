"""The camera contract: frames with the instant they were captured."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

from spec.arrays import Bytes


@dataclass(frozen=True, slots=True, eq=False)
class Frame:
    """One picture."""

    image: Bytes
    """BGR, shape (height, width, 3)."""
    captured_ns: int
    """CLOCK_MONOTONIC [ns], taken when the frame arrived, before decoding."""
    sequence: int
    """Counts frames of this camera since it was first opened, reconnections included."""


class Camera(Protocol):
    """A source of frames. ``read`` blocks until the next one and returns None when the source is lost or frozen."""

    def open(self) -> None:
        """Connect and check the picture size. Raises DeviceError."""
        ...

    def read(self) -> Frame | None: ...

    def close(self) -> None: ...

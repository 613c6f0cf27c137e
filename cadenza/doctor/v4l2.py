"""Which sizes and rates a Video4Linux camera offers, by the kernel's own enumeration (linux/videodev2.h)."""

from __future__ import annotations

import fcntl
import os
import struct
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

_CAPTURE, _DISCRETE = 1, 1  # V4L2_BUF_TYPE_VIDEO_CAPTURE, V4L2_FRMSIZE_TYPE_DISCRETE
_FORMAT = struct.Struct("=III32sIIIII")  # struct v4l2_fmtdesc: index, type, flags, description, pixelformat, mbus, 3
_SIZE = struct.Struct("=IIIII24x")  # struct v4l2_frmsizeenum: index, pixelformat, type, width, height
_INTERVAL = struct.Struct("=IIIIIII24x")  # struct v4l2_frmivalenum: ..., width, height, type, numerator, denominator
_MOST = 64

Ioctl = Callable[[int, int, bytearray], int]


@dataclass(frozen=True, slots=True)
class Mode:
    """One picture format."""

    pixels: str
    """Four characters: ``MJPG``, ``YUYV``."""
    width: int
    height: int
    fps: float
    """Highest rate."""

    def __str__(self) -> str:
        return f"{self.pixels} {self.width}x{self.height} at {self.fps:g} Hz"


def modes(device: Path, ioctl: Ioctl = fcntl.ioctl) -> list[Mode]:
    """What it offers; empty where it cannot be asked."""
    try:
        descriptor = os.open(device, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError:
        return []
    try:
        return list(_modes(descriptor, ioctl))
    finally:
        os.close(descriptor)


def _modes(descriptor: int, ioctl: Ioctl) -> Iterator[Mode]:
    for answer in _each(descriptor, ioctl, 2, _FORMAT, _CAPTURE, 0, b"", 0, 0, 0, 0, 0):
        code = answer[4]
        pixels = code.to_bytes(4, "little").decode("ascii", "replace").strip()
        for size in _each(descriptor, ioctl, 74, _SIZE, code, 0, 0, 0):
            if size[2] == _DISCRETE:
                yield Mode(pixels, size[3], size[4], _fastest(descriptor, ioctl, code, size[3], size[4]))


def _fastest(descriptor: int, ioctl: Ioctl, code: int, width: int, height: int) -> float:
    answers = _each(descriptor, ioctl, 75, _INTERVAL, code, width, height, 0, 0, 0)
    return max((answer[6] / answer[5] for answer in answers if answer[5]), default=0.0)


def _each(
    descriptor: int, ioctl: Ioctl, number: int, layout: struct.Struct, *question: int | bytes
) -> Iterator[tuple[Any, ...]]:
    """Answers to one kind of question, index after index, until the driver has no more."""
    request = 0xC0000000 | layout.size << 16 | ord("V") << 8 | number  # _IOWR
    for index in range(_MOST):
        packed = bytearray(layout.pack(index, *question))
        try:
            ioctl(descriptor, request, packed)
        except OSError:
            return
        yield layout.unpack(packed)

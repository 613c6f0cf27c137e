"""Cameras through OpenCV: V4L2 devices and network streams, with reconnection and a watch for frozen pictures."""

from __future__ import annotations

import os
import re
import time
from pathlib import Path
from types import TracebackType
from typing import Any, Self

# Read when OpenCV loads: FFmpeg's own chatter about broken streams; we say in one line what matters.
os.environ.setdefault("OPENCV_FFMPEG_LOGLEVEL", "-8")

import cv2
import numpy as np

from drivers.camera import Frame
from spec.arrays import Bytes
from spec.errors import DeviceError
from spec.robot import Camera

OPEN_TIMEOUT_MS = 3000
READ_TIMEOUT_MS = 1000
FIRST_BACKOFF_S, LONGEST_BACKOFF_S = 0.1, 2.0
FROZEN_AFTER_S = 1.0
"""A sensor's noise changes every picture. One that is the same to the bit for this long [s] comes from a stuck driver
or server, not from a still scene."""
_BY_ID = Path("/dev/v4l/by-id")


class OpenCVCamera:
    """One camera of the robot file. Implements :class:`drivers.camera.Camera`.

    Args:
        name: as in the robot file; only for messages.
        camera: source, size, rate.
    """

    def __init__(self, name: str, camera: Camera) -> None:
        self.name, self.camera = name, camera
        self.reconnections = 0
        self.frozen = False
        self._capture: Any = None
        self._sequence = 0
        self._backoff_s = FIRST_BACKOFF_S
        self._retry_ns = 0
        self._last: Bytes | None = None
        self._changed_ns = 0

    @property
    def is_url(self) -> bool:
        return "://" in self.camera.source

    def open(self) -> None:
        """Connect, ask for the size and rate of the robot file, and look at one picture.

        Raises:
            DeviceError: no such camera, no picture, or another size; says what the camera gives.
        """
        where = f"camera {self.name}: {self.camera.source}"
        if not self.is_url and not Path(self.camera.source).exists():
            raise DeviceError(f"{where}: no such device (present: {', '.join(present_cameras()) or 'none'})")
        capture = self._connect()
        if capture is None:
            raise DeviceError(f"{where}: cannot be opened; is it in use, or does the address not answer?")
        arrived, image = capture.read()
        if not arrived:
            capture.release()
            raise DeviceError(f"{where}: opened, but gives no picture within {READ_TIMEOUT_MS} ms")
        height, width = image.shape[:2]
        if (width, height) != (self.camera.width, self.camera.height):
            capture.release()
            raise DeviceError(
                f"{where}: gives {width}x{height}, robot file says {self.camera.width}x{self.camera.height}; "
                f"set cameras.{self.name}.width and height to what it gives"
            )
        self._capture = capture
        self._changed_ns = time.monotonic_ns()

    def read(self) -> Frame | None:
        """The next picture; None while the camera is lost or frozen. Reconnects by itself, with growing pauses."""
        if self._capture is None and not self._reconnect():
            return None
        if not self._capture.grab():
            self._lose()
            return None
        captured_ns = time.monotonic_ns()
        arrived, image = self._capture.retrieve()
        if not arrived or image.shape[:2] != (self.camera.height, self.camera.width):
            self._lose()
            return None
        self._backoff_s = FIRST_BACKOFF_S
        if self._is_frozen(image, captured_ns):
            return None
        frame = Frame(image, captured_ns, self._sequence)
        self._sequence += 1
        return frame

    def close(self) -> None:
        """Free the device."""
        if self._capture is not None:
            self._capture.release()
            self._capture = None

    def __enter__(self) -> Self:
        self.open()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _connect(self) -> Any:
        if self.is_url:
            timeouts = [
                cv2.CAP_PROP_OPEN_TIMEOUT_MSEC,
                OPEN_TIMEOUT_MS,
                cv2.CAP_PROP_READ_TIMEOUT_MSEC,
                READ_TIMEOUT_MS,
                cv2.CAP_PROP_N_THREADS,
                1,
            ]
            capture = cv2.VideoCapture(self.camera.source, cv2.CAP_FFMPEG, timeouts)
        else:
            capture = cv2.VideoCapture(str(Path(self.camera.source).resolve()), cv2.CAP_V4L2)
            # Raw pictures of two cameras do not fit one USB 2 bus.
            capture.set(cv2.CAP_PROP_FOURCC, cv2.VideoWriter.fourcc(*"MJPG"))
            capture.set(cv2.CAP_PROP_FRAME_WIDTH, self.camera.width)
            capture.set(cv2.CAP_PROP_FRAME_HEIGHT, self.camera.height)
            capture.set(cv2.CAP_PROP_FPS, self.camera.fps)
            capture.set(cv2.CAP_PROP_BUFFERSIZE, 1)
        if not capture.isOpened():
            capture.release()
            return None
        return capture

    def _reconnect(self) -> bool:
        now = time.monotonic_ns()
        if now < self._retry_ns:
            time.sleep(min(0.05, (self._retry_ns - now) * 1e-9))
            return False
        self._capture = self._connect()
        if self._capture is None:
            self._postpone()
            return False
        self.reconnections += 1
        return True

    def _lose(self) -> None:
        self.close()
        self._postpone()

    def _postpone(self) -> None:
        self._retry_ns = time.monotonic_ns() + round(self._backoff_s * 1e9)
        self._backoff_s = min(2 * self._backoff_s, LONGEST_BACKOFF_S)

    def _is_frozen(self, image: Bytes, captured_ns: int) -> bool:
        if self._last is None or not np.array_equal(self._last, image):
            self._last, self._changed_ns, self.frozen = image, captured_ns, False
            return False
        if captured_ns - self._changed_ns < FROZEN_AFTER_S * 1e9:
            return False
        if not self.frozen:  # a fresh connection cures some servers and drivers; tried once a freeze
            self.frozen = True
            self._lose()
        return True


def present_cameras() -> list[str]:
    """Stable paths of the capture devices of this machine."""
    return sorted(str(path) for path in _BY_ID.glob("*-index0")) or sorted(map(str, Path("/dev").glob("video*")))


def identity_warning(name: str, camera: Camera) -> str | None:
    """One line when a camera is named by a number that changes with the order of plugging, with the better name."""
    if not re.fullmatch(r"/dev/video\d+", camera.source):
        return None
    here = Path(camera.source).resolve()
    stable = [path for path in present_cameras() if path.startswith(str(_BY_ID)) and Path(path).resolve() == here]
    better = f"it is {stable[0]}" if stable else f"see {_BY_ID}"
    return f"camera {name}: {camera.source} may name another camera after the next start; use a stable path ({better})"

"""Cameras: named for good, giving the size and the rate that the robot file counts on. Measured, not believed."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

from cadenza.doctor.finding import Finding, failure, warning, well
from cadenza.doctor.v4l2 import modes
from drivers.cameras.opencv import OpenCVCamera, identity_warning, present_cameras
from spec.errors import DeviceError
from spec.robot import Camera

WATCH_S = 2.0
"""For so long pictures are counted [s]."""
_WARM_UP = 3
"""First pictures, which some cameras hand out late or all at once."""
_ENOUGH = 0.9
"""Share of the wanted rate; a camera in the dark halves it."""
_BUSY = "end what else keeps the machine busy that makes the pictures, or the network they come by"


@dataclass(frozen=True, slots=True)
class Pictures:
    """What came from a camera while somebody counted."""

    fps: float
    longest_s: float
    """Longest pause between two [s]."""
    frozen: bool = False


def watch(name: str, camera: Camera, seconds: float = WATCH_S) -> Pictures:
    """Count pictures. Raises DeviceError."""
    with OpenCVCamera(name, camera) as opened:
        for _ in range(_WARM_UP):
            opened.read()
        times_ns: list[int] = []
        until = time.monotonic() + seconds
        while time.monotonic() < until:
            frame = opened.read()
            if frame is not None:
                times_ns.append(frame.captured_ns)
        frozen = opened.frozen
    if len(times_ns) < 2:
        return Pictures(0.0, seconds, frozen)
    pauses = [(after - before) * 1e-9 for before, after in pairwise(times_ns)]
    return Pictures(len(pauses) / sum(pauses), max(pauses), frozen)


def check_camera(name: str, camera: Camera, look: Callable[[str, Camera], Pictures] = watch) -> Finding:
    """One camera of the robot file."""
    what = f"camera {name}"
    streamed = "://" in camera.source  # the virtual arm's are, too
    offered = [] if streamed else modes(Path(camera.source))
    known = f"it offers {', '.join(map(str, offered))}" if offered else ""
    try:
        seen = look(name, camera)
    except DeviceError as error:
        others = ", ".join(present_cameras()) or "none is plugged in"
        fix = known or f"put the right one into cameras.{name}.source, of these: {others}"
        return failure(what, "no pictures", str(error).partition(": ")[2], fix)
    value = f"{camera.width}x{camera.height} at {seen.fps:.1f} Hz, longest pause {1e3 * seen.longest_s:.0f} ms"
    if seen.frozen or not seen.fps:
        fix = _BUSY if streamed else "unplug it, plug it in"
        return failure(what, value, "the picture stands still: a policy would act on the past", fix)
    if 1e3 * seen.longest_s > camera.stale_after_ms:
        why = f"longer than stale_after_ms {camera.stale_after_ms:g}: the policy would not be asked meanwhile"
        fix = _BUSY if streamed else "another USB port (not a hub shared with the other camera); more light"
        return warning(what, value, why, fix)
    if seen.fps < _ENOUGH * camera.fps:
        why = f"the robot file counts on {camera.fps:g} Hz"
        fix = _BUSY if streamed else known or "more light; v4l2-ctl -c exposure_dynamic_framerate=0"
        return warning(what, value, why, f"{fix}; or cameras.{name}.fps {max(1.0, seen.fps):.0f}")
    if said := identity_warning(name, camera):
        return warning(what, value, said.partition(": ")[2], f"put a stable path into cameras.{name}.source")
    return well(what, value)

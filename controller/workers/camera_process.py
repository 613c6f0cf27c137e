"""``python -m controller.workers.camera_process``: one camera; encodes each picture once and publishes the bytes.

The recorder logs exactly these bytes and the inference process decodes exactly these bytes, so what the policy saw is
what is on record.
"""

from __future__ import annotations

import gc
import os
import sys
import time

import cv2

from controller.wiring.child import Child, run_child
from controller.wiring.placement import stay_off_control_core
from controller.wiring.topics import SIGHTS, frames_topic
from drivers.cameras.opencv import OpenCVCamera, identity_warning
from episodes.records import FrameHeader
from spec.errors import SpecError
from spec.observation import encode_jpeg


def work(child: Child) -> None:
    """Until told to stop."""
    robot, name = child.assignment.robot, child.assignment.camera
    if name is None or name not in robot.cameras:
        raise SpecError("--camera", name, "no such camera", robot.cameras)
    stay_off_control_core(robot.control)
    cv2.setNumThreads(1)
    settings = robot.cameras[name]
    index = list(robot.cameras).index(name)
    if (warning := identity_warning(name, settings)) is not None:
        child.say("warning", text=warning)
    frames, sights = child.node.publisher(frames_topic(name)), child.node.publisher(SIGHTS)
    published = lost = 0
    with OpenCVCamera(name, settings) as camera:
        gc.freeze()
        child.say("ready", pid=os.getpid())
        seeing = True
        while not child.stopping:
            child.commands()
            frame = camera.read()
            if (frame is not None) is not seeing:
                seeing = frame is not None
                lost += not seeing
                what = "frozen" if camera.frozen else "lost"
                child.event(time.monotonic_ns(), "camera_back" if seeing else f"camera_{what}", name)
            if frame is None:
                continue
            jpeg = encode_jpeg(frame.image, settings.jpeg_quality)
            header = FrameHeader(
                camera=index,
                width=settings.width,
                height=settings.height,
                size=len(jpeg),
                sequence=frame.sequence,
                captured_ns=frame.captured_ns,
                published_ns=time.monotonic_ns(),
            )
            if frames.send_bytes(header, jpeg):  # one that nobody gets must not look fresh to the tick
                published += 1
                sights.send(header)
                child.vitals["captured_ns"] = frame.captured_ns
        child.say("report", frames=published, interruptions=lost, reconnections=camera.reconnections)


def main() -> int:
    """Entry of the process."""
    return run_child("camera", work)


if __name__ == "__main__":
    sys.exit(main())

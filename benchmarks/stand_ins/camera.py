"""A camera process without a camera: pictures that are encoded already, at the camera's rate, on the real topic."""

from __future__ import annotations

import gc
import os
import sys
import time

import cv2
import numpy as np

from controller.wiring.child import Child, run_child
from controller.wiring.placement import stay_off_control_core
from controller.wiring.topics import frames_topic
from episodes.records import FrameHeader
from spec.observation import encode_jpeg
from spec.robot import Camera

_PICTURES = 8


def busy_room(camera: Camera, seed: int) -> bytes:
    """A picture with as much detail as a room has: about 100 kB at 640x480 and quality 90."""
    scene = np.random.default_rng(seed).integers(0, 255, (70, 93, 3), dtype=np.uint8)
    scene = cv2.resize(scene, (camera.width, camera.height), interpolation=cv2.INTER_CUBIC)
    return encode_jpeg(scene, camera.jpeg_quality)


def work(child: Child) -> None:
    """Until told to stop."""
    robot, name = child.assignment.robot, child.assignment.camera
    assert name is not None
    stay_off_control_core(robot.control)
    cv2.setNumThreads(1)
    camera = robot.cameras[name]
    index = list(robot.cameras).index(name)
    pictures = [busy_room(camera, seed) for seed in range(_PICTURES)]
    frames = child.node.publisher(frames_topic(name))
    gc.freeze()
    child.say("ready", pid=os.getpid())
    start_s = time.monotonic()
    sequence = 0
    while not child.stopping:
        child.commands()
        time.sleep(max(0.0, start_s + sequence / camera.fps - time.monotonic()))
        jpeg = pictures[sequence % _PICTURES]
        now = time.monotonic_ns()
        header = FrameHeader(index, camera.width, camera.height, len(jpeg), sequence, now, now)
        sequence += frames.send_bytes(header, jpeg)
    child.say("report", frames=sequence)


if __name__ == "__main__":
    sys.exit(run_child("camera", work))

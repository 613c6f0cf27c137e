"""The camera process: renders the scene and serves each camera as MJPEG, as a network camera would.

``/NAME.mjpg`` is the stream, ``/NAME.jpg`` one picture. Cameras nobody watches are not rendered.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import signal
import sys
import threading
import time
from dataclasses import dataclass, field
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import cv2
import mujoco
import numpy as np

from drivers.virtual.live.parent import die_with_parent
from drivers.virtual.live.stage import Stage
from drivers.virtual.render import Renderer, check_cameras
from drivers.virtual.scene import follower_model
from spec.errors import CadenzaError
from spec.robot import Camera, Robot

_QUALITY = 95
_BOUNDARY = "frame"
_PATIENCE_S = 2.0
_GRAIN = 8
"""Pixels of a corner that get sensor noise: a real sensor never gives the same picture twice, so drivers take one that
repeats for a stuck camera, which a still scene without noise would look like."""


@dataclass
class Feed:
    """The newest picture of one camera, and who is waiting for it."""

    name: str
    camera: Camera
    bit: int
    due_ns: int = 0
    jpeg: bytes = b""
    count: int = 0
    viewers: int = 0
    dropped: bool = False
    news: threading.Condition = field(default_factory=threading.Condition)

    def publish(self, jpeg: bytes) -> None:
        with self.news:
            self.jpeg = jpeg
            self.count += 1
            self.news.notify_all()

    def after(self, count: int) -> tuple[int, bytes] | None:
        """The next picture after the ``count``-th, or None when none comes."""
        with self.news:
            if not self.news.wait_for(lambda: self.count > count, timeout=_PATIENCE_S):
                return None
            return self.count, self.jpeg

    def watched(self, by: int) -> None:
        with self.news:
            self.viewers += by


class CameraServer(ThreadingHTTPServer):
    """HTTP on a free loopback port."""

    daemon_threads = True

    def __init__(self, feeds: dict[str, Feed]) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.feeds = feeds

    def handle_error(self, request: object, client_address: object) -> None:
        """A viewer who left is no error."""


class _Handler(BaseHTTPRequestHandler):
    server: CameraServer
    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        name, _, kind = self.path.lstrip("/").partition(".")
        feed = self.server.feeds.get(name)
        if feed is None or kind not in {"mjpg", "jpg"}:
            self.send_error(HTTPStatus.NOT_FOUND, f"no such stream; have {', '.join(self.server.feeds)}")
            return
        feed.watched(1)
        try:
            if kind == "mjpg":
                self._stream(feed)
            else:
                self._snapshot(feed)
        finally:
            feed.watched(-1)
            self.close_connection = True

    def _stream(self, feed: Feed) -> None:
        self.send_response(HTTPStatus.OK)
        self.send_header("Content-Type", f"multipart/x-mixed-replace; boundary={_BOUNDARY}")
        self.send_header("Cache-Control", "no-store")
        self.end_headers()
        count = feed.count
        while (news := feed.after(count)) is not None and not feed.dropped:
            count, jpeg = news
            head = f"--{_BOUNDARY}\r\nContent-Type: image/jpeg\r\nContent-Length: {len(jpeg)}\r\n\r\n"
            self.wfile.write(head.encode() + jpeg + b"\r\n")

    def _snapshot(self, feed: Feed) -> None:
        news = None if feed.dropped else feed.after(feed.count)
        if news is None:
            self.send_error(HTTPStatus.SERVICE_UNAVAILABLE, "no picture")
            return
        self.send_response(HTTPStatus.OK)
        self.send_header("Content-Type", "image/jpeg")
        self.send_header("Content-Length", str(len(news[1])))
        self.end_headers()
        self.wfile.write(news[1])

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002  named by http.server
        """Keep the console clean."""


class Studio:
    """Renders watched cameras, each on its own grid of absolute deadlines."""

    def __init__(self, robot: Robot, stage: Stage, feeds: dict[str, Feed]) -> None:
        self._model = follower_model(robot)
        self._data = mujoco.MjData(self._model)
        check_cameras(self._model, robot.cameras)
        self._stage, self._feeds = stage, feeds
        self._grain = np.random.default_rng(0)
        sizes = {(camera.height, camera.width) for camera in robot.cameras.values()}
        self._renderers = {size: Renderer(self._model, *size) for size in sizes}
        start = time.monotonic_ns()
        for number, feed in enumerate(feeds.values()):
            # Cameras share one core: spread them over the period.
            feed.due_ns = start + round(number / len(feeds) * 1e9 / feed.camera.fps)

    def run(self, stopped: threading.Event) -> None:
        """Render until ``stopped``."""
        while not stopped.is_set():
            feed = min(self._feeds.values(), key=lambda f: f.due_ns)
            wait_ns = feed.due_ns - time.monotonic_ns()
            if wait_ns > 0:
                time.sleep(wait_ns * 1e-9)
            period = round(1e9 / feed.camera.fps)
            late = max(0, time.monotonic_ns() - feed.due_ns) // period
            feed.due_ns += (1 + late) * period
            if feed.viewers:
                self._shoot(feed)

    def _shoot(self, feed: Feed) -> None:
        pose = self._stage.look()
        feed.dropped = bool(pose.dropped & feed.bit)
        if feed.dropped:
            return
        if pose.frozen & feed.bit and feed.jpeg:
            feed.publish(feed.jpeg)
            return
        self._data.qpos[:] = pose.qpos
        mujoco.mj_kinematics(self._model, self._data)
        mujoco.mj_camlight(self._model, self._data)
        image = self._renderers[feed.camera.height, feed.camera.width].picture(self._data, feed.name)
        image[:_GRAIN, :_GRAIN] += self._grain.integers(0, 16, (_GRAIN, _GRAIN, 1), dtype=np.uint8)
        done, jpeg = cv2.imencode(".jpg", image, [cv2.IMWRITE_JPEG_QUALITY, _QUALITY])
        if done:
            feed.publish(bytes(jpeg))


def main() -> int:
    """``python -m drivers.virtual.live.cameras``: started by the host, prints its port once it serves."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--robot", type=Path, required=True)
    parser.add_argument("--stage", type=int, required=True)
    parser.add_argument("--parent", type=int, required=True)
    arguments = parser.parse_args()
    die_with_parent(arguments.parent)
    stopped = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stopped.set())
    cv2.setNumThreads(1)
    try:
        return _serve(arguments.robot, arguments.stage, stopped)
    except CadenzaError as error:
        print(error, file=sys.stderr)
        return 2


def _serve(description: Path, descriptor: int, stopped: threading.Event) -> int:
    robot = Robot.model_validate_json(description.read_bytes())
    feeds = {name: Feed(name, camera, 1 << k) for k, (name, camera) in enumerate(robot.cameras.items())}
    stage = Stage(descriptor, follower_model(robot).nq)
    studio = Studio(robot, stage, feeds)
    server = CameraServer(feeds)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    print(json.dumps({"port": server.server_address[1]}), flush=True)
    with contextlib.suppress(KeyboardInterrupt):
        studio.run(stopped)
    return 0


if __name__ == "__main__":
    sys.exit(main())

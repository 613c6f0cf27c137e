"""A network camera for tests: real HTTP, real MJPEG, and every way a camera misbehaves."""

from __future__ import annotations

import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import cv2
import numpy as np


class MjpegServer(ThreadingHTTPServer):
    """Serves ``/camera.mjpg`` at about 100 pictures a second; picture n has brightness n mod 200."""

    daemon_threads = True

    def __init__(self, width: int = 64, height: int = 48, port: int = 0) -> None:
        super().__init__(("127.0.0.1", port), _Handler)
        self.width, self.height = width, height
        self.frozen = self.hung_up = False
        self.count = 0
        self.stopping = threading.Event()
        self._thread = threading.Thread(target=self.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
        self._thread.start()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}/camera.mjpg"

    def picture(self) -> bytes:
        self.count += not self.frozen
        image = np.full((self.height, self.width, 3), self.count % 200, dtype=np.uint8)
        return bytes(cv2.imencode(".jpg", image)[1])

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A viewer who leaves is no error."""

    def stop(self) -> None:
        self.stopping.set()
        self.shutdown()
        self.server_close()
        self._thread.join()


class _Handler(BaseHTTPRequestHandler):
    server: MjpegServer

    def do_GET(self) -> None:
        server = self.server
        self.send_response(200)
        self.send_header("Content-Type", "multipart/x-mixed-replace; boundary=frame")
        self.end_headers()
        while not server.stopping.wait(0.01) and not server.hung_up:
            jpeg = server.picture()
            head = f"--frame\r\nContent-Type: image/jpeg\r\nContent-Length: {len(jpeg)}\r\n\r\n"
            self.wfile.write(head.encode() + jpeg + b"\r\n")

    def log_message(self, format: str, *args: object) -> None: ...  # noqa: A002 (named by http.server)

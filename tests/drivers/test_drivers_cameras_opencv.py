"""The OpenCV camera against a real MJPEG stream that freezes, hangs up, changes and comes back."""

from __future__ import annotations

import time
from collections.abc import Iterator

import pytest
from mjpeg_server import MjpegServer

import drivers.cameras.opencv as driver
from drivers.camera import Frame
from drivers.cameras import OpenCVCamera
from spec.errors import DeviceError
from spec.robot import Camera


@pytest.fixture
def server() -> Iterator[MjpegServer]:
    server = MjpegServer()
    yield server
    server.stop()


def camera_of(server: MjpegServer, width: int = 64, height: int = 48) -> OpenCVCamera:
    return OpenCVCamera("top", Camera(source=server.url, width=width, height=height))


def read_until(camera: OpenCVCamera, wanted: bool) -> Frame | None:
    """Read until a picture comes, or until none does."""
    for _ in range(2000):
        frame = camera.read()
        if (frame is not None) is wanted:
            return frame
    raise AssertionError(f"never {'saw' if wanted else 'missed'} a picture")


def test_pictures_come_with_the_instant_they_arrived(server: MjpegServer) -> None:
    with camera_of(server) as camera:
        before = time.monotonic_ns()
        frames = [read_until(camera, True) for _ in range(5)]
        after = time.monotonic_ns()
    assert [frame.sequence for frame in frames if frame] == [0, 1, 2, 3, 4]
    stamps = [frame.captured_ns for frame in frames if frame]
    assert stamps == sorted(set(stamps))
    assert before < stamps[0]
    assert stamps[-1] < after
    assert frames[0] is not None
    assert frames[0].image.shape == (48, 64, 3)


def test_another_size_is_refused_with_what_comes(server: MjpegServer) -> None:
    with pytest.raises(DeviceError, match=r"gives 64x48, robot file says 640x480") as caught:
        camera_of(server, 640, 480).open()
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("source", ["/dev/v4l/by-id/nothing", "http://127.0.0.1:9/x.mjpg"])
def test_an_absent_camera_is_refused(source: str) -> None:
    with pytest.raises(DeviceError, match="camera top: "):
        OpenCVCamera("top", Camera(source=source)).open()


def test_a_frozen_picture_is_no_sight_and_is_noticed_when_it_moves_again(
    server: MjpegServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(driver, "FROZEN_AFTER_S", 0.1)
    with camera_of(server) as camera:
        last = read_until(camera, True)
        server.frozen = True
        assert last is not None
        read_until(camera, False)
        assert camera.frozen
        for _ in range(20):  # a fresh connection alone does not make it alive
            assert camera.read() is None
        assert camera.reconnections == 1
        server.frozen = False
        frame = read_until(camera, True)
        assert not camera.frozen
        assert frame is not None
        assert frame.sequence > last.sequence


def test_a_lost_stream_is_opened_again_and_numbers_go_on(server: MjpegServer) -> None:
    with camera_of(server) as camera:
        before = read_until(camera, True)
        server.hung_up = True
        read_until(camera, False)
        server.hung_up = False
        after = read_until(camera, True)
        assert before is not None
        assert after is not None
        assert after.sequence > before.sequence
        assert camera.reconnections >= 1


def test_a_picture_of_another_size_is_never_let_through() -> None:
    server = MjpegServer()
    camera = camera_of(server)
    camera.open()
    port = server.server_address[1]
    assert read_until(camera, True) is not None
    server.stop()
    read_until(camera, False)
    other = MjpegServer(width=32, height=24, port=port)
    for _ in range(25):
        assert camera.read() is None
    other.stop()
    camera.close()


def test_numbered_devices_are_warned_about() -> None:
    assert driver.identity_warning("top", Camera(source="http://127.0.0.1/x")) is None
    assert driver.identity_warning("top", Camera(source="/dev/v4l/by-id/usb-cam-index0")) is None
    warning = driver.identity_warning("top", Camera(source="/dev/video0"))
    assert warning is not None
    assert "stable path" in warning

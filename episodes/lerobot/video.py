"""Videos whose every picture can be found by its time: one each step, none dropped, none shown out of order."""

from __future__ import annotations

from collections.abc import Sequence
from fractions import Fraction
from pathlib import Path
from types import TracebackType
from typing import Self

import av
from av.video.stream import VideoStream

from spec.arrays import Bytes
from spec.errors import CadenzaError

# Every second picture stands on its own, so that any one is found by decoding two at most (as LeRobot has it). No
# picture refers to a later one: decoding order is showing order, and pieces can be joined without touching them.
_OPTIONS = {"g": "2", "bf": "0", "crf": "20", "preset": "veryfast"}


class VideoWriter:
    """One video file. The file is whole only after :meth:`close`."""

    def __init__(self, path: Path, fps: int, height: int, width: int) -> None:
        self.frames = 0
        self._step = Fraction(1, fps)
        self._container = av.open(str(path), "w", format="mp4")
        stream = self._container.add_stream("libx264", rate=fps, options=_OPTIONS)
        stream.height, stream.width, stream.pix_fmt = height, width, pixel_format(height, width)
        self._stream = stream

    def add(self, picture: Bytes) -> None:
        """Append one picture, RGB uint8, shape (height, width, 3)."""
        frame = av.VideoFrame.from_ndarray(picture, format="rgb24")
        frame.pts, frame.time_base = self.frames, self._step
        self._container.mux(self._stream.encode(frame))
        self.frames += 1

    def close(self) -> None:
        self._container.mux(self._stream.encode())
        self._container.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if error is None:
            self.close()
        else:
            self._container.close()


def pixel_format(height: int, width: int) -> str:
    """Half the colour resolution, unless a side is odd, which that cannot express."""
    return "yuv444p" if height % 2 or width % 2 else "yuv420p"


def join(parts: Sequence[tuple[Path, int]], fps: int, out: Path) -> None:
    """Put videos one behind the other, as they are.

    Args:
        parts: file and number of pictures.
        fps: pictures a second, of all.
        out: the joined video.

    Raises:
        CadenzaError: a part was encoded differently, or holds another number of pictures.
    """
    before = 0
    with av.open(str(out), "w", format="mp4", options={"movflags": "faststart"}) as target:
        stream: VideoStream | None = None
        header: bytes | None = None
        for path, frames in parts:
            with av.open(str(path)) as source:
                video = source.streams.video[0]
                if stream is None:
                    stream, header = target.add_stream_from_template(video), video.codec_context.extradata
                if video.codec_context.extradata != header:
                    raise CadenzaError(f"{path}: encoded by another version of the encoder; export anew: --overwrite")
                found = 0
                for packet in source.demux(video):
                    if packet.pts is None or packet.dts is None or packet.time_base is None:
                        continue  # the end, not a picture
                    shift = round(Fraction(before, fps) / packet.time_base)
                    packet.pts, packet.dts, packet.stream = packet.pts + shift, packet.dts + shift, stream
                    target.mux(packet)
                    found += 1
            if found != frames:
                raise CadenzaError(f"{path}: {found} pictures, not {frames}; remove it and export again")
            before += frames


def facts(height: int, width: int, fps: int) -> dict[str, object]:
    """What LeRobot writes down about a video."""
    return {
        "video.height": height,
        "video.width": width,
        "video.codec": "h264",
        "video.pix_fmt": pixel_format(height, width),
        "video.is_depth_map": False,
        "video.fps": fps,
        "video.channels": 3,
        "has_audio": False,
    }

"""Writes ticks and pictures as fast as a robot would until it is killed. Prints how many ticks it has handed over."""

from __future__ import annotations

import sys
import time
from pathlib import Path

import numpy as np

from episodes.records import TickRecord
from episodes.writer import EpisodeWriter, Header
from spec.observation import encode_jpeg
from spec.robotfile import load_robot


def main() -> None:
    path, robot = Path(sys.argv[1]), load_robot(Path(sys.argv[2]))
    writer = EpisodeWriter(path, Header(robot))
    record = TickRecord(joints=6)
    noise = np.random.default_rng(0).integers(0, 255, (240, 320, 3), dtype=np.uint8)
    jpeg = encode_jpeg(noise, 90)
    start = time.monotonic()
    for number in range(100_000):
        record.tick, record.now_ns = number, time.monotonic_ns()
        writer.tick(record)
        if number % 5000 == 0:  # seldom: pictures fill chunks, which then go out by themselves
            writer.frame("top", jpeg, record.now_ns, number // 5000)
        if number % 50 == 0:
            print(number, record.now_ns, flush=True)
        time.sleep(max(0.0, start + number / 500 - time.monotonic()))


if __name__ == "__main__":
    main()

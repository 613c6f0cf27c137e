"""What recording does to the control loop: the real daemon at full rate, minutes with and without an open recording.

500 ticks a second of the real control loop and two cameras of 640x480 at 30 pictures a second over the real topics
into the real recorder. The arm is a stand-in that answers after the time a bus would take (benchmarks.stand_ins), for
a virtual arm of real bytes needs a core of its own. Segments with and without recording take turns in one run.

python -m benchmarks --only recording --seconds 300
"""

from __future__ import annotations

import json
import os
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

from benchmarks.rig import percentiles
from benchmarks.stand_ins.daemon import RATE_HZ, Observer, StandInDaemon, full_rate_robot
from controller.dictation import RECORDER
from episodes.reader import read_episode
from spec.arrays import Float

BAR = 1.2
"""Lateness p99.9 with recording, as a multiple of that without."""
_SEGMENT_S, _FEWEST = 30.0, 4
_LOOK_S = 0.1


def measure(seconds: float) -> dict[str, object]:
    """Drops, the recorder's share of one core, lateness [µs] with and without recording, and their ratio."""
    count = max(_FEWEST, 2 * round(seconds / _SEGMENT_S / 2))
    with tempfile.TemporaryDirectory(prefix="cadenza-bench-") as folder:
        out = Path(folder)
        robot = full_rate_robot()
        with StandInDaemon(robot, out, lambda line: print(f"  {line}", flush=True)) as daemon:
            observer = Observer(robot, daemon.namespace)
            try:
                daemon.drive()
                segments = [_segment(daemon, observer, seconds / count, number) for number in range(count)]
            finally:
                observer.close()
            granted = daemon.report()["realtime"]
    return _judged(segments, granted)


class _Segment:
    """One stretch of time, with or without recording."""

    def __init__(self, recording: bool) -> None:
        self.recording = recording
        self.late_us: list[Float] = []
        self.skipped = 0
        self.seconds = 0.0
        self.cpu_s = 0.0
        self.dropped = 0
        self.ticks_on_record = 0
        self.frames_on_record = 0
        self.megabytes = 0.0


def _segment(daemon: StandInDaemon, observer: Observer, seconds: float, number: int) -> _Segment:
    segment = _Segment(recording=number % 2 == 0)
    path = daemon.episodes_folder / f"segment-{number:03d}.mcap"
    if segment.recording:
        daemon.record(path)
    observer.take()
    recorder = daemon.processes[RECORDER].pid
    assert recorder is not None
    began_s, cpu_s = time.monotonic(), _cpu_s(recorder)
    looked_s = began_s
    while time.monotonic() < began_s + seconds:
        daemon.poll()
        if time.monotonic() >= looked_s + _LOOK_S:
            looked_s = time.monotonic()
            ticks = observer.take()
            segment.late_us.append((ticks["woke_ns"] - ticks["deadline_ns"]) * 1e-3)
            segment.skipped += int(ticks["skipped"].sum())
    segment.seconds, segment.cpu_s = time.monotonic() - began_s, _cpu_s(recorder) - cpu_s
    if segment.recording:
        answer = daemon.finish()
        segment.dropped = sum(answer["dropped"].values())
        episode = read_episode(path, cameras=())
        segment.ticks_on_record = len(episode.ticks)
        segment.frames_on_record = sum(map(len, episode.frames.values()))
        segment.megabytes = path.stat().st_size / 1e6
        path.unlink()
    return segment


def _judged(segments: list[_Segment], granted: list[str]) -> dict[str, object]:
    on, off = ([item for item in segments if item.recording is recording] for recording in (True, False))
    late_on, late_off = (
        percentiles(np.concatenate([part for item in group for part in item.late_us])) for group in (on, off)
    )
    recorded_s = sum(item.seconds for item in on)
    ratio = {key: late_on[key] / late_off[key] for key in late_on}
    return {
        "ticks_per_s": RATE_HZ,
        "realtime": granted,
        "segments": f"{len(segments)} of {segments[0].seconds:.0f} s",
        "dropped": sum(item.dropped for item in on),
        "ticks_on_record": sum(item.ticks_on_record for item in on),
        "frames_on_record": sum(item.frames_on_record for item in on),
        "megabytes_per_s": sum(item.megabytes for item in on) / recorded_s,
        "recorder_cpu_share_of_one_core": sum(item.cpu_s for item in on) / recorded_s,
        "recorder_cpu_share_idle": sum(item.cpu_s for item in off) / sum(item.seconds for item in off),
        "late_us_recording": late_on,
        "late_us_not_recording": late_off,
        "skipped_periods": {"recording": sum(item.skipped for item in on), "not": sum(item.skipped for item in off)},
        "ratio": ratio,
        "bar": BAR,
        "within_bar": ratio["p99_9"] <= BAR,
    }


def _cpu_s(pid: int) -> float:
    fields = Path(f"/proc/{pid}/stat").read_text(encoding="ascii").rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


if __name__ == "__main__":
    print(json.dumps(measure(float(sys.argv[1]) if len(sys.argv) > 1 else 20.0), indent=2))

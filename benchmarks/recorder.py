"""What recording costs: 500 ticks a second and two cameras of 640x480 at 30 pictures a second, into a real recorder
process over real shared memory."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from benchmarks.stand_ins.camera import busy_room
from benchmarks.stand_ins.daemon import RATE_HZ, full_rate_robot
from controller.wiring.ipc import Node, new_namespace, remove_namespace
from controller.wiring.topics import TICKS, frames_topic, topics
from episodes.records import FrameHeader, TickRecord
from spec.robot import Robot


def measure(seconds: float) -> dict[str, object]:
    """CPU share of one core, drops, bytes."""
    robot = full_rate_robot()
    with tempfile.TemporaryDirectory(prefix="cadenza-bench-") as folder:
        return _record(robot, Path(folder), seconds)


class _Source:
    """Publishes as a robot would, and starts the recorder."""

    def __init__(self, robot: Robot, folder: Path) -> None:
        self._folder = folder
        self._namespace = new_namespace()
        self.node = Node(self._namespace, topics(robot), "bench")
        self._ticks = self.node.publisher(TICKS)
        self._frames = {name: self.node.publisher(frames_topic(name)) for name in robot.cameras}
        self._fps = next(iter(robot.cameras.values())).fps
        self.jpeg = busy_room(next(iter(robot.cameras.values())), 0)
        description = folder / "robot.json"
        description.write_text(robot.model_dump_json(), encoding="utf-8")
        command = ["--robot", str(description), "--namespace", self._namespace, "--parent", str(os.getpid())]
        self.recorder = subprocess.Popen(
            [sys.executable, "-m", "controller.workers.recorder_process", *command],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
        )
        self._hear("ready")

    def _hear(self, kind: str) -> dict[str, object]:
        assert self.recorder.stdout is not None
        while True:
            message: dict[str, object] = json.loads(self.recorder.stdout.readline())
            if message["kind"] == kind:
                return message

    def tell(self, answer: str, **command: object) -> dict[str, object]:
        assert self.recorder.stdin is not None
        self.recorder.stdin.write(json.dumps(command).encode() + b"\n")
        self.recorder.stdin.flush()
        return self._hear(answer)

    def publish(self, seconds: float) -> int:
        """Returns the instant of the last tick [ns]."""
        record, start = TickRecord(joints=6), time.monotonic_ns()
        pictures = 0
        for number in range(round(seconds * RATE_HZ)):
            record.tick, record.now_ns = number, start + round(number * 1e9 / RATE_HZ)
            time.sleep(max(0, record.now_ns - time.monotonic_ns()) * 1e-9)
            self._ticks.send(record)
            if number * self._fps >= pictures * RATE_HZ:
                header = FrameHeader(sequence=pictures, captured_ns=record.now_ns, size=len(self.jpeg))
                for frames in self._frames.values():
                    frames.send_bytes(header, self.jpeg)
                pictures += 1
        return int(record.now_ns)

    def cpu_s(self) -> float:
        fields = Path(f"/proc/{self.recorder.pid}/stat").read_text(encoding="ascii").rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

    def close(self) -> None:
        self.recorder.terminate()
        self.recorder.communicate()
        self.node.close()
        remove_namespace(self._namespace)


def _record(robot: Robot, folder: Path, seconds: float) -> dict[str, object]:
    source = _Source(robot, folder)
    try:
        source.tell("opened", do="open", path=str(folder / "a.mcap"))
        before = source.cpu_s()
        source.publish(seconds)
        share = (source.cpu_s() - before) / seconds
        closed = source.tell("closed", do="close", outcome="success", termination="done")
    finally:
        source.close()
    size = (folder / "a.mcap").stat().st_size
    dropped = closed["dropped"]
    assert isinstance(dropped, dict)
    return {
        "ticks_per_s": RATE_HZ,
        "cameras": len(robot.cameras),
        "kilobytes_per_picture": len(source.jpeg) / 1e3,
        "cpu_share_of_one_core": share,
        "dropped": sum(dropped.values()),
        "megabytes_per_s": size / 1e6 / seconds,
    }


if __name__ == "__main__":
    print(json.dumps(measure(float(sys.argv[1]) if len(sys.argv) > 1 else 10.0), indent=2))

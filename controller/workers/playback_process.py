"""``python -m controller.workers.playback_process``: publishes a recorded motion as action chunks.

Commands: ``{"do": "resume", "sequence": first chunk number}`` and ``{"do": "pause"}`` as every source of chunks has
them; ``{"do": "stand"}`` and ``{"do": "go"}`` have the arm pause where it is and go on. Puts every change of pace on
record, and ``finished`` once the motion was played. While the supervisor is not heard no chunks are made, as in
:mod:`controller.workers.inference_process`; the motion goes on from where it stood.
"""

from __future__ import annotations

import gc
import json
import os
import sys
import time

import numpy as np

from controller.wiring.child import Child, run_child
from controller.wiring.placement import stay_off_control_core
from controller.wiring.topics import CHUNKS, TICKS
from controller.workers.playback import FINISHED, LENGTH, PACE, STEP_S, Playback, read_motion
from episodes.records import ChunkRecord, Driver, TickRecord
from spec.arrays import Float
from spec.errors import MisfitError, SpecError

_STEP_NS = round(STEP_S * 1e9)


def work(child: Child) -> None:
    """Until told to stop."""
    robot, path = child.assignment.robot, child.assignment.motion
    if path is None:
        raise SpecError("--motion", None, "playback needs a motion")
    stay_off_control_core(robot.control)
    motion = read_motion(path)
    if motion.position.shape[1] != len(robot.follower.names):
        raise MisfitError(f"{path}: {motion.position.shape[1]} joints, the arm has {len(robot.follower.names)}")
    playing = _Playing(child, Playback(motion, robot.limits()))
    gc.freeze()
    child.say("ready", pid=os.getpid())
    playing.run()


class _Playing:
    def __init__(self, child: Child, playback: Playback) -> None:
        self._child, self._playback = child, playback
        self._joints = len(child.assignment.robot.follower.names)
        self._ticks = child.node.subscriber(TICKS, TickRecord)
        self._chunks = child.node.publisher(CHUNKS)
        self._active = self._told = False
        self._sequence = self._made = 0
        self._tick: TickRecord | None = None
        self._observed_ns = 0

    def run(self) -> None:
        next_ns = time.monotonic_ns()
        while not self._child.stopping:
            self._obey()
            ticks = self._ticks.drain()
            self._tick = ticks[-1] if ticks else self._tick
            if self._active and not self._child.left_alone("the motion stands"):
                self._go_on()
            now = time.monotonic_ns()
            next_ns += _STEP_NS * max(1, (now - next_ns) // _STEP_NS + 1)
            time.sleep((next_ns - now) * 1e-9)
        self._child.say("report", chunks=self._made)

    def _obey(self) -> None:
        for command in self._child.commands():
            match command["do"]:
                case "resume":
                    self._active, self._sequence = True, max(self._sequence, command["sequence"])
                case "pause":
                    self._active = False
                case "stand" | "go":
                    self._playback.standing = command["do"] == "stand"
                case _:
                    pass

    def _go_on(self) -> None:
        if self._tick is not None and self._tick.now_ns > self._observed_ns:
            self._step(self._tick)

    def _step(self, tick: TickRecord) -> None:
        commanded = np.array(tick.limited[: self._joints])
        if not np.isfinite(commanded).all():
            return  # the arm is not commanded yet: there is no place to begin from
        started_ns = time.monotonic_ns()
        targets = self._playback.step(tick.now_ns, Driver(tick.driver), commanded)
        self._chunks.send(self._record(tick, targets, started_ns))
        self._observed_ns = tick.now_ns
        for pace in self._playback.paces:
            self._child.event(pace.at_ns, PACE, json.dumps(pace._asdict()))
        self._playback.paces.clear()
        if self._playback.finished and not self._told:
            self._told = True
            self._child.event(time.monotonic_ns(), FINISHED, "the motion was played to its end")

    def _record(self, tick: TickRecord, targets: Float, started_ns: int) -> ChunkRecord:
        record = ChunkRecord(
            sequence=self._sequence,
            observed_ns=tick.now_ns,
            step_ns=_STEP_NS,
            started_ns=started_ns,
            length=LENGTH,
            joints=self._joints,
            tick=tick.tick,
        )
        record.targets[: targets.size] = targets.ravel().tolist()
        record.finished_ns = time.monotonic_ns()
        self._sequence += 1
        self._made += 1
        return record


def main() -> int:
    """Entry of the process."""
    return run_child("playback", work)


if __name__ == "__main__":
    sys.exit(main())

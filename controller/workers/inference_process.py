"""``python -m controller.workers.inference_process``: asks the policy at every policy step and publishes its chunks.

Commands:

- ``{"do": "pause"}`` and ``{"do": "resume", "sequence": first chunk number}``. It starts paused: nobody pays for
  chunks that nobody follows.
- ``{"do": "swap", "request": ..., "bundle": folder, "weights": its version, "sha256": of its manifest}``: have another
  bundle drive once it has proved itself in shadow; with ``"back": true``, one that drove before, at once.
- ``{"do": "forget", "request": ...}``: it is not wanted any more.

While the supervisor is not heard no chunks are made: nobody could stop what they lead to, and the control loop holds
the arm once the last of them is through.

What becomes of a swap is said as :class:`controller.workers.exchange.News`, and put on record once it is settled.
"""

from __future__ import annotations

import ctypes
import gc
import os
import sys
import time
from collections import Counter
from pathlib import Path
from typing import Any

from controller.wiring.child import Child, run_child
from controller.wiring.placement import stay_off_control_core
from controller.wiring.topics import CHUNKS, FRAME_BYTES, TICKS, frames_topic
from controller.workers.exchange import Exchange, Wanted
from controller.workers.inference import Inference, Refusal
from controller.workers.policy import Policy
from episodes.records import FrameHeader, TickRecord
from export.bundle import read_bundle
from spec.calibration import load_calibration
from spec.errors import SpecError
from spec.manifest import check_fit

_DRAIN_S = 0.02
"""Ticks and pictures are taken in this often between policy steps [s]."""
_REPEAT_NS = 1_000_000_000
"""The same refusal is put on record at most this often [ns]."""
_M_MMAP_THRESHOLD, _M_ARENA_MAX = -3, -8  # <malloc.h>
_OWN_PAGES_BYTES = 65536
"""What is larger has memory pages of its own, which go back to the kernel with it: the weights, above all."""


def work(child: Child) -> None:
    """Until told to stop."""
    robot, folder = child.assignment.robot, child.assignment.bundle
    if folder is None:
        raise SpecError("--bundle", None, "inference needs a bundle")
    _keep_no_holes()
    stay_off_control_core(robot.control)
    bundle = read_bundle(folder, child.assignment.sha256)
    calibration = load_calibration(robot.follower).digest()
    check_fit(bundle.manifest, robot, calibration)
    policy = Policy(bundle)
    policy.warm_up()
    gc.freeze()
    inference = Inference(robot, policy, child.assignment.explore)
    child.say("ready", provider=policy.provider, pid=os.getpid(), weights=policy.manifest.weights)
    _Loop(child, inference, Exchange(robot, inference, calibration)).run()


def _keep_no_holes() -> None:
    """Have glibc give back what replaced weights leave; before the first thread runs.

    Else their place stays taken in pieces too small for the next ones, in an arena for each thread that loads: 15 MB
    more with each of the first swaps.
    """
    libc = ctypes.CDLL(None)
    if hasattr(libc, "mallopt"):  # not every C library has it
        libc.mallopt(_M_ARENA_MAX, 1)
        libc.mallopt(_M_MMAP_THRESHOLD, _OWN_PAGES_BYTES)


class _Loop:
    def __init__(self, child: Child, inference: Inference, exchange: Exchange) -> None:
        self._child, self._inference, self._exchange = child, inference, exchange
        manifest = inference.manifest
        self._step_ns = round(manifest.action.step_s * 1e9)
        self._ticks = child.node.subscriber(TICKS, TickRecord)
        self._frames = {
            name: child.node.bytes_subscriber(frames_topic(name), depth=2) for name in manifest.observation.cameras
        }
        self._chunks = child.node.publisher(CHUNKS)
        self._paused = True
        self._refused: Counter[str] = Counter()
        self._told_ns: dict[str, int] = {}
        self._made = 0

    def run(self) -> None:
        next_ns = time.monotonic_ns() + self._step_ns
        while not self._child.stopping:
            self._obey()
            self._take_in()
            self._exchange.turn()
            self._tell_news()
            now = time.monotonic_ns()
            if now < next_ns:
                time.sleep(min(_DRAIN_S, (next_ns - now) * 1e-9))
                continue
            next_ns += self._step_ns * max(1, (now - next_ns) // self._step_ns + 1)
            if not self._paused and not self._child.left_alone("the policy makes no more chunks"):
                self._step(now)
            else:
                self._exchange.step_aside(now)
        self._child.say("report", chunks=self._made, refused=dict(self._refused))

    def _obey(self) -> None:
        for command in self._child.commands():
            match command["do"]:
                case "resume" | "pause":
                    self._inference.continue_from(command.get("sequence", 0))
                    self._pause(command["do"] == "pause")
                case "swap":
                    self._exchange.want(_wanted(command))
                case "forget":
                    self._exchange.forget(command["request"])
                case _:
                    pass

    def _pause(self, paused: bool) -> None:
        if paused is not self._paused:
            self._exchange.paused(paused)
        self._paused = paused

    def _tell_news(self) -> None:
        for news in self._exchange.news():
            self._child.say(news.kind, **news.document())
            if news.kind != "swap_trial":
                self._child.event(time.monotonic_ns(), news.kind, news.text)

    def _take_in(self) -> None:
        self._inference.see_ticks(self._ticks.drain())
        for name, frames in self._frames.items():
            if (content := frames.newest()) is not None:
                header = FrameHeader.from_buffer_copy(content)
                self._inference.see_frame(name, header, content[FRAME_BYTES:])

    def _step(self, now_ns: int) -> None:
        answer = self._inference.step(now_ns)
        if not isinstance(answer, Refusal):
            self._chunks.send(answer)
            self._made += 1
            self._exchange.stepped()
            return
        self._refused[answer.kind] += 1
        if now_ns - self._told_ns.get(answer.kind, -_REPEAT_NS) >= _REPEAT_NS:
            self._told_ns[answer.kind] = now_ns
            self._child.event(now_ns, f"no_chunk_{answer.kind}", answer.text)


def _wanted(command: dict[str, Any]) -> Wanted:
    return Wanted(
        command["request"], Path(command["bundle"]), command["weights"], command["sha256"], command.get("back", False)
    )


def main() -> int:
    """Entry of the process."""
    return run_child("inference", work)


if __name__ == "__main__":
    sys.exit(main())

"""``python -m controller.workers.recorder_process``: writes episodes.

Commands: ``{"do": "open", "path": ..., "labels": {...}}``, ``{"do": "close", "outcome": ..., "termination": ...,
"facts": {...}}``. Each is answered: ``opened``, ``closed``, or ``failed`` with the reason.
"""

from __future__ import annotations

import gc
import os
import sys
import time
from pathlib import Path
from typing import Any

from controller.wiring.child import Child, run_child
from controller.wiring.placement import stay_off_control_core
from controller.workers.recorder import Recorder, is_full
from episodes.outcome import Outcome, Termination
from episodes.writer import Header
from export.bundle import read_bundle
from spec.calibration import load_calibration
from spec.errors import CadenzaError

_PAUSE_S = 0.02


def work(child: Child) -> None:
    """Until told to stop; an episode still open then is closed as aborted."""
    assignment = child.assignment
    stay_off_control_core(assignment.robot.control)
    recorder = Recorder(child.node, assignment.robot)
    calibration = load_calibration(assignment.robot.follower)
    bundle = read_bundle(assignment.bundle).manifest if assignment.bundle is not None else None
    gc.freeze()
    child.say("ready", pid=os.getpid())
    try:
        while not child.stopping:
            try:
                for command in child.commands():
                    _obey(child, recorder, Header(assignment.robot, calibration, bundle), command)
                recorder.drain()
            except OSError as error:
                _give_up(child, recorder, error)
            time.sleep(_PAUSE_S)
    finally:
        if recorder.recording:
            recorder.close(Outcome.ABORTED, Termination.ERROR, {})  # the supervisor died, or gave up in a hurry
    child.say("report", cpu_s=time.process_time())


def _obey(child: Child, recorder: Recorder, header: Header, command: dict[str, Any]) -> None:
    try:
        if command["do"] == "open":
            labelled = Header(header.robot, header.calibration, header.bundle, command.get("labels", {}))
            recorder.open(Path(command["path"]), labelled)
            child.say("opened", path=command["path"])
        elif command["do"] == "close":
            outcome, termination = Outcome(command["outcome"]), Termination(command["termination"])
            child.say("closed", **recorder.close(outcome, termination, command.get("facts", {})))
    except CadenzaError as error:
        child.say("failed", text=str(error), full=False)


def _give_up(child: Child, recorder: Recorder, error: OSError) -> None:
    """The disk does not take more: keep draining, so that nobody else is held up, and say so."""
    recorder.abandon()
    child.event(time.monotonic_ns(), "recording_failed", str(error))
    child.say("failed", text=f"episode cannot be written: {error.strerror}", full=is_full(error))


def main() -> int:
    """Entry of the process."""
    return run_child("recorder", work)


if __name__ == "__main__":
    sys.exit(main())

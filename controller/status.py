"""How a run is, for whoever asks: one document, and what to do next."""

from __future__ import annotations

import os
import shutil
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from controller.authority import Fault
from controller.watch import RECENT_NS, Watch
from controller.wiring.process import Process
from controller.wiring.vigil import Vigil
from episodes.records import Driver, Mode

if TYPE_CHECKING:
    from controller.supervisor import Supervisor

_FAULTS = {
    Fault.STALE_JOINT: ("a joint did not answer for too long", "look at its cable and at the supply"),
    Fault.SERVO_ALERT: (
        "a servo reported a hardware error, and may have shut down",
        "find what blocked, heated or starved it",
    ),
    Fault.NONFINITE: ("the policy kept saying what is no number", "have another bundle drive: cadenza weights"),
    Fault.NOT_ENGAGED: ("the servos could not be made to hold the arm", "look at supply and cables: cadenza doctor"),
    Fault.NOT_HOME: (
        "the start pose was not reached in time",
        "support the arm, switch its power off, move it by hand to where the way is free, switch it on again",
    ),
    Fault.PORT_GONE: ("the port of the arm is gone", "plug it in again, and look at the arm"),
    Fault.STALLED: ("the control loop itself was held up while the arm moved", "see what the machine is busy with"),
}
"""What each means, and what is to be done about it before going on."""
_DRIVERS = {Driver.NONE: "nobody", Driver.POLICY: "policy", Driver.HUMAN: "person"}


def status(run: Supervisor, vigil: Vigil) -> dict[str, Any]:
    """Everything worth knowing of a run at this instant. JSON-able. A loop that does not tick has no mode, and nobody
    drives; one that is starting has no fault for that."""
    watch, now_ns = run.watch, time.monotonic_ns()
    weights, fault = run.weights, _fault(run, now_ns)
    recorder, ticking = run.processes.get("recorder"), run.started and run.ticking
    tick = watch.tick if ticking else None
    return {
        "run": str(run.out.resolve()),
        "robot": run.robot.name,
        "pid": os.getpid(),
        "up_s": round(time.monotonic() - run.since_s, 1),
        "mode": None if tick is None else Mode(tick.mode).name,
        "since_s": None if tick is None else _since(watch.since_ns, now_ns),
        "driver": "nobody" if tick is None else _DRIVERS[Driver(tick.driver)],
        "lacking": run.lacking if ticking else None,
        "fault": fault,
        "waiting": run.word.waiting,
        "finishing": run.word.finishing,
        "timing": {
            "rate_hz": run.robot.control.rate_hz,
            **_timing(watch, ticking, now_ns),
            "certificate": run.punctuality.status,
        },
        "ticks": watch.tally.ticks,
        "missed_ticks": watch.tally.late_periods,
        "bus_errors": watch.tally.bus_errors,
        "processes": {name: _process(process, vigil) for name, process in run.processes.items()},
        "cameras": {name: _camera_age(run.processes.get(f"camera {name}"), now_ns) for name in run.robot.cameras},
        "weights": weights,
        "recording": None if recorder is None else recorder.vitals.get("recording"),
        "disk_free_bytes": _free(run.out),
        "next": _advice(run, fault),
    }


def _fault(run: Supervisor, now_ns: int) -> dict[str, Any] | None:
    """What keeps the arm from being started; None where nothing does."""
    why = run.broken if run.started else None
    if why is None:
        return None
    if why != run.watch.cause:  # what the loop said last is of no loop that ticks
        return {"name": "CONTROL_DIED", "cause": why, "words": "nobody ticks; the servos hold the arm", "remedy": ""}
    name = why.partition(":")[0]
    fault = Fault[name] if name in Fault.__members__ else Fault.NONE
    words, remedy = _FAULTS.get(fault, (why, ""))
    since_s = _since(run.watch.since_ns, now_ns)
    return {"name": name, "cause": why, "words": words, "remedy": remedy, "since_s": since_s}


def _advice(run: Supervisor, fault: dict[str, Any] | None) -> str | None:
    """What to do next; None where nothing needs doing."""
    if run.word.finishing:
        return "it ends after this episode"
    if fault is None and not run.word.waiting:
        return None
    recover = f"cadenza recover {run.out.resolve()}"
    remedy = "" if fault is None else fault["remedy"]
    return f"{remedy}; then: {recover}" if remedy else recover


def _timing(watch: Watch, ticking: bool, now_ns: int) -> dict[str, Any]:
    """Of the last seconds; of a loop that is no more there is none."""
    measured_hz = round(watch.recent_rate_hz(now_ns), 1) if ticking else 0.0
    seen: dict[str, Any] = {"measured_hz": measured_hz, "lateness_us": None}
    if measured_hz:
        late = watch.recent_lateness()
        p50, p99 = np.percentile(late, (50, 99))
        seen["lateness_us"] = {
            name: round(float(v), 1) for name, v in (("p50", p50), ("p99", p99), ("max", late.max()))
        }
    return {**seen, "seconds": RECENT_NS * 1e-9}


def _process(process: Process, vigil: Vigil) -> dict[str, Any]:
    return {
        "pid": process.pid,
        "alive": process.alive,
        "ready": process.ready is not None,
        "restarts": process.restarts,
        "memory_mb": round(process.memory_mb(), 1),
        "silent_s": round(vigil.silent_s(process.name), 2),
        "refusal": process.refusal,
    }


def _camera_age(camera: Process | None, now_ns: int) -> float | None:
    """Age of its newest picture, as of its last sign of life [ms]; None where it gave none yet."""
    captured_ns = None if camera is None else camera.vitals.get("captured_ns")
    return None if captured_ns is None else round((now_ns - captured_ns) * 1e-6, 1)


def _since(then_ns: int, now_ns: int) -> float | None:
    return None if not then_ns else round((now_ns - then_ns) * 1e-9, 1)


def _free(folder: Path) -> int | None:
    try:
        return shutil.disk_usage(folder).free
    except OSError:
        return None

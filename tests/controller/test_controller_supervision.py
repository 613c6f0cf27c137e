"""What the supervisor and a session make of what they see, without the processes of a run."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import numpy as np

from controller.dictation import RECORDER
from controller.session import NoJudge, Session
from controller.supervisor import Supervisor
from controller.watch import LOOK_S, Silence, Watch
from controller.wiring.ipc import Node
from controller.wiring.process import Process
from episodes.records import Mode, Order
from episodes.schema.cadenza_pb2 import Event
from spec.robotfile import load_robot

ROBOT = load_robot(Path("robots/virtual.yaml"))


def test_a_state_on_record_is_no_fault(tmp_path: Path) -> None:
    """It names the mode, and there is one every second or two while the past is kept in memory."""
    waiting = [
        Event(source="control", kind="state", text='{"authority":{"mode":"FAULT"}}'),
        Event(source="control", kind="control", text="HOLD -> FAULT (STALE_JOINT)"),
    ]
    receive = [event.SerializeToString() for event in waiting]
    nothing = SimpleNamespace(drain=list)
    events = SimpleNamespace(receive=lambda: receive.pop(0) if receive else None)
    node = SimpleNamespace(subscriber=lambda *_: nothing, bytes_subscriber=lambda *_: events)
    watch = Watch(cast("Node", node), 6)
    assert len(watch.look()) == 2
    assert watch.tally.faults == ["HOLD -> FAULT (STALE_JOINT)"]


def test_a_recorder_that_refuses_to_go_on_counts_as_dead(tmp_path: Path) -> None:
    """Else a session would go on as if it were recorded."""
    lines: list[str] = []
    supervisor = Supervisor(ROBOT, None, tmp_path, lines.append)
    recorder = Process(RECORDER, "nothing", (), tmp_path / "log", ready={}, refusal="no room")
    with subprocess.Popen([sys.executable, "-c", "raise SystemExit(2)"]) as recorder._child:
        pass
    supervisor.processes[RECORDER] = recorder
    said: list[bytes] = []
    supervisor._events = cast("Any", SimpleNamespace(send_bytes=said.append))
    for _ in range(3):
        supervisor._revive()
    assert supervisor._messages == [(RECORDER, {"kind": "died"})]
    assert (supervisor.recorder.gone, supervisor.recorder.ready, recorder.restarts) == (True, False, 0)
    assert lines == []


def test_only_time_in_which_somebody_looked_is_silence() -> None:
    """Else a control process would be ended that was away together with its supervisor."""
    silence = Silence()
    silence.look(0, 1000.0)
    assert silence.seconds == 0.0
    for k in range(1, 6):
        silence.look(0, 1000.0 + 0.02 * k)
    assert abs(silence.seconds - 0.1) < 1e-6
    silence.look(0, 2000.0)
    silence.look(0, 3000.0)
    assert silence.seconds < 0.1 + 2.001 * LOOK_S
    silence.look(1, 3000.02)
    assert silence.seconds == 0.0


def test_a_session_sends_the_arm_home_again_from_where_a_person_left_it(tmp_path: Path) -> None:
    home = ROBOT.limits().home
    sent: list[Order] = []
    tick = SimpleNamespace(now_ns=0)
    watch = SimpleNamespace(
        tick=tick, mode=Mode.HOLD, speed=lambda: 0.0, commanded=lambda: home if len(sent) > 2 else home + 0.3
    )

    def order(order: Order) -> int:
        sent.append(order)
        return tick.now_ns

    def poll() -> list[Any]:
        tick.now_ns += ROBOT.control.period_ns
        return []

    run = SimpleNamespace(
        robot=ROBOT, watch=watch, order=order, poll=poll, follow=lambda _: None, interrupted=False, driving=True
    )
    run.episodes_folder = tmp_path
    Session(cast("Supervisor", run), NoJudge(), 1.0)._go_home()
    assert sent == [Order.HOME] * 3
    assert np.array_equal(watch.commanded(), home)

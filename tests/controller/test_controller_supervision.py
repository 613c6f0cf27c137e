"""What the supervisor and a session make of what they see, without the processes of a run."""

from __future__ import annotations

import subprocess
import sys
import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import numpy as np
import pytest

from controller.collection.machine import Happened
from controller.collection.sight import Sight
from controller.dictation import RECORDER, check_room
from controller.punctuality import Punctuality
from controller.recovery import GOES_ON, RESTS, Recovery
from controller.session import NoJudge, Session, _BrokenError
from controller.status import _fault, status
from controller.supervisor import Supervisor
from controller.watch import Watch
from controller.wiring.ipc import Node
from controller.wiring.process import Process
from controller.wiring.silence import LOOK_S, Silence
from controller.wiring.vigil import CONTROL
from episodes.outcome import Termination
from episodes.records import Driver, Mode, Order, TickRecord
from episodes.schema.cadenza_pb2 import Event
from spec.errors import CadenzaError
from spec.robotfile import load_robot

ROBOT = load_robot(Path("robots/virtual.yaml"))


def test_only_a_change_of_mode_is_a_fault() -> None:
    waiting = [
        Event(source="supervisor", kind="recovery", text="not recovered: FAULT (PORT_GONE) stays"),
        Event(source="control", kind="control", text="HOLD -> FAULT (STALE_JOINT)"),
    ]
    receive = [event.SerializeToString() for event in waiting]
    nothing = SimpleNamespace(drain=list)
    events = SimpleNamespace(receive=lambda: receive.pop(0) if receive else None)
    node = SimpleNamespace(subscriber=lambda *_: nothing, bytes_subscriber=lambda *_: events)
    watch = Watch(cast("Node", node), 6)
    assert len(watch.look()) == 2
    assert watch.tally.faults == ["HOLD -> FAULT (STALE_JOINT)"]


def _watching(*batches: list[TickRecord]) -> Watch:
    waiting = list(batches)
    ticks = SimpleNamespace(drain=lambda: waiting.pop(0))
    silent = SimpleNamespace(drain=list, receive=lambda: None)
    node = SimpleNamespace(
        subscriber=lambda _, kind: ticks if kind is TickRecord else silent, bytes_subscriber=lambda *_: silent
    )
    watch = Watch(cast("Node", node), 6)
    for _ in batches:
        watch.look()
    return watch


def test_bus_errors_of_control_processes_add_up() -> None:
    """They fell back to nothing when a control process was replaced."""
    first = [TickRecord(tick=k, now_ns=k, bus_errors=3 + k) for k in range(1, 5)]
    second = [TickRecord(tick=k, now_ns=10 + k, bus_errors=errors) for k, errors in ((1, 2), (2, 2), (3, 9))]
    assert _watching(first).tally.bus_errors == 7
    assert _watching(first, second[:1], second[1:]).tally.bus_errors == 7 + 9
    assert _watching(first + second).tally.bus_errors == 7 + 9


def test_of_a_loop_that_died_status_says_neither_mode_nor_rate(tmp_path: Path) -> None:
    """It said that the policy drove, at 100 of 100 Hz."""
    now_ns = time.monotonic_ns()
    ticks = [
        [TickRecord(tick=k, now_ns=now_ns + 10**7 * (k - 9), mode=Mode.POLICY, driver=Driver.POLICY)] for k in range(9)
    ]
    supervisor = Supervisor(ROBOT, None, tmp_path / "x" / ".." / "run", lambda _: None)
    supervisor.watch, supervisor.punctuality = _watching(*ticks), Punctuality(None, "none was made")
    control = SimpleNamespace(
        alive=True, ready={}, ending=lambda: "killed", memory_mb=float, pid=1, restarts=0, refusal=None, name=CONTROL
    )
    supervisor.processes[CONTROL] = cast("Process", control)

    def seen() -> tuple[Any, ...]:
        found = status(supervisor, supervisor._vigil)
        fault = found["fault"] and found["fault"]["name"]
        return found["mode"], found["driver"], found["timing"]["measured_hz"], fault

    assert seen() == (None, "nobody", 0.0, None)  # it is starting
    supervisor.started = True
    assert seen() == ("POLICY", "policy", 100.0, None)
    control.alive = False
    assert seen() == (None, "nobody", 0.0, "CONTROL_DIED")
    assert status(supervisor, supervisor._vigil)["run"] == str(tmp_path.resolve() / "run")
    assert supervisor.watch.recent_rate_hz(now_ns + 2 * 10**9) == 0.0


def test_a_control_process_that_came_back_unseen_has_died(tmp_path: Path) -> None:
    """Somebody said recover in the very turn in which it died: the episode idled to its time limit."""
    run = SimpleNamespace(robot=ROBOT, episodes_folder=tmp_path, driving=True, interrupted=False, recoveries=0)
    run.watch = SimpleNamespace(mode=Mode.HOLD, tick=None)
    run.recorder = SimpleNamespace(gone=False)
    polls: list[None] = []

    def poll() -> list[Any]:
        polls.append(None)
        run.recoveries = len(polls) // 3
        return []

    run.poll = poll
    sight, session = Sight(cast("Supervisor", run)), Session(cast("Supervisor", run), NoJudge(), 1.0)
    with pytest.raises(_BrokenError) as broken:
        session._wait(lambda: len(polls) > 5, 60.0)
    assert broken.value.termination is Termination.CONTROL_DIED
    assert [sight.breaks(), sight.breaks()] == [[Happened.FAULT], []]


@pytest.mark.parametrize("dies", [False, True])
def test_why_a_recovery_failed_is_told_once(dies: bool, tmp_path: Path) -> None:
    """The control loop says it itself, unless there is none."""
    lines: list[str] = []
    supervisor = Supervisor(ROBOT, None, tmp_path, lines.append)
    supervisor._herald.events = cast("Any", SimpleNamespace(send_bytes=bool))
    control = SimpleNamespace(alive=True, ready={}, ending=lambda: "killed", listen=list, refusal=None)
    supervisor.processes[CONTROL] = cast("Process", control)
    watch = SimpleNamespace(not_recovered=["an old one"], tick=None, mode=Mode.FAULT, cause="STALLED")
    supervisor.watch = cast("Watch", watch)
    word = supervisor.word
    word.recovery = Recovery(supervisor._crew, supervisor.watch, lambda _: 0)
    assert word.asked_to_recover() is None
    word.look(time.monotonic())
    assert (word.outcome(), lines) == (None, [])
    if dies:
        control.alive = False
    else:
        watch.not_recovered.append("elbow_flex: no answer")
        event = Event(source="control", kind="control", text="not recovered: elbow_flex: no answer")
        supervisor._herald.tell([event])
    refusal = "the control process: killed" if dies else "elbow_flex: no answer"
    for _ in range(3):
        word.look(time.monotonic())
    assert word.outcome() == (False, refusal)
    assert [refusal in line for line in lines] == [True]


def test_whoever_recovers_the_arm_hears_what_follows(tmp_path: Path) -> None:
    """They were told that it rests, and two seconds later it moved."""
    word = Supervisor(ROBOT, None, tmp_path, lambda _: None).word
    word.recovery = cast("Recovery", SimpleNamespace(refusal=None, active=False))
    assert word.outcome() == (True, RESTS)
    word.sequel = GOES_ON
    assert word.outcome() == (True, GOES_ON)
    word.finishing = True  # then it does not
    assert word.outcome() == (True, RESTS)


def test_a_recorder_that_refuses_to_go_on_counts_as_dead(tmp_path: Path) -> None:
    """Else a session would go on as if it were recorded."""
    lines: list[str] = []
    supervisor = Supervisor(ROBOT, None, tmp_path, lines.append)
    recorder = Process(RECORDER, "nothing", (), tmp_path / "log", ready={}, refusal="no room")
    with subprocess.Popen([sys.executable, "-c", "raise SystemExit(2)"]) as recorder._child:
        pass
    supervisor.processes[RECORDER] = recorder
    said: list[bytes] = []
    supervisor._herald.events = cast("Any", SimpleNamespace(send_bytes=said.append))
    for _ in range(3):
        supervisor._revive()
    assert supervisor._messages == [(RECORDER, {"kind": "died"})]
    assert (supervisor.recorder.gone, supervisor.recorder.ready, recorder.restarts) == (True, False, 0)
    assert lines == []


def test_a_disk_that_is_gone_refuses_an_episode_in_a_line(tmp_path: Path) -> None:
    with pytest.raises(CadenzaError, match="nothing can be recorded there"):
        check_room(tmp_path / "unplugged")


def test_a_process_starts_although_its_log_cannot_be_written(tmp_path: Path) -> None:
    """A disk that has gone read-only ended the whole run at the next death of a camera."""
    (tmp_path / "logs").touch()  # a file where the folder should be is refused to root as well
    process = Process("camera top", "json.tool", ("--help",), tmp_path / "logs" / "camera-top.log")
    process.start()
    assert process.wait(20.0) is not None


def test_a_process_stuck_in_a_driver_holds_nobody_up(tmp_path: Path) -> None:
    """It dies when the driver lets go of it, however often it was killed."""

    def wait(timeout_s: float | None = None) -> int:
        assert timeout_s is not None
        raise subprocess.TimeoutExpired("camera", timeout_s)

    process = Process("camera top", "nothing", (), tmp_path / "log")
    process._child = cast("Any", SimpleNamespace(kill=lambda: None, wait=wait))
    process.kill()


def test_the_cause_of_what_we_ended_ourselves_is_not_the_signal(tmp_path: Path) -> None:
    """It was reported as killed by SIGKILL, as if memory had run out; why was a line that had scrolled by."""
    lines: list[str] = []
    supervisor = Supervisor(ROBOT, None, tmp_path, lines.append)
    supervisor._herald.events = cast("Any", SimpleNamespace(send_bytes=bool))
    control = supervisor.processes[CONTROL] = Process(CONTROL, "nothing", (), tmp_path / "log", ready={})
    with subprocess.Popen(["sleep", "60"]) as control._child:
        supervisor._end(CONTROL, "no tick for 1.5 s")
    supervisor._revive()
    how = "no tick for 1.5 s, so it was ended"
    assert lines == ["control: no tick for 1.5 s; ending it", f"control: {how}; the servos hold the arm"]
    assert supervisor._crew.report()["deaths"] == {CONTROL: how}
    supervisor.watch = cast("Watch", SimpleNamespace(mode=Mode.POLICY, cause="", since_ns=0))
    assert supervisor.broken == f"the control process: {how}"


def test_a_successor_that_the_kernel_kills_is_not_said_to_have_been_ended_by_us(tmp_path: Path) -> None:
    control = Process(CONTROL, "nothing", (), tmp_path / "log", fault="no tick for 1.5 s")
    control.restart()
    control.wait(20.0)
    with subprocess.Popen(["sleep", "60"]) as control._child:
        control._child.kill()
    assert control.ending() == "killed by SIGKILL"


def test_a_loop_that_is_being_started_has_no_fault_of_its_own() -> None:
    """The newest tick is its predecessor's, which ended in one: status named the start as if it were that fault."""
    watch = SimpleNamespace(mode=Mode.FAULT, cause="PORT_GONE: /dev/x", since_ns=0)
    again = SimpleNamespace(broken="the control process is being started", watch=watch, started=True)
    latched = SimpleNamespace(broken=watch.cause, watch=watch, started=True)
    well = SimpleNamespace(broken=None, watch=watch, started=True)
    first = SimpleNamespace(broken=again.broken, watch=watch, started=False)
    seen = [_fault(cast("Supervisor", run), 0) for run in (again, latched, well, first)]
    assert [one and one["name"] for one in seen] == ["CONTROL_DIED", "PORT_GONE", None, None]


def test_a_fault_on_the_way_to_the_end_is_told(tmp_path: Path) -> None:
    """What came about while the arm was brought to rest used to be in the report only."""
    lines: list[str] = []
    supervisor = Supervisor(ROBOT, None, tmp_path, lines.append)
    control = SimpleNamespace(alive=True, ready={}, listen=list, terminate=lambda: None, wait=lambda _: 0)
    ticking = [Event(source="control", kind="control", text="HOLD -> FAULT (PORT_GONE: /dev/x)")]
    resting = [Event(source="control", kind="control", text="HOLD -> IDLE")]
    waiting = [ticking, resting]

    def look() -> list[Event]:
        control.alive = len(waiting) > 1
        return waiting.pop(0) if waiting else []

    supervisor.watch = cast("Watch", SimpleNamespace(look=look))
    supervisor._herald.open(
        cast("Any", SimpleNamespace(publisher=lambda _: SimpleNamespace(send=bool, send_bytes=bool)))
    )
    supervisor.processes[CONTROL] = cast("Process", control)
    supervisor.close()
    assert lines == ["control: HOLD -> FAULT (PORT_GONE: /dev/x)"]


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
        return int(tick.now_ns)

    def poll() -> list[Any]:
        tick.now_ns += ROBOT.control.period_ns
        return []

    run = SimpleNamespace(
        robot=ROBOT, watch=watch, order=order, poll=poll, follow=lambda _: None, interrupted=False, driving=True
    )
    run.episodes_folder, run.recoveries = tmp_path, 0
    Session(cast("Supervisor", run), NoJudge(), 1.0)._go_home()
    assert sent == [Order.HOME] * 3
    assert np.array_equal(watch.commanded(), home)

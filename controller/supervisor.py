"""Starts the processes of a run, watches them, restarts those that may be restarted, and ends them in order.

The control process is never restarted: when it is gone the servos' Bus Watchdog has stopped the arm, and moving again
is for a person to decide.
"""

from __future__ import annotations

import signal
import time
from collections.abc import Callable
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from types import FrameType, TracebackType
from typing import Any, Self

from controller.dictation import RECORDER, Dictation, check_room
from controller.snapshot import STATE
from controller.sources import ChunkSource
from controller.watch import Silence, Watch
from controller.weights.office import Office
from controller.weights.steward import Steward
from controller.wiring.crew import Crew
from controller.wiring.ipc import Node, new_namespace, remove_namespace, sweep
from controller.wiring.topics import EVENTS, ORDERS, Topic, topics
from controller.workers.playback import PACE
from episodes.records import Order, OrderRecord
from episodes.schema.cadenza_pb2 import Event
from export.bundle import Bundle
from spec.errors import CadenzaError, DeviceError
from spec.files import write_atomically
from spec.robot import Robot

POLL_S = 0.02
READY_S = 20.0
"""Longest time any process may take to become ready [s]; usual is under two."""
STOP_S = 4.0
"""Longest time to end; the arm needs up to two seconds to come to rest."""
SILENT_S = 1.5
"""A control process that lives but has not ticked for so long hangs [s]. To engage takes it a few tenths; the
servos' Bus Watchdog has long stopped the arm by then."""
CONTROL, TELEOP = "control", "teleop"


class Supervisor:
    """The processes of one run. Use as a context manager, from the main thread.

    Args:
        robot: ports and camera addresses are the real ones.
        source: where chunks come from; None where only a person drives.
        out: folder of the run: episodes, logs, resolved robot file.
        say: takes one line for the person watching.
        bundle: verified and fitting; drives at the beginning. The manifest of what drives goes into every episode.
        follow: a shelf (:mod:`export.shelf`) whose newest bundle is to drive.
        teleop: a person may take the arm over.

    Raises:
        CadenzaError: from ``__enter__``, when some process cannot do its work; says which and why.
    """

    def __init__(
        self,
        robot: Robot,
        source: ChunkSource | None,
        out: Path,
        say: Callable[[str], None],
        *,
        bundle: Bundle | None = None,
        follow: Path | None = None,
        teleop: bool = False,
    ) -> None:
        self.robot, self.out = robot, out
        self.say = say
        self.keys: list[str] = []
        """Session keys (:class:`spec.robot.Key`) that went down on teleoperation devices, for the session to take."""
        self._source, self._bundle, self._follow, self._teleop = source, bundle, follow, teleop
        self._steward: Steward | None = None
        self._namespace = new_namespace()
        self._robot_file = out / "robot.resolved.json"
        common = ("--robot", str(self._robot_file), "--namespace", self._namespace)
        self._crew = Crew(common, out / "logs")
        self.processes = self._crew.processes
        labels = {} if source is None or source.explore is None else source.explore.labels
        self.recorder = Dictation(self._crew, out, say, labels, self._driving_bundle, self._end)
        self.episodes_folder = self.recorder.folder
        self.interrupts = 0
        """How often somebody asked for the end."""
        self.startup_s = 0.0
        self._orders_sent = 0
        self._closing = False
        self._silence = Silence()
        self._messages: list[tuple[str, dict[str, Any]]] = []
        self._last = ExitStack()

    def __enter__(self) -> Self:
        began = time.monotonic()
        try:
            self._prepare()
            self._start()
        except BaseException:
            self.close()
            raise
        self.startup_s = time.monotonic() - began
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    # -- what a session asks for

    def poll(self) -> list[dict[str, Any]]:
        """Let time pass: take in what the processes say, restart the dead. Returns what the recorder said."""
        time.sleep(POLL_S)
        for event in self._look():
            self._tell(event)
        self._messages += self._crew.listen()
        if self._hangs:
            self._end(CONTROL, f"no tick for {SILENT_S} s")
        self._revive()
        said = [message for name, message in self._messages if name == RECORDER]
        for name, message in self._messages:
            if message["kind"] in {"warning", "refused"}:
                self.say(message["text"])
            if name == TELEOP and message["kind"] == "key":
                self.keys.append(message["key"])
            if self._steward is not None and name == self._steward.name:
                self._steward.heed(message)
        self._messages.clear()
        self._tell_weights()
        self._crew.measure()
        return said

    @property
    def interrupted(self) -> bool:
        return self.interrupts > 0

    @property
    def driving(self) -> bool:
        """Whether the control process lives."""
        return self.processes[CONTROL].alive

    def order(self, order: Order) -> int:
        """Send one order to the control loop; returns when [ns]."""
        now = time.monotonic_ns()
        self._orders.send(OrderRecord(self._orders_sent, now, int(order)))
        self._orders_sent += 1
        self._event(now, "order", order.name)
        return now

    def follow(self, following: bool) -> None:
        """Have the source make chunks, or not. Does nothing where there is none."""
        if self._steward is not None:
            self._steward.follow(following)

    def note(self, kind: str, text: str) -> None:
        """Put something the session knows on record: a reward, a label."""
        self._event(time.monotonic_ns(), kind, text)

    def report(self) -> dict[str, Any]:
        """Everything counted so far; complete after :meth:`close`. JSON-able."""
        control = self.processes.get(CONTROL)
        ready = (control.ready or {}) if control else {}
        return {
            "startup_s": self.startup_s,
            "realtime": ready.get("realtime", []),
            "realtime_missing": ready.get("missing", []),
            **self.watch.tally.as_dict(),
            **({} if self._steward is None else self._steward.report()),
            "recovered": [str(item.episode) for item in self.recorder.recovered if item.episode],
            **self._crew.report(),
        }

    # -- starting

    def _prepare(self) -> None:
        try:
            self.out.mkdir(parents=True, exist_ok=True)
            check_room(self.out)
            if self._source is not None:
                office = self._open_office(self._source)
                self._steward = Steward(self._source, self._crew, office, lambda: self.watch.next_chunk)
            write_atomically(self._robot_file, self.robot.model_dump_json(indent=2).encode())
        except OSError as error:
            raise CadenzaError(f"{self.out}: cannot write there: {error.strerror}; choose another --out") from None
        sweep()
        self.recorder.recover()
        for number in (signal.SIGINT, signal.SIGTERM):
            self._last.callback(signal.signal, number, signal.signal(number, self._interrupt))
        self._last.callback(remove_namespace, self._namespace)
        self._node = Node(self._namespace, self._topics(), "supervisor")
        self._last.callback(self._node.close)
        self._orders = self._node.publisher(ORDERS)
        self._events = self._node.publisher(EVENTS)
        self.watch = Watch(self._node, len(self.robot.follower.joints))

    def _open_office(self, source: ChunkSource) -> Office | None:
        if self._bundle is None:
            return None
        office = Office(self._bundle, self._follow, self.out, partial(self._tell_process, source.name))
        self._last.callback(office.close)
        return office

    def _topics(self) -> dict[str, Topic]:
        return topics(self.robot) if self._source is None else topics(self.robot, 1.0 / self._source.step_s)

    def _start(self) -> None:
        self._add(CONTROL, "controller.workers.control_process")
        self._add(RECORDER, "controller.workers.recorder_process")
        if self._source is not None:
            self._add(self._source.name, self._source.module, *self._source.arguments)
        if self._teleop:
            self._add(TELEOP, "controller.workers.teleop_process")
        for name in self.robot.cameras:
            self._add(f"camera {name}", "controller.workers.camera_process", "--camera", name)
        crew = self._crew
        crew.start()
        until = time.monotonic() + READY_S
        while not crew.all_ready():
            time.sleep(POLL_S)
            self.watch.look()
            self._messages += crew.listen()
            if self.interrupted:
                raise KeyboardInterrupt
            late = next((process for process in self.processes.values() if process.ready is None), None)
            if late is not None and time.monotonic() > until:
                raise DeviceError(f"{late.name}: not ready after {READY_S:.0f} s; see {late.log}")

    def _add(self, name: str, module: str, *arguments: str) -> None:
        self._crew.add(name, module, *arguments)

    def _tell_process(self, name: str, **command: Any) -> bool:
        return self.processes[name].tell(**command)

    # -- watching

    def _look(self) -> list[Event]:
        events = self.watch.look()
        self._silence.look(self.watch.tally.ticks, time.monotonic())
        return events

    @property
    def _hangs(self) -> bool:
        """Whether the control process lives but does not tick."""
        control = self.processes[CONTROL]
        return control.alive and control.ready is not None and self._silence.seconds > SILENT_S

    def _tell_weights(self) -> None:
        for said in () if self._steward is None else self._steward.look(time.monotonic()):
            if not said.recorded:
                self.say(f"weights: {said.text}")
                self._event(time.monotonic_ns(), said.kind, said.text)

    def _driving_bundle(self) -> Bundle | None:
        return None if self._steward is None else self._steward.driving

    def _end(self, name: str, why: str) -> None:
        """Make a dead process of one that hangs: what happens then is what happens after any death."""
        self.say(f"{name}: {why}; ending it")
        self._event(time.monotonic_ns(), "ended", f"{name}: {why}")
        self.processes[name].kill()

    def _revive(self) -> None:
        for change in () if self._closing else self._crew.revive(never=CONTROL):
            if change.kind == "died":
                if not change.refused:
                    self.say(f"{change.name}: {change.how}; starting it again")
                last = self.processes[change.name].listen()  # what it said before it died came about before
                self._messages += [(change.name, message) for message in [*last, {"kind": "died"}]]
            text = f"{change.name}: {change.how}" if change.how else change.name
            self._event(time.monotonic_ns(), change.kind, text)

    def _event(self, now_ns: int, kind: str, text: str) -> None:
        self._events.send_bytes(Event(time_ns=now_ns, source="supervisor", kind=kind, text=text).SerializeToString())

    def _tell(self, event: Event) -> None:
        """Ordinary changes of mode and our own doings are on record; they need no line on the screen."""
        if event.kind == "control" and ("FAULT" in event.text or "->" not in event.text):
            self.say(f"control: {event.text}")
        elif event.kind not in {"control", STATE, PACE} and event.source != "supervisor":
            self.say(f"{event.source}: {event.kind.replace('_', ' ')}: {event.text}")

    def _interrupt(self, _number: int, _frame: FrameType | None) -> None:
        self.interrupts += 1

    # -- ending

    def close(self) -> None:
        """End every process in order, the arm held first and the recorder last. May be called twice."""
        if self._closing:
            return
        self._closing = True
        control = self.processes.get(CONTROL)
        if control is not None and control.alive:
            self.order(Order.STOP)
            deadline = time.monotonic() + STOP_S
            while control.alive and time.monotonic() < deadline:
                time.sleep(POLL_S)
                self._look()
                control.listen()
            control.terminate()
            control.wait(0.0 if self._hangs else STOP_S)
        self._crew.end(STOP_S)
        if self.processes:
            self.watch.look()
            self.recorder.recover()
        self._last.close()

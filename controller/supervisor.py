"""Starts the processes of a run, watches them, restarts those that may be restarted, and ends them in order.

The control process is never restarted by itself: when it is gone the servos' Bus Watchdog has stopped the arm, and
moving again is for a person to decide (:meth:`Supervisor.recover`).
"""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from controller.damping import Damping
from controller.dictation import RECORDER, Dictation, check_room
from controller.drought import Drought
from controller.herald import Herald
from controller.notify import Notify
from controller.punctuality import Punctuality
from controller.reception import Reception
from controller.recovery import Recovery, broken
from controller.sources import ChunkSource
from controller.status import status
from controller.watch import MOVED, Watch
from controller.weights.office import Office
from controller.weights.steward import Steward
from controller.wiring.crew import Crew
from controller.wiring.ipc import Node, new_namespace, remove_namespace, sweep
from controller.wiring.room import need, run_bytes
from controller.wiring.topics import Topic, topics
from controller.wiring.vigil import CONTROL, READY_S, TICKING_S, Vigil
from controller.word import Word
from episodes.records import Order
from episodes.schema.cadenza_pb2 import Event
from export.bundle import Bundle
from spec.errors import CadenzaError, DeviceError
from spec.files import write_atomically
from spec.robot import Robot

POLL_S = 0.02
STOP_S = 4.0
"""Longest time to end; the arm needs up to two seconds to come to rest."""
TELEOP = "teleop"


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
        patient: with the first SIGTERM, see :class:`controller.word.Word`.
        notify: of the service manager that started the run; it hears that the run lives from :meth:`poll`.
        witness: takes every event of the run that is worth a line, see :class:`controller.herald.Herald`.

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
        patient: bool = False,
        notify: Notify | None = None,
        witness: Callable[[Event], None] | None = None,
    ) -> None:
        self.robot, self.out = robot, out
        self.say = say
        self.keys: list[str] = []
        """Session keys (:class:`spec.robot.Key`) that went down on teleoperation devices, for the session to take."""
        self._source, self._bundle, self._follow, self._teleop = source, bundle, follow, teleop
        self._notify = notify or Notify()
        damping = Damping({name: camera.stale_ns for name, camera in robot.cameras.items()})
        self._herald = Herald(say, witness, damping)
        self.word = Word(out, patient, say, self._herald.record)
        """What the operator wants of it."""
        self._steward: Steward | None = None
        self._drought: Drought | None = None
        self._namespace = new_namespace()
        self._robot_file = out / "robot.resolved.json"
        common = ("--robot", str(self._robot_file), "--namespace", self._namespace)
        self._crew = Crew(common, out / "logs")
        self.processes = self._crew.processes
        labels = {} if source is None or source.explore is None else source.explore.labels
        self.recorder = Dictation(self._crew, out, say, labels, self._driving_bundle, self._end)
        self.episodes_folder = self.recorder.folder
        self.started = False
        """Whether every process is ready, and the session may begin."""
        self.since_s = time.monotonic()
        """When it was made [s]."""
        self.startup_s = 0.0
        self._closing = False
        self._vigil = Vigil(self._crew)
        self._messages: list[tuple[str, dict[str, Any]]] = []
        self._unread: list[dict[str, Any]] = []
        """What the recorder said while nobody polled for it."""
        self._last = ExitStack()

    def __enter__(self) -> Self:
        began = time.monotonic()
        try:
            self._prepare()
            self._start()
        except BaseException:
            self.close()
            raise
        self.startup_s, self.started = time.monotonic() - began, True
        self.word.recovery = Recovery(self._crew, self.watch, self._herald.order)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    # -- what a session asks for

    def poll(self) -> list[dict[str, Any]]:
        """Let time pass: take in what the processes say, restart the dead. Returns what the recorder said."""
        self._turn()
        said, self._unread = self._unread, []
        return said

    def _turn(self) -> None:
        time.sleep(POLL_S)
        self._look()
        self._messages += self._crew.listen()
        self._end_the_hanging()
        self._revive()
        for name, message in self._messages:
            self._heed(name, message)
        self._messages.clear()
        self.word.look(time.monotonic())
        self._reception.look()
        self._tell_weights()
        self._tell_drought()
        self._compare()
        self._notify.beat(self.watch.tally.ticks)
        self._crew.measure()

    def _heed(self, name: str, message: dict[str, Any]) -> None:
        if name == RECORDER:
            self._unread.append(message)
        if message["kind"] in {"warning", "refused"}:
            self.say(message["text"])
        if name == TELEOP and message["kind"] == "key":
            self.keys.append(message["key"])
        if self._steward is not None and name == self._steward.name:
            self._steward.heed(message)

    @property
    def interrupted(self) -> bool:
        """Whether somebody asked for the end at once."""
        return self.word.interrupts > 0

    @property
    def driving(self) -> bool:
        """Whether the control process lives."""
        return self.processes[CONTROL].alive

    @property
    def ticking(self) -> bool:
        """Whether the control process takes orders; one that was just started does not yet."""
        return self._crew.is_ready(CONTROL)

    @property
    def broken(self) -> str | None:
        """Why the arm cannot be started without somebody's word; None where it can."""
        return broken(self.processes[CONTROL], self.watch)

    @property
    def lacking(self) -> str | None:
        """What the arm holds for want of, although the policy is to drive; None where it does not."""
        return None if self._drought is None else self._drought.words

    @property
    def recoveries(self) -> int:
        """How often the arm was recovered on somebody's word."""
        return self.word.recoveries

    @property
    def weights(self) -> dict[str, Any] | None:
        """Which weights drive, which did, which may; None where no policy drives."""
        office = None if self._steward is None else self._steward.office
        return None if office is None else office.rollout.status()

    def recover(self, timeout_s: float) -> str | None:
        """The cause of a fault is gone, says the operator; returns why the arm does not rest, see :class:`Word`."""
        return self.word.recover(self._turn, timeout_s)

    def order(self, order: Order) -> int:
        """Send one order to the control loop; returns when [ns]."""
        return self._herald.order(order)

    def follow(self, following: bool) -> None:
        """Have the source make chunks, or not. Does nothing where there is none."""
        if self._steward is not None:
            self._steward.follow(following)

    def note(self, kind: str, text: str) -> None:
        """Put something the session knows on record: a reward, a label."""
        self._herald.record(kind, text)

    def report(self) -> dict[str, Any]:
        """Everything counted so far; complete after :meth:`close`. JSON-able."""
        control = self.processes.get(CONTROL)
        ready = (control.ready or {}) if control else {}
        return {
            "startup_s": self.startup_s,
            "realtime": ready.get("realtime", []),
            "realtime_missing": ready.get("missing", []),
            "timing": self.punctuality.status,
            **self.watch.tally.as_dict(),
            **({} if self._steward is None else self._steward.report()),
            "recovered": [str(item.episode) for item in self.recorder.recovered if item.episode],
            **self._crew.report(),
        }

    # -- starting

    def _prepare(self) -> None:
        self.punctuality = Punctuality.of(self.robot)
        try:
            self.out.mkdir(parents=True, exist_ok=True)
            check_room(self.out)
            if self._source is not None:
                office = self._open_office(self._source)
                self._steward = Steward(self._source, self._crew, office, lambda: self.watch.next_chunk)
                self._drought = None if office is None else Drought(self._source.name)
            self._open_reception()
            write_atomically(self._robot_file, self.robot.model_dump_json(indent=2).encode())
        except OSError as error:
            raise CadenzaError(f"{self.out}: cannot write there: {error.strerror}; choose another --out") from None
        sweep()
        need(run_bytes(self.robot), "a run")
        self.recorder.recover()
        self._last.enter_context(self.word.by_signal())
        self._last.callback(remove_namespace, self._namespace)
        self._node = Node(self._namespace, self._topics(), "supervisor")
        self._last.callback(self._node.close)
        self._herald.open(self._node)
        self.watch = Watch(self._node, len(self.robot.follower.joints))

    def _open_office(self, source: ChunkSource) -> Office | None:
        if self._bundle is None:
            return None
        office = Office(self._bundle, self._follow, partial(self._crew.tell, source.name))
        self._last.callback(office.close)
        return office

    def _open_reception(self) -> None:
        office = None if self._steward is None else self._steward.office
        word, tell = self.word, partial(status, self, self._vigil)
        self._reception = Reception(self.out, office, tell, word.asked_to_recover, word.outcome)
        self._last.callback(self._reception.close)
        if self._reception.trouble is not None:
            self.say(f"{self._reception.trouble}; cadenza status, recover and weights cannot reach this run")

    def _topics(self) -> dict[str, Topic]:
        return topics(self.robot) if self._source is None else topics(self.robot, 1.0 / self._source.step_s)

    def _start(self) -> None:
        crew, source = self._crew, self._source
        self._add(CONTROL, "controller.workers.control_process")
        self._add(RECORDER, "controller.workers.recorder_process")
        if source is not None:
            self._add(source.name, source.module, *source.arguments)
        if self._teleop:
            self._add(TELEOP, "controller.workers.teleop_process")
        for name in self.robot.cameras:
            self._add(f"camera {name}", "controller.workers.camera_process", "--camera", name)
        crew.start()
        until_s = time.monotonic() + READY_S
        while (late := crew.late()) is not None:
            if time.monotonic() > until_s:
                raise DeviceError(
                    f"{late.name}: not ready after {READY_S:.0f} s; see {late.log}, or what keeps the machine busy"
                )
            time.sleep(POLL_S)
            self.watch.look()
            self._messages += crew.listen()
            self._reception.look()
            if self.interrupted:
                raise KeyboardInterrupt

    def _add(self, name: str, module: str, *arguments: str) -> None:
        self._crew.add(name, module, *arguments)

    # -- watching

    def _look(self) -> None:
        self._herald.tell(self.watch.look())
        self._vigil.beat(time.monotonic())

    def _end_the_hanging(self) -> None:
        for hanging in self._vigil.look(self.watch.tally.ticks, self.watch.mode in MOVED, time.monotonic()):
            self._end(hanging.name, hanging.why)

    def _tell_weights(self) -> None:
        for said in () if self._steward is None else self._steward.look(time.monotonic()):
            if not said.recorded:
                self._herald.announce(said.kind, said.text, f"weights: {said.text}")

    def _tell_drought(self) -> None:
        """A recorded motion may well have come to its end; a policy has none."""
        if (drought := self._drought) is None or self._steward is None:
            return
        ready = self._crew.is_ready(drought.source)
        line = drought.look(self.watch, self._steward.following, ready, time.monotonic())
        if line is not None:
            self._herald.announce("chunks", line)

    def _driving_bundle(self) -> Bundle | None:
        return None if self._steward is None else self._steward.driving

    def _end(self, name: str, why: str) -> None:
        """Make a dead process of one that hangs: what happens then is what happens after any death."""
        self._herald.announce("ended", f"{name}: {why}", f"{name}: {why}; ending it")
        self.processes[name].kill(why)

    def _revive(self) -> None:
        for change in () if self._closing else self._crew.revive(never=CONTROL):
            if change.kind == "died":
                if not change.refused:
                    then = "the servos hold the arm" if change.name == CONTROL else "starting it again"
                    self.say(f"{change.name}: {change.how}; {then}")
                last = self.processes[change.name].listen()  # what it said before it died came about before
                self._messages += [(change.name, message) for message in [*last, {"kind": "died"}]]
            self._herald.record(change.kind, f"{change.name}: {change.how}" if change.how else change.name)

    def _compare(self) -> None:
        """Live timing with its certificate."""
        line = self.punctuality.look(self.watch, time.monotonic())
        if line is not None:
            self._herald.announce("timing", line)

    # -- ending

    def close(self) -> None:
        """End every process in order, the arm held first and the recorder last. May be called twice."""
        if self._closing:
            return
        self._closing = True
        self._notify.stopping()
        control = self.processes.get(CONTROL)
        if control is not None and control.alive:
            self.order(Order.STOP)
            deadline = time.monotonic() + STOP_S
            while control.alive and time.monotonic() < deadline:
                time.sleep(POLL_S)
                self._look()
                control.listen()
            control.terminate()
            control.wait(0.0 if self._vigil.silent_s(CONTROL) > TICKING_S else STOP_S)
        self._crew.end(STOP_S)
        if self.processes:
            self._look()
            self.recorder.recover()
        self._last.close()

"""Who hangs, and what becomes of the operator's word, by a clock moved by hand."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any, cast

import pytest

from controller.recovery import ORDERED_S, Recovery
from controller.watch import Watch
from controller.wiring.crew import Crew
from controller.wiring.silence import LOOK_S
from controller.wiring.vigil import BEAT_S, BOUNDS, CONTROL, OTHER, READY_S, RESTING_S, TICKING_S, Vigil
from episodes.records import Mode, Order


class Worker:
    """Stands in for a process."""

    def __init__(self, name: str) -> None:
        self.name, self.pid, self.alive, self.beats, self.restarts = name, 1, True, 0, 0
        self.ready: dict[str, Any] | None = {}
        self.refusal: str | None = None
        self.told: list[dict[str, Any]] = []

    def tell(self, **command: Any) -> bool:
        self.told.append(command)
        return True

    def restart(self) -> None:
        self.alive, self.ready, self.pid, self.restarts = True, None, self.pid + 1, self.restarts + 1

    def listen(self) -> None: ...

    def ending(self) -> str:
        return "killed by SIGKILL"


class Scene:
    """Some processes under watch, and a clock."""

    def __init__(self, *names: str) -> None:
        self.workers = {name: Worker(name) for name in names}
        self.crew = cast(
            "Crew",
            SimpleNamespace(
                processes=self.workers,
                is_ready=lambda name: self.workers[name].alive and self.workers[name].ready == {},
            ),
        )
        self.vigil = Vigil(self.crew)
        self.now_s, self.ticks, self.under_way = 100.0, 0, True

    def passes(self, seconds: float, *, ticking: bool = True, answering: tuple[str, ...] = ()) -> list[str]:
        """Who was found to hang in that time, in the vigil's words, once each."""
        found: list[str] = []
        for _ in range(round(seconds / 0.02)):
            self.now_s += 0.02
            self.ticks += ticking
            for name in answering:
                self.workers[name].beats += 1
            self.vigil.beat(self.now_s)
            found += [f"{one.name}: {one.why}" for one in self.vigil.look(self.ticks, self.under_way, self.now_s)]
        return list(dict.fromkeys(found))


def test_every_kind_of_process_has_its_bound() -> None:
    scene = Scene(CONTROL, "camera top", "recorder", "inference", "playback", "teleop")
    for name, bound in ((name, BOUNDS[name.split()[0]].seconds) for name in scene.workers if name != CONTROL):
        others = tuple(other for other in scene.workers if other not in {name, CONTROL})
        scene.passes(0.1, answering=(*others, name))
        assert scene.passes(bound - 0.1, answering=others) == []
        assert scene.passes(0.2, answering=others) == [f"{name}: no sign of life for {bound:g} s"]


def test_a_source_of_a_kind_of_its_own_has_a_bound_too() -> None:
    """A name that was not in the table ended the supervisor."""
    scene = Scene(CONTROL, "chunks")
    assert scene.passes(OTHER.seconds - 0.1) == []
    assert scene.passes(0.3) == [f"chunks: no sign of life for {OTHER.seconds:g} s"]


def test_a_loop_may_be_away_longer_while_the_arm_rests() -> None:
    """To recover a servo takes seconds; a control process that did so used to count as hanging."""
    scene = Scene(CONTROL)
    scene.passes(0.1)
    assert scene.passes(TICKING_S - 0.1, ticking=False) == []
    assert scene.passes(0.2, ticking=False) == [f"control: no tick for {TICKING_S:g} s"]
    scene.under_way = False
    scene.passes(0.1)
    assert scene.passes(RESTING_S - 0.1, ticking=False) == []
    assert scene.passes(0.2, ticking=False) == [f"control: no tick for {RESTING_S:g} s"]


def test_who_starts_again_has_the_time_of_a_start() -> None:
    scene = Scene("camera top")
    camera = scene.workers["camera top"]
    scene.passes(1.0, answering=("camera top",))
    camera.restart()
    assert scene.passes(READY_S - 0.1) == []
    assert scene.passes(0.3) == [f"camera top: not ready after {READY_S:g} s"]
    camera.ready = {}
    assert scene.passes(1.0) == []
    camera.alive = False
    assert scene.passes(60.0) == []


def test_a_supervisor_that_was_away_blames_nobody() -> None:
    scene = Scene("recorder")
    scene.passes(1.0, answering=("recorder",))
    scene.now_s += 3600.0
    assert scene.passes(BOUNDS["recorder"].seconds - LOOK_S - 0.1) == []


def test_one_that_will_not_die_is_ended_once_a_bound() -> None:
    """A process stuck in a driver outlives SIGKILL; each attempt holds the supervisor up for a moment."""
    scene = Scene("recorder")
    found = []
    for _ in range(round(2.5 * BOUNDS["recorder"].seconds / 0.02)):
        scene.now_s += 0.02
        found += scene.vigil.look(0, scene.under_way, scene.now_s)
    assert len(found) == 2


def test_all_but_control_are_asked_now_and_then() -> None:
    scene = Scene(CONTROL, "recorder")
    scene.passes(10 * BEAT_S)
    assert scene.workers[CONTROL].told == []
    assert 8 <= len(scene.workers["recorder"].told) <= 10


class Word:
    """A recovery on its way."""

    def __init__(self) -> None:
        self.control = Worker(CONTROL)
        crew = cast("Crew", SimpleNamespace(processes={CONTROL: self.control}))
        self.watch = SimpleNamespace(
            tick=SimpleNamespace(now_ns=0),
            mode=Mode.FAULT,
            cause="PORT_GONE: /dev/x",
            not_recovered=["an old one"],
            tally=SimpleNamespace(ticks=5),
        )
        self.orders: list[Order] = []
        self.recovery = Recovery(crew, cast("Watch", self.watch), self._order)

    def _order(self, order: Order) -> int:
        self.orders.append(order)
        return 1_000_000_000

    def ticks_on(self, now_ns: int, mode: Mode) -> None:
        self.watch.tick.now_ns, self.watch.mode = now_ns, mode
        self.watch.tally.ticks += 1

    def look(self, now_s: float) -> tuple[bool, int, str | None]:
        self.recovery.look(now_s)
        return self.recovery.active, self.recovery.succeeded, self.recovery.refusal


def test_a_recovery_is_over_once_a_later_tick_shows_the_outcome() -> None:
    word = Word()
    word.recovery.begin(0.0)
    assert word.orders == [Order.CLEAR_FAULT]
    word.ticks_on(1_005_000_000, Mode.FAULT)  # the loop takes the order in, and is away for three seconds
    assert word.look(2.0) == (True, 0, None)
    word.ticks_on(4_000_000_000, Mode.HOLD)
    assert word.look(4.0) == (False, 1, None)


@pytest.mark.parametrize("said", ["servo 3 does not answer", None])
def test_a_recovery_that_fails_says_why(said: str | None) -> None:
    word = Word()
    word.recovery.begin(0.0)
    if said is not None:
        word.watch.not_recovered.append(said)
    word.ticks_on(2_000_000_000, Mode.FAULT)
    assert word.look(1.0) == (False, 0, said or "PORT_GONE: /dev/x")
    word.recovery.begin(2.0)
    assert (word.recovery.active, word.recovery.refusal) == (True, None)


def test_a_loop_that_never_answers_is_not_waited_for() -> None:
    word = Word()
    word.recovery.begin(0.0)
    assert word.look(ORDERED_S) == (True, 0, None)
    assert word.look(ORDERED_S + 0.1) == (False, 0, f"the control loop has not answered for {ORDERED_S:g} s")


def test_a_dead_control_process_is_started_first() -> None:
    word = Word()
    word.control.alive, word.control.refusal = False, "no such port"
    word.recovery.begin(0.0)
    assert word.control.restarts == 1
    assert (word.control.refusal or word.orders) == []
    assert word.look(1.0) == (True, 0, None)
    word.control.ready = {}
    assert word.look(2.0) == (True, 0, None)  # what is seen is still of its predecessor
    word.ticks_on(900_000_000, Mode.IDLE)
    word.look(3.0)
    assert word.orders == [Order.CLEAR_FAULT]
    word.ticks_on(1_400_000_000, Mode.IDLE)
    assert word.look(3.5) == (False, 1, None)


def test_a_control_process_that_refuses_ends_the_recovery() -> None:
    word = Word()
    word.control.alive = False
    word.recovery.begin(0.0)
    word.control.alive, word.control.refusal = False, "/dev/x: no such port"
    assert word.look(1.0) == (False, 0, "/dev/x: no such port")
    word.recovery.begin(5.0)
    word.control.alive = False
    assert word.look(6.0) == (False, 0, "the control process: killed by SIGKILL")

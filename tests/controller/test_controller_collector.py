"""A session of collecting on the whole set of processes: a person steps in, things die, and what is kept is right."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from daemon_kit import kill, stop

from controller.collection.collector import Collector, Reward
from controller.collection.keeping import Keep, Record
from controller.collection.ledger import Asked, Ledger
from controller.collection.machine import End, Phase, Plan
from controller.dictation import RECORDER
from controller.session import NoJudge
from controller.sources import policy_source
from controller.supervisor import Supervisor
from controller.wiring.process import Process
from controller.wiring.vigil import CONTROL
from drivers.virtual import VirtualRobot
from episodes.check import check
from episodes.outcome import Outcome, Termination
from episodes.reader import Episode, read_episode
from episodes.records import Driver, Mode
from export.bundle import Bundle
from spec.robot import Key

pytestmark = pytest.mark.daemon

ASKED = Asked("push", "policy", "episodes", "r", "b")
PLAN = Plan(target=1, reset_s=0.0, limit_s=3.0, auto_start=True)
Doing = Callable[[Collector], list[Key | Reward]]


class Script:
    """Presses what a function says. Implements Front."""

    def __init__(self, doing: Doing) -> None:
        self._doing = doing

    def pressed(self, collector: Collector) -> list[Key | Reward]:
        return self._doing(collector)

    def show(self, collector: Collector) -> None:
        pass


def steps_in(take_s: float, release_s: float) -> Doing:
    """Takes the arm and gives it back, so long after the policy began."""
    pressed: set[tuple[int, Key]] = set()

    def doing(collector: Collector) -> list[Key | Reward]:
        keys: list[Key | Reward] = []
        for key, when in ((Key.TAKE, take_s), (Key.RELEASE, release_s)):
            due = collector.now.phase is Phase.RUNNING and collector.seconds >= when
            if due and (collector.now.number, key) not in pressed:
                pressed.add((collector.now.number, key))
                keys.append(key)
        return keys

    return doing


class Sessions:
    """Runs sessions in one folder, on one virtual arm."""

    def __init__(self, virtual: VirtualRobot, bundle: Bundle, out: Path) -> None:
        self.virtual, self.bundle, self.out = virtual, bundle, out
        self.lines: list[str] = []

    def run(self, doing: Doing, plan: Plan = PLAN, keep: Keep = Keep()) -> Collector:  # noqa: B008 (frozen)
        robot = self.virtual.robot
        supervisor = Supervisor(
            robot, policy_source(self.bundle), self.out, self.lines.append, bundle=self.bundle, teleop=True
        )
        with Ledger(self.out, ASKED) as ledger, supervisor:
            ledger.reconcile()
            labels = {"task": "push", "source": "policy", "session": ledger.session}
            collector = Collector(supervisor, NoJudge(), plan, keep, ledger, labels, Script(doing))
            collector.collect()
        return collector

    def files(self) -> list[Path]:
        found = sorted((self.out / "episodes").glob("*"))
        assert all(path.suffix == ".mcap" for path in found)
        return found

    def read(self) -> list[Episode]:
        return [read_episode(path, cameras=()) for path in self.files()]


@pytest.fixture
def sessions(virtual: VirtualRobot, bundle: Bundle, tmp_path: Path) -> Iterator[Sessions]:
    yield Sessions(virtual, bundle, tmp_path)
    virtual.client.clear()


def human(episode: Episode) -> np.ndarray:
    return np.asarray(episode.ticks["driver"] == Driver.HUMAN)


def test_a_person_steps_in_and_the_policy_goes_on(sessions: Sessions) -> None:
    collector = sessions.run(steps_in(1.0, 2.0))
    (episode,) = sessions.read()
    assert collector.now.ending is End.COMPLETE
    assert (episode.outcome, episode.termination) == (Outcome.UNLABELLED, Termination.TIME_LIMIT)
    assert (episode.result["source"], episode.result["interventions"]) == ("intervention", "1")
    (line,) = collector.ledger.lines
    assert line.interventions == 1
    assert line.human_seconds == pytest.approx(human(episode).sum() / 100, abs=0.05)
    after = episode.ticks["mode"][np.flatnonzero(human(episode))[-1] :]
    assert (after == Mode.POLICY).any()
    assert check(episode.path) == []


def test_a_correction_has_what_came_before_it_and_what_came_after(sessions: Sessions) -> None:
    keep = Keep(Record.CORRECTIONS, before_s=0.5, after_s=0.4)
    plan = replace(PLAN, target=2)
    collector = sessions.run(steps_in(1.2, 2.0), plan, keep)
    assert [path.name for path in sessions.files()] == [f"episode-00000{k}-correction-00.mcap" for k in (0, 1)]
    assert [line.files for line in collector.ledger.lines] == [(f"episodes/{path.name}",) for path in sessions.files()]
    for episode in sessions.read():
        driven = np.flatnonzero(human(episode))
        times = episode.ticks["now_ns"].astype(np.int64)
        before_ns, after_ns = times[driven[0]] - times[0], times[-1] - times[driven[-1]]
        assert before_ns >= 450_000_000  # a tick may be missed
        assert after_ns >= 350_000_000
        assert (np.diff(episode.ticks["tick"].astype(np.int64)) - episode.ticks["skipped"][1:] == 1).all()
        assert episode.labels["source"] == "intervention"
        assert check(episode.path) == []


def test_a_continuous_recording_loses_no_tick_where_it_goes_on_in_a_new_file(sessions: Sessions) -> None:
    sessions.run(steps_in(1.0, 2.0), replace(PLAN, target=2), Keep(Record.CONTINUOUS, rotate_mb=0.5))
    episodes = sessions.read()
    assert len(episodes) > 2
    assert {episode.labels["session"] for episode in episodes} == {episodes[0].labels["session"]}
    ticks = np.concatenate([episode.ticks["tick"].astype(np.int64) for episode in episodes])
    skipped = np.concatenate([episode.ticks["skipped"] for episode in episodes])
    assert (np.diff(ticks) - skipped[1:] == 1).all()
    assert [episode.termination for episode in episodes[:-1]] == [Termination.ROTATED] * (len(episodes) - 1)
    begun = [event.text for episode in episodes for event in episode.events if event.kind == "label"]
    assert sum("begins" in text for text in begun) == 2


def test_a_highlight_is_what_just_happened(sessions: Sessions) -> None:
    pressed: list[float] = []

    def doing(collector: Collector) -> list[Key | Reward]:
        if collector.seconds < 2.5 or pressed:
            return []
        pressed.append(collector.seconds)
        return [Key.HIGHLIGHT]

    collector = sessions.run(doing, keep=Keep(Record.HIGHLIGHT, highlight_s=1.5))
    (episode,) = sessions.read()
    assert episode.duration_s == pytest.approx(1.5, abs=0.4)
    assert (episode.ticks["mode"] == Mode.POLICY).all()
    assert collector.ledger.lines[0].files == ("episodes/episode-000000-highlight-00.mcap",)
    assert check(episode.path) == []


def test_rewards_and_labels_are_on_record(sessions: Sessions) -> None:
    given: list[float] = []

    def doing(collector: Collector) -> list[Key | Reward]:
        if collector.seconds > 0.5 and not given:
            given.append(0.5)
            return [Reward(0.5), Key.HIGHLIGHT]
        return [Key.SUCCESS] if collector.seconds > 1.5 else []

    collector = sessions.run(doing)
    (episode,) = sessions.read()
    assert [value for _, value in episode.rewards] == [0.5]
    assert "highlight" in {event.text for event in episode.events if event.kind == "label"}
    assert collector.ledger.lines[0].reward == 1.5
    assert (episode.ending.reward, episode.ending.terminated) == (1.0, True)


def test_after_a_fault_the_session_goes_on_at_the_operators_word(sessions: Sessions) -> None:
    """The arm does not answer for a while; the episode is kept but does not count."""
    seen: list[Phase] = []

    def doing(collector: Collector) -> list[Key | Reward]:
        if collector.now.phase is Phase.FAULT:
            sessions.virtual.client.clear()
            seen.append(Phase.FAULT)
            return [Key.START_STOP] if len(seen) > 25 else []
        if not seen and collector.seconds > 0.5:
            sessions.virtual.client.inject({"loss": 1.0})
        return []

    collector = sessions.run(doing)
    assert seen
    assert (collector.now.ending, collector.ledger.saved) == (End.COMPLETE, 1)
    assert [episode.termination for episode in sessions.read()] == [Termination.FAULT, Termination.TIME_LIMIT]
    assert [line.counts for line in collector.ledger.lines] == [False, True]


def test_a_recorder_that_dies_costs_its_episode_and_no_other(sessions: Sessions) -> None:
    killed: list[int] = []

    def doing(collector: Collector) -> list[Key | Reward]:
        if not killed and collector.seconds > 1.0:
            killed.append(collector.now.number)
            kill(collector.run.processes[RECORDER])
        return []

    collector = sessions.run(doing)
    assert [line.termination for line in collector.ledger.lines] == ["recorder_died", "time_limit"]
    assert (collector.ledger.saved, collector.now.ending) == (1, End.COMPLETE)
    assert [episode.termination for episode in sessions.read()] == [Termination.RECOVERED, Termination.TIME_LIMIT]
    assert all(check(path) == [] for path in sessions.files())


def test_a_recorder_that_hangs_costs_its_episode_and_no_other(sessions: Sessions) -> None:
    stopped: list[int] = []

    def doing(collector: Collector) -> list[Key | Reward]:
        if not stopped and collector.seconds > 1.0:
            stopped.append(collector.now.number)
            stop(collector.run.processes[RECORDER])
        return [Key.QUIT] if collector.now.number > 2 else []

    collector = sessions.run(doing)
    assert [line.termination for line in collector.ledger.lines] == ["recorder_died", "time_limit"]
    assert (collector.ledger.saved, collector.now.ending) == (1, End.COMPLETE)
    assert [episode.termination for episode in sessions.read()] == [Termination.RECOVERED, Termination.TIME_LIMIT]
    assert all(check(path) == [] for path in sessions.files())


def test_without_a_recorder_that_can_work_a_session_ends(sessions: Sessions) -> None:
    """Its successor finds no usable calibration and says so; nothing would be recorded any more."""
    calibration = sessions.virtual.robot.follower.calibration
    whole = calibration.read_bytes()

    def doing(collector: Collector) -> list[Key | Reward]:
        if calibration.read_bytes() == whole and collector.seconds > 0.5:
            calibration.write_bytes(b"{")
            kill(collector.run.processes[RECORDER])
        return [Key.QUIT] if collector.now.number > 2 else []

    try:
        collector = sessions.run(doing)
    finally:
        calibration.write_bytes(whole)
    assert collector.now.ending is End.ERROR
    assert [line.termination for line in collector.ledger.lines][:1] == ["recorder_died"]
    assert any(str(calibration) in line for line in sessions.lines)


@pytest.mark.parametrize("end", [kill, stop])
def test_without_its_control_process_a_session_ends_and_can_be_resumed(
    sessions: Sessions, end: Callable[[Process], None]
) -> None:
    def doing(collector: Collector) -> list[Key | Reward]:
        if collector.seconds > 0.5 and collector.run.driving:
            end(collector.run.processes[CONTROL])
        return []

    collector = sessions.run(doing)
    assert collector.now.ending is End.CONTROL_DIED
    again = sessions.run(lambda _: [])
    assert again.ledger.resumed
    assert [line.termination for line in again.ledger.lines] == ["control_died", "time_limit"]
    assert (again.ledger.saved, again.now.ending) == (1, End.COMPLETE)

"""The session of collecting, without an arm: its machine under any order of events, its ledger under any kill."""

from __future__ import annotations

import json
import multiprocessing
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from controller.collection.collector import Collector
from controller.collection.correction import Correction, Cut, cut
from controller.collection.ledger import DISCARD, SESSION_FILE, Asked, Ledger, Line, episode_name
from controller.collection.machine import Action, Collection, End, Happened, Phase, Plan, Verdict, accepts, begin, step
from episodes.outcome import Outcome, Termination
from episodes.records import Driver, TickRecord
from episodes.writer import EpisodeWriter, Header
from spec.errors import CadenzaError, SpecError
from spec.robot import Key
from spec.robotfile import load_robot

PLAN = Plan(target=3, reset_s=5.0, limit_s=30.0)
ASKED = Asked(task="push", source="teleop", record="episodes", robot="r" * 64)
LIKELY = [
    *(Happened.AT_HOME, Happened.OPENED, Happened.DRIVING, Happened.STANDING, Happened.CLOSED),
    *(Key.START_STOP, Key.SUCCESS, Key.FAIL, Key.DISCARD, Key.REDO),
]
heard = st.one_of(st.sampled_from(LIKELY), st.sampled_from([*Happened, *Key]))
plans = st.builds(
    Plan,
    target=st.integers(1, 3),
    reset_s=st.sampled_from([0.0, 2.0]),
    limit_s=st.sampled_from([1.0, 60.0]),
    auto_start=st.booleans(),
    demonstration=st.booleans(),
    judged=st.booleans(),
)


def played(plan: Plan, *events: Happened | Key) -> tuple[Collection, list[Action]]:
    """A session after these events, a second apart, and all it wanted done."""
    now, actions = begin(plan, 0, 0, 0.0)
    done = list(actions)
    for second, event in enumerate(events, 1):
        now, wanted = step(plan, now, event, float(second))
        done += wanted
    return now, done


def one_episode(ending: Happened | Key) -> list[Happened | Key]:
    start = [Happened.AT_HOME, Key.START_STOP, Happened.OPENED, Happened.DRIVING]
    return [*start, ending, Happened.STANDING, Happened.CLOSED]


@given(plan=plans, events=st.lists(st.tuples(heard, st.floats(0.0, 3.0)), max_size=150))
def test_whatever_happens_recordings_are_opened_and_closed_in_turn_and_the_count_is_right(
    plan: Plan, events: list[tuple[Happened | Key, float]]
) -> None:
    now, actions = begin(plan, 7, 0, 0.0)
    clock, is_open, driving, put_away = 0.0, False, False, 0
    kept: list[int] = []
    for event, passed in events:
        clock += passed
        before = now
        now, actions = step(plan, now, event, clock)
        if before.phase is Phase.DONE:
            assert (now, actions) == (before, ())
        for action in actions:
            if action is Action.OPEN:
                assert not is_open
                is_open = True
            elif action is Action.DRIVE:
                assert is_open
                driving = True
            elif action is Action.HOLD:
                driving = False
            elif action is Action.CLOSE:
                assert is_open
                assert not driving
                is_open = False
            elif action is Action.DISCARD_LAST:
                assert kept.pop() == before.last
                put_away += 1
            elif action in {Action.GO_HOME, Action.PREPARE}:
                assert not is_open
                assert not driving
        if before.phase is Phase.SAVING and now.phase is not Phase.SAVING:
            verdict = before.verdict
            assert verdict is not None
            assert now.number == before.number + (not verdict.again)
            if verdict.counts:
                kept.append(before.number)
        assert now.saved == len(kept) <= plan.target
        assert len(set(kept)) == len(kept)
        assert (now.phase is Phase.DONE) <= (now.ending is not None)
        assert (now.phase in {Phase.STOPPING, Phase.SAVING}) <= (now.verdict is not None)
        if now.phase is Phase.DONE:
            assert not is_open
            assert not driving
            assert (now.ending is End.COMPLETE) <= (now.saved == plan.target)


@given(plan=plans, events=st.lists(heard, max_size=60))
def test_from_anywhere_two_events_of_quitting_and_the_rest_end_it(plan: Plan, events: list[Happened | Key]) -> None:
    now, _ = played(plan, *events)
    for event in (Key.QUIT, Happened.STANDING, Happened.CLOSED):
        now, _ = step(plan, now, event, 1e6)
    assert now.phase is Phase.DONE


@given(plan=plans, events=st.lists(heard, max_size=60), key=st.sampled_from(Key))
def test_a_key_that_is_not_accepted_changes_nothing(plan: Plan, events: list[Happened | Key], key: Key) -> None:
    now, _ = played(plan, *events)
    if not accepts(plan, now, key):
        assert step(plan, now, key, now.since_s) == (now, ())


def test_three_good_episodes_are_a_session() -> None:
    now, done = played(PLAN, *(event for _ in range(3) for event in one_episode(Key.SUCCESS)))
    assert (now.phase, now.ending, now.saved, now.number) == (Phase.DONE, End.COMPLETE, 3, 3)
    assert done.count(Action.OPEN) == done.count(Action.CLOSE) == done.count(Action.PREPARE) == 3


@pytest.mark.parametrize(
    ("event", "outcome", "termination", "saved"),
    [
        (Key.SUCCESS, Outcome.SUCCESS, Termination.DONE, 1),
        (Key.FAIL, Outcome.FAIL, Termination.DONE, 1),
        (Key.START_STOP, Outcome.UNLABELLED, Termination.OPERATOR, 1),
        (Key.DISCARD, Outcome.ABORTED, Termination.OPERATOR, 0),
        (Key.QUIT, Outcome.ABORTED, Termination.OPERATOR, 0),
        (Happened.TASK_DONE, Outcome.SUCCESS, Termination.DONE, 1),
        (Happened.FAULT, Outcome.ABORTED, Termination.FAULT, 0),
        (Happened.LOST, Outcome.ABORTED, Termination.RECORDER_DIED, 0),
        (Happened.DISK_FULL, Outcome.ABORTED, Termination.DISK_FULL, 0),
        (Happened.CONTROL_DIED, Outcome.ABORTED, Termination.CONTROL_DIED, 0),
        (Happened.INTERRUPT, Outcome.ABORTED, Termination.OPERATOR, 0),
    ],
)
def test_what_ends_an_episode_says_how_it_went(
    event: Happened | Key, outcome: Outcome, termination: Termination, saved: int
) -> None:
    events = one_episode(event)
    stopping, _ = played(PLAN, *events[:-2])
    assert stopping.verdict is not None
    assert (stopping.verdict.outcome, stopping.verdict.termination) == (outcome, termination)
    assert played(PLAN, *events)[0].saved == saved


def test_discarding_spends_the_number_and_redoing_keeps_it() -> None:
    discarded, _ = played(PLAN, *one_episode(Key.DISCARD))
    again, _ = played(PLAN, *one_episode(Key.REDO))
    assert (discarded.number, again.number) == (1, 0)


def test_the_last_episode_can_be_redone_until_the_next_begins() -> None:
    saved = one_episode(Key.SUCCESS)
    redone, done = played(PLAN, *saved, Happened.AT_HOME, Key.REDO)
    assert (redone.number, redone.saved, redone.phase) == (0, 0, Phase.HOMING)
    assert done[-2:] == [Action.DISCARD_LAST, Action.GO_HOME]
    later, done = played(PLAN, *saved, *one_episode(Key.DISCARD), Happened.AT_HOME, Key.REDO)
    assert (later.saved, Action.DISCARD_LAST in done) == (1, False)


def test_running_out_of_time_is_failure_only_where_somebody_can_tell() -> None:
    running = [Happened.AT_HOME, Key.START_STOP, Happened.OPENED, Happened.DRIVING]
    for judged, outcome in ((True, Outcome.FAIL), (False, Outcome.UNLABELLED)):
        plan = replace(PLAN, judged=judged, limit_s=0.5)
        now, _ = played(plan, *running, Happened.TIME)
        assert now.verdict is not None
        assert (now.verdict.outcome, now.verdict.termination) == (outcome, Termination.TIME_LIMIT)


def test_a_recorder_that_dies_while_saving_takes_the_verdict_with_it() -> None:
    now, _ = played(PLAN, *one_episode(Key.SUCCESS)[:-1], Happened.LOST, Happened.CLOSED)
    assert now.saved == 0


def test_after_a_fault_the_session_waits_for_a_person() -> None:
    events = one_episode(Happened.FAULT)
    faulted, _ = played(PLAN, *events)
    assert faulted.phase is Phase.FAULT
    patient, done = played(PLAN, *events, Happened.TIME, Happened.AT_HOME, Key.SUCCESS)
    assert patient.phase is Phase.FAULT
    cleared, done = played(PLAN, *events, Key.START_STOP)
    assert (cleared.phase, done[-2:]) == (Phase.HOMING, [Action.CLEAR_FAULT, Action.GO_HOME])


def test_where_an_episode_cannot_be_written_down_the_arm_is_last_told_to_hold(monkeypatch: pytest.MonkeyPatch) -> None:
    collector, done = object.__new__(Collector), list[Action]()
    collector.plan = PLAN
    collector.now = Collection(0, phase=Phase.SAVING, verdict=Verdict(Outcome.SUCCESS, Termination.DONE))
    monkeypatch.setattr(collector, "_do", done.extend)
    monkeypatch.setattr(collector, "_write_down", lambda: collector.hear(Happened.DISK_FULL))
    collector.hear(Happened.CLOSED)
    assert (collector.now.phase, collector.now.ending) == (Phase.DONE, End.DISK_FULL)
    assert done == [Action.GO_HOME, Action.HOLD]


@given(looks=st.lists(st.tuples(st.booleans(), st.floats(0.01, 1.0)), max_size=60), tail_s=st.floats(0.0, 2.0))
def test_a_correction_begins_with_the_person_and_ends_after_it(looks: list[tuple[bool, float]], tail_s: float) -> None:
    now, is_open, clock, last_human = Correction(), False, 0.0, -1e9
    for human, passed in looks:
        clock += passed
        now, do = cut(now, human, tail_s, clock)
        if do is Cut.BEGIN:
            assert human
            assert not is_open
            is_open = True
        if do is Cut.END:
            assert is_open
            assert clock - last_human >= tail_s
            is_open = False
        last_human = clock if human else last_human
        assert not human or is_open


# -- the ledger


def line(number: int, outcome: Outcome = Outcome.SUCCESS) -> Line:
    return Line(number, outcome.value, "done", 2.0, (f"episodes/{episode_name(number)}",))


def recorded(
    folder: Path, number: int, outcome: Outcome = Outcome.SUCCESS, facts: dict[str, str] | None = None
) -> Path:
    """A closed recording; the person drives from its fourth tick to its sixth."""
    path = folder / "episodes" / episode_name(number)
    with EpisodeWriter(path, Header(load_robot(Path("robots/virtual.yaml")), labels={"operator": "ada"})) as writer:
        for tick in range(10):
            driver = Driver.HUMAN if tick in {4, 5, 6} else Driver.POLICY
            writer.tick(TickRecord(tick=tick, now_ns=(tick + 1) * 10_000_000, joints=6, driver=driver))
        writer.close(outcome, Termination.DONE, facts or {})
    return path


def test_a_session_goes_on_where_it_was(tmp_path: Path) -> None:
    with Ledger(tmp_path, ASKED) as ledger:
        recorded(tmp_path, 0)
        ledger.add(line(0), 1)
        session = ledger.session
    with Ledger(tmp_path, ASKED) as again:
        again.reconcile()
        assert (again.session, again.saved, again.next, again.resumed) == (session, 1, 1, True)


@pytest.mark.parametrize("field", ["task", "source", "record", "robot", "bundle"])
def test_a_session_that_was_asked_for_something_else_is_refused_in_one_line(tmp_path: Path, field: str) -> None:
    with Ledger(tmp_path, ASKED) as ledger:
        ledger.write()
    with pytest.raises(SpecError, match=field) as refused, Ledger(tmp_path, replace(ASKED, **{field: "another"})):
        pass
    assert "\n" not in str(refused.value)


def test_a_recording_that_was_closed_but_not_written_down_counts(tmp_path: Path) -> None:
    with Ledger(tmp_path, ASKED) as ledger:
        ledger.write()
        recorded(tmp_path, 0)
        recorded(tmp_path, 1, Outcome.ABORTED)
    with Ledger(tmp_path, ASKED) as again:
        again.reconcile()
        assert (again.saved, again.next, len(again.lines)) == (1, 2, 2)
        assert again.lines[0].operator == "ada"


def test_one_that_was_to_be_put_away_is_put_away_after_a_kill(tmp_path: Path) -> None:
    with Ledger(tmp_path, ASKED) as ledger:
        ledger.write()
        path = recorded(tmp_path, 0, facts={DISCARD: "true"})
    with Ledger(tmp_path, ASKED) as again:
        again.reconcile()
        assert (again.saved, again.lines, path.exists()) == (0, [], False)
        assert (tmp_path / "discarded" / path.name).exists()


def test_what_a_recording_says_of_itself_is_what_its_line_would_have_said(tmp_path: Path) -> None:
    """Nobody intervenes in a demonstration. A file that came too late for its line takes the line's place."""
    for source, interventions in (("teleop", 0), ("policy", 1)):
        folder, asked = tmp_path / source, replace(ASKED, source=source)
        with Ledger(folder, asked) as ledger:
            ledger.add(replace(line(0, Outcome.ABORTED), files=()), 1)
            recorded(folder, 0)
        with Ledger(folder, asked) as again:
            again.reconcile()
            (found,) = again.lines
            assert (found.outcome, found.reward, found.interventions) == ("success", 1.0, interventions)


def test_what_a_killed_session_kept_of_an_episode_is_no_part_of_the_next(tmp_path: Path) -> None:
    with Ledger(tmp_path, ASKED) as ledger:
        ledger.write()
        recorded(tmp_path, 0).rename(tmp_path / "episodes" / "episode-000000-correction-00.mcap")
    with Ledger(tmp_path, ASKED) as again:
        again.reconcile()
        assert (again.saved, again.next) == (0, 1)


def test_nothing_discarded_is_ever_replaced(tmp_path: Path) -> None:
    with Ledger(tmp_path, ASKED) as ledger:
        for _ in range(3):
            recorded(tmp_path, 0)
            ledger.add(line(0), 1)
            ledger.discard(0, 0)
        assert len(list((tmp_path / "discarded").iterdir())) == 3
        assert (ledger.saved, ledger.next, ledger.first_free()) == (0, 0, 1)


def test_an_episode_taken_away_by_hand_no_longer_counts(tmp_path: Path) -> None:
    with Ledger(tmp_path, ASKED) as ledger:
        path = recorded(tmp_path, 0)
        ledger.add(line(0), 1)
        path.unlink()
    with Ledger(tmp_path, ASKED) as again:
        again.reconcile()
        assert (again.saved, again.next) == (0, 1)


def _hold(folder: str, held: multiprocessing.synchronize.Event, over: multiprocessing.synchronize.Event) -> None:
    with Ledger(Path(folder), ASKED):
        held.set()
        over.wait(20)


def test_one_program_at_a_time(tmp_path: Path) -> None:
    context = multiprocessing.get_context("spawn")
    held, over = context.Event(), context.Event()
    other = context.Process(target=_hold, args=(str(tmp_path), held, over))
    other.start()
    try:
        assert held.wait(20)
        with pytest.raises(CadenzaError, match="another cadenza collect"), Ledger(tmp_path, ASKED):
            pass
    finally:
        over.set()
        other.join(20)


@pytest.mark.parametrize("content", ["", "{", "[]", '{"version": 1}', '{"version": 1, "asked": {"x": 1}}'])
def test_a_broken_session_file_is_refused_in_one_line(tmp_path: Path, content: str) -> None:
    (tmp_path / SESSION_FILE).write_text(content)
    with pytest.raises(CadenzaError, match="not a session file") as refused, Ledger(tmp_path, ASKED):
        pass
    assert "\n" not in str(refused.value)


def test_episodes_of_something_else_are_left_alone(tmp_path: Path) -> None:
    recorded(tmp_path, 0)
    with pytest.raises(CadenzaError, match="has episodes but no session"), Ledger(tmp_path, ASKED):
        pass


def test_the_session_file_tells_what_was_asked_and_what_is_done(tmp_path: Path) -> None:
    with Ledger(tmp_path, ASKED) as ledger:
        ledger.add(line(4, Outcome.FAIL), 5)
    document = json.loads((tmp_path / SESSION_FILE).read_text())
    assert (document["asked"]["task"], document["next"], document["saved"]) == ("push", 5, 1)
    assert document["episodes"][0]["outcome"] == "fail"

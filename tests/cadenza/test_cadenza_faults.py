"""The fault campaign: the same seed gives the same cases to the bit, every verdict can fail, and a case gets small."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import numpy as np
import pytest

from cadenza.cli import main
from cadenza.faults.campaign import Journal, Result
from cadenza.faults.cases import Case, Setting, Trouble, read_case, write_case
from cadenza.faults.drawing import draw_case
from cadenza.faults.evidence import Evidence, Truth
from cadenza.faults.kinds import KINDS, LIVE_KINDS
from cadenza.faults.live_process import LiveBench, _recorded_until_ns, _Scene
from cadenza.faults.live_verdicts import LIVE_VERDICTS, LiveEvidence, live_judged
from cadenza.faults.playing import play
from cadenza.faults.script import BY_HAND
from cadenza.faults.shrinking import shrunk
from cadenza.faults.strikes import Strikes
from cadenza.faults.verdicts import RECOVERY_TICKS, VERDICTS, Latency, judged, latencies
from controller.dictation import RECORDER
from controller.loop import Termination
from controller.session import EpisodeResult
from controller.supervisor import Supervisor
from drivers.virtual.client import SimClient
from episodes import outcome
from episodes.layout import TICK_RECORD
from episodes.records import Flag, Mode, Order
from spec.errors import SpecError
from spec.robot import Robot
from spec.robotfile import load_robot

ELBOW = 2
SILENT = Trouble("one_silent", 1.8, 0.8, {"servo": 3})
LOSSY = Case(0, 5, Setting.LOCKSTEP, (Trouble("loss", 1.8, 0.8, {"share": 0.1}),))


@pytest.fixture(scope="module")
def robot() -> Robot:
    return load_robot(Path("robots/virtual.yaml"), {})


@pytest.fixture(scope="module")
def played(robot: Robot) -> Evidence:
    """A servo silent for longer than the ladder allows, and for shorter than it takes to latch a fault."""
    return play(Case(0, 5, Setting.LOCKSTEP, (SILENT,)), robot)


def _with_truth(evidence: Evidence, **changed: np.ndarray) -> Evidence:
    return replace(evidence, truth=replace(evidence.truth, **changed))


def _with_ticks(evidence: Evidence, change: Callable[[np.ndarray], None]) -> Evidence:
    ticks = evidence.ticks.copy()
    change(ticks)
    return replace(evidence, ticks=ticks)


def test_a_case_depends_on_seed_and_number_alone() -> None:
    assert draw_case(7, 31) == draw_case(7, 31)
    assert draw_case(7, 31) != draw_case(8, 31)
    cases = [draw_case(0, number) for number in range(1000)]
    drawn = {trouble.kind for case in cases for trouble in case.troubles}
    assert drawn == {*KINDS, *LIVE_KINDS}
    assert sum(case.setting is Setting.LIVE for case in cases) == 100
    assert all(case.setting is Setting.LOCKSTEP for case in (draw_case(0, k, live=False) for k in range(100)))


def test_a_silent_servo_has_the_arm_stand_in_time_and_go_on_again(played: Evidence) -> None:
    assert judged(played) == {}
    (latency,) = latencies(played)
    assert 0 < latency.ticks <= latency.bound
    assert played.mode[-1] == Mode.HOLD  # the operator's STOP, after the policy had driven again
    assert played.again_s is not None


def test_the_same_case_gives_the_same_bits(played: Evidence, robot: Robot) -> None:
    again = play(played.case, robot)
    assert again.ticks.tobytes() == played.ticks.tobytes()
    assert again.truth.joints.tobytes() == played.truth.joints.tobytes()


def _leap(ticks: np.ndarray) -> None:
    ticks["limited"][200:, ELBOW] += 0.05


def _unnamed(ticks: np.ndarray) -> None:
    ticks["flags"] &= ~np.uint32(Flag.STALE_JOINT | Flag.READ_FAILED)
    ticks["read_fault"] = 0


def _uncounted(ticks: np.ndarray) -> None:
    ticks["tick"][150:] += 3


def _never_stands(ticks: np.ndarray) -> None:
    ticks["limited_velocity"][:, ELBOW] = 0.1


def _misread(ticks: np.ndarray) -> None:
    ticks["position"][:, ELBOW] += 0.02


def _goal_leaps(evidence: Evidence) -> Evidence:
    goals = evidence.truth.goals.copy()
    goals[160:, ELBOW] += 0.2
    return _with_truth(evidence, goals=goals)


def _lets_go(evidence: Evidence) -> Evidence:
    torque = evidence.truth.torque.copy()
    torque[170, ELBOW] = False
    return _with_truth(evidence, torque=torque)


BREAKING: dict[str, list[Callable[[Evidence], Evidence]]] = {
    "limits": [lambda evidence: _with_ticks(evidence, _leap)],
    "jump": [_goal_leaps],
    "limp": [_lets_go, lambda evidence: replace(evidence, rested=(False,) * 6)],
    "reading": [lambda evidence: _with_ticks(evidence, _misread)],
    "data": [
        lambda evidence: _with_ticks(evidence, _uncounted),
        lambda evidence: replace(evidence, ended=Termination.ERROR),
    ],
    "report": [lambda evidence: _with_ticks(evidence, _unnamed)],
    "recovery": [
        lambda evidence: replace(evidence, again_s=None),
        lambda evidence: replace(evidence, word_s=0.0, again_s=0.01 * RECOVERY_TICKS + 0.1),
    ],
    "hold": [lambda evidence: _with_ticks(evidence, _never_stands)],
}


@pytest.mark.parametrize(("verdict", "number"), [(v, k) for v, all_ in BREAKING.items() for k in range(len(all_))])
def test_every_verdict_can_fail(played: Evidence, verdict: str, number: int) -> None:
    assert VERDICTS[verdict](BREAKING[verdict][number](played))
    assert VERDICTS[verdict](played) == []


def test_each_verdict_is_tried() -> None:
    assert BREAKING.keys() == VERDICTS.keys()


def test_a_servo_that_shut_down_may_be_limp_until_it_is_restarted_and_no_other(robot: Robot) -> None:
    case = Case(0, 5, Setting.LOCKSTEP, (Trouble("overload", 1.8, 0.3, {"servo": 3}),))
    evidence = play(case, robot)
    assert judged(evidence) == {}
    assert not evidence.truth.torque[:, ELBOW].all()
    assert evidence.rested == (True,) * 6
    torque = evidence.truth.torque.copy()
    torque[220, 0] = False
    (reason,) = VERDICTS["limp"](_with_truth(evidence, torque=torque))
    assert reason.startswith("shoulder_pan: without torque")


def test_a_servo_that_shut_down_comes_back_at_the_operators_word_alone(robot: Robot) -> None:
    case = Case(0, 5, Setting.LOCKSTEP, (Trouble("overload", 1.8, 0.3, {"servo": 3}),))
    evidence = play(case, robot)
    assert judged(evidence) == {}
    assert evidence.truth.shut[:, ELBOW].any()

    def wordless(ticks: np.ndarray) -> None:
        ticks["order"][ticks["order"] == Order.CLEAR_FAULT] = Order.START

    def early(ticks: np.ndarray) -> None:  # said while nothing was latched, it clears nothing
        wordless(ticks)
        ticks["order"][150], ticks["flags"][150] = Order.CLEAR_FAULT, Flag.ORDERED

    for change in (wordless, early):
        (reason,) = VERDICTS["limp"](_with_ticks(evidence, change))
        assert reason.startswith("elbow_flex: shut down and restarted without the operator's word")
    torque = evidence.truth.torque.copy()
    torque[200:, ELBOW] = True
    assert VERDICTS["limp"](_with_truth(evidence, torque=torque))


def test_one_word_of_the_operator_restarts_a_servo_once(robot: Robot) -> None:
    case = Case(0, 5, Setting.LOCKSTEP, (Trouble("overload", 1.8, 0.3, {"servo": 3}),))
    evidence = play(case, robot)
    shut, torque = evidence.truth.shut.copy(), evidence.truth.torque.copy()
    restarted = int(np.flatnonzero(shut[:, ELBOW])[-1]) + 1
    again = slice(restarted + 5, restarted + 10)
    shut[again, ELBOW], torque[again, ELBOW] = True, False
    (reason,) = VERDICTS["limp"](_with_truth(evidence, shut=shut, torque=torque))
    at_s = evidence.time_s[again.stop]
    assert reason == f"elbow_flex: shut down and restarted without the operator's word at {at_s:.2f} s"


def test_under_voltage_excuses_those_servos_that_let_go_for_it(robot: Robot) -> None:
    """Shutdown(63) names it on an XL330, as the elbow's, and on no XL430, as the pan's."""
    evidence = play(Case(0, 1, Setting.LOCKSTEP, (Trouble("under_voltage", 2.0, 0.5),)), robot)
    assert judged(evidence) == {}
    torque = evidence.truth.torque.copy()
    low = (evidence.time_s > 2.1) & (evidence.time_s < evidence.calm_s)
    assert not torque[low, ELBOW].any()
    torque[low, 0] = False
    (reason,) = VERDICTS["limp"](_with_truth(evidence, torque=torque))
    assert reason.startswith("shoulder_pan: without torque")


def test_an_xl430_that_holds_with_too_little_voltage_has_its_power_switched(robot: Robot) -> None:
    case = Case(0, 1, Setting.LOCKSTEP, (Trouble("under_voltage", 2.0, 0.5, {"supply": 0.45}),))
    evidence = play(case, robot)
    assert judged(evidence) == {}
    assert (evidence.truth.alarms != 0).any(axis=0).all()
    (switched_s,) = evidence.switched_s
    assert switched_s > evidence.calm_s
    before = evidence.time_s < switched_s - evidence.tempo.period_s
    assert evidence.truth.torque[before & (evidence.time_s > 1.0), 0].all()
    assert VERDICTS["limp"](replace(evidence, switched_s=()))


def test_the_supply_of_a_case_changes_nothing_else_of_it() -> None:
    drawn, known = draw_case(0, 630), COMBINED[-1]
    *others, sagged = drawn.troubles
    assert 0.38 <= sagged.values["supply"] <= 0.62
    assert replace(drawn, troubles=(*others, replace(sagged, values={}))) == known
    troubles = [trouble for number in range(300) for trouble in draw_case(0, number).troubles]
    low = [trouble.values["supply"] < 6.0 / 11.1 for trouble in troubles if trouble.kind == "under_voltage"]
    assert any(low)
    assert not all(low)


@pytest.mark.parametrize("leap", [0.1, 0.2, 0.4, 0.6])
def test_a_line_that_loses_some_goals_lets_none_leap(robot: Robot, leap: float) -> None:
    evidence = play(LOSSY, robot)
    assert judged(evidence) == {}
    goals = evidence.truth.goals.copy()
    goals[(evidence.time_s > 2.2) & (evidence.time_s < 2.4), 1] += leap
    (reason,) = VERDICTS["jump"](_with_truth(evidence, goals=goals))
    assert reason.startswith("shoulder_lift: a goal leapt")


def test_a_servo_whose_watchdog_fires_makes_a_goal_of_where_it_is(robot: Robot) -> None:
    evidence = play(Case(0, 5, Setting.LOCKSTEP, (Trouble("stall", 1.0, 0.0, {"ms": 487.0}),)), robot)
    fired = evidence.truth.tripped[:, ELBOW]
    assert fired.any()
    assert judged(evidence) == {}
    goals = evidence.truth.goals.copy()
    goals[fired, ELBOW] -= 0.3  # beyond them it would be a leap on re-engaging as well
    assert VERDICTS["jump"](_with_truth(evidence, goals=goals))


def test_what_noise_makes_of_a_reading_is_seen(robot: Robot) -> None:
    """That a joint was heard is the loop's word, and all that says whether noise had an effect."""
    evidence = play(Case(0, 5, Setting.LOCKSTEP, (Trouble("noise", 1.8, 0.8, {"share": 0.9}),)), robot)
    assert judged(evidence) == {}

    def hushed(ticks: np.ndarray) -> None:
        _unnamed(ticks)
        ticks["fresh"] = 1
        noisy = (evidence.time_s > 1.9) & (evidence.time_s < 2.0)
        ticks["position"][noisy, 1] += 0.05

    assert list(judged(_with_ticks(evidence, hushed))) == ["reading"]


@pytest.mark.parametrize("at_s", [1.8, 1.8005, 1.801])
def test_a_reading_that_the_case_spoils_is_held_against_nobody(at_s: float, robot: Robot) -> None:
    """Also where it begins or ends between the instant of a tick and its reading."""
    values = {"joint": ELBOW, "value": "nan"}
    evidence = play(Case(0, 5, Setting.LOCKSTEP, (Trouble("nonfinite_reading", at_s, 0.1, values),)), robot)
    assert judged(evidence) == {}

    def everywhere(ticks: np.ndarray) -> None:
        ticks["position"][:, ELBOW] = np.nan

    assert VERDICTS["reading"](_with_ticks(evidence, everywhere))


def test_a_case_is_made_as_small_as_what_breaks_it() -> None:
    guilty = Trouble("unplug", 1.234, 1.6)
    others = (Trouble("loss", 2.0, 1.0, {"share": 0.5}), Trouble("stall", 3.0, 0.0, {"ms": 50.0}))
    case = Case(0, 1, Setting.LOCKSTEP, (others[0], guilty, others[1]), (2.0, 3.0))
    asked: list[Case] = []

    def breaks(candidate: Case) -> bool:
        asked.append(candidate)
        return any(t.kind == "unplug" and t.for_s >= 0.3 for t in candidate.troubles)

    small = shrunk(case, breaks)
    assert small == Case(0, 1, Setting.LOCKSTEP, (Trouble("unplug", 1.2, 0.4),))
    assert shrunk(case, lambda _: False) == case
    asked.clear()
    shrunk(case, breaks, most=3)
    assert len(asked) == 3


def test_a_case_is_a_file_that_plays_again(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    case = Case(3, 5, Setting.LOCKSTEP, (Trouble("stall", 1.5, 0.0, {"ms": 80.0}),))
    path = tmp_path / "case.json"
    write_case(case, ["hold: too late"], path)
    assert read_case(path) == case
    assert main(["bench", "faults", "--case", str(path), "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["broken"] == {}
    for odd in ({}, _document("earthquake", {}), _document("one_silent", {})):
        path.write_text(json.dumps(odd))
        with pytest.raises(SpecError, match="not a case"):
            read_case(path)


def _document(kind: str, values: dict[str, int]) -> dict[str, object]:
    return {"case": Case(3, 5, Setting.LOCKSTEP, (Trouble(kind, 1.5, 0.1, values),)).as_dict()}


def test_a_campaign_goes_on_where_it_was(tmp_path: Path) -> None:
    case = Case(3, 5, Setting.LOCKSTEP, (Trouble("stall", 1.5, 0.0, {"ms": 80.0}),))
    result = Result(case, {"hold": ["too late"]}, (Latency("stall", 20, 18),), 4.2, 130)
    journal = Journal(tmp_path / "results.jsonl")
    journal.add(result)
    with (tmp_path / "results.jsonl").open("a") as file:
        file.write('{"case": {"num')  # cut off by whatever ended it
    assert journal.read() == [result]


def test_a_disk_that_is_full_is_named_by_what_is_on_it() -> None:
    case = Case(3, 5, Setting.LOCKSTEP, (Trouble("stall", 1.5, 0.0, {"ms": 80.0}),))
    with pytest.raises(OSError, match="No space left on device: '/dev/full'"):
        Journal(Path("/dev/full")).add(Result(case, {}, (), 4.2, 130))


def _live(robot: Robot) -> LiveEvidence:
    looks = np.arange(10) * 0.02
    joints = np.zeros((10, 6))
    case = Case(0, 1, Setting.LIVE, (Trouble("kill_recorder", 0.5, 0.0),))
    lines = ((600, "recorder: killed by SIGKILL; starting it again"),)
    died = outcome.Termination.RECORDER_DIED
    return LiveEvidence(case, robot, None, died, lines, looks, joints, joints == 0, {}, (), 40.0, True, (500,), (9.0,))


def test_every_live_verdict_can_fail(robot: Robot) -> None:
    sound = _live(robot)
    assert live_judged(sound) == {}
    joints, torque = sound.joints.copy(), sound.torque.copy()
    joints[5:, 1], torque[7, 1] = 0.5, False
    ticks = np.zeros(30, dtype=TICK_RECORD)
    ticks["limited"][10:] = 0.3
    broken = {
        "limits": replace(sound, ticks=ticks),
        "jump": replace(sound, joints=joints),
        "limp": replace(sound, torque=torque),
        "data": replace(sound, lost_ms=140.0),
        "report": replace(sound, lines=((400, sound.lines[0][1]), (600, "camera top: killed by SIGKILL"))),
        "recovery": replace(sound, again=False, why="no servo answers"),
    }
    assert broken.keys() == LIVE_VERDICTS.keys()
    for verdict, evidence in broken.items():
        assert verdict in live_judged(evidence)
    assert "data" in live_judged(replace(sound, missing=(Path("episode-000001.mcap"),)))
    assert "data" in live_judged(replace(sound, sound={Path("episode-000001.mcap"): ["cut off"]}))


def test_an_episode_that_was_closed_and_is_gone_at_once_is_missed(robot: Robot, tmp_path: Path) -> None:
    """Only one that had been seen on the disk was looked for later."""
    lost = tmp_path / "episode-000000.mcap"
    case = Case(0, 1, Setting.LIVE, ())
    run = SimpleNamespace(robot=robot, episodes_folder=tmp_path, recorder=SimpleNamespace(recovered=[]))
    bench = LiveBench(cast("Supervisor", run), cast("SimClient", None), tmp_path, [])
    closed = EpisodeResult(lost, outcome.Outcome.SUCCESS, outcome.Termination.DONE, 1.0, {})
    bench._session = cast("Any", SimpleNamespace(episode=lambda _: closed))
    scene = _Scene(cast("Supervisor", run), cast("SimClient", None), None, 0.0)
    strikes = Strikes(cast("Supervisor", run), cast("SimClient", None), tmp_path, ())
    evidence = bench._evidence(case, bench._episode(scene), scene, strikes, (), again=True, why="")
    assert LIVE_VERDICTS["data"](evidence) == ["episode-000000.mcap: lost"]


SAID = {
    "kill_control": "control: killed by SIGKILL; the servos hold the arm",
    "kill_inference": "inference: killed by SIGKILL; starting it again",
    "kill_camera": "camera top: killed by SIGKILL; starting it again",
    "kill_recorder": "recorder: killed by SIGKILL; starting it again",
    "kill_teleop": "teleop: killed by SIGKILL; starting it again",
    "stop_control": "control: no tick for 1.5 s; ending it",
    "stop_camera": "control: camera top: no new picture for 500 ms",
    "hang_camera": "camera top: no sign of life for 8 s; ending it",
    "hang_recorder": "recorder: no sign of life for 8 s; ending it",
    "hang_teleop": "teleop: no sign of life for 4 s; ending it",
    "hang_supervisor": "inference: supervisor silent: for 2 s; the policy makes no more chunks",
    "unplug": "control: POLICY -> FAULT (PORT_GONE: /dev/ttyUSB0)",
    "disk_full": "recorder: disk low: 90 MB free; pictures are left out before ticks are",
    "disk_read_only": "recorder: recording failed: [Errno 30] Read-only file system",
}


def test_the_words_about_one_live_fault_name_no_other(robot: Robot) -> None:
    ticks = np.zeros(3, dtype=TICK_RECORD)
    ticks["now_ns"] = 10**10
    for kind in SAID:
        case = Case(0, 1, Setting.LIVE, (Trouble(kind, 0.5, 0.0),))
        for of, line in SAID.items():
            named = not LIVE_VERDICTS["report"](
                replace(_live(robot), case=case, ticks=ticks, lines=((600, line),), struck_ns=(500,))
            )
            assert named is (of == kind), (kind, line)


def _struck(*troubles: Trouble, struck_ns: dict[int, int], over_ns: dict[int, int]) -> tuple[Case, Strikes]:
    """Faults that came and went at these instants."""
    strikes = Strikes(cast("Supervisor", None), cast("SimClient", None), Path(), troubles)
    strikes.struck_ns, strikes._over_ns = struck_ns, over_ns
    return Case(0, 1, Setting.LIVE, troubles), strikes


def test_what_the_supervisor_slept_through_was_not_watched() -> None:
    hang, never = Trouble("hang_teleop", 1.0, 8.0), Trouble("hang_recorder", 1.0, 8.0)
    _, strikes = _struck(hang, hang, never, struck_ns={0: 10**9, 1: 5 * 10**9}, over_ns={0: 9 * 10**9})
    assert [strikes.watched_s(index) for index in range(3)] == [8.0, 0.0, 0.0]  # on its way, and never there
    strikes._slept_ns = [
        (0, 2 * 10**9),  # from before on: the second of it that was there
        (3 * 10**9, 5 * 10**9),
        (8 * 10**9, 20 * 10**9),
        (30 * 10**9, 40 * 10**9),  # long after
    ]
    assert strikes.watched_s(0) == pytest.approx(8.0 - 1.0 - 2.0 - 1.0)


@pytest.mark.parametrize(
    ("kind", "struck_ns", "over_ns", "until_ns"),
    [
        ("hang_recorder", 400, {}, 400),  # it slept when it was killed
        ("stop_recorder", 400, {0: 950}, 400),
        ("stop_recorder", 400, {0: 600}, 900),  # it was awake again
        ("hang_teleop", 400, {}, 900),  # somebody else was
    ],
)
def test_a_recorder_that_was_killed_in_its_sleep_lost_what_came_meanwhile(
    kind: str, struck_ns: int, over_ns: dict[int, int], until_ns: int
) -> None:
    case, strikes = _struck(
        Trouble(kind, 0.0, 1.0), Trouble("kill_recorder", 0.5, 0.0), struck_ns={0: struck_ns, 1: 900}, over_ns=over_ns
    )
    strikes.killed_ns = {RECORDER: 900}
    assert _recorded_until_ns(case, strikes) == until_ns


def test_a_hang_is_held_against_nobody_while_the_supervisor_sleeps(robot: Robot) -> None:
    shortest = LIVE_KINDS["hang_teleop"].lasts[0]
    case = Case(0, 1, Setting.LIVE, (Trouble("hang_teleop", 0.5, shortest),))
    silent = replace(_live(robot), case=case)
    assert LIVE_VERDICTS["report"](replace(silent, watched_s=(shortest,)))
    assert LIVE_VERDICTS["report"](replace(silent, watched_s=(0.3 * shortest,))) == []


def test_a_policy_is_missed_only_while_it_drives(robot: Robot) -> None:
    case = Case(0, 1, Setting.LIVE, (Trouble("stop_inference", 0.5, 1.0),))
    ticks = np.zeros(200, dtype=TICK_RECORD)
    ticks["now_ns"] = 10_000_000 * np.arange(200)
    ticks["mode"] = Mode.POLICY
    driving = replace(_live(robot), case=case, ticks=ticks, struck_ns=(0,))
    assert LIVE_VERDICTS["report"](driving)
    ticks = ticks.copy()
    ticks["mode"][14:] = Mode.FAULT  # the cable was pulled
    assert LIVE_VERDICTS["report"](replace(driving, ticks=ticks)) == []


@pytest.mark.parametrize(
    ("kind", "lasts_s"), [("stop_control", 2.5), ("stop_camera", 1.5), ("freeze_camera", 1.5), ("loss", 1.0)]
)
def test_a_live_fault_that_cut_its_own_record_short_was_not_named_by_that(
    robot: Robot, kind: str, lasts_s: float
) -> None:
    ticks = np.zeros(100, dtype=TICK_RECORD)
    ticks["now_ns"] = 10_000_000 * np.arange(1, 101)
    guilty, other = Trouble(kind, 0.5, lasts_s, {"share": 0.5}), Trouble("kill_control", 0.8, 0.0)
    silent = replace(_live(robot), ticks=ticks, case=Case(0, 1, Setting.LIVE, (guilty,)), struck_ns=(500_000_000,))
    assert LIVE_VERDICTS["report"](silent) == [f"{kind} was not named"]
    named = ((800_000_001, SAID["kill_control"]),)
    both = replace(silent, case=replace(silent.case, troubles=(guilty, other)), lines=named, watched_s=(9.0, 9.0))
    assert LIVE_VERDICTS["report"](replace(both, struck_ns=(500_000_000, 800_000_000))) == []
    late = 10_000_000_000
    assert LIVE_VERDICTS["report"](replace(both, struck_ns=(500_000_000, late), lines=((late, named[0][1]),)))


def test_a_live_fault_that_needs_no_name_ends_no_episode(robot: Robot) -> None:
    case = Case(0, 1, Setting.LIVE, (Trouble("stop_recorder", 0.5, 0.4),))
    sound = replace(_live(robot), case=case, ended=outcome.Termination.DONE)
    assert LIVE_VERDICTS["report"](sound) == []
    (reason,) = LIVE_VERDICTS["report"](replace(sound, ended=outcome.Termination.TIME_LIMIT))
    assert "no effect" in reason


def test_one_silent_servo_is_not_named_by_another(played: Evidence) -> None:
    def another(ticks: np.ndarray) -> None:
        ticks["fresh"][:, 0] = ticks["fresh"][:, ELBOW]
        ticks["fresh"][:, ELBOW] = 1

    (reason,) = VERDICTS["report"](_with_ticks(played, another))
    assert reason.startswith("one_silent")


def test_every_tick_that_lost_a_packet_says_so(robot: Robot) -> None:
    evidence = play(Case(0, 5, Setting.LOCKSTEP, (Trouble("loss", 1.8, 0.4, {"share": 0.3}),)), robot)
    assert judged(evidence) == {}

    def hush(ticks: np.ndarray) -> None:
        said = np.flatnonzero(ticks["read_fault"])[2]
        ticks["read_fault"][said - 1 : said + 2] = 0

    assert "report" in judged(_with_ticks(evidence, hush))


COMBINED = (
    Case(  # what is lost of answers that come two ticks late is missed two ticks later
        634,
        2130991922,
        Setting.LOCKSTEP,
        (
            Trouble("late_packets", 1.884, 1.307, {"ms": 17.5, "jitter_ms": 2.3}),
            Trouble("loss", 1.758, 0.771, {"share": 0.194}),
        ),
        (1.675, 2.741),
    ),
    Case(  # orders given while the loop is kept from running are heard when it runs again
        644,
        470512847,
        Setting.LOCKSTEP,
        (Trouble("stall", 0.881, 0.0, {"ms": 954.5}), Trouble("odd_orders", 0.917, 0.167, {"seed": 1602960152})),
    ),
    Case(  # a servo without power does not overheat
        602,
        898229835,
        Setting.LOCKSTEP,
        (Trouble("over_temperature", 1.419, 0.8, {"servo": 4}), Trouble("swapped", 1.335, 1.611, {"servo": 4})),
    ),
    Case(  # two seconds without power, and the gripper lies in the column
        630,
        1930663453,
        Setting.LOCKSTEP,
        (
            Trouble("swapped", 3.599, 2.333, {"servo": 3}),
            Trouble("chunk_future", 2.014, 1.807),
            Trouble("under_voltage", 3.264, 0.557),
        ),
        (1.684, 3.662),
    ),
)


@pytest.mark.parametrize("case", COMBINED, ids=lambda case: case.name)
def test_one_fault_may_hide_another_or_delay_its_name(case: Case, robot: Robot) -> None:
    assert judged(play(case, robot)) == {}


def test_a_joint_that_sags_outside_its_limits_without_power_is_moved_inside_by_hand(robot: Robot) -> None:
    """Recovery is refused until somebody has done so, and nothing of the arm jumps then."""
    troubles = (Trouble("unplug_power", 3.282, 0.624), Trouble("lost_device", 2.542, 1.399))
    evidence = play(Case(671, 1525905855, Setting.LOCKSTEP, troubles, (2.027, 3.729)), robot)
    refused = [at for at, line in evidence.notices if BY_HAND in line]
    assert len(refused) == 1
    assert refused[0] > evidence.calm_s
    assert judged(evidence) == {}


def test_a_tool_that_was_out_of_its_box_and_came_in_stays_in(played: Evidence) -> None:
    def lean_back(ticks: np.ndarray) -> None:
        ticks["limited"][180:, 1] -= 1.2

    assert not any("box" in line for line in VERDICTS["limits"](played))
    assert any("box" in line for line in VERDICTS["limits"](_with_ticks(played, lean_back)))


def test_a_servo_that_shut_down_must_be_named_where_it_could_be_heard(robot: Robot) -> None:
    evidence = play(Case(0, 5, Setting.LOCKSTEP, (Trouble("over_temperature", 1.8, 0.3, {"servo": 3}),)), robot)
    assert judged(evidence) == {}
    unnamed = replace(_with_ticks(evidence, _unnamed), notices=())
    assert VERDICTS["report"](unnamed)
    assert VERDICTS["report"](_with_truth(unnamed, alarms=0 * evidence.truth.alarms)) == []


def test_a_speed_that_is_no_number_moves_nothing(robot: Robot) -> None:
    values = {"of": "velocity", "joint": ELBOW, "value": "nan"}
    evidence = play(Case(0, 5, Setting.LOCKSTEP, (Trouble("nonfinite_beside", 1.8, 0.4, values),)), robot)
    assert judged(evidence) == {}
    assert np.isnan(evidence.ticks["velocity"][:, ELBOW]).any()
    assert VERDICTS["report"](replace(evidence, word_s=3.0))


def test_truth_and_ticks_go_together(played: Evidence) -> None:
    truth: Truth = played.truth
    assert truth.joints.shape == truth.goals.shape == truth.torque.shape == (len(played.ticks), 6)


@pytest.mark.parametrize(
    ("argv", "words"),
    [
        (["--count", "0"], "--count"),
        (["--seed", "-1"], "--seed"),
        (["--case", "nowhere.json"], "cannot be read"),
        (["--count", str(10**21)], "--count: 1000000000000000000000: from 1 to 100000"),
        (["--processes", "100000"], "--processes: 100000: from 1 to"),
    ],
)
def test_bad_options_are_one_line(argv: list[str], words: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["bench", "faults", *argv]) != 0
    said = capsys.readouterr().err
    assert words in said
    assert "Traceback" not in said


def test_a_policy_that_cannot_drive_is_refused_before_the_first_case(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """It was after the lock-step cases, nine in ten of all, and with the names of two commands before it."""
    played = list[object]()
    monkeypatch.setattr("cadenza.commands.bench_faults.play_all", lambda *given: played.append(given))
    out = tmp_path / "campaign"
    assert main(["bench", "faults", "--count", "10", "--out", str(out), "--checkpoint", str(tmp_path / "none")]) == 2
    assert capsys.readouterr().err.splitlines()[-1].startswith(f"cadenza bench: --checkpoint: {tmp_path / 'none'}")
    assert played == []

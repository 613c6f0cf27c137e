"""Judging takeovers: a log in which all is well, and the same with each thing that must not be planted in it."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from cadenza.takeover_report import bounds, figures, find
from cadenza.takeovers import Log, Means, asked_for, given_back, steps, switching, violations
from episodes.layout import records_of
from episodes.records import Driver, Flag, Mode, Order, TickRecord
from spec.robot import Robot, Takeover
from spec.robotfile import load_robot
from spec.teleop import Button

ROBOT_FILE = Path(__file__).parents[2] / "robots" / "virtual.yaml"
JOINTS, PERIOD_NS, FIRST_NS = 6, 10_000_000, 5_000_000_000
TAKEN, HUMAN, RELEASED, BACK, ALONE, TICKS = 200, 220, 300, 318, 330, 600
OLD_CHUNK, NEW_CHUNK = 4, 5


@pytest.fixture(scope="module")
def robot() -> Robot:
    loaded = load_robot(ROBOT_FILE)
    assert loaded.teleop is not None
    names = loaded.follower.names
    thresholds = Takeover(position=dict.fromkeys(names, 0.1), current=dict.fromkeys(names, 0.8), lag_s=0.02)
    teleop = loaded.teleop.model_copy(update={"takeover": thresholds})
    return loaded.model_copy(update={"teleop": teleop})


def instant(tick: int) -> int:
    return FIRST_NS + tick * PERIOD_NS


def make_log(robot: Robot, means: Means = Means.ORDER) -> Log:
    """Six seconds: a policy, a person who takes the arm at TAKEN and gives it back at RELEASED, the policy again."""
    ticks = records_of(b"".join(bytes(TickRecord(joints=JOINTS)) for _ in range(TICKS))).copy()
    now = np.arange(TICKS) * PERIOD_NS + FIRST_NS
    ticks["tick"], ticks["now_ns"] = np.arange(TICKS) + 1000, now
    ticks["mode"], ticks["driver"], ticks["alpha"] = Mode.POLICY, Driver.POLICY, 0.0
    for start, end, mode, driver in (
        (TAKEN, HUMAN, Mode.BLEND, Driver.HUMAN),
        (HUMAN, RELEASED, Mode.HUMAN, Driver.HUMAN),
        (RELEASED, BACK, Mode.HOLD, Driver.NONE),
        (BACK, ALONE, Mode.BLEND, Driver.POLICY),
    ):
        ticks["mode"][start:end], ticks["driver"][start:end] = mode, driver
    # Brisk while the policy drives, gentle in between; always smooth.
    phase = np.cumsum(np.where((np.arange(TICKS) > TAKEN - 30) & (np.arange(TICKS) < ALONE + 30), 0.004, 0.02))
    phase = np.convolve(np.pad(phase, 25, mode="edge"), np.hanning(51) / np.hanning(51).sum(), mode="valid")
    ticks["limited"][:, :JOINTS] = 0.3 * np.sin(phase)[:, None] + np.array([0.0, 0.0, 0.0, 0.0, 0.0, -0.5])
    # The leader follows what it is told, read at every second tick.
    read = np.arange(TICKS) // 2 * 2
    told = ticks["limited"][read, :JOINTS]
    ticks["human"][:, :JOINTS], ticks["human_goal"][:, :JOINTS] = told - 0.01, told
    ticks["human_goal"][HUMAN - 10 : BACK, :JOINTS] = np.nan
    ticks["teleop_ns"], ticks["teleop"] = now[read] - 1_000_000, read // 2
    ticks["flags"][::2] |= int(Flag.NEW_TELEOP)
    flag(ticks, TAKEN, Flag.TAKEN_OVER)
    flag(ticks, RELEASED, Flag.RELEASED)
    for tick, chunk in ((0, 0), (TAKEN + 40, OLD_CHUNK), (BACK, NEW_CHUNK)):
        flag(ticks, tick, Flag.NEW_CHUNK)
        ticks["arrived"][tick] = chunk
    match means:
        case Means.ORDER:
            flag(ticks, TAKEN, Flag.ORDERED)
            ticks["order"][TAKEN] = Order.TAKE_OVER
        case Means.BUTTON:
            ticks["buttons"][TAKEN : TAKEN + 12] = Button.TOGGLE
        case Means.FORCE:
            flag(ticks, TAKEN, Flag.FORCE)
            ticks["human"][TAKEN : HUMAN - 10, 3] += 0.2
    observed = {0: FIRST_NS, OLD_CHUNK: instant(TAKEN + 30), NEW_CHUNK: instant(RELEASED + 8)}
    hand = ((instant(TAKEN - 5), True), (instant(RELEASED + 10), False))
    return Log("episode.mcap", robot, ticks, observed, hand)


def flag(ticks: np.ndarray, tick: int, value: Flag) -> None:
    ticks["flags"][tick] |= int(value)


def unflag(ticks: np.ndarray, tick: int, value: Flag) -> None:
    ticks["flags"][tick] &= ~np.uint32(value)


def broken(log: Log) -> set[str]:
    return {bound.name for bound in bounds(find([log]), 1) if not bound.held}


@pytest.mark.parametrize("means", list(Means))
def test_a_good_takeover_keeps_every_bound(robot: Robot, means: Means) -> None:
    log = make_log(robot, means)
    assert broken(log) == set()
    (asked,) = asked_for(log)
    assert (asked.tick, asked.means, asked.reaction, asked.refused, asked.hand) == (TAKEN, means, 0, False, True)
    (back,) = given_back(log)
    assert back.to_blend_s == pytest.approx((BACK - RELEASED) * 0.01)
    assert back.to_policy_s == pytest.approx((ALONE - RELEASED) * 0.01)
    assert json.dumps(figures(find([log])))


def test_windows_are_those_in_which_the_arm_changes_hands(robot: Robot) -> None:
    log = make_log(robot)
    window = np.flatnonzero(switching(log))
    assert set(window) == {*range(TAKEN, HUMAN + 1), *range(RELEASED, ALONE + 1)}
    found = steps(log)
    assert found.switch.shape == (len(window), JOINTS)
    assert found.switch.max() < found.policy.max() < 1.0


def late_by(ticks: int) -> Callable[[Log], Log]:
    def change(log: Log) -> Log:
        log.ticks["driver"][TAKEN : TAKEN + ticks] = Driver.POLICY
        log.ticks["mode"][TAKEN : TAKEN + ticks] = Mode.POLICY
        unflag(log.ticks, TAKEN, Flag.TAKEN_OVER)
        flag(log.ticks, TAKEN + ticks, Flag.TAKEN_OVER)
        return log

    return change


def never(log: Log) -> Log:
    log.ticks["driver"][TAKEN:RELEASED] = Driver.POLICY
    return log


def beyond(joint: int, tick: int, by: float) -> Callable[[Log], Log]:
    def change(log: Log) -> Log:
        log.ticks["limited"][tick:, joint] += by
        return log

    return change


def jump_at_the_switch(log: Log) -> Log:
    """Within the limits of a single step, but more than the policy ever made."""
    ramp = np.clip((np.arange(TICKS) - TAKEN) / 20, 0.0, 1.0)
    log.ticks["limited"][:, 0] += 0.1 * (10 * ramp**3 - 15 * ramp**4 + 6 * ramp**5)
    return log


def hand_was_away(log: Log) -> Log:
    return replace(log, hand=())


def chunk_from_before(log: Log) -> Log:
    return replace(log, observed_ns={**log.observed_ns, NEW_CHUNK: instant(RELEASED - 3)})


def followed_without_a_new_chunk(log: Log) -> Log:
    log.ticks["driver"][BACK - 4 : BACK] = Driver.POLICY
    return log


def never_given_back(log: Log) -> Log:
    log.ticks["driver"][RELEASED:], log.ticks["mode"][RELEASED:] = Driver.NONE, Mode.HOLD
    return log


@pytest.mark.parametrize(
    ("means", "change", "expected"),
    [
        (Means.ORDER, late_by(1), set()),
        (Means.ORDER, late_by(2), {"reaction"}),
        (Means.BUTTON, late_by(2), {"reaction"}),
        (Means.FORCE, late_by(3), {"reaction"}),
        (Means.BUTTON, never, {"reaction"}),
        (Means.ORDER, beyond(5, 400, 0.3), {"limits exceeded"}),  # out of its range, by a jump
        (Means.ORDER, beyond(1, 450, 0.0025), {"limits exceeded"}),  # too small for speed, too sudden for jerk
        (Means.ORDER, jump_at_the_switch, {"largest step at a switch"}),
        (Means.FORCE, hand_was_away, {"false trips"}),
        (Means.ORDER, chunk_from_before, {"old chunks used"}),
        (Means.ORDER, followed_without_a_new_chunk, {"old chunks used"}),
        # The arm goes on at a policy's pace, and nobody has it: all of that belongs to the switch.
        (Means.ORDER, never_given_back, {"given back", "largest step at a switch"}),
    ],
)
def test_each_bound_goes_red(robot: Robot, means: Means, change: Callable[[Log], Log], expected: set[str]) -> None:
    assert broken(change(make_log(robot, means))) == expected


def test_too_few_takeovers_are_no_success(robot: Robot) -> None:
    log = make_log(robot)
    unflag(log.ticks, TAKEN, Flag.TAKEN_OVER)
    assert "takeovers" in broken(log)


def test_a_refusal_was_seen_and_is_no_late_reaction(robot: Robot) -> None:
    log = never(make_log(robot))
    flag(log.ticks, TAKEN, Flag.TAKEOVER_REFUSED)
    found = find([log])
    assert figures(found)["refused"] == 1
    assert "reaction" not in {bound.name for bound in bounds(found, 1) if not bound.held}


def test_a_pull_counts_once_the_leader_was_left_alone(robot: Robot) -> None:
    """Half a second of quiet mirroring arms it; a pull before that, or while the leader gives way, is none."""
    log = make_log(robot, Means.FORCE)
    log.ticks["human"][TAKEN - 30, 2] += 0.2  # a sample that is none: only even ticks bring one, but this one is
    assert [(one.tick, one.means) for one in asked_for(log)] == [(TAKEN - 30, Means.FORCE)]
    log.ticks["human_goal"][:, :JOINTS] = np.nan
    assert asked_for(log) == []


def test_a_command_that_never_left_is_no_motion(robot: Robot) -> None:
    log = make_log(robot)
    log.ticks["limited"][401:] = log.ticks["limited"][400:-1].copy()  # the next one goes on from the one before it
    log.ticks["limited"][400, 0] += 1.0
    assert violations(log).ticks > 0
    flag(log.ticks, 401, Flag.UNSENT)
    assert violations(log).ticks == 0


@pytest.mark.daemon
@pytest.mark.timeout(300)
def test_the_bench_on_real_processes(tmp_path: Path) -> None:
    """In a process of its own, for its real-time priority. What a busy machine can spoil is not judged here: false
    trips come of late samples, and a few seconds of policy hold no largest step."""
    out = tmp_path / "bench"
    command = [sys.executable, "-m", "cadenza", "bench", "takeover", "--takeovers", "3", "--out", str(out), "--json"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode in {0, 1}, done.stderr
    report = json.loads(done.stdout)
    assert json.loads((out / "report.json").read_text()) == report
    kept = {"takeovers", "given back", "reaction", "limits exceeded", "old chunks used"}
    assert {name for name in kept if not report["bounds"][name]} == set()
    assert all(count >= 1 for count in report["asked_for"].values())
    assert set(report["asked_for"]) == set(Means)
    assert (out / "takeover.png").stat().st_size > 10_000


@pytest.mark.parametrize(
    ("words", "why"),
    [
        (["--takeovers", "0"], "--takeovers: 0: at least 1"),
        (
            ["--robot.teleop.force", "false"],
            "teleop.force: False: measure thresholds first: cadenza calibrate takeover",
        ),
        (["--robot.leader", "null", "--robot.teleop", "null"], "needs a leader arm to pull at"),
        (["--config", "robots/koch.yaml"], "the bench runs on the virtual arm only"),
    ],
)
def test_what_the_bench_cannot_do_is_refused_in_one_line(words: list[str], why: str, tmp_path: Path) -> None:
    command = [sys.executable, "-m", "cadenza", "bench", "takeover", "--out", str(tmp_path / "bench"), *words]
    refused = subprocess.run(command, capture_output=True, text=True, check=False, cwd=ROBOT_FILE.parents[1])
    assert refused.returncode == 2
    assert why in refused.stderr
    assert len(refused.stderr.splitlines()) == 1
    assert not (tmp_path / "bench").exists()

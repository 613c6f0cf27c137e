"""Steps of an episode against plain loops that say the same in the slowest, clearest way."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from logged_steps import JOINTS, episode_of, tick_array

from episodes.executed import executed_targets
from episodes.outcome import Outcome, Termination
from episodes.reader import Episode
from episodes.records import Driver, Mode
from episodes.transitions import Transitions, sighted, transitions
from episodes.windows import RESTING
from spec.action import ActionSpace, decode
from spec.errors import CadenzaError

TICK, STEP = 10_000_000, 50_000_000
STALE = 250_000_000
"""As the robot file has it."""


def spans(what: st.SearchStrategy, at_most: int) -> st.SearchStrategy:
    """Stretches of ticks or frames to which something happens: start, length, what."""
    return st.lists(st.tuples(st.integers(0, 80), st.integers(1, 25), what), max_size=at_most)


@st.composite
def logs(draw: st.DrawFn) -> Episode:
    """Logs with late and missing ticks, rests, takeovers, blind cameras, silent ticks and rewards."""
    gaps = draw(st.lists(st.sampled_from([1, 1, 1, 1, 1, 1, 2, 12]), min_size=20, max_size=80))
    jitter = draw(st.lists(st.integers(0, TICK // 2), min_size=len(gaps), max_size=len(gaps)))
    times = (np.cumsum(gaps) * TICK + np.array(jitter) + 10**9).tolist()
    ticks = tick_array(times)
    for start, length, mode in draw(spans(st.sampled_from(list(Mode)), 2)):
        ticks["mode"][start : start + length] = mode
    for start, length, driver in draw(spans(st.sampled_from(list(Driver)), 3)):
        ticks["driver"][start : start + length] = driver
    for start, length, _ in draw(spans(st.none(), 1)):
        ticks["sent"][start : start + length] = math.nan
    frames = {}
    for name in ("top", "front"):
        seen = np.arange(times[0] + draw(st.integers(-STEP, STEP)), times[-1], 33_000_000)
        for start, length, _ in draw(spans(st.none(), 1)):
            seen[start : start + length] = 0
        frames[name] = seen[seen > 0].tolist()
    rewards = draw(st.lists(st.tuples(st.integers(times[0] - STEP, times[-1] + STEP), st.floats(-2, 2)), max_size=4))
    outcome = draw(st.sampled_from(list(Outcome)))
    return episode_of(ticks, frames, rewards, outcome, draw(st.sampled_from(list(Termination))))


def newest(times: list[int], instant: int) -> int | None:
    old = [k for k, time in enumerate(times) if time <= instant]
    return old[-1] if old else None


def plain_sights(episode: Episode) -> tuple[dict[int, tuple[int, dict[str, int]]], int]:
    """Step → newest tick and newest frames, where all of them are fresh; and the number of the last step there is."""
    times = episode.ticks["now_ns"].tolist()
    modes = episode.ticks["mode"].tolist()
    active = [k for k, mode in enumerate(modes) if mode not in RESTING]
    sights = {}
    steps = (times[active[-1]] - times[0]) // STEP + 1 if active else 0
    for step in range(steps):
        instant = times[0] + step * STEP
        tick = newest(times, instant)
        frames = {name: newest(episode.frames[name].captured_ns.tolist(), instant) for name in sighted(episode)}
        if (step and times[tick] <= instant - STEP) or modes[tick] in RESTING:
            continue
        if all(
            frame is not None and times[tick] - episode.frames[name].captured_ns[frame] <= STALE
            for name, frame in frames.items()
        ):
            sights[step] = (tick, frames)
    return sights, steps - 1


def plain_rows(episode: Episode) -> list[dict]:
    """One dictionary a row."""
    times = episode.ticks["now_ns"].tolist()
    modes = episode.ticks["mode"].tolist()
    commands = executed_targets(episode.ticks)
    sights, final = plain_sights(episode)
    rows = []
    for step, (tick, frames) in sights.items():
        if step + 1 not in sights or any(mode in RESTING for mode in modes[tick : sights[step + 1][0] + 1]):
            continue
        due = times[tick] + STEP
        before = newest(times, due)
        after = min(before + 1, len(times) - 1)
        part = (due - times[before]) / max(times[after] - times[before], 1)
        target = commands[before] * (1 - part) + commands[after] * part
        if due > times[-1] or not np.isfinite(target).all() or not np.isfinite(commands[tick]).all():
            continue
        by_hand = episode.ticks["driver"][before] == Driver.HUMAN
        rows.append({"step": step, "tick": tick, "frames": frames, "target": target, "hand": by_hand, "reward": 0.0})
    for number, row in enumerate(rows):
        row["done"] = number + 1 == len(rows) or rows[number + 1]["step"] != row["step"] + 1
        row["last"] = number + 1 == len(rows) and row["step"] + 1 == final
    for time_ns, value in episode.rewards:
        begun = [row for row in rows if times[row["tick"]] < time_ns]
        if rows:
            (begun[-1] if begun else rows[0])["reward"] += value
    if rows and rows[-1]["last"]:
        rows[-1]["reward"] += episode.ending.reward or 0.0
    return rows


@settings(max_examples=300, deadline=None)
@given(logs())
def test_rows_equal_a_plain_loop(episode: Episode) -> None:
    steps, rows = transitions(episode, STEP), plain_rows(episode)
    assert len(steps) == len(rows)
    for number, row in enumerate(rows):
        at = steps.at[number]
        assert steps.samples.tick[at] == row["tick"]
        assert steps.samples.tick[at + 1] > row["tick"]
        assert {name: index[at] for name, index in steps.samples.frames.items()} == row["frames"]
        assert np.allclose(steps.action[number], row["target"], rtol=0, atol=1e-12)
        assert steps.intervention[number] == row["hand"]
        assert steps.reward[number] == pytest.approx(row["reward"], abs=1e-12)
        assert steps.done[number] == row["done"]
        assert steps.terminated[number] == (row["last"] and episode.ending.terminated)
        assert steps.truncated[number] == (row["last"] and episode.ending.truncated)


@settings(max_examples=100, deadline=None)
@given(logs())
def test_runs_hold_every_row_once_and_no_gap(episode: Episode) -> None:
    steps = transitions(episode, STEP)
    rows = [row for run in steps.runs() for row in range(run.start, run.stop)]
    assert rows == list(range(len(steps)))
    for run in steps.runs():
        assert (np.diff(steps.at[run]) == 1).all()
        segment = steps.samples.segment[steps.at[run.start] : steps.at[run.stop - 1] + 2]
        assert len(set(segment.tolist())) == 1
        spacing = np.diff(steps.samples.observed_ns[steps.at[run]])
        assert (np.abs(spacing - STEP) < STEP).all()


def steady(outcome: Outcome, termination: Termination = Termination.DONE, **more: object) -> Transitions:
    """Half a second without anything amiss: 10 steps."""
    ticks = tick_array([10**9 + k * TICK for k in range(51)])
    frames = {"top": more.get("frames", [10**9 + k * 30_000_000 for k in range(17)])}
    return transitions(episode_of(ticks, frames, more.get("rewards", ()), outcome, termination), STEP)


@pytest.mark.parametrize(
    ("outcome", "termination", "reward", "terminated", "truncated"),
    [
        (Outcome.SUCCESS, Termination.DONE, 1.0, True, False),
        (Outcome.FAIL, Termination.OPERATOR, 0.0, True, False),
        (Outcome.FAIL, Termination.TIME_LIMIT, 0.0, False, True),
        (Outcome.ABORTED, Termination.OPERATOR, 0.0, False, False),
        (Outcome.UNLABELLED, Termination.FAULT, 0.0, False, False),
    ],
)
def test_reward_and_both_endings_stand_in_the_last_row_alone(
    outcome: Outcome, termination: Termination, reward: float, terminated: bool, truncated: bool
) -> None:
    steps = steady(outcome, termination)
    assert len(steps) == 10
    assert steps.reward.tolist() == [0.0] * 9 + [reward]
    assert steps.terminated.tolist() == [False] * 9 + [terminated]
    assert steps.truncated.tolist() == [False] * 9 + [truncated]
    assert steps.done.tolist() == [False] * 9 + [True]


def test_a_reward_counts_for_the_step_in_which_it_came() -> None:
    at = 10**9 + 3 * STEP
    steps = steady(Outcome.UNLABELLED, rewards=[(at - 1, 0.5), (at, 0.25), (at + 1, 4.0), (10**12, 8.0)])
    assert steps.reward.tolist() == [0, 0, 0.75, 4.0, 0, 0, 0, 0, 0, 8.0]


def test_a_camera_that_went_blind_ends_the_rows_and_hides_how_it_ended() -> None:
    steps = steady(Outcome.SUCCESS, frames=[10**9])
    assert len(steps) == STALE // STEP
    assert steps.done[-1]
    assert not steps.terminated.any()
    assert not steps.reward.any()


def test_a_reward_that_is_no_number_is_refused() -> None:
    with pytest.raises(CadenzaError, match="reward"):
        steady(Outcome.SUCCESS, rewards=[(10**9, math.nan)])


@settings(max_examples=50, deadline=None)
@given(logs())
def test_deltas_lead_to_the_very_targets(episode: Episode) -> None:
    steps, deltas = transitions(episode, STEP), transitions(episode, STEP, ActionSpace.JOINT_DELTA)
    reference = executed_targets(episode.ticks)[deltas.samples.tick[deltas.at]]
    for target, delta, start in zip(steps.action, deltas.action, reference, strict=True):
        assert np.allclose(decode(ActionSpace.JOINT_DELTA, delta[None], start)[0], target, rtol=0, atol=1e-12)


def test_a_log_in_which_the_arm_only_rested_has_no_steps() -> None:
    ticks = tick_array([10**9 + k * TICK for k in range(20)])
    ticks["mode"] = Mode.IDLE
    steps = transitions(episode_of(ticks, {"top": [10**9]}), STEP)
    assert len(steps) == 0
    assert steps.runs() == []
    assert steps.action.shape == (0, JOINTS)

"""Chunks to targets: what is followed, what is refused, and that nothing jumps at a switch."""

from __future__ import annotations

import math

import numpy as np
import pytest
from controller_plant import STEP_NS, chunk, sine
from hypothesis import given, settings
from hypothesis import strategies as st

from controller.curve import Motion
from controller.schedule import (
    MAX_ALIVE,
    MAX_LENGTH,
    Refusal,
    Schedule,
    emptied,
    refusal,
    taken,
    target,
)
from spec.arrays import frozen
from spec.chunk import Chunk
from spec.robot import ChunkMode, Control

STANDING = Motion((0.0, 0.0), (0.0, 0.0))
PERIOD_NS = 5_000_000
MODES = list(ChunkMode)


def _control(mode: ChunkMode, **more: object) -> Control:
    return Control.model_validate({"mode": mode, **more})


def _run(
    control: Control, arrivals: dict[int, Chunk], ticks: int, standing: Motion = STANDING
) -> list[tuple[int, Motion | None]]:
    """Ticks of 5 ms from zero on; ``arrivals`` maps tick to chunk."""
    schedule, seen = Schedule(), []
    for tick in range(ticks):
        now = tick * PERIOD_NS
        if tick in arrivals:
            assert refusal(arrivals[tick], schedule, 2, 0, now, 0) is Refusal.NONE
            schedule = taken(schedule, arrivals[tick], now)
        schedule, motion = target(schedule, control, now, standing)
        seen.append((now, motion))
    return seen


@pytest.mark.parametrize("mode", [ChunkMode.ENSEMBLE, ChunkMode.LATEST, ChunkMode.OPEN_LOOP])
def test_every_action_is_reached_exactly_when_it_is_due(mode: ChunkMode) -> None:
    one = chunk(0, 0, sine())
    start = Motion((float(one.targets[0, 0]),) * 2, (0.0, 0.0))
    for now, motion in _run(_control(mode), {0: one}, 200, start):
        k, into = divmod(now, STEP_NS)
        if into == 0 and k >= 2:  # the fade from standing is over
            assert motion is not None
            assert motion.position == pytest.approx(one.targets[k - 1].tolist(), abs=1e-12)


@given(
    st.lists(st.floats(-1.0, 1.0), min_size=2, max_size=12),
    st.integers(min_value=0, max_value=10**9),
)
def test_between_two_actions_the_target_never_leaves_their_span(actions: list[float], late: int) -> None:
    targets = frozen(np.array(actions)[:, None])
    schedule = taken(Schedule(), Chunk(0, 0, STEP_NS, targets), 0)
    schedule = target(schedule, _control(ChunkMode.LATEST), 0, Motion((actions[0],), (0.0,)))[0]
    schedule = schedule._replace(splice=None, piece=None)
    now = STEP_NS + late % ((len(actions) - 1) * STEP_NS)
    _, motion = target(schedule, _control(ChunkMode.LATEST), now, Motion((0.0,), (0.0,)))
    assert motion is not None
    k = now // STEP_NS - 1
    low, high = sorted((actions[k], actions[k + 1]))
    assert low - 1e-12 <= motion.position[0] <= high + 1e-12


@pytest.mark.parametrize("mode", MODES)
@given(
    seed=st.integers(0, 2**31),
    latencies=st.lists(st.integers(0, 60), min_size=2, max_size=6),
    steps=st.integers(1, 6),
)
def test_the_target_is_smooth_at_every_switch(mode: ChunkMode, seed: int, latencies: list[int], steps: int) -> None:
    """Position and velocity go on through arrivals and ends of chunks, however much the chunks disagree."""
    rng = np.random.default_rng(seed)
    arrivals = {}
    for k, latency in enumerate(latencies):
        targets = frozen(rng.uniform(-1.0, 1.0, (6, 2)))
        arrivals[k * 20 + latency % 19] = Chunk(k, k * STEP_NS, STEP_NS, targets)
    arrivals = dict(sorted(arrivals.items()))
    control = _control(mode, open_loop_steps=steps)
    schedule = Schedule()
    motion: Motion | None = STANDING
    for tick in range(min(arrivals), max(arrivals) + 10):
        now = tick * PERIOD_NS
        if tick in arrivals:
            schedule = taken(schedule, arrivals[tick], now)
        before = schedule
        schedule, motion = target(schedule, control, now, STANDING)
        assert motion is not None
        if before.using and schedule.using != before.using:  # a switch: the old chunks, asked alone, want the same
            alone = before._replace(alive=tuple(t for t in before.alive if t.sequence in before.using))
            after_mix = (
                before.mix.cubic(now).at(now) if before.mix is not None and mode is not ChunkMode.FIRST else None
            )
            if after_mix is None or not alone.alive:
                continue
            left = None if before.splice is None else before.splice.at(now)
            offset = ((0.0, 0.0), (0.0, 0.0)) if left is None else left
            for part in (0, 1):
                wished = [a + b for a, b in zip(after_mix[part], offset[part], strict=True)]
                assert motion[part] == pytest.approx(wished, abs=1e-9)


@given(seed=st.integers(0, 2**31), steps=st.lists(st.integers(15, 45), min_size=1, max_size=6))
def test_a_cubic_kept_for_later_says_what_all_chunks_together_say(seed: int, steps: list[int]) -> None:
    """Chunks of any step and phase: a tick evaluates the mean of their curves and what is left to fade."""
    rng = np.random.default_rng(seed)
    control, schedule = _control(ChunkMode.ENSEMBLE, ensemble_m=0.3), Schedule()
    kept = 0
    for tick in range(120):
        now = tick * PERIOD_NS
        if tick % 20 == 0 and tick // 20 < len(steps):
            observed = now - int(rng.integers(0, 4 * PERIOD_NS))
            made = Chunk(tick, observed, steps[tick // 20] * 2_000_003, frozen(rng.uniform(-1.0, 1.0, (20, 2))))
            schedule = taken(schedule, made, now)
        before = schedule.piece
        schedule, motion = target(schedule, control, now, STANDING)
        if motion is None or schedule.mix is None:
            continue
        kept += schedule.piece is before
        mean = schedule.mix.cubic(now).at(now)
        left = schedule.splice.at(now) if schedule.splice is not None and schedule.splice.covers(now) else None
        for part in (0, 1):
            whole = np.add(mean[part], 0.0 if left is None else left[part])
            assert motion[part] == pytest.approx(whole.tolist(), abs=1e-9)
    assert kept > 20


@pytest.mark.parametrize("mode", [ChunkMode.ENSEMBLE, ChunkMode.LATEST, ChunkMode.OPEN_LOOP])
@settings(deadline=None)
@given(phases=st.lists(st.integers(0, 18), min_size=3, max_size=8), m=st.floats(0.0, 2.0))
def test_chunks_that_agree_are_followed_exactly(mode: ChunkMode, phases: list[int], m: float) -> None:
    """Of a straight line every chunk, whenever it comes, is the same curve; mixing them must change nothing."""

    def line(t: float) -> float:
        return 0.3 * t - 0.2

    arrivals = {k * 20 + phase: chunk(k, k * STEP_NS, line) for k, phase in enumerate(phases)}
    first = min(arrivals)
    control = _control(mode, ensemble_m=m)
    schedule = Schedule()
    for tick in range(first, 20 * len(phases)):
        now = tick * PERIOD_NS
        if tick in arrivals:
            schedule = taken(schedule, arrivals[tick], now)
        here = Motion((line(now * 1e-9),) * 2, (0.3, 0.3))
        schedule, motion = target(schedule, control, now, here)
        assert motion is not None
        assert motion.position == pytest.approx(here.position, abs=1e-12)
        assert motion.velocity == pytest.approx(here.velocity, abs=1e-9)


def test_ensemble_weighs_as_act_does() -> None:
    values = (0.1, 0.5, -0.3)
    arrivals = {k * 20: chunk(k, k * STEP_NS, lambda _t, v=value: v, length=30) for k, value in enumerate(values)}
    m = 0.5
    seen = _run(_control(ChunkMode.ENSEMBLE, ensemble_m=m), arrivals, 100)
    weights = [math.exp(-m * i) for i in range(3)]
    expected = sum(w * v for w, v in zip(weights, values, strict=True)) / sum(weights)
    motion = seen[-1][1]
    assert motion is not None
    assert motion.position == pytest.approx((expected,) * 2, abs=1e-12)


def test_first_keeps_the_first_action_until_the_next_chunk() -> None:
    arrivals = {0: chunk(0, 0, sine()), 60: chunk(1, 3 * STEP_NS, sine())}
    seen = _run(_control(ChunkMode.FIRST), arrivals, 120)
    for now, motion in seen:
        assert motion is not None
        if STEP_NS <= now < 3 * STEP_NS:
            assert motion == Motion(tuple(arrivals[0].targets[0].tolist()), (0.0, 0.0))
        if now >= 4 * STEP_NS:
            assert motion == Motion(tuple(arrivals[60].targets[0].tolist()), (0.0, 0.0))


def test_open_loop_takes_n_actions_and_counts_only_those_still_due() -> None:
    """Chunk 0 comes 1.5 steps late: of its actions 0 can no longer be taken, so its turn is actions 1 and 2."""
    arrivals = {30: chunk(0, 0), 40: chunk(1, STEP_NS), 50: chunk(2, 2 * STEP_NS), 60: chunk(3, 3 * STEP_NS)}
    control = _control(ChunkMode.OPEN_LOOP, open_loop_steps=2)
    schedule, turns = Schedule(), []
    for tick in range(30, 120):
        now = tick * PERIOD_NS
        if tick in arrivals:
            schedule = taken(schedule, arrivals[tick], now)
        schedule, _ = target(schedule, control, now, STANDING)
        if not turns or turns[-1][1] != schedule.using[0]:
            turns.append((tick, schedule.using[0]))
    # From tick 60 (t = 3 steps) on chunk 3 is the newest and keeps the arm: nothing newer comes.
    assert turns == [(30, 0), (60, 3)]


def test_latest_skips_late_steps() -> None:
    one = chunk(0, 0, sine(), length=10)
    schedule = taken(Schedule(), one, 50 * PERIOD_NS)
    for tick in range(50, 81):
        schedule, motion = target(schedule, _control(ChunkMode.LATEST), tick * PERIOD_NS, STANDING)
    assert motion is not None
    assert motion.position == pytest.approx(one.targets[3].tolist(), abs=1e-12)  # due at 400 ms, which is now


def test_no_chunk_reaches_past_its_last_action() -> None:
    one = chunk(0, 0, length=3)
    seen = _run(_control(ChunkMode.ENSEMBLE), {0: one}, 70)
    assert next(now for now, motion in seen if motion is None) == one.ends_ns


@pytest.mark.parametrize(
    ("wrong", "why"),
    [
        (Chunk(5, 0, STEP_NS, frozen(np.zeros((4, 3)))), Refusal.SHAPE),
        (Chunk(5, 0, STEP_NS, frozen(np.zeros((0, 2)))), Refusal.SHAPE),
        (Chunk(5, 0, STEP_NS, frozen(np.zeros(2))), Refusal.SHAPE),
        (Chunk(5, 0, STEP_NS, frozen(np.zeros((MAX_LENGTH + 1, 2)))), Refusal.SHAPE),
        (Chunk(5, 0, 0, frozen(np.zeros((4, 2)))), Refusal.SHAPE),
        (Chunk(5, 0, STEP_NS, frozen([[0.0, 0.0], [math.nan, 0.0]])), Refusal.NONFINITE),
        (Chunk(5, 0, STEP_NS, frozen([[math.inf, -math.inf]])), Refusal.NONFINITE),
        (Chunk(5, 2 * STEP_NS, STEP_NS, frozen(np.zeros((4, 2)))), Refusal.FUTURE),
        (Chunk(3, 0, STEP_NS, frozen(np.zeros((40, 2)))), Refusal.OUTDATED),
        (Chunk(5, -STEP_NS, STEP_NS, frozen(np.zeros((40, 2)))), Refusal.OUTDATED),
        (Chunk(5, 0, 1000, frozen(np.zeros((4, 2)))), Refusal.EXPIRED),
    ],
)
def test_a_chunk_that_cannot_be_is_refused(wrong: Chunk, why: Refusal) -> None:
    schedule = taken(Schedule(), chunk(4, -10), 0)
    assert refusal(wrong, schedule, 2, -20, STEP_NS, 0) is why


def test_numbers_beyond_any_joint_are_refused_before_they_overflow() -> None:
    big = Chunk(0, 0, STEP_NS, frozen(np.full((4, 2), 1e308)))
    assert refusal(big, Schedule(), 2, 0, 0, 0) is Refusal.NONFINITE


def test_an_emptied_schedule_takes_no_older_chunk() -> None:
    schedule = emptied(taken(Schedule(), chunk(4, 0), 0))
    assert schedule.last is None
    assert refusal(chunk(4, 0), schedule, 2, 0, 0, 0) is Refusal.OUTDATED


def test_chunks_in_hand_are_bounded() -> None:
    schedule = Schedule()
    for k in range(3 * MAX_ALIVE):
        schedule = taken(schedule, chunk(k, k, length=5), k)
    assert len(schedule.alive) == MAX_ALIVE
    assert schedule.last is not None
    assert schedule.last.sequence == 3 * MAX_ALIVE - 1
